from __future__ import annotations

from dataclasses import replace

import pytest

from bayfed.data import SiteImage
from bayfed.episodes import Pools, refuse_known, training_pictures, without_copies
from bayfed.errors import ProtocolError
from tests import toys


def pools(site: str = "toy", **images: tuple[SiteImage, ...]) -> Pools:
    return Pools(site, "toys", **{"train_good": (toys.image(0),), **images})


@pytest.mark.parametrize("side", ["test_good", "test_anomalies"])
def test_a_copy_under_another_name_is_refused_by_content(side: str) -> None:
    copy = replace(toys.image(0, "crack" if "anomalies" in side else None), name="copy.png")
    with pytest.raises(ProtocolError) as caught:
        without_copies(pools(**{side: (toys.image(5, None), copy)}))
    assert str(caught.value) == "toy/copy.png: the same picture as good/0 in training"


def test_pools_without_copies_stay_as_they_are() -> None:
    sound = pools(test_good=(toys.image(1),), test_anomalies=(toys.image(2, "crack"),))
    assert without_copies(sound) == sound


@pytest.mark.parametrize("sides", ["test", "train"])
def test_a_picture_that_is_good_and_defective_is_refused_naming_both(sides: str) -> None:
    good = toys.image(1)
    bad = replace(toys.image(1, "crack"), name="crack/copy.png")
    both = pools(**{f"{sides}_good": (good,), f"{sides}_anomalies": (bad,)})
    with pytest.raises(ProtocolError) as caught:
        without_copies(both)
    assert str(caught.value) == (
        "toy/crack/copy.png: the same picture as good/1; it cannot be both good and defective"
    )


def test_a_defect_of_two_types_is_accepted() -> None:
    one, other = toys.image(1, "crack"), replace(toys.image(1, "dent"), name="dent/1")
    without_copies(pools(test_anomalies=(one, other)))


def test_of_equal_training_pictures_the_first_is_kept_with_what_is_painted_on_it() -> None:
    first, twin = toys.image(0), replace(toys.image(0), name="twin.png")
    painted = toys.image(3, "hole", base="twin.png")
    good = (first, twin, toys.image(1))
    kept = without_copies(pools(train_good=good, train_anomalies=(painted,)))
    assert [image.name for image in kept.train_good] == [first.name, toys.image(1).name]
    assert kept.train_anomalies == ()


def test_a_picture_trained_on_elsewhere_is_not_scored() -> None:
    known = training_pictures([pools("other")])
    copied = pools(train_good=(toys.image(1),), test_good=(toys.image(0),))
    with pytest.raises(ProtocolError, match="site toy: good/0 is the same picture as other/good/0"):
        refuse_known(copied, known, unseen=False)


def test_supports_trained_on_elsewhere_make_a_product_known() -> None:
    known = training_pictures([pools("other")])
    refuse_known(pools(), known, unseen=False)
    with pytest.raises(ProtocolError, match="the same picture as other"):
        refuse_known(pools(), known, unseen=True)
