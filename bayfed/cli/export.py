"""``bayfed export``: a fitted detector as a file that scores without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bayfed.cli.choices import choice


def export_command(
    product: Annotated[Path, typer.Argument(metavar="PRODUCT", help="A file of bayfed fit.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The file: .onnx, or .xml with its .bin beside it.")
    ],
    images: Annotated[
        Path | None,
        typer.Option(help="Real images to check it on; otherwise the supports that PRODUCT keeps."),
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", help="onnx or openvino; otherwise by the ending of OUT.")
    ] = "",
    weights: Annotated[
        Path | None, typer.Option(help="Weights of the backbone, if they have moved since the fit.")
    ] = None,
) -> None:
    """Write PRODUCT as a file for ONNX Runtime or OpenVINO, if it scores images as PRODUCT does."""
    from bayfed.inference.pictures import files_of
    from bayfed.product import Detector
    from bayfed.product.export import ENDINGS, WEIGHTS, Format, chosen, export

    wanted, console = choice(Format, format_, "format"), Console()
    kind = chosen(out, wanted)
    files = files_of([images], below=True) if images else []
    found = export(Detector.load(product, weights), out, files, wanted)
    written = [out, *([out.with_suffix(WEIGHTS)] if ENDINGS[kind] != ENDINGS[Format.ONNX] else [])]
    for path in written:
        size = f"{path}: {path.stat().st_size / 1e6:.1f} MB"
        console.print(size, markup=False, highlight=False, soft_wrap=True)
    console.print(found.text, markup=False, highlight=False, soft_wrap=True)
