"""A real detector behind the service."""

import io

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from bayfed.errors import ProductError
from bayfed.product import Detector, file
from bayfed.serve.app import create_app
from bayfed.serve.fitted import loader
from bayfed.serve.service import Settings, open_service
from tests.product.conftest import defect, good, goods


def png(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_detector_scores_learns_and_scores_again(source, tmp_path):
    path = tmp_path / "disc.bayfed"
    Detector.fit(goods(5), source, name="disc").save(path)
    with (
        open_service(Settings(path), loader(None)) as service,
        TestClient(create_app(service), "http://127.0.0.1") as client,
    ):
        (fine,) = client.post("/score", content=png(good(50))).json()["items"]
        (broken,) = client.post("/score", content=png(defect(0))).json()["items"]
        assert broken["decision"] == "defect"
        assert client.get(f"/items/{broken['id']}/overlay.jpg").status_code == 200
        client.post(f"/items/{fine['id']}/review", json={"verdict": "good"})
        learned = client.post("/learn").json()
        status = client.get("/status").json()
        assert "6 images tell" in status["promise"]
        assert status["threshold"] == learned["threshold"] != fine["threshold"]
        assert client.post("/score", content=png(good(60))).status_code == 200
    assert len(file.read(path).provenance.images) == 6


def test_a_product_without_a_threshold_is_not_served(source, tmp_path):
    path = tmp_path / "disc.bayfed"
    Detector.fit(goods(3), source, fpr=None).save(path)
    with pytest.raises(ProductError, match="no threshold is set"):
        loader(None)(path)
