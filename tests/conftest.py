from __future__ import annotations

import pytest
from hypothesis import settings

# How long an example takes says more of the machine's other work than of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("ray"):
            # One Ray at a time: two would fight for the cores and the memory.
            item.add_marker(pytest.mark.xdist_group("ray"))
