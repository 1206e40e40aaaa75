from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bayfed.errors import CheckpointError
from bayfed.evaluation.bench import figures, tables
from bayfed.evaluation.bench.compare import panels
from bayfed.evaluation.bench.report import Findings, write_bench_report
from bayfed.evaluation.table import ResultRow
from bayfed.seeds import stream

SITES = ("bolt", "nut", "tile", "wood")


def rows(level: float, **key: Any) -> list[ResultRow]:
    """Rows of four sites, two seeds and two draws near ``level``."""
    shared = {"method": "padim", "arm": "none", "protocol": "standard", "backbone": "conv4",
              "shots": 5, "round": 0, **key}  # fmt: skip
    return [
        ResultRow(
            run="b",
            site=site,
            seed=seed,
            draw=draw,
            image_auroc=level
            + 0.05 * number
            + 0.01 * float(stream(seed, "report", site, draw).random()),
            fpr_at_fnr10=1 - level,
            cover90=0.9,
            fpr_at_threshold=0.05,
            model_bytes=2000,
            **shared,
        )
        for number, site in enumerate(SITES)
        for seed in (0, 1)
        for draw in (0, 1)
    ]


ROWS = [
    *rows(0.5, method="patchcore"),
    *rows(0.55, method="baypranometa"),
    *rows(0.6, method="baypranometa", arm="federated", round=9),
    *rows(0.4, method="patchcore", shots=1),
    *rows(0.3, method="patchcore", noise=0.2),
    *rows(0.2, method="baypranometa", variant="kappa=0.1"),
    *rows(0.3, method="baypranometa", variant="kappa=10"),
]
PAIR = (("baypranometa", "federated"), ("patchcore", "none"))


