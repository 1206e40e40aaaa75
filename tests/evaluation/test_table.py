from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bayfed.errors import CheckpointError, NumericalError
from bayfed.evaluation.table import (
    COLUMNS,
    KEY,
    VALUES,
    ResultRow,
    append_rows,
    read_rows,
    sort_rows,
    untimed,
)

HEADER = (
    "run,method,variant,grain,arm,protocol,backbone,train_sites,site,defect,seed,draw,shots,noise,"
    "round,image_auroc,image_auprc,f1_max,pixel_auroc,aupro,ece,ks,cover90,cover95,cover99,"
    "fpr_at_threshold,fnr_at_threshold,model_bytes,fit_seconds,score_seconds,fpr_at_fnr10,"
    "full_support,noise_reached,reject_precision,reject_recall"
)

text = st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), min_size=1)
number = st.none() | st.floats(allow_nan=False, allow_infinity=False)
whole = st.integers(0, 10**12)
REQUIRED = {
    "run": text,
    "method": text,
    "arm": text,
    "protocol": text,
    "site": text,
    "seed": whole,
    "draw": whole,
    "shots": whole,
    "round": whole,
    "model_bytes": st.none() | whole,
    "full_support": st.none() | whole,
    "noise": number,
}
OPTIONAL_TEXT = dict.fromkeys(KEY, st.none() | text)
any_row = st.builds(ResultRow, **{**dict.fromkeys(VALUES, number), **OPTIONAL_TEXT, **REQUIRED})


def row(**changes: object) -> ResultRow:
    base = ResultRow(
        run="demo",
        method="baypranometa",
        arm="none",
        protocol="standard",
        site="nut",
        seed=0,
        draw=0,
        shots=5,
        round=0,
        image_auroc=0.75,
    )
    return replace(base, **changes)


def test_the_schema_is_fixed() -> None:
    assert ",".join(COLUMNS) == HEADER
    assert KEY[-1] == "round"
    assert (*KEY, *VALUES) == COLUMNS


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(any_row, max_size=4, unique_by=lambda row: str([getattr(row, k) for k in KEY]))
)
def test_rows_read_back_exactly(tmp_path_factory, rows: list[ResultRow]) -> None:
    path = tmp_path_factory.mktemp("table") / "results.csv"
    append_rows(path, rows)
    assert read_rows(path) == rows


