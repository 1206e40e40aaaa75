from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import ndtr

from bayfed.errors import ConfigError
from strategies.privacy import accountant
from strategies.privacy.accountant import Releases, affordable

pytest.importorskip("dp_accounting", reason="dp-accounting is not installed")


def analytic(multiplier: float, delta: float) -> float:
    """Balle and Wang, theorem 8, solved for epsilon."""

    def excess(epsilon: float) -> float:
        a, b = 1 / (2 * multiplier), epsilon * multiplier
        return float(ndtr(a - b) - np.exp(epsilon) * ndtr(-a - b)) - delta

    return float(brentq(excess, 0.0, 300.0)) if excess(0.0) > 0 else 0.0


def concentrated(rho: float, delta: float) -> float:
    """Bun and Steinke 2016, proposition 1.3: an upper bound."""
    return rho + 2 * np.sqrt(rho * np.log(1 / delta))


@settings(deadline=None, max_examples=30)
@given(
    st.floats(1.0, 30.0),
    st.integers(1, 100),
    st.integers(0, 1),
    st.sampled_from([1e-3, 1e-5]),
    st.sampled_from([("replace-one", 2), ("add-or-remove", 1)]),
)
def test_releases_of_everybody_are_one_gaussian_mechanism(
    noise: float, rounds: int, everybody: int, delta: float, adjacency: tuple[Any, int]
) -> None:
    name, sensitivity = adjacency
    found = Releases(noise, rounds, everybody, name).epsilon(delta)
    multiplier = noise / sensitivity / np.sqrt(rounds + everybody)
    if multiplier > 0.15:
        assert found == pytest.approx(analytic(multiplier, delta), rel=1e-5, abs=1e-8)
    assert found <= concentrated(1 / (2 * multiplier**2), delta) + 1e-9


@pytest.mark.parametrize("adjacency", ["replace-one", "add-or-remove"])
def test_drawing_clients_hides_them(adjacency: Any) -> None:
    everybody = Releases(4.0, 20, 0, adjacency, 200, 200).epsilon(1e-4)
    some = Releases(4.0, 20, 0, adjacency, 20, 200).epsilon(1e-4)
    assert 0 < some < 0.7 * everybody


def test_nearly_everybody_costs_no_more_than_everybody() -> None:
    everybody = Releases(4.0, 20, 0, "replace-one", 200, 200).epsilon(1e-4)
    assert Releases(4.0, 20, 0, "replace-one", 190, 200).epsilon(1e-4) <= everybody


def test_one_drawn_release_is_no_better_than_its_exact_trade_off() -> None:
    # The true delta of one Poisson-sampled Gaussian at the epsilon that is told, by quadrature.
    share, noise, delta = 0.1, 1.5, 1e-4
    epsilon = Releases(noise, 1, 0, "add-or-remove", 10, 100).epsilon(delta)

    def density(x: float, at: float) -> float:
        return float(np.exp(-((x - at) ** 2) / (2 * noise**2)) / (noise * np.sqrt(2 * np.pi)))

    def excess(x: float) -> float:
        mixed = (1 - share) * density(x, 0.0) + share * density(x, 1.0)
        return max(0.0, mixed - np.exp(epsilon) * density(x, 0.0))

    exact = quad(excess, -20, 40, limit=500, points=[0, 2, 4, 8])[0]
    assert exact <= delta


@given(st.floats(0.0, 60.0), st.integers(0, 50))
def test_the_rounds_that_a_budget_pays_for(budget: float, most: int) -> None:
    rounds = affordable(lambda t: float(t), budget, most)
    assert rounds == min(most, int(budget))


def test_without_the_library_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(accountant, "import_module", absent)
    with pytest.raises(ConfigError, match="dp-accounting is missing"):
        Releases(7.123, 1).epsilon(1e-5)
