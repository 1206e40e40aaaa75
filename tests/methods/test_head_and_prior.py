from __future__ import annotations

import numpy as np
import pytest
import torch

from bayfed.config import Prior
from bayfed.errors import ConfigError
from bayfed.methods.head import Head, initial_head
from bayfed.methods.prior import build_prior, initial_prior
from bayfed.normality import check_proper, evidence_sums, fit_prior, sufficient_statistics
from bayfed.seeds import stream, torch_stream

COVARIANCES = ("isotropic", "diagonal", "full")


def random(*shape: int) -> torch.Tensor:
    return torch.tensor(stream(0, "head", *shape).normal(size=shape))


@pytest.mark.parametrize("shape", [(4, 4), (2, 5)])
def test_log_volume_equals_numpy(shape):
    weight = random(*shape)
    expected = 0.5 * np.linalg.slogdet(weight.numpy() @ weight.numpy().T)[1]
    assert Head(weight, random(shape[0])).log_volume().item() == pytest.approx(expected)


def test_a_square_heads_log_volume_is_its_log_determinant():
    weight = random(4, 4)
    expected = np.linalg.slogdet(weight.numpy())[1]
    assert Head(weight, random(4)).log_volume().item() == pytest.approx(expected)


def test_embedding_and_projected_statistics_by_hand():
    head, tokens = Head(random(3, 4), random(3)), random(2, 5, 4)
    z = tokens.numpy() @ head.weight.numpy().T + head.bias.numpy()
    np.testing.assert_allclose(head.embed(tokens), z, rtol=1e-9)
    projected = head.project(sufficient_statistics(tokens))
    for found, expected in zip(projected, sufficient_statistics(torch.tensor(z)), strict=True):
        torch.testing.assert_close(found, expected)


def test_the_head_starts_at_the_identity_or_at_orthonormal_rows():
    assert torch.equal(initial_head(5, None, torch_stream(0))["head.weight"], torch.eye(5))
    params = initial_head(5, 3, torch_stream(0))
    weight = params["head.weight"]
    torch.testing.assert_close(weight @ weight.mT, torch.eye(3), atol=1e-6, rtol=0)
    assert torch.equal(weight, initial_head(5, 3, torch_stream(0))["head.weight"])
    assert not params["head.bias"].any()


def test_more_dimensions_than_channels_name_the_setting():
    with pytest.raises(ConfigError, match=r"^method\.embedding: 6 is more than the 5 channels$"):
        initial_head(5, 6, torch_stream(0))


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_a_fixed_prior_is_the_settings(covariance):
    settings = Prior(covariance=covariance, kappa=0.3, extra_dof=3.0, scale=0.05)
    niw = build_prior(initial_prior(4, settings, None))
    check_proper(niw)
    assert not niw.mean.any()
    assert niw.kappa.item() == pytest.approx(0.3)
    assert niw.nu.item() == pytest.approx(6.0)
    torch.testing.assert_close(niw.scale, 0.05 * torch.eye(4))


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_empirical_bayes_fills_what_the_covariance_can_hold(covariance):
    sites = [evidence_sums(sufficient_statistics(random(30, 4) + s)) for s in range(3)]
    total = sites[0].add(sites[1]).add(sites[2])
    settings = Prior(covariance=covariance, extra_dof=4.0, scale=1.5)
    fitted = fit_prior(total, 4.0, 6.0)
    niw = build_prior(initial_prior(4, settings, total))
    for name in ("mean", "kappa", "nu"):
        torch.testing.assert_close(getattr(niw, name), getattr(fitted, name).float())
    expected = {
        "full": fitted.scale,
        "diagonal": fitted.scale.diagonal().diag(),
        "isotropic": fitted.scale.diagonal().mean() * torch.eye(4),
    }[covariance].float()
    torch.testing.assert_close(niw.scale, expected)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_any_parameters_give_a_proper_prior(covariance):
    params = initial_prior(3, Prior(covariance=covariance), None)
    moved = {
        name: value + torch.randn(value.shape, generator=torch_stream(0, name))
        for name, value in params.items()
    }
    check_proper(build_prior(moved))
