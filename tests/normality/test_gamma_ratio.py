from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from bayfed.normality.special import log_gamma_ratio, multivariate_log_gamma_difference

QUICK = settings(max_examples=25, deadline=None, derandomize=True)


@QUICK
@given(x=st.floats(1e-3, 200), step=st.floats(0, 300))
def test_equals_the_difference_of_two_log_gammas(x, step):
    expected = special.gammaln(x + step) - special.gammaln(x) - step * np.log(x)
    result = float(log_gamma_ratio(torch.tensor(x, dtype=torch.double), step))
    assert result == pytest.approx(expected, rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("x", [1e3, 1e6, 1e9, 1e30])
def test_keeps_its_digits_in_float32_where_two_log_gammas_lose_them(x):
    step = 64.0
    expected = step * (step - 1) / (2 * x)  # first term of the expansion at infinity
    result = float(log_gamma_ratio(torch.tensor(x), step))
    assert result == pytest.approx(expected, rel=0.05, abs=2e-5)


def test_derivatives_are_digammas():
    x = torch.tensor([0.3, 2.0, 40.0], dtype=torch.double, requires_grad=True)
    step = torch.tensor([1.5, 7.0, 0.25], dtype=torch.double, requires_grad=True)
    by_x, by_step = torch.autograd.grad(log_gamma_ratio(x, step).sum(), (x, step))
    end = torch.digamma(x + step)
    torch.testing.assert_close(by_x, end - torch.digamma(x) - step / x)
    torch.testing.assert_close(by_step, end - x.log())


@QUICK
@given(dim=st.integers(1, 40), above=st.floats(0.1, 50), step=st.floats(0, 500))
def test_multivariate_difference_equals_scipy(dim, above, step):
    x = (dim - 1) / 2 + above
    expected = special.multigammaln(x + step, dim) - special.multigammaln(x, dim)
    arguments = torch.tensor([x, step], dtype=torch.double)
    result = float(multivariate_log_gamma_difference(arguments[0], arguments[1], dim))
    assert result == pytest.approx(expected, rel=1e-10, abs=1e-9)
