from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bayfed.config import parse_experiment
from bayfed.errors import CheckpointError
from bayfed.evaluation.colours import ColourScale
from bayfed.evaluation.heatmaps import HeatmapCase
from bayfed.evaluation.report import Report, render_report, write_report
from bayfed.evaluation.table import ResultRow
from bayfed.seeds import stream

VOID = {"meta", "img", "br", "link", "input", "hr", "path", "rect", "use", "stop"}


class Page(HTMLParser):
    """Collects tags and text, and checks that every tag is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def result(site: str, arm: str, auroc: float) -> ResultRow:
    return ResultRow(
        run="demo",
        method="baypranometa",
        grain="patch",
        arm=arm,
        protocol="new-product",
        site=site,
        seed=0,
        draw=0,
        shots=5,
        round=0 if arm == "none" else 2,
        image_auroc=auroc,
        aupro=auroc - 0.2,
        cover95=0.93,
        fpr_at_threshold=0.07,
        ece=0.02,
        model_bytes=66_000,
    )


def heatmap(site: str = "nut", side: int = 32) -> HeatmapCase:
    rng = stream(0, "heatmap", site)
    image = rng.integers(0, 255, (side, side, 3), dtype=np.uint8)
    surprise = rng.normal(size=(side, side))
    return HeatmapCase(site, "scratch", image, surprise, surprise > 1, 7.25, 0.012, "defective")


@pytest.fixture(scope="module")
def report() -> Report:
    clients = [{"name": "<i>plant</i>", "loss": 0.4, "update_norm": 0.1, "seconds": 0.3}]
    line: dict[str, Any] = {
        "loss": 0.4,
        "mean_image_auroc": None,
        "bytes_up": 212_000,
        "bytes_down": 212_000,
        "seconds_compute": 2.0,
        "seconds_overhead": 0.25,
        "seconds": 2.25,
        "update_norm": 0.1,
        "clients": clients,
    }
    return Report(
        experiment=parse_experiment(
            {"name": "A & <b>", "protocol": {"name": "new-product", "holdout": ["nut"]}}
        ),
        rows=[
            *(result(site, "none", 0.6 + i / 50) for i, site in enumerate(("nut", "tile", "wood"))),
            *(result(site, "federated", 0.8) for site in ("nut", "tile", "wood")),
        ],
        rounds=[{"round": 1, **line}, {"round": 2, **line, "mean_image_auroc": 0.8}],
        heatmaps=[heatmap()],
        scale=ColourScale(0.0, 3.0, 2.0),
        environment={"torch": "2.15.0"},
        notes=["A remark."],
    )


@pytest.fixture(scope="module")
def html(report: Report) -> str:
    return render_report(report)


def test_the_page_holds_what_was_found(html: str) -> None:
    text = Page(html).text
    for words in (
        "Training lifted mean image AUROC over 3 unseen products from 0.620 to 0.800",
        "excludes 0",
        "0.600 0.800",  # nut before and after
        "Coverage at 95 %",
        "score 7.25",
        "p 0.012",
        "called defective",
        "No law of the model is asked to hold",
        "torch 2.15.0",
        "A remark.",
        "0.212",  # MB a round
    ):
        assert words in text, words


def test_the_page_needs_nothing_outside_itself(html: str) -> None:
    page = Page(html)
    assert not page.all("script")
    assert not page.all("link")
    assert not page.open
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/jpeg;base64,"))
    assert not re.search(r"@import|url\((?!#)", html)


def test_pictures_and_tables_can_be_read_aloud(html: str) -> None:
    page = Page(html)
    assert len(page.all("img")) == 3
    assert all(image["alt"] for image in page.all("img"))
    assert all(svg.get("aria-label") for svg in page.all("svg"))
    assert all(cell.get("scope") for cell in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))


def test_names_from_outside_are_text(report: Report, html: str) -> None:
    rows = [replace(row, site=f"<script>{row.site}") for row in report.rows]
    case = replace(heatmap(), site='"><script>x')
    page = Page(render_report(replace(report, rows=rows, rounds=[], heatmaps=[case])))
    assert not page.all("script")
    assert not Page(html).all("i")
    assert "A & <b>" in page.text
    assert "<i>plant</i>" in Page(html).text


def test_an_empty_run_still_has_an_honest_page(report: Report) -> None:
    empty = Report(experiment=report.experiment, rows=[])
    text = Page(render_report(empty)).text
    assert "nothing is compared" in text
    assert "No round was run" in text
    assert "No heatmaps" in text


def test_the_law_can_be_named_by_the_caller(report: Report) -> None:
    bare = Report(report.experiment, rows=[], law="Ranks among held-out normals.")
    text = Page(render_report(bare)).text
    assert "Ranks among held-out normals." in text
    assert "No closed law" not in text


def test_other_arms_and_protocols_are_shown_apart(report: Report) -> None:
    extra = [replace(row, protocol="standard") for row in report.rows]
    central = replace(report.rows[0], arm="central", round=2)
    text = Page(render_report(Report(report.experiment, rows=[*report.rows, central, *extra]))).text
    assert "All arms at their last round" in text
    assert "baypranometa · patch grain · standard · 5 shots" in text
    assert "over 3 unseen products" in text


def test_heatmaps_stop_where_the_page_would_grow_too_large(
    report: Report, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("bayfed.evaluation.report._GALLERY_BYTES", 300_000)
    many = replace(report, rounds=[], heatmaps=[heatmap(f"site{i}", 64) for i in range(12)])
    write_report(tmp_path / "report.html", many)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    shown = len(page.all("img")) // 3
    assert 0 < shown < 12
    assert f"{12 - shown} heatmaps were left out" in page.text


def test_a_page_that_cannot_be_written_leaves_the_old_one(
    report: Report, tmp_path: Path, monkeypatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    monkeypatch.setattr("bayfed.evaluation.report.MAX_BYTES", 1000)
    with pytest.raises(CheckpointError, match=r"report\.html"):
        write_report(path, Report(report.experiment, rows=[]))
    assert path.read_text() == "old"
    with pytest.raises(CheckpointError, match="absent"):
        write_report(tmp_path / "absent" / "report.html", Report(report.experiment, rows=[]))


def test_the_same_run_gives_the_same_page(report: Report, html: str) -> None:
    assert render_report(report) == html


def test_very_long_runs_are_thinned_with_a_note(report: Report, monkeypatch) -> None:
    monkeypatch.setattr("bayfed.evaluation.report._ROUNDS", 4)
    long = [{**report.rounds[1], "round": number} for number in range(1, 12)]
    page = Page(render_report(replace(report, rounds=long, heatmaps=[])))
    assert "one round in 3, and the last" in page.text
    assert "1 0.4000" in page.text
    assert "4 0.4000" in page.text
    assert "11 0.4000" in page.text
    assert "5 0.4000" not in page.text
