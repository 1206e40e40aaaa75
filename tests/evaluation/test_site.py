from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from bayfed.config import FULL, Evaluation
from bayfed.data.files import FileSource
from bayfed.data.site import SiteImage
from bayfed.episodes import Pools, draw_support, draws_of
from bayfed.errors import DataError, NumericalError, ProtocolError
from bayfed.evaluation.calibrate import (
    DENSITY,
    INVERSE,
    SITES,
    SQUARE,
    added,
    calibrate_site,
    image_scores,
    null_sums,
    pooled_histogram,
    pooled_p_values,
    pooled_spread,
    spread_sums,
)
from bayfed.evaluation.site import evaluate_site, rejection_columns, score_images, upsample
from bayfed.methods.base import Scores
from bayfed.metrics import image_auroc
from bayfed.normality import support_spread
from tests import toys

SETTINGS = Evaluation(shots=3, draws=2)
GRID = 4
QUICKLY = {"top_k": 0.1, "inner": {"steps": 0}}


class Blind(toys.Drawn):
    """A defect whose place nobody marked."""

    def mask(self):
        return None


def pools(good: int = 8, test: int = 6, bad: int = 5, **changes) -> Pools:
    site = toys.site(good, test, {"crack": bad})
    return replace(
        Pools("toy", "toys", site.train_good, (), site.test_good, site.defects), **changes
    )


def moved(of: Pools, grid: int = GRID, channels: int = 4):
    """Noise, with the defects moved where the toy mask is: the second quarter each way."""
    features = toys.noise(of, grid**2, channels)
    values = features.blocks[0].reshape(-1, grid, grid, channels)
    first = len(of.training) + len(of.test_good)
    if grid > 1:
        values[first:, 1, 1] += 6.0
    else:
        values[first:] += 6.0
    return features


def evaluate(of, grid=GRID, features=None, method=None, pooled=None, seed=0, **settings):
    method = toys.method(4, grid, **QUICKLY) if method is None else method
    features = moved(of, grid) if features is None else features
    asked = SETTINGS.model_copy(update=settings)
    return evaluate_site(method, method.initial(0), of, features, asked, seed, pooled or {}, 32)


def test_what_a_refinement_rejects_is_told_against_the_labels():
    of = pools(good=8, bad=5)
    (draw,) = draws_of(of, Evaluation(shots=FULL, noise=0.25, draws=1), 0)
    defective = np.array([image.defect is not None for image in draw.support])
    assert defective.sum() == 2
    rejected = defective.copy()
    rejected[np.flatnonzero(~defective)[:2]] = True
    found = rejection_columns(draw, rejected)
    assert found == {"reject_precision": 0.5, "reject_recall": 1.0}
    none = rejection_columns(draw, np.zeros(8, bool))
    assert none == {"reject_precision": None, "reject_recall": 0.0}
    assert rejection_columns(draw, None) == {}


def test_a_noisy_row_says_what_was_asked_and_what_was_reached():
    of = pools(good=8, bad=5)
    (row,) = evaluate(of, noise=0.5, draws=1, shots=FULL)
    assert row["shots"] == 8
    assert row["full_support"] == 1
    assert (row["noise"], row["noise_reached"]) == (0.5, 0.25)  # two of five defects
    (clean,) = evaluate(of, draws=1)
    assert clean["noise"] is clean["noise_reached"] is clean["full_support"] is None


def test_a_row_for_each_draw_with_what_was_measured():
    rows = evaluate(pools())
    assert [row["draw"] for row in rows] == [0, 1]
    for row in rows:
        assert row["site"] == "toy"
        assert row["shots"] == 3
        assert row["image_auroc"] == row["image_auprc"] == row["f1_max"] == 1.0
        assert row["pixel_auroc"] > 0.9
        assert row["aupro"] > 0.8
        assert row["model_bytes"] > 0
        assert row["fit_seconds"] > 0
        assert row["score_seconds"] > 0
        assert row["defect"] is None


