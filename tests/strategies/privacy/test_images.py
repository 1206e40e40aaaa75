from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bayfed.errors import ConfigError, FederationError
from strategies.averaging import Averaging
from strategies.privacy.images import ImageLevel
from strategies.task import Params, norm

THETA = {"w": torch.zeros(3), "still": torch.zeros(2)}
EPISODES = 6


class Pictures:
    """An episode is three pictures and its gradient their sum; a picture is three numbers."""

    name = "toy"

    def __init__(self, pictures: list[list[float]]) -> None:
        self.pictures = torch.tensor(pictures)

    @property
    def images(self) -> int:
        return len(self.pictures)

    def drawn(self, round: int) -> list[list[int]]:  # noqa: A002
        return [[(round + e * i) % self.images for i in range(3)] for e in range(EPISODES)]

    def repeats(self, round: int) -> int:  # noqa: A002
        drawn = self.drawn(round)
        return max(sum(i in episode for episode in drawn) for i in range(self.images))

    def batch(self, round: int, step: int) -> Tensor:  # noqa: A002, ARG002
        return torch.stack([self.pictures[episode].sum(0) for episode in self.drawn(round)])

    def loss(self, params: Params, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        return (params["w"] * batch).sum(-1).mean() + 0 * params["still"].sum(), {}


def level(noise: float = 1e-12, clip: float = 1.0, budget: float | None = None) -> ImageLevel:
    return ImageLevel(clip, noise, 1e-2, budget, seed=0)


PICTURE = st.lists(st.floats(-50, 50, width=32), min_size=3, max_size=3)


@settings(max_examples=20)
@pytest.mark.parametrize("number", [1, 2])
@given(st.lists(PICTURE, min_size=5, max_size=9), PICTURE, st.floats(0.1, 20))
def test_one_image_moves_the_update_by_no_more_than_the_sensitivity(
    number: int, pictures: list[list[float]], other: list[float], clip: float
) -> None:
    pytest.importorskip("dp_accounting", reason="dp-accounting is not installed")
    task, neighbour = Pictures(pictures), Pictures([other, *pictures[1:]])
    private, averaging = level(clip=clip), Averaging(episodes=EPISODES)
    found = [private.update(each, THETA, averaging, number).tensors for each in (task, neighbour)]
    apart = norm({name: found[0][name] - found[1][name] for name in THETA})
    assert apart <= private.sensitivity(task.repeats(number), EPISODES) * (1 + 1e-4)


def test_the_update_is_the_mean_of_clipped_gradients() -> None:
    pytest.importorskip("dp_accounting", reason="dp-accounting is not installed")
    task = Pictures([[3.0 * i, 0, 0] for i in range(7)])
    update = level(clip=4.0).update(task, THETA, Averaging(episodes=EPISODES), 1)
    expected = task.batch(1, 0)[:, 0].clamp(max=4.0).mean()
    assert update.tensors["w"][0].item() == pytest.approx(expected.item())
    assert update.weight == EPISODES


def test_the_noise_is_on_what_is_moved_alone() -> None:
    pytest.importorskip("dp_accounting", reason="dp-accounting is not installed")
    theta = {"w": torch.zeros(3), "still": torch.zeros(2)}
    averaging = Averaging(episodes=EPISODES, rates={"still": 0.0})
    task = Pictures([[0.0] * 3] * 5)
    levels = (ImageLevel(1.0, 2.0, 1e-2, seed=seed) for seed in range(200))
    draws = torch.stack([one.update(task, theta, averaging, 1).tensors["w"] for one in levels])
    assert draws.std().item() == pytest.approx(2.0 / EPISODES, rel=0.1)
    assert level(noise=2.0).update(task, theta, averaging, 1).tensors["still"].norm() == 0


def test_rounds_add_up_as_squares_of_repeats() -> None:
    library = pytest.importorskip("dp_accounting", reason="dp-accounting is not installed")
    task, private = Pictures([[0.0] * 3] * 5), level(noise=30.0)
    accountant = library.pld.PLDAccountant(library.NeighboringRelation.REPLACE_ONE)
    for number in range(1, 4):  # this accountant doubles the sensitivity of a replacement itself
        accountant.compose(library.GaussianDpEvent(30.0 / task.repeats(number)))
    assert private.epsilon(task, 3) == pytest.approx(accountant.get_epsilon(1e-2), rel=1e-2)


def test_a_client_ends_before_its_budget() -> None:
    pytest.importorskip("dp_accounting", reason="dp-accounting is not installed")
    task = Pictures([[0.0] * 3] * 5)
    private = level(noise=30.0, budget=level(noise=30.0).epsilon(task, 2) + 1e-6)
    private.update(task, THETA, Averaging(episodes=EPISODES), 2)
    with pytest.raises(FederationError, match=r"round 3 would pass federation.privacy.epsilon"):
        private.update(task, THETA, Averaging(episodes=EPISODES), 3)


def test_delta_is_below_one_image_in_all() -> None:
    private = ImageLevel(1.0, 1.0, delta=0.2)
    with pytest.raises(ConfigError, match=r"privacy.delta: 0.2 is not below 1 / 5"):
        private.update(Pictures([[0.0] * 3] * 5), THETA, Averaging(), 1)
