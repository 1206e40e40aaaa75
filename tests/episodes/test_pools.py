from __future__ import annotations

import pytest
import torch

from bayfed.data import SiteImage
from bayfed.episodes import Pools
from bayfed.episodes.episode import EpisodeBatch, stack
from bayfed.errors import ProtocolError
from tests import toys


def pools(**images: tuple[SiteImage, ...]) -> Pools:
    return Pools("toy", "toys", **{"train_good": (toys.image(0),), **images})


@pytest.mark.parametrize("side", ["test_good", "test_anomalies"])
def test_an_image_on_both_sides_is_refused_by_name(side):
    with pytest.raises(ProtocolError, match=r"^toy/good/0: used in training and in the test$"):
        pools(**{side: (toys.image(0),)})


def test_a_training_defect_on_the_test_side_is_refused():
    crack = toys.image(1, "crack")
    with pytest.raises(ProtocolError, match="toy/crack/1"):
        pools(train_anomalies=(crack,), test_anomalies=(crack,))


def test_a_defect_painted_on_a_test_image_is_refused():
    tested = toys.image(2)
    painted = toys.image(3, "hole", base=tested.name)
    with pytest.raises(ProtocolError, match=f"toy/{tested.name}"):
        pools(train_anomalies=(painted,), test_good=(tested,))


def test_a_test_defect_painted_on_a_training_image_is_refused():
    painted = toys.image(3, "hole", base=toys.image(0).name)
    with pytest.raises(ProtocolError, match="toy/hole/3"):
        pools(test_anomalies=(painted,))


def test_training_and_testing_are_the_two_sides():
    good, bad = toys.image(1), toys.image(2, "crack")
    both = pools(test_good=(good,), test_anomalies=(bad,))
    assert both.training == (toys.image(0),)
    assert both.testing == (good, bad)


def test_too_few_good_images_name_site_and_numbers():
    with pytest.raises(ProtocolError, match=r"^site toy: 1 good training images, 5 shots needs 5$"):
        pools().need(5, "5 shots")


def test_stacked_episodes_keep_order_and_token_positions():
    def episode(value: float) -> EpisodeBatch:
        filled = [torch.full((1, 2, 3), value) for _ in range(4)]
        return EpisodeBatch(*filled, torch.full((1, 3), value))

    both = stack([episode(1.0), episode(2.0)])
    assert len(both) == 2
    assert both.query[:, 0, 0].tolist() == [1.0, 2.0]
    assert both.tokens is not None
    assert both.tokens[:, 0].tolist() == [1.0, 2.0]
    assert both.to(torch.device("cpu")).tokens is not None