def test_rows_are_added_and_equal_keys_replaced(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    append_rows(path, [row(), row(site="tile")])
    append_rows(path, [row(image_auroc=0.9), row(draw=1)])
    found = read_rows(path)
    assert [(r.site, r.draw, r.image_auroc) for r in found] == [
        ("nut", 0, 0.9),
        ("tile", 0, 0.75),
        ("nut", 1, 0.75),
    ]


def test_appending_in_parts_or_at_once_gives_the_same_bytes(tmp_path: Path) -> None:
    rows = [row(draw=draw, image_auroc=0.1 * draw) for draw in range(4)]
    append_rows(tmp_path / "once.csv", rows)
    append_rows(tmp_path / "parts.csv", rows[:1])
    append_rows(tmp_path / "parts.csv", rows[1:])
    assert (tmp_path / "once.csv").read_bytes() == (tmp_path / "parts.csv").read_bytes()


def test_numbers_of_numpy_are_written_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    append_rows(path, [row(image_auroc=np.float64(0.1), seed=np.int64(3), aupro=1)])
    assert read_rows(path) == [row(image_auroc=0.1, seed=3, aupro=1.0)]


def test_equal_runs_compare_equal_without_their_times() -> None:
    first, second = row(fit_seconds=0.1, score_seconds=2.0), row(fit_seconds=0.2)
    assert first != second
    assert untimed(first) == untimed(second)


def test_an_older_table_is_read_and_widened(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    append_rows(path, [row()])
    with path.open(newline="") as file:
        lines = [line[:16] for line in csv.reader(file)]
    path.write_text("\n".join(",".join(line) for line in lines) + "\n")
    assert read_rows(path) == [row()]
    append_rows(path, [row(draw=1, aupro=0.5)])
    assert path.read_text().splitlines()[0] == HEADER
    assert read_rows(path) == [row(), row(draw=1, aupro=0.5)]


def test_columns_of_a_later_version_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    append_rows(path, [row(), row(draw=1)])
    head, *body = path.read_text().splitlines()
    extended = [f"{head},watts", *(f"{line},{i + 7}" for i, line in enumerate(body))]
    path.write_text("\n".join(extended) + "\n")
    assert read_rows(path) == [row(), row(draw=1)]
    append_rows(path, [row(draw=1, image_auroc=0.5), row(draw=2)])
    with path.open(newline="") as file:
        assert [line["watts"] for line in csv.DictReader(file)] == ["7", "", ""]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        ("run,method,kind\n", "column 3 is 'kind', not 'variant'"),
        (HEADER.replace("aupro", "pro") + "\n", "column 20 is 'pro', not 'aupro'"),
        ("run,method\n", "column 'variant' is missing"),
        (f"{HEADER}\na,b\n", "row 2 has 2 of 35 cells"),
        (f'{HEADER}\n"a', "not a CSV file"),
        (HEADER + "\nr,m,,,none,p,,,s,,x,0,5,,0" + "," * 20 + "\n", "row 2: seed is 'x'"),
        (HEADER + "\nr,m,,,none,p,,,s,,,0,5,,0" + "," * 20 + "\n", "row 2: seed is ''"),
        (HEADER + "\nr,m,,,none,p,,,s,,0,0,5,,0,nan" + "," * 19 + "\n", "image_auroc is 'nan'"),
    ],
)
def test_another_file_is_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "results.csv"
    path.write_text(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_rows(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_refused_file_keeps_its_content(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("site,score\nnut,1\n")
    with pytest.raises(CheckpointError, match="column 1 is 'site', not 'run'"):
        append_rows(path, [row()])
    assert path.read_text() == "site,score\nnut,1\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("bad", [np.nan, np.inf, np.float32(np.nan)])
def test_a_value_that_is_not_finite_is_refused(tmp_path: Path, bad: float) -> None:
    path = tmp_path / "results.csv"
    append_rows(path, [row()])
    with pytest.raises(NumericalError, match="aupro"):
        append_rows(path, [row(draw=1, aupro=bad)])
    assert read_rows(path) == [row()]


def test_a_crash_while_writing_leaves_the_old_table(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "results.csv"
    append_rows(path, [row()])
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"results\.csv: No space left"):
        append_rows(path, [row(draw=1)])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="absent"):
        read_rows(tmp_path / "absent.csv")
    with pytest.raises(CheckpointError, match="absent"):
        append_rows(tmp_path / "absent" / "results.csv", [row()])


def test_an_oversized_file_is_not_read(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "results.csv"
    append_rows(path, [row()])
    monkeypatch.setattr("bayfed.evaluation.table.MAX_BYTES", 10)
    with pytest.raises(CheckpointError, match="larger than 10 bytes"):
        read_rows(path)


def test_names_that_are_hard_to_write_survive(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    awkward = [row(site=name) for name in ('a,"b"', "two\nlines", "\udcff.png", "ünï")]
    append_rows(path, awkward)
    assert read_rows(path) == awkward
    append_rows(path, [row(site="a\rb")])
    assert read_rows(path)[-1].site == "a b"


def test_sorting_orders_by_key_and_keeps_columns_of_a_later_version(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    rows = [row(draw=10), row(draw=2), row(site="bolt"), row(arm="federated", round=5)]
    append_rows(path, rows)
    head, *body = path.read_text().splitlines()
    path.write_text("\n".join([f"{head},watts", *(f"{line},7" for line in body)]) + "\n")
    sort_rows(path)
    assert read_rows(path) == [rows[3], rows[2], rows[1], rows[0]]
    with path.open(newline="") as file:
        assert {line["watts"] for line in csv.DictReader(file)} == {"7"}
