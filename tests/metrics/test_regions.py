from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayfed.metrics import aupro, label_regions, pixel_auroc, scale_regions
from bayfed.metrics.regions import Mask


def count(regions: np.ndarray) -> int:
    return len(set(np.unique(regions)) - {0})


def blank(height: int = 120, width: int = 90) -> Mask:
    return np.zeros((height, width), bool)


def test_touching_corners_are_one_region_and_gaps_two() -> None:
    assert count(label_regions(np.eye(3, dtype=bool))) == 1
    assert count(label_regions(np.array([[True, False, True]]))) == 2


def test_regions_that_a_coarse_grid_would_merge_stay_two() -> None:
    mask = blank()
    mask[10:30, 10:30] = mask[31:50, 10:30] = True
    assert count(scale_regions(mask, 12)) == 2
    assert count(label_regions(scale_regions(mask, 12) > 0)) == 1


@pytest.mark.parametrize("size", [7, 45, 224])
def test_a_scratch_thinner_than_a_cell_is_kept(size: int) -> None:
    mask = blank()
    mask[60, 20] = True
    regions = scale_regions(mask, size)
    assert count(regions) == 1
    assert regions[int(60.5 * size / 120), int(20.5 * size / 90)] == 1


def test_cells_belong_to_the_region_where_half_of_them_is_covered() -> None:
    mask = blank(40, 40)
    mask[:, 3:] = True
    mask[:8] = False
    regions = scale_regions(mask, 4)
    assert regions[:, 0].tolist() == [0, 1, 1, 1]
    assert regions[0].tolist() == [0, 0, 0, 0]


def test_a_mask_of_the_map_s_own_size_is_numbered_only() -> None:
    mask = np.random.default_rng(0).random((30, 30)) < 0.3
    assert (scale_regions(mask, 30) == label_regions(mask)).all()


def test_the_empty_mask_stays_empty() -> None:
    assert not scale_regions(blank(), 8).any()


@given(
    st.integers(3, 60),
    st.integers(3, 60),
    st.integers(2, 40),
    st.floats(0.02, 0.3),
    st.integers(0, 99),
)
def test_no_region_appears_that_was_not_marked(
    height: int, width: int, size: int, share: float, key: int
) -> None:
    mask = np.random.default_rng(key).random((height, width)) < share
    regions = scale_regions(mask, size)
    assert regions.shape == (size, size)
    assert set(np.unique(regions)) <= set(np.unique(label_regions(mask)))
    assert regions.any() == mask.any()


def test_numbered_regions_weigh_as_marked_ones() -> None:
    mask = blank(20, 20)
    mask[2:6, 2:6] = mask[10:12, 10:18] = True
    scores = np.random.default_rng(1).random((20, 20)) + mask
    regions = label_regions(mask) * 7  # any numbers will do
    assert aupro([scores], [regions]) == pytest.approx(aupro([scores], [mask]))
    assert pixel_auroc([scores], [regions]) == pytest.approx(pixel_auroc([scores], [mask]))
