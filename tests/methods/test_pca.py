from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from bayfed.config import PCAResidual as Settings
from bayfed.methods import PCAResidual
from bayfed.methods.pca import principal_axes
from bayfed.seeds import stream
from tests import toys


def correlated(*shape: int, key: int = 0) -> torch.Tensor:
    """Vectors whose variances fall from axis to axis."""
    mix = stream(0, "pca-mix", shape[-1]).standard_normal((shape[-1], shape[-1]))
    values = stream(key, "pca", *shape).standard_normal(shape) * 0.6 ** np.arange(shape[-1])
    return torch.from_numpy(values @ mix).float() + 2


def adapted(support: torch.Tensor, grid: int = 3, **changes):
    method = PCAResidual(Settings(**changes), toys.encoder(support.shape[-1], grid))
    return method, method.adapt(method.initial(0), support)


@pytest.mark.parametrize("variance", [0.3, 0.8, 0.99])
@pytest.mark.parametrize(("images", "grid"), [(5, 3), (5, 1)])
def test_residuals_equal_those_of_sklearn(images, grid, variance):
    support, query = correlated(images, grid**2, 8), correlated(4, grid**2, 8, key=1)
    method, fit = adapted(support, grid, variance=variance, top_k=0.3)
    pca = PCA(variance, svd_solver="full").fit(support.flatten(0, 1).double().numpy())
    flat = query.flatten(0, 1).double().numpy()
    rest = flat - pca.inverse_transform(pca.transform(flat))
    expected = (rest**2).sum(1).reshape(4, grid**2)
    found = method.score(fit, query)
    assert fit.model.basis.shape == (8, pca.n_components_)
    count = 3 if grid == 3 else 1  # 30 % of 9 tokens, rounded up
    highest = np.sort(expected, axis=1)[:, -count:].mean(1)
    np.testing.assert_allclose(found.image, highest, rtol=1e-3, atol=1e-4)
    if grid > 1:
        np.testing.assert_allclose(found.tokens, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("number", [3, 8, 30])
def test_axes_and_variances_are_those_of_the_scatter(number):
    centred = correlated(number, 8)
    centred = centred - centred.mean(0)
    variances, axes = principal_axes(centred)
    scatter = (centred.double().T @ centred.double()).numpy()
    assert variances.shape == (min(number, 8),)
    assert (variances.diff() <= 0).all()
    np.testing.assert_allclose(axes.T @ axes, np.eye(len(variances)), atol=1e-5)
    np.testing.assert_allclose(axes * variances @ axes.T, scatter, rtol=1e-4, atol=1e-3)


def test_one_direction_is_always_left():
    method, fit = adapted(correlated(5, 9, 2), variance=0.999999)
    assert fit.model.basis.shape == (2, 1)
    assert method.score(fit, correlated(3, 9, 2, key=1)).image.min() > 0


@pytest.mark.parametrize("wrong", [{"variance": 0}, {"variance": 1.0}, {"top_k": 0}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Settings(**wrong)
