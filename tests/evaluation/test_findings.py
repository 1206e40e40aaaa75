from __future__ import annotations

from dataclasses import replace

import pytest

from bayfed.config import Experiment, parse_experiment
from bayfed.evaluation.findings import comparisons, missing, verdict
from bayfed.evaluation.summary import paired_summary
from bayfed.evaluation.table import ResultRow

EXPERIMENT = parse_experiment({"protocol": {"name": "new-product", "holdout": ["nut"]}})


def rows(before: list[float], after: list[float], **changes: object) -> list[ResultRow]:
    base = ResultRow(
        run="demo",
        method="baypranometa",
        grain="patch",
        arm="none",
        protocol="new-product",
        site="",
        seed=0,
        draw=0,
        shots=5,
        round=0,
        aupro=0.5,
        ece=0.1,
    )
    base = replace(base, **changes)
    found = []
    for number, (low, high) in enumerate(zip(before, after, strict=True)):
        site = f"site{number}"
        found.append(replace(base, site=site, image_auroc=low))
        found.append(replace(base, site=site, arm="federated", round=3, image_auroc=high))
    return found


def spoken(found: list[ResultRow], experiment: Experiment = EXPERIMENT) -> str:
    compared = comparisons(found, experiment)
    return verdict(compared[0] if compared else None)


def test_a_clear_gain_is_stated_with_its_interval() -> None:
    found = rows([0.5, 0.6, 0.7], [0.7, 0.79, 0.91])
    paired = paired_summary(found)
    assert spoken(found) == (
        "Training lifted mean image AUROC over 3 unseen products from 0.600 to 0.800 (+0.200). "
        f"Paired 95 % interval {paired.low:+.3f} to {paired.high:+.3f}: excludes 0."
    )


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ([0.5, 0.6], [0.5, 0.9], "does not exclude 0"),
        ([0.8, 0.9], [0.7, 0.8], "lowered"),
        ([0.8, 0.9], [0.8, 0.9], "left unchanged"),
        ([0.8], [0.9], "One product gives no interval"),
    ],
)
def test_other_outcomes_are_not_dressed_up(before, after, words: str) -> None:
    assert words in spoken(rows(before, after))


def test_without_both_arms_nothing_is_compared() -> None:
    assert "nothing is compared" in spoken([])
    only_control = [row for row in rows([0.5], [0.6]) if row.arm == "none"]
    assert "nothing is compared" in spoken(only_control)
    assert "Mean image AUROC over 1 unseen products is 0.500." in spoken(only_control)


def test_rows_of_different_questions_are_kept_apart() -> None:
    own = rows([0.5, 0.6], [0.7, 0.8])
    other = rows([0.9, 0.9], [0.9, 0.9], protocol="standard") + rows([0.1], [0.2], shots=2)
    compared = comparisons([*other, *own], EXPERIMENT)
    assert [(one.protocol, one.shots) for one in compared] == [
        ("new-product", 5),
        ("new-product", 2),
        ("standard", 5),
    ]
    assert compared[0].rows == own
    assert compared[2].title == "baypranometa · patch grain · standard · 5 shots"


def test_what_is_missing_is_said() -> None:
    masked = rows([0.5, 0.6], [0.7, 0.8])
    compared = comparisons(masked, EXPERIMENT)[0]
    assert missing(compared, EXPERIMENT, rounds=3, heatmaps=2) == []
    bare = [replace(row, aupro=None, ece=None) for row in masked[:-1]]
    notes = " ".join(missing(comparisons(bare, EXPERIMENT)[0], EXPERIMENT, 0, 0))
    for words in ("No masks of any site", "No p-values", "one arm only", "No round", "No heatmaps"):
        assert words in notes


def test_sites_without_masks_or_classes_are_named() -> None:
    found = rows([0.5, 0.6], [0.7, 0.8])
    partly = [replace(row, aupro=None) if row.site == "site1" else row for row in found]
    partly += [replace(found[0], site="zip", image_auroc=None)]
    notes = missing(comparisons(partly, EXPERIMENT)[0], EXPERIMENT, 3, 1)
    assert "No masks of site1: pixel AUROC and AUPRO are not applicable there." in notes
    assert any("Only one class of test images at zip" in note for note in notes)


def test_the_image_grain_explains_itself() -> None:
    experiment = parse_experiment({"method": {"grain": "image"}})
    assert any("image grain" in note for note in missing(None, experiment, 1, 0))
