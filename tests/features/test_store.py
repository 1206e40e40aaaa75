from __future__ import annotations

import multiprocessing
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bayfed.data.files import FileSource
from bayfed.data.site import SiteImage
from bayfed.errors import DataError, NumericalError
from bayfed.features import FeatureStore, default_directory
from bayfed.seeds import stream
from tests.toys import CountingTrunk, image

SIDE = 16


def photographs(folder: Path, count: int, first: int = 0) -> list[SiteImage]:
    folder.mkdir(exist_ok=True)
    made = []
    for number in range(first, first + count):
        pixels = stream(0, "photograph", number).integers(0, 256, (24, 20, 3), np.uint8)
        path = folder / f"{number:03d}.png"
        Image.fromarray(pixels).save(path)
        made.append(SiteImage("toy", path.name, None, FileSource(path)))
    return made


def store(folder: Path, trunk: CountingTrunk, dtype: str = "float32") -> FeatureStore:
    return FeatureStore(folder / "store", trunk, SIDE, dtype)


def left_in(folder: Path) -> list[Path]:
    return [path for path in (folder / "store").rglob("*") if not path.is_dir()]


def seen(trunk: CountingTrunk) -> int:
    """Passes of the trunk."""
    return len(trunk.passes)


def test_an_image_is_computed_once(tmp_path):
    trunk = CountingTrunk()
    images = photographs(tmp_path / "a", 3)
    first = store(tmp_path, trunk).open(images).read([i.name for i in images])
    again = store(tmp_path, trunk).open(images[::-1]).read([i.name for i in images])
    assert seen(trunk) == 1
    assert torch.equal(first, again)


def test_values_are_those_of_the_trunk_in_the_order_asked(tmp_path):
    images = photographs(tmp_path / "a", 20)
    features = store(tmp_path, CountingTrunk()).open(images)
    chosen = [images[17], images[2]]
    values = features.read([i.name for i in chosen])
    for picture, value in zip(chosen, values, strict=True):
        single = store(tmp_path / "single", CountingTrunk()).open([picture])
        assert torch.equal(single.read([picture.name])[0], value)
        assert np.allclose(value[0], picture.pixels().mean((0, 1)), atol=3)


def test_every_pass_is_of_one_size_so_that_no_sum_depends_on_what_was_missing(tmp_path):
    trunk = CountingTrunk()
    images = photographs(tmp_path / "a", 20)
    store(tmp_path, trunk).open(images[:1])
    store(tmp_path, trunk).open(images)
    assert len(set(trunk.passes)) == 1


def test_a_renamed_file_hits_and_a_changed_byte_misses(tmp_path):
    trunk = CountingTrunk()
    (picture,) = photographs(tmp_path / "a", 1)
    store(tmp_path, trunk).open([picture])
    renamed = tmp_path / "b.png"
    Path(picture.source.path).rename(renamed)
    other = SiteImage("elsewhere", "b.png", None, FileSource(renamed))
    store(tmp_path, trunk).open([other])
    assert seen(trunk) == 1
    renamed.write_bytes(renamed.read_bytes() + b"\0")
    store(tmp_path, trunk).open([other])
    assert seen(trunk) == 2


@pytest.mark.parametrize("change", ["fingerprint", "dtype"])
def test_another_trunk_or_type_misses(tmp_path, change):
    images = photographs(tmp_path / "a", 1)
    one, other = CountingTrunk(), CountingTrunk()
    store(tmp_path, one).open(images)
    if change == "fingerprint":
        other.fingerprint = "0" * 64
    store(tmp_path, other, "float16" if change == "dtype" else "float32").open(images)
    assert seen(other) == 1


def test_only_what_is_missing_is_computed(tmp_path):
    trunk = CountingTrunk()
    images = photographs(tmp_path / "a", 4)
    store(tmp_path, trunk).open(images[:2])
    drawn: list[str] = []

    class Watched(FileSource):
        def pixels(self):
            drawn.append(self.path.name)
            return super().pixels()

    watched = [replace(i, source=Watched(i.source.path)) for i in images]
    store(tmp_path, trunk).open(watched)
    assert drawn == ["002.png", "003.png"]


def test_copies_share_a_row(tmp_path):
    trunk = CountingTrunk()
    (picture,) = photographs(tmp_path / "a", 1)
    twin = replace(picture, name="twin.png")
    features = store(tmp_path, trunk).open([picture, twin])
    assert torch.equal(*features.read([picture.name, twin.name]))
    assert len(features.blocks[0]) == 1


def test_blocks_are_memory_mapped_and_read_only(tmp_path):
    features = store(tmp_path, CountingTrunk()).open(photographs(tmp_path / "a", 2))
    (block,) = features.blocks
    assert isinstance(block, np.memmap)
    assert not block.flags.writeable