def test_the_scores_are_those_of_the_method_on_the_whole_test():
    of, method = pools(test=40, bad=3), toys.method(4, GRID, **QUICKLY)
    features, params = toys.noise(of, GRID**2, 4), method.initial(0)
    support = draw_support(of, 3, 0, 1)
    with torch.no_grad():
        adapted = method.adapt(params, features.read([i.name for i in support]))
        all_at_once = method.score(adapted, features.read([i.name for i in of.testing]))
    found = score_images(
        method, params, features.read([i.name for i in support]), of.testing, features, {}
    )
    torch.testing.assert_close(found.score, all_at_once.image)
    torch.testing.assert_close(found.tokens, all_at_once.tokens)
    expected = image_auroc(all_at_once.image.numpy(), [i.defect is not None for i in of.testing])
    rows = evaluate(of, features=features, method=method)
    assert rows[1]["image_auroc"] == pytest.approx(expected)


def test_fewer_good_images_than_shots_name_the_site():
    with pytest.raises(ProtocolError, match=r"^site toy: 2 good .* 3 shots needs 3$"):
        evaluate(pools(good=2))


def test_a_mask_of_another_size_names_its_file(tmp_path):
    picture, mask = tmp_path / "p.png", tmp_path / "p_mask.png"
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(picture)
    Image.fromarray(np.ones((10, 20), np.uint8)).save(mask)
    bad = SiteImage("toy", "bad.png", "crack", FileSource(picture, mask))
    with pytest.raises(DataError) as caught:
        evaluate(pools(test_anomalies=(bad,)))
    assert str(mask) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_score_that_is_not_finite_is_refused():
    of = pools()
    features = moved(of)
    features.blocks[0][-1] = np.nan
    with pytest.raises(NumericalError, match="finite"):
        evaluate(of, features=features)


@pytest.mark.parametrize(("test", "bad"), [(0, 4), (4, 0)])
def test_with_one_class_only_what_needs_both_stays_empty(test, bad):
    (row,) = evaluate(pools(test=test, bad=bad), draws=1)
    assert row["image_auroc"] is None


def test_the_image_grain_has_exact_p_values_and_no_map():
    (row,) = evaluate(pools(test=40), grid=1, draws=1)
    assert {"cover90", "cover95", "cover99", "ece", "ks"} <= row.keys()
    assert 0.5 <= row["cover90"] <= row["cover95"] <= row["cover99"] <= 1
    assert "aupro" not in row
    assert row["fnr_at_threshold"] < 0.5


def test_without_calibration_the_patch_grain_has_no_p_values():
    (row,) = evaluate(pools(), draws=1)
    assert "fpr_at_threshold" not in row


@pytest.mark.parametrize(("partial", "kinds", "told"), [(True, 1, "k0"), (True, 2, None),
                                                        (False, 1, None)])  # fmt: skip
def test_the_defect_is_told_where_one_type_was_kept_from_training(partial, kinds, told):
    bad = tuple(toys.image(500 + n, f"k{n % kinds}") for n in range(4))
    (row,) = evaluate(pools(test_anomalies=bad, partial=partial), draws=1)
    assert row["defect"] == told


def test_defects_without_masks_are_left_out_of_localisation_only():
    of = pools()
    blind = replace(of.test_anomalies[0], source=Blind(0))
    some = replace(of, test_anomalies=(blind, *of.test_anomalies[1:]))
    none = tuple(replace(i, source=Blind(0)) for i in of.test_anomalies)
    features = moved(of)
    (row,) = evaluate(some, features=features, draws=1)
    assert row["image_auroc"] == 1.0
    assert row["aupro"] > 0.8
    (row,) = evaluate(replace(of, test_anomalies=none), features=features, draws=1)
    assert row["image_auroc"] == 1.0
    assert "aupro" not in row


def test_maps_are_the_tokens_in_space():
    tokens = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    maps = upsample(tokens, 8)
    assert maps.shape == (1, 8, 8)
    assert maps[0, [0, 0, -1, -1], [0, -1, 0, -1]].tolist() == [0.0, 1.0, 2.0, 3.0]


# Calibration


def calibrate(of, features, pooled, method=None, seed=0, draws=2):
    method = method or toys.method(4, GRID, **QUICKLY)
    settings = SETTINGS.model_copy(update={"draws": draws})
    return calibrate_site(method, method.initial(0), of, features, settings, seed, pooled)


def test_the_first_stage_sums_the_squared_spread_of_the_supports():
    of, method = pools(), toys.method(4, GRID, **QUICKLY)
    features, params = moved(of), method.initial(0)
    sums = calibrate(of, features, {}, method)
    squares = []
    for draw in range(2):
        names = sorted(i.name for i in draw_support(of, 3, 0, draw))
        adapted = method.adapt(params, features.read(names))
        squares.append(support_spread(method.support_scores(adapted)).double().item() ** 2)
    assert sums[SQUARE].item() == pytest.approx(np.mean(squares))
    assert sums[SITES].item() == 1
    assert pooled_spread(sums) == pytest.approx(np.sqrt(np.mean(squares)))


