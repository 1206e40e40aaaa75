"""``bayfed fit``, ``score`` and what else is done with a fitted detector."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from bayfed.cli.choices import choice

# The library is imported where it is used, so that no command waits for the others' imports.
if TYPE_CHECKING:
    from bayfed.inference.streaming import Inspector
    from bayfed.product import Detector, Source
    from bayfed.product.product import Product

File = Annotated[Path, typer.Argument(metavar="PRODUCT", help="A file of bayfed fit.")]
Scored = Annotated[
    Path, typer.Argument(metavar="PRODUCT", help="A file of bayfed fit, or of bayfed export.")
]
Weights = Annotated[
    Path | None, typer.Option(help="Weights of the backbone, if they have moved since the fit.")
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="Where the product goes; otherwise its own file.")
]
Threshold = Annotated[
    str,
    typer.Option(help="pooled, model, split, jackknife or fence; otherwise the best there is."),
]
FAILED = 1


def _source(run: Path | None, backbone: str | None, weights: Path | None, factory: str) -> Source:
    from bayfed.errors import ConfigError
    from bayfed.product import from_backbone, from_run

    if (run is None) == (backbone is None):
        raise ConfigError("fit: either --from RUN or --backbone NAME is needed")
    if backbone is not None and factory:
        raise ConfigError("fit: --factory names a factory of a run, and goes with --from")
    if backbone is not None:
        return from_backbone(backbone, weights)
    return from_run(Path(run or ""), weights, factory)


def fit_command(
    normals: Annotated[Path, typer.Argument(help="Folder of good images.")],
    run: Annotated[Path | None, typer.Option("--from", help="Folder of a finished run.")] = None,
    factory: Annotated[
        str, typer.Option(help="Site of RUN whose own part of the parameters is used.")
    ] = "",
    backbone: Annotated[str | None, typer.Option(help="A pretrained backbone instead.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Its weights (safetensors).")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file.")] = Path("product.bayfed"),
    fpr: Annotated[float, typer.Option(help="Good parts that may be called defective.")] = 0.05,
    threshold: Threshold = "",
    roi: Annotated[str, typer.Option(help="Inspected part: x,y,width,height in pixels.")] = "",
    tiles: Annotated[int, typer.Option(help="See the part in N x N overlapping tiles.")] = 1,
    keep_supports: Annotated[
        bool, typer.Option("--keep-supports", help="Keep the pictures in the file.")
    ] = False,
) -> None:
    """Fit a detector to the good images in NORMALS, about five."""
    from bayfed.inference.frame import parse_roi
    from bayfed.inference.pictures import files_of, text_of
    from bayfed.product import Detector, Frame, Kind

    source, kind = _source(run, backbone, weights, factory), choice(Kind, threshold, "threshold")
    frame = Frame(parse_roi(roi) if roi else None, tiles)
    files, name = files_of([normals]), text_of(out.stem)
    detector = Detector.fit(files, source, fpr, kind, frame, name, keep_supports)
    _saved(detector, out)


def score_command(
    product: Scored,
    paths: Annotated[list[Path], typer.Argument(help="Images and folders, looked through.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.")] = Path(
        "scored"
    ),
    weights: Weights = None,
    pictures: Annotated[bool, typer.Option(help="Draw heatmaps and overlays.")] = True,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Remove the results of an earlier run in the folder."),
    ] = False,
) -> None:
    """Score images; exit with 1 if one could not be scored."""
    from rich.progress import track

    from bayfed.inference.pictures import files_of
    from bayfed.inference.rows import ERROR, Results
    from bayfed.inference.streaming import stream

    files, detector = files_of(paths, below=True), _inspector(product, weights)
    errors, console = Console(stderr=True), Console()
    with Results(out, detector.scale, pictures, overwrite) as results:
        for row in track(stream(detector, files), "scoring", len(files), console=errors):
            results.add(row)
            if row.error is not None:
                errors.print(row.error, markup=False, highlight=False, soft_wrap=True)
    counts = ", ".join(f"{number} {word}" for word, number in sorted(results.counts.items()))
    console.print(f"{counts}: {out}", markup=False, highlight=False, soft_wrap=True)
    if results.counts[ERROR]:
        raise typer.Exit(FAILED)


def _inspector(path: Path, weights: Path | None) -> Inspector:
    """Open what scores; an exported detector needs nothing of what a fitted one does."""
    from bayfed.inference.exported import Exported, is_exported

    if is_exported(path):
        return Exported.load(path)
    from bayfed.product import Detector

    return Detector.load(path, weights).warm()


def inspect_command(product: Scored) -> None:
    """Show what a product file or an export holds; its weights are not needed."""
    from bayfed.inference import card
    from bayfed.inference.exported import Exported, is_exported

    console = Console()
    if is_exported(product):
        exported = Exported.load(product)
        name, found = exported.name, card.facts(exported.card, product.stat().st_size)
    else:
        from bayfed.product import file

        kept = file.read(product)
        name, found = kept.name, _facts(kept, product.stat().st_size)
    table = Table(title=name, title_justify="left", show_header=False)
    for key, text in found.items():
        table.add_row(key, text)
    console.print(table, markup=False)


def calibrate_command(
    product: File,
    normals: Annotated[
        Path | None, typer.Argument(help="Good images beside the support; a folder.")
    ] = None,
    defects: Annotated[Path | None, typer.Option(help="Folder of known defects.")] = None,
    fpr: Annotated[float | None, typer.Option(help="Otherwise as before.")] = None,
    threshold: Threshold = "",
    out: Out = None,
    weights: Weights = None,
) -> None:
    """Set the threshold anew, by more good images or another rate, without a new fit."""
    from bayfed.inference.pictures import files_of
    from bayfed.product import Detector, Kind

    kind, detector = choice(Kind, threshold, "threshold"), Detector.load(product, weights)
    good, bad = (files_of([folder]) if folder else [] for folder in (normals, defects))
    _saved(detector.calibrate(good, bad, fpr, kind), out or product)


def update_command(
    product: File,
    normals: Annotated[Path, typer.Argument(help="Folder of further good images.")],
    out: Out = None,
    weights: Weights = None,
) -> None:
    """Add good images to the posterior, in closed form and without the old images."""
    from bayfed.inference.pictures import files_of
    from bayfed.product import Detector

    detector = Detector.load(product, weights)
    before = detector.product.calibration
    _saved(detector.update(files_of([normals])), out or product)
    if len(before.normals) or len(before.defects):
        _note("the images of the calibration were scored by the law before: calibrate again")


def drift_command(
    product: File,
    recent: Annotated[Path, typer.Argument(help="Folder of recent good images.")],
    weights: Weights = None,
) -> None:
    """Test whether recent good images still look like the supports; exit with 1 if not.

    So it does if more of them are above the threshold than was promised.
    """
    from bayfed.inference.pictures import files_of
    from bayfed.product import Detector
    from bayfed.product.drift import summary

    drift, console = Detector.load(product, weights).drift(files_of([recent])), Console()
    for text in (summary(drift), drift.advice):
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    if drift.drifted or drift.broken:
        raise typer.Exit(FAILED)


def explain_command(
    product: File,
    image: Annotated[Path, typer.Argument(help="An image.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of pictures.")] = Path("why"),
    weights: Weights = None,
) -> None:
    """Say why an image has its score, and draw it by feature stage."""
    from bayfed.data.files import read_pixels
    from bayfed.product import Detector
    from bayfed.product.explain import draw, explain

    detector, pixels = Detector.load(product, weights), read_pixels(image)
    found, console = explain(detector, pixels, str(image)), Console()
    draw(found, detector, pixels, out)
    for words in (*found.words, f"pictures: {out}"):
        console.print(words, markup=False, highlight=False, soft_wrap=True)


def _saved(detector: Detector, path: Path) -> None:
    """Write a product and say what it is."""
    detector.save(path)
    console = Console()
    for name, text in _facts(detector.product, path.stat().st_size).items():
        console.print(f"{name}: {text}", markup=False, highlight=False, soft_wrap=True)
    for name in detector.suspects:
        _note(f"{name} does not look like the other good images (leave-one-out); is it a defect?")


def _note(text: str) -> None:
    line = f"warning: {text}"
    Console().print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _facts(product: Product, size: int) -> dict[str, str]:
    from bayfed.product.words import facts

    return facts(product, size)
