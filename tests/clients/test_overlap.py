from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from bayfed.config import Data, Experiment, Synthetic
from bayfed.data import load_sites
from bayfed.data.synthetic import write_sites
from bayfed.errors import ProtocolError
from clients.overlap import check_pictures
from tests import toys

SMALL = Synthetic(products=3, size=32, train_good=4, test_good=2, per_defect=1, kinds=("hole",))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_sites(load_sites(Data(synthetic=SMALL), seed=0), tmp_path)
    return tmp_path


def experiment(root: Path, **groups: Any) -> Experiment:
    return toys.experiment(data={"source": "folders", "root": str(root)}, **groups)


def copy(root: Path, source: str, target: str) -> None:
    names = sorted(path.name for path in root.iterdir())
    first, second = root / names[0], root / names[1]
    picture = sorted((first / source).glob("*.png"))[0]
    (second / target).mkdir(parents=True, exist_ok=True)
    shutil.copy(picture, second / target / "copied.png")


def test_sites_of_their_own_are_accepted(root: Path) -> None:
    check_pictures(experiment(root))


def test_a_test_picture_that_another_site_trains_on_is_refused(root: Path) -> None:
    copy(root, "train/good", "test/good")
    with pytest.raises(ProtocolError, match=r"test/good/copied.png is the same picture as bolt_00"):
        check_pictures(experiment(root))


def test_a_held_out_site_must_not_share_its_supports(root: Path) -> None:
    copy(root, "train/good", "train/good")
    check_pictures(experiment(root))
    protocol = {"name": "new-product", "holdout": ["bolt_00"]}
    with pytest.raises(ProtocolError, match=r"site bolt_00: .* is the same picture as fabric_00"):
        check_pictures(experiment(root, protocol=protocol))
