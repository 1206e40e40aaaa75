from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from bayfed.serve.app import create_app
from bayfed.serve.service import Service, Settings, open_service
from tests.serve.lamp import Lamp


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    Lamp().save(tmp_path / "lamp.bayfed")
    return Settings(tmp_path / "lamp.bayfed")


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    with open_service(settings, Lamp.load) as service:
        yield service


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(create_app(service), "http://127.0.0.1") as client:
        yield client