def findings(of: list[ResultRow] = ROWS, **changes: Any) -> Findings:
    return Findings(name="b<1>", rows=of, reference="patchcore", pairs=[PAIR], **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench")
    write_bench_report(path, findings(facts={"Seeds": "2"}, notes=["Incomplete: <some> cells."]))
    return path


def test_the_main_table_has_means_and_paired_intervals() -> None:
    panel = next(p for p in panels(ROWS) if p.shots == 5 and not p.noise)
    table = tables.main_table(panel, "patchcore")
    lines = {(line[0], line[1]): line for line in table.body}
    trained = lines["baypranometa", "federated"]
    assert trained[2] == "4"
    assert trained[3] == "0.679"
    assert trained[5] == "+0.050"
    assert trained[7] == "+0.100"
    assert re.fullmatch(r"\+0\.\d{3} to \+0\.\d{3}", trained[8])
    assert lines["patchcore", "none"][5:] == ["–", "–", "–", "–"]


def test_full_supports_of_any_size_are_one_panel() -> None:
    sizes = dict(zip(SITES, (120, 84, 56, 120), strict=True))
    full = [replace(row, shots=sizes[row.site], full_support=1) for row in rows(0.5)]
    alone, together = panels([*rows(0.5, shots=120), *full])
    assert (alone.shots, alone.full, alone.support) == (120, False, "120 shots")
    assert (together.shots, together.full, together.support) == (120, True, "full support")
    assert together.sites == sorted(SITES)
    chart = figures.against([alone, together], "noise")
    assert chart is None


def test_rejection_is_told_by_noise(tmp_path: Path) -> None:
    clean = rows(0.6, method="patchcore", full_support=1)
    noisy = [
        row
        for noise, recall in ((0.1, 0.9), (0.4, 0.2))
        for row in rows(
            0.6 - noise, method="patchcore", full_support=1, noise=noise,
            noise_reached=0.9 * noise, reject_precision=0.5, reject_recall=recall,
        )
    ]  # fmt: skip
    table = tables.noise_table(panels([*noisy, *clean]))
    assert table is not None
    assert [line[2:4] + line[5:] for line in table.body] == [
        ["0", "–", "–", "–"],
        ["0.1", "0.090", "0.500", "0.900"],
        ["0.4", "0.360", "0.500", "0.200"],
    ]
    assert tables.noise_table(panels(clean)) is None
    write_bench_report(tmp_path, findings([*noisy, *clean]))
    text = (tmp_path / "results.md").read_text()
    assert text.count("### Image AUROC and rejection by label noise") == 1
    assert (tmp_path / "plots" / "noise-standard-full.png").exists()


def test_pairs_tell_relative_false_positives() -> None:
    panel = next(p for p in panels(ROWS) if p.shots == 5 and not p.noise)
    table = tables.pairs_table(panel, [PAIR])
    assert table is not None
    (line,) = [line for line in table.body if line[1] == "FPR at FNR 10 %"]
    assert line[2:5] == ["0.400", "0.500", "-0.100"]
    assert line[6:] == ["-20%", "4"]
    assert tables.pairs_table(panel, [(("absent", "none"), PAIR[1])]) is None


def test_one_seed_and_one_site_have_no_interval() -> None:
    (panel,) = panels([row for row in ROWS if row.seed == 0 and row.site == "nut" and
                       row.shots == 5 and not row.noise])  # fmt: skip
    trained = tables.main_table(panel, "patchcore").body[0]
    assert trained[4] == trained[6] == "–"
    assert trained[5] == "+0.050"
    chart = figures.differences(panel, "patchcore")
    assert chart is not None
    assert chart.file("png")


def test_the_page_stands_alone_and_says_what_its_intervals_are(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert "<script" not in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "b&lt;1&gt;" in page
    assert "Incomplete: &lt;some&gt; cells." in page
    assert "over n = 4 sites" in page
    assert "95 % t-interval over 2 seeds of 2 draws each" in page
    assert "4 sites (none with masks), 2 seeds, 2 draws of the support each." in page


def test_the_markdown_links_plots_that_are_there(folder: Path) -> None:
    text = (folder / "results.md").read_text()
    linked = re.findall(r"!\[.*?\]\((plots/.*?\.png)\)", text)
    assert {Path(path).stem for path in linked} >= {
        "differences-standard-5", "shots-standard", "wins-standard-5", "noise-standard-5",
        "sweep-kappa-standard-5",
    }  # fmt: skip
    for path in linked:
        assert (folder / path).read_bytes().startswith(b"\x89PNG")
        assert ElementTree.fromstring((folder / path).with_suffix(".svg").read_bytes()) is not None
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")


def test_where_nothing_varies_nothing_is_plotted_against_it() -> None:
    alone = panels(rows(0.5))
    assert figures.against(alone, "shots") is None
    assert figures.against(alone, "noise") is None
    assert figures.wins(alone[0]) is None
    assert figures.differences(alone[0], "patchcore") is None
    assert figures.sweeps(alone[0]) == []


def test_a_sweep_is_marked_at_its_values() -> None:
    (panel,) = [found for found in panels(ROWS) if found.shots == 5 and not found.noise]
    (chart,) = figures.sweeps(panel)
    words = {text.strip() for text in ElementTree.fromstring(chart.inline()).itertext()}
    assert {"0.1", "10", "kappa"} <= words
    assert not any("$" in word for word in words)


def test_a_plot_says_what_it_leaves_out() -> None:
    many = [row for number in range(25) for row in rows(0.5, variant=f"v{number}")]
    (cut,) = [figures.wins(panel) for panel in panels(many)]
    (whole,) = [figures.wins(panel) for panel in panels(many[:-16])]
    assert cut is not None
    assert "The first 24 of 25 in the table." in cut.caption
    assert whole is not None
    assert "The first" not in whole.caption


def test_drawings_repeat() -> None:
    panel = next(p for p in panels(ROWS) if p.shots == 5 and not p.noise)
    chart = figures.wins(panel)
    assert chart is not None
    assert chart.inline() == chart.inline()
    assert "var(--" in chart.inline()
    assert b"var(--" not in chart.file("svg")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "plots").write_text("in the way")
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        write_bench_report(tmp_path, findings(rows(0.5)))
