"""Images turned in their own frame."""

import numpy as np
import pytest
from PIL import Image

from bayfed.data.files import FileSource
from bayfed.data.site import SiteImage
from bayfed.data.turned import MIRRORED, UPRIGHT, Pose, TurnedSource, rotations, turned
from bayfed.errors import DataError
from tests import toys


def picture(folder, pixels, mask=None):
    Image.fromarray(pixels).save(folder / "p.png")
    if mask is not None:
        Image.fromarray(mask).save(folder / "m.png")
    source = FileSource(folder / "p.png", folder / "m.png" if mask is not None else None)
    return SiteImage("part", "test/bad/p.png", "bad", source)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_of_a_square_are_exact_and_counter_clockwise(quarters):
    image = toys.image(0)
    found = turned(image, rotations(4))[quarters].pixels()
    np.testing.assert_array_equal(found, np.rot90(image.pixels(), quarters))


def test_a_right_angle_equals_pillow_s_inside_the_frame():
    image = toys.image(0)
    pixels = TurnedSource(image, Pose(30.0)).pixels().astype(int)
    expected = np.asarray(Image.fromarray(image.pixels()).rotate(30, Image.Resampling.BILINEAR))
    inside = slice(8, -8)
    assert np.abs(pixels - expected)[inside, inside].max() <= 1


@pytest.mark.parametrize("shape", [(40, 40), (20, 61), (64, 8)])
@pytest.mark.parametrize("degrees", [45.0, 90.0, 120.0])
def test_the_frame_stays_and_no_corner_is_left_empty(tmp_path, shape, degrees):
    image = picture(tmp_path, np.full((*shape, 3), 200, np.uint8))
    source = TurnedSource(image, Pose(degrees))
    assert source.size() == shape
    pixels = source.pixels()
    assert pixels.dtype == np.uint8
    assert pixels.shape == (*shape, 3)
    assert (pixels == 200).all()


def test_the_mask_turns_with_the_image(tmp_path):
    pixels, mask = np.zeros((21, 33, 3), np.uint8), np.zeros((21, 33), np.uint8)
    pixels[4:9, 10:16] = 255
    mask[4:9, 10:16] = 255
    source = TurnedSource(picture(tmp_path, pixels, mask), Pose(36.0))
    assert source.mask().dtype == bool
    assert (source.mask() != (source.pixels()[..., 0] > 127)).mean() < 0.01
    assert TurnedSource(picture(tmp_path, pixels), Pose(36.0)).mask() is None
    assert not TurnedSource(toys.image(0), Pose(36.0)).mask().any()


def test_the_first_turn_is_the_image_itself_and_the_rest_name_it():
    image = toys.image(3)
    whole = turned(image, rotations(8))
    assert whole[0] is image
    assert [one.name for one in whole[1:3]] == [f"{image.name}@45", f"{image.name}@90"]
    assert len({one.name for one in whole}) == 8
    assert {(one.base, one.site, one.defect) for one in whole[1:]} == {(image.name, "toy", None)}
    assert turned(image, UPRIGHT) == (image,)
    painted = toys.image(4, "crack", base="good/3")
    assert turned(painted, rotations(2))[1].base == "good/3"


def test_a_digest_tells_image_and_angle():
    digests = [one.digest() for n in (0, 1) for one in turned(toys.image(n), rotations(4))]
    assert len(set(digests)) == 8
    assert digests[:4] == [one.digest() for one in turned(toys.image(0), rotations(4))]
    assert (
        TurnedSource(toys.image(0), Pose(90)).digest()
        == TurnedSource(toys.image(0), Pose(90.0)).digest()
    )


def test_mirror_images_are_exact_and_turn_their_masks_too(tmp_path):
    mask = np.zeros((21, 33), np.uint8)
    mask[4:9, 10:16] = 255
    image = picture(tmp_path, np.repeat(mask[..., None], 3, -1), mask)
    _, across, down = turned(image, MIRRORED)
    np.testing.assert_array_equal(across.pixels(), image.pixels()[:, ::-1])
    np.testing.assert_array_equal(down.pixels(), image.pixels()[::-1])
    np.testing.assert_array_equal(down.mask(), image.mask()[::-1])
    assert len({image.digest(), across.digest(), down.digest()}) == 3


def test_a_missing_file_is_named_when_it_is_turned(tmp_path):
    image = SiteImage("part", "p.png", None, FileSource(tmp_path / "p.png"))
    with pytest.raises(DataError, match=r"p\.png: no such file"):
        turned(image, rotations(2))[1].pixels()