@pytest.mark.parametrize(
    ("outputs", "asked", "kept"),
    [
        (torch.float32, "float16", np.float16),
        (torch.float32, "float32", np.float32),
        (torch.uint8, "float16", np.uint8),
    ],
)
def test_types(tmp_path, outputs, asked, kept):
    images = photographs(tmp_path / "a", 2)
    features = store(tmp_path, CountingTrunk(dtype=outputs), asked).open(images)
    assert features.blocks[0].dtype == kept
    exact = store(tmp_path / "exact", CountingTrunk(dtype=outputs)).open(images)
    names = [i.name for i in images]
    assert torch.allclose(features.read(names).float(), exact.read(names).float(), rtol=1e-3)


def test_tokens_may_be_picked(tmp_path):
    class Positions(CountingTrunk):
        def __call__(self, images):
            return torch.arange(12.0).reshape(1, 4, 3).expand(len(images), 4, 3)

    images = photographs(tmp_path / "a", 2)
    features = store(tmp_path, Positions()).open(images)
    picked = features.read([images[1].name], np.array([0, 3]))
    assert picked.tolist() == [[[0.0, 1.0, 2.0], [9.0, 10.0, 11.0]]]


@pytest.mark.parametrize(
    "spoil", [lambda data: data[: len(data) // 2], lambda _: b"no image", lambda _: b""]
)
def test_an_unreadable_image_is_one_line_and_leaves_nothing_half_written(tmp_path, spoil):
    images = photographs(tmp_path / "a", 20)
    path = images[18].source.path
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError) as caught:
        store(tmp_path, CountingTrunk()).open(images)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_outputs_that_the_type_cannot_hold_are_refused_and_not_stored(tmp_path, value):
    class Wild(CountingTrunk):
        def __call__(self, images):
            return torch.full((len(images), 1, 3), value)

    with pytest.raises(NumericalError, match=r"^toy: features are not finite in float16$"):
        store(tmp_path, Wild(), "float16").open(photographs(tmp_path / "a", 1))
    assert left_in(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "store").write_text("a file")
    with pytest.raises(DataError, match=r"store/.*: .+"):
        store(tmp_path, CountingTrunk()).open(photographs(tmp_path / "a", 1))


@pytest.mark.parametrize("suffix", ["npy", "txt"])
@pytest.mark.parametrize("keep", [0, 40, -12])
def test_a_damaged_block_is_one_line_that_names_it(tmp_path, suffix, keep):
    images = photographs(tmp_path / "a", 3)
    store(tmp_path, CountingTrunk()).open(images)
    (path,) = (tmp_path / "store").rglob(f"*.{suffix}")
    path.write_bytes(path.read_bytes()[:keep])
    reader = store(tmp_path, CountingTrunk())
    if suffix == "npy":
        with pytest.raises(DataError) as caught:
            reader.open(images)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    else:  # A list that lost digests means images to compute again.
        names = [i.name for i in images]
        fresh = store(tmp_path / "b", CountingTrunk()).open(images)
        assert torch.equal(reader.open(images).read(names), fresh.read(names))


def test_a_pickle_in_the_store_is_not_opened(tmp_path):
    images = photographs(tmp_path / "a", 1)
    store(tmp_path, CountingTrunk()).open(images)
    (path,) = (tmp_path / "store").rglob("*.npy")
    np.save(path, np.array([object()]), allow_pickle=True)
    with pytest.raises(DataError, match="damaged feature block"):
        store(tmp_path, CountingTrunk()).open(images)


def _write(folder: Path, first: int, start) -> None:
    images = photographs_there(folder / "a", first)
    start.wait(10)
    store(folder, CountingTrunk()).open(images)


def photographs_there(folder: Path, first: int) -> list[SiteImage]:
    paths = sorted(folder.glob("*.png"))[first:]
    return [SiteImage("toy", path.name, None, FileSource(path)) for path in paths]


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_two_writers_of_the_same_images_do_no_harm(tmp_path, kind):
    images = photographs(tmp_path / "a", 6)
    if kind == "threads":
        barrier = threading.Barrier(4)
        workers = [
            threading.Thread(target=_write, args=(tmp_path, n // 2, barrier)) for n in range(4)
        ]
    else:
        context = multiprocessing.get_context("fork")
        barrier = context.Barrier(2)
        workers = [context.Process(target=_write, args=(tmp_path, 0, barrier)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(getattr(worker, "exitcode", 0) == 0 for worker in workers)
    trunk = CountingTrunk()
    names = [i.name for i in images]
    found = store(tmp_path, trunk).open(images).read(names)
    assert trunk.passes == []
    assert torch.equal(found, store(tmp_path / "b", CountingTrunk()).open(images).read(names))
    assert {path.suffix for path in left_in(tmp_path)} == {".npy", ".txt"}


def test_a_drawn_image_is_kept_as_a_file_is(tmp_path):
    trunk = CountingTrunk()
    images = [image(1), image(2, "crack")]
    store(tmp_path, trunk).open(images)
    store(tmp_path, trunk).open(images)
    assert seen(trunk) == 1


def test_the_folder_follows_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_directory() == tmp_path / "bayfed" / "features"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_directory() == Path.home() / ".cache" / "bayfed" / "features"
