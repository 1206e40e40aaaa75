"""Sites on disk, in every layout, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from bayfed.config import Data
from bayfed.data import Site, SiteImage, load_sites, site_names
from bayfed.data.describe import describe_sites
from bayfed.data.files import FileSource
from bayfed.data.layouts import find_layout
from bayfed.errors import ConfigError, DataError


def put(path, value=0, size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint8)).save(path)
    return path


def make_mvtec(root):
    for number in range(3):
        put(root / f"train/good/{number}.png", number)
        put(root / f"test/good/{number}.jpg", 10 + number)
    put(root / "test/crack/0.png", 20)
    put(root / "ground_truth/crack/0_mask.png", 255)
    put(root / "test/hole/0.bmp", 21)
    return root


def make_visa(root, rows=()):
    lines = ["object,split,label,image,mask"]
    for number in range(3):
        for split in ("train", "test"):
            name = f"candle/Data/Images/Normal/{split}{number}.JPG"
            put(root / name, number)
            lines.append(f"candle,{split},normal,{name},")
    put(root / "candle/Data/Images/Anomaly/0.JPG", 9)
    put(root / "candle/Data/Masks/Anomaly/0.png", 3)
    lines.append(
        "candle,test,anomaly,candle/Data/Images/Anomaly/0.JPG,candle/Data/Masks/Anomaly/0.png"
    )
    (root / "split_csv").mkdir()
    (root / "split_csv/1cls.csv").write_text("\n".join([*lines, *rows]))
    return root


def make_ksdd2(root):
    for split, start in (("train", 10000), ("test", 20000)):
        for number in range(3):
            put(root / f"{split}/{start + number}.png", number)
            put(root / f"{split}/{start + number}_GT.png", 255 * (number == 2))
    return root


def make_folder(root, count=10):
    for number in range(count):
        put(root / f"{number}.png", number)
    put(root / "defect/a.png", 50)
    put(root / "defect/bent/b.png", 51)
    put(root / "mask/bent/b.png", 255)
    return root


def load(root, layout="auto", seed=0, **settings):
    return load_sites(Data(source="folders", root=root, layout=layout, **settings), seed)


def names(images):
    return [image.name for image in images]


@pytest.mark.parametrize("several", [False, True])
def test_mvtec(tmp_path, several):
    make_mvtec(tmp_path / "bottle")
    (site,) = load(tmp_path if several else tmp_path / "bottle")
    assert (site.name, site.family) == ("bottle", "bottle")
    assert names(site.train_good) == ["train/good/0.png", "train/good/1.png", "train/good/2.png"]
    assert names(site.test_good)[0] == "test/good/0.jpg"
    assert names(site.defects) == ["test/crack/0.png", "test/hole/0.bmp"]
    assert site.defect_types == ("crack", "hole")
    assert site.defects[0].mask().all()
    assert site.defects[1].mask() is None


def test_visa(tmp_path):
    (site,) = load(make_visa(tmp_path))
    assert site.name == "candle"
    assert (len(site.train_good), len(site.test_good)) == (3, 3)
    assert names(site.defects) == ["Data/Images/Anomaly/0.JPG"]
    assert site.defects[0].mask().all()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("candle,test,odd,candle/Data/Images/Anomaly/0.JPG,", "line 9: no place"),
        ("candle,train,anomaly,candle/Data/Images/Anomaly/0.JPG,", "line 9: no place"),
        ("candle,test,normal,candle/none.JPG,", "line 9: no file candle/none.JPG"),
        ("candle,test,normal,,", r"line 9: no file \(empty\)"),
        ("candle,test,normal,../secret.png,", "leads out of"),
        ("candle,test,normal,/etc/hosts,", "leads out of"),
    ],
)
def test_visa_rows_that_are_refused(tmp_path, row, message):
    put(tmp_path / "secret.png")
    root = make_visa(tmp_path / "visa", [row])
    with pytest.raises(DataError, match=message):
        load(root)


def test_visa_tables_that_are_refused(tmp_path):
    table = make_visa(tmp_path) / "split_csv/1cls.csv"
    table.write_text("object,split\n")
    with pytest.raises(DataError, match=r"1cls\.csv: no column 'label'"):
        load(tmp_path)
    table.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match=r"1cls\.csv: not a readable"):
        load(tmp_path)


def test_ksdd2_takes_defects_of_the_test_set_alone(tmp_path):
    (site,) = load(make_ksdd2(tmp_path))
    assert site.name == "ksdd2"
    assert names(site.train_good) == ["train/10000.png", "train/10001.png"]
    assert names(site.test_good) == ["test/20000.png", "test/20001.png"]
    assert names(site.defects) == ["test/20002.png"]
    assert site.defects[0].mask().all()


def test_ksdd2_without_a_mask(tmp_path):
    make_ksdd2(tmp_path)
    (tmp_path / "test/20001_GT.png").unlink()
    with pytest.raises(DataError, match=r"20001\.png: no mask"):
        load(tmp_path)


@pytest.mark.parametrize("several", [False, True])
def test_plain_folder(tmp_path, several):
    make_folder(tmp_path / "lid")
    (site,) = load(tmp_path if several else tmp_path / "lid")
    assert (site.name, len(site.train_good), len(site.test_good)) == ("lid", 6, 4)
    assert names(site.defects) == ["defect/a.png", "defect/bent/b.png"]
    assert site.defect_types == ("bent", "defect")
    assert site.defects[0].mask() is None
    assert site.defects[1].mask().all()


def test_folder_good_is_not_taken_for_a_site(tmp_path):
    for number in range(5):
        put(tmp_path / f"good/{number}.png", number)
    put(tmp_path / "defect/a.png")
    (site,) = load(tmp_path)
    assert (site.name, len(site.defects)) == (tmp_path.name, 1)
    assert names(site.train_good)[0].startswith("good/")


def test_folder_split_is_seeded_and_independent_of_place(tmp_path):
    first = load(make_folder(tmp_path / "a" / "lid"))[0]
    again = load(make_folder(tmp_path / "b" / "lid"))[0]
    assert names(first.train_good) == names(again.train_good)
    others = [names(load(tmp_path / "a" / "lid", seed=seed)[0].train_good) for seed in range(5)]
    assert any(other != names(first.train_good) for other in others)


@pytest.mark.parametrize("make", [make_mvtec, make_visa, make_ksdd2, make_folder])
def test_auto_finds_the_layout_and_names_cost_no_image(tmp_path, make):
    make(tmp_path / "x")
    for path in (tmp_path / "x").rglob("*.png"):
        path.write_bytes(b"unreadable")
    assert find_layout(tmp_path / "x", "auto")[0] == make.__name__.removeprefix("make_")
    assert len(site_names(Data(source="folders", root=tmp_path / "x"), 0)) == 1


def test_hidden_and_other_files_are_passed_over(tmp_path):
    make_mvtec(tmp_path)
    (tmp_path / "train/good/._0.png").write_bytes(b"junk")
    (tmp_path / "train/good/notes.txt").write_text("hello")
    assert len(load(tmp_path)[0].train_good) == 3


@pytest.mark.parametrize("target", ["file", "folder"])
def test_links_that_leave_the_root_are_refused(tmp_path, target):
    outside, root = put(tmp_path / "outside/0.png"), make_mvtec(tmp_path / "root")
    if target == "file":
        (root / "train/good/link.png").symlink_to(outside)
    else:
        (root / "test/linked").symlink_to(outside.parent)
    with pytest.raises(DataError, match="leads out of"):
        load(root)


def test_roots_that_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: no such folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no site found"):
        load(tmp_path)
    with pytest.raises(DataError, match=r"no site found \(layouts tried: visa\)"):
        load(make_mvtec(tmp_path / "x"), layout="visa")
    with pytest.raises(ConfigError, match="unknown layout 'odd'"):
        find_layout(tmp_path, "odd")


def test_site_without_a_good_image_names_its_folder(tmp_path):
    make_mvtec(tmp_path / "bottle")
    (tmp_path / "lid/train/good").mkdir(parents=True)
    with pytest.raises(DataError, match="lid: no good image"):
        load(tmp_path)


def test_a_name_that_would_join_two_is_refused_naming_the_folder(tmp_path):
    make_mvtec(tmp_path / "nut")
    make_mvtec(tmp_path / "nut+bolt")
    with pytest.raises(DataError, match=r"/nut\+bolt: a site's name cannot hold \+"):
        load(tmp_path)
    assert [site.name for site in load(tmp_path, sites=("nut",))] == ["nut"]
    assert any("cannot hold +" in text for text in describe_sites(tmp_path)[1].errors)


def test_selection_and_families(tmp_path):
    for name in ("b", "a", "c"):
        make_mvtec(tmp_path / name)
    settings = Data(source="folders", root=tmp_path, sites=("c", "a"), families={"f": ("c", "b")})
    assert site_names(settings, 0) == (("a", "a"), ("c", "f"))
    assert [(site.name, site.family) for site in load_sites(settings, 0, ("f",))] == [
        ("a", "a"),
        ("c", "f"),
    ]


@pytest.mark.parametrize(
    ("settings", "held_out", "message"),
    [
        ({"sites": ("odd",)}, (), "data.sites: no site 'odd'"),
        ({"families": {"f": ("odd",)}}, (), "data.families.f: no site 'odd'"),
        ({"families": {"f": ("a",), "g": ("a",)}}, (), "data.families: site 'a' is listed twice"),
        ({}, ("odd",), "protocol.holdout: no site or family 'odd'"),
    ],
)
def test_settings_that_are_refused(tmp_path, settings, held_out, message):
    make_mvtec(tmp_path / "a")
    with pytest.raises(ConfigError, match=message):
        load_sites(Data(source="folders", root=tmp_path, **settings), 0, held_out)


def test_two_images_of_one_name_are_refused(tmp_path):
    image = SiteImage("s", "a.png", None, FileSource(tmp_path / "a.png"))
    with pytest.raises(DataError, match=r"site s: two images are called a\.png"):
        Site("s", "s", (image,), (image,), ())
