"""A product without a run has the settings of the bundled experiment for new products."""

from pathlib import Path

from bayfed.config import load_experiment, product_experiment

BUNDLED = Path(__file__).resolve().parents[2] / "experiments" / "new_product.yaml"


def test_a_product_is_fitted_as_new_products_are_trained():
    bundled = load_experiment(BUNDLED)
    fitted = product_experiment(bundled.backbone.name, None, None)
    # What training finds out, and what only training uses.
    training = {"loss": ..., "rates": ..., "wide": {"weight"}}
    wanted = bundled.method.model_dump(exclude=training)
    assert fitted.method.model_dump(exclude=training) == wanted
    wanted = bundled.backbone.model_dump(exclude={"contrast": {"share"}})
    assert fitted.backbone.model_dump(exclude={"contrast": {"share"}}) == wanted
    assert fitted.store.dtype == bundled.store.dtype
