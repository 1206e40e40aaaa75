"""Decoding of image files: every mode, every bad input."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from bayfed.data import files
from bayfed.data.files import FileSource, read_header, read_mask, read_pixels
from bayfed.data.site import SiteImage
from bayfed.errors import DataError


def save(path, array, mode=None):
    Image.fromarray(np.asarray(array), mode).save(path)
    return path


def test_grey_is_repeated(tmp_path):
    path = save(tmp_path / "a.png", np.arange(12, dtype=np.uint8).reshape(3, 4))
    pixels = read_pixels(path)
    assert pixels.shape == (3, 4, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == np.arange(12).reshape(3, 4, 1)).all()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_is_scaled_from_its_full_range(tmp_path, suffix):
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    path = save(tmp_path / f"a{suffix}", values)
    assert read_pixels(path)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_transparency_is_composited_on_black(tmp_path):
    rgba = np.array([[[200, 100, 50, 255], [200, 100, 50, 0], [200, 100, 50, 128]]], np.uint8)
    pixels = read_pixels(save(tmp_path / "a.png", rgba))
    assert pixels[0, 0].tolist() == [200, 100, 50]
    assert pixels[0, 1].tolist() == [0, 0, 0]
    assert np.abs(pixels[0, 2].astype(int) - [100, 50, 25]).max() <= 1


def test_grey_with_alpha_is_composited_on_black(tmp_path):
    Image.fromarray(np.array([[[90, 255], [90, 0]]], np.uint8), "LA").save(tmp_path / "a.png")
    assert read_pixels(tmp_path / "a.png")[0, :, 1].tolist() == [90, 0]


def test_palette_and_one_bit(tmp_path):
    colours = np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8)
    Image.fromarray(colours).convert("P").save(tmp_path / "p.png")
    assert np.abs(read_pixels(tmp_path / "p.png").astype(int) - colours).max() < 60
    Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(tmp_path / "b.png")
    assert read_pixels(tmp_path / "b.png")[0, :, 0].tolist() == [0, 255]


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (4, 4), (0, 0, 0, 0)).save(tmp_path / "a.jpg")
    assert read_pixels(tmp_path / "a.jpg").min() > 240


def test_exif_orientation_turns_image_size_and_agrees_with_mask(tmp_path):
    image = Image.fromarray(np.zeros((20, 30, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    mask = save(tmp_path / "m.png", np.full((30, 20), 255, np.uint8))
    source = FileSource(tmp_path / "a.jpg", mask)
    assert source.pixels().shape == (30, 20, 3)
    assert source.size() == (30, 20)
    assert source.mask().all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 2)])
def test_any_aspect_ratio(tmp_path, shape):
    assert read_pixels(save(tmp_path / "a.bmp", np.zeros(shape, np.uint8))).shape == (*shape, 3)


def test_header_names_the_mode(tmp_path):
    path = save(tmp_path / "a.png", np.zeros((2, 3), np.uint16))
    assert read_header(path) == files.Header((2, 3), "I;16")


def _png_claiming(width, height):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def _png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


NOISE = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)

BAD = {
    "text": b"this is no picture",
    "empty": b"",
    "truncated": _png(NOISE)[:2000],
    "huge": _png_claiming(8000, 7000),
    "bomb warning": _png_claiming(10_000, 10_000),
    "bomb error": _png_claiming(60_000, 60_000),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("read", [read_pixels, read_mask])
def test_bad_bytes_are_an_error_of_one_line_that_names_the_file(tmp_path, content, read):
    path = tmp_path / "part.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"part\.png: ") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_truncation_anywhere_is_a_data_error(tmp_path):
    whole, path = _png(NOISE[:8, :8]), tmp_path / "cut.png"
    for length in range(0, len(whole) - 28, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut\.png"):
            read_pixels(path)


def test_size_of_the_file_is_limited(tmp_path, monkeypatch):
    path = save(tmp_path / "big.png", NOISE)
    monkeypatch.setattr(files, "MAX_BYTES", 100)
    with pytest.raises(DataError, match=r"big\.png: .* limit"):
        FileSource(path).digest()


def test_missing_file_and_folder_instead_of_a_file(tmp_path):
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(DataError, match="no such file"):
            read_pixels(path)


def test_floating_point_is_refused(tmp_path):
    Image.fromarray(np.zeros((3, 3), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(DataError, match=r"f\.tif: floating-point"):
        read_pixels(tmp_path / "f.tif")


@pytest.mark.parametrize("value", [1, 255])
def test_mask_is_whatever_is_above_zero(tmp_path, value):
    values = np.zeros((4, 5), np.uint8)
    values[1, 2] = value
    assert np.argwhere(read_mask(save(tmp_path / "m.png", values))).tolist() == [[1, 2]]
    Image.fromarray(values * (255 // value)).convert("1").save(tmp_path / "b.png")
    assert np.argwhere(read_mask(tmp_path / "b.png")).tolist() == [[1, 2]]


def test_coloured_mask(tmp_path):
    values = np.zeros((4, 5, 3), np.uint8)
    values[3, 0, 2] = 9
    assert np.argwhere(read_mask(save(tmp_path / "m.png", values))).tolist() == [[3, 0]]


def test_mask_of_the_wrong_size_names_the_mask(tmp_path):
    image = save(tmp_path / "a.png", np.zeros((4, 5), np.uint8))
    mask = save(tmp_path / "wrong.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(DataError, match=r"wrong\.png: mask of 4 x 4 .* 5 x 4"):
        SiteImage("s", "a", "crack", FileSource(image, mask)).mask()
    with pytest.raises(DataError, match=r"wrong\.png: mask of 4 x 4 .* 5 x 4"):
        FileSource(image, mask).check_mask()
    FileSource(image, image).check_mask()
    FileSource(image).check_mask()


def test_masks_of_good_and_unmasked_images(tmp_path):
    path = save(tmp_path / "a.png", np.zeros((4, 5), np.uint8))
    good = SiteImage("s", "a", None, FileSource(path)).mask()
    assert good.shape == (4, 5)
    assert not good.any()
    assert SiteImage("s", "a", "crack", FileSource(path)).mask() is None


def test_digest_is_of_the_bytes(tmp_path):
    first = save(tmp_path / "a.png", NOISE)
    second = tmp_path / "b.png"
    second.write_bytes(first.read_bytes())
    other = save(tmp_path / "c.png", NOISE[::-1])
    digests = [FileSource(path).digest() for path in (first, second, other)]
    assert digests[0] == digests[1] != digests[2]