def test_the_second_stage_counts_every_normal_outside_each_support():
    of = pools()
    features = moved(of)
    pooled = calibrate(of, features, {})
    sums = calibrate(of, features, pooled)
    assert sums[DENSITY].sum().item() == pytest.approx(1)
    assert (sums[DENSITY] * 2 * (8 - 3)).frac().abs().max() < 1e-9
    assert sums[INVERSE].item() == pytest.approx(1 / (8 - 3))


def test_calibration_reads_training_normals_only():
    of = pools()
    asked: set[str] = set()

    class Watched:
        def __init__(self, inner):
            self.inner = inner

        def read(self, names):
            asked.update(names)
            return self.inner.read(names)

    features = Watched(moved(of))
    pooled = calibrate(of, features, {})
    calibrate(of, features, pooled)
    assert asked == {image.name for image in of.train_good}


def test_a_site_with_as_many_normals_as_shots_adds_an_empty_histogram():
    of = pools(good=3)
    features = moved(of)
    pooled = calibrate(of, features, {})
    sums = calibrate(of, features, pooled)
    assert sums[DENSITY].sum() == 0
    assert sums[INVERSE] == 0


def test_pooled_p_values_of_normals_are_uniform_over_draws_and_of_defects_small():
    training = [(pools(good=24), key) for key in range(5)]
    stages: dict[str, torch.Tensor] = {}
    for _ in range(2):
        sums = [
            calibrate(of, toys.noise(of, GRID**2, 4, key), stages, seed=key, draws=6)
            for of, key in training
        ]
        stages |= {name: sum(part[name] for part in sums) for name in sums[0]}
    unseen = pools(test=60, bad=20)
    rows = [
        row for seed in range(10, 14) for row in evaluate(unseen, pooled=stages, draws=8, seed=seed)
    ]
    # Three shots leave a draw's location uncertain; the law holds on average over draws.
    assert np.mean([row["cover90"] for row in rows]) == pytest.approx(0.9, abs=0.1)
    assert np.mean([row["fnr_at_threshold"] for row in rows]) < 0.2


def test_p_values_need_a_calibrated_site():
    own = torch.tensor([0.0, 1.0, 2.0])
    assert pooled_p_values(own, own, {}) is None
    assert pooled_p_values(own, own, {SQUARE: torch.ones(()), SITES: torch.ones(())}) is None


def test_sites_weigh_the_same_however_many_images_they_have():
    own = torch.tensor([-1.0, 0.0, 1.0])
    first = spread_sums([own])
    few = null_sums([torch.zeros(4)], [own], first)
    many = null_sums([torch.full((400,), 5.0)] * 3, [own] * 3, first)
    pooled = first | added(few, many)
    law = pooled_histogram(pooled)
    assert law is not None
    total = law.counts.sum().item()
    assert total == pytest.approx(4 / (1 / 4 + 1 / 400))
    p = pooled_p_values(torch.tensor([2.0]), own, pooled)
    assert p is not None
    assert p.item() == pytest.approx((1 + total / 2) / (1 + total))


def test_normals_that_nobody_has_give_no_law():
    own = torch.tensor([-1.0, 0.0, 1.0])
    first = spread_sums([own])
    pooled = first | null_sums([torch.zeros(0)], [own], first)
    assert pooled_histogram(pooled) is None
    assert pooled_p_values(own, own, pooled) is None


def test_a_spread_of_zero_is_floored():
    assert pooled_spread({SQUARE: torch.zeros(()), SITES: torch.ones(())}) > 0


def test_scores_come_in_chunks_and_in_order():
    class Echo:
        def score(self, _adapted, query):
            return Scores(query[:, 0, 0], None, query[:, 0, 0], None)

    of = pools(good=70)
    values = np.arange(70, dtype=np.float32).reshape(70, 1, 1)
    names = [i.name for i in of.train_good]
    found = image_scores(Echo(), None, toys.features(of.train_good, values), names)
    assert found.tolist() == list(range(70))
    assert image_scores(Echo(), None, toys.features(of.train_good, values), []).shape == (0,)
