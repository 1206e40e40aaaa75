import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from bayfed.features.resample import resampled

side = st.integers(1, 700)


def picture(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=generator)


def expected(image, shape):
    bytes_ = F.interpolate(image.permute(2, 0, 1)[None], shape, mode="bilinear", antialias=True)
    return bytes_[0].permute(1, 2, 0).float()


@given(side, side, st.sampled_from([(224, 224), (320, 160), (64, 64), (50, 35), (16, 272)]))
def test_a_picture_is_resized_bit_for_bit_as_torch_does(height, width, shape):
    image = picture(height, width)
    (found,) = resampled(image, shape, [(0, height)], [(0, width)])
    assert torch.equal(found, expected(image, shape))


def test_large_pictures_too():
    for height, width in ((4000, 31), (24, 6000), (2999, 33)):
        image = picture(height, width)
        (found,) = resampled(image, (224, 224), [(0, height)], [(0, width)])
        assert torch.equal(found, expected(image, (224, 224)))


@given(st.integers(20, 90), st.integers(20, 90), st.integers(0, 9), st.integers(0, 9))
def test_parts_are_resized_as_if_they_were_cut_out(height, width, down, right):
    image = picture(height, width)
    rows, columns = [(0, 10), (down, down + 10)], [(right, right + 11), (0, 11)]
    found = resampled(image, (16, 32), rows, columns)
    cut = [image[a:b, c:d] for a, b in rows for c, d in columns]
    assert torch.equal(found, torch.stack([expected(part, (16, 32)) for part in cut]))


def test_black_and_white_stay_what_they_are():
    for value in (0, 255):
        image = torch.full((301, 77, 3), value, dtype=torch.uint8)
        assert (resampled(image, (64, 64), [(0, 301)], [(0, 77)]) == value).all()
