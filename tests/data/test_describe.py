"""``describe_sites`` and the commands that show and draw sites."""

import json

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from bayfed.cli.sites import sites_command, synthesise_command
from bayfed.data.describe import describe_sites
from bayfed.errors import ConfigError, DataError

app = typer.Typer()
app.command("sites")(sites_command)
app.command("synthesise")(synthesise_command)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def put(path, value=0, size=(8, 6), dtype=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, dtype)).save(path)


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "sites" / "lid"
    for number in range(6):
        put(folder / f"train/good/{number}.png", number)
    put(folder / "test/good/0.png", 100, (9, 12))
    put(folder / "test/good/1.png", 30000, dtype=np.uint16)
    put(folder / "test/crack/0.png", 102)
    put(folder / "ground_truth/crack/0_mask.png", 255)
    return folder


def describe(site):
    (description,) = describe_sites(site.parent)
    return description


def test_a_sound_site(site):
    found = describe(site)
    assert (found.name, found.layout) == ("lid", "mvtec")
    assert (found.train_good, found.test_good, found.defects) == (6, 2, {"crack": 1})
    assert (found.masks, found.height, found.width) == (1, (8, 9), (6, 12))
    assert found.modes == {"I;16": 1, "L": 8}
    assert found.problems == ()


def test_unreadable_image_is_an_error(site):
    (site / "test/good/0.png").write_text("text")
    assert any("0.png: not a" in text for text in describe(site).errors)


def test_unreadable_mask_is_an_error(site):
    (site / "ground_truth/crack/0_mask.png").write_text("text")
    assert any("0_mask.png: not a" in text for text in describe(site).errors)


def test_mask_of_the_wrong_size_is_an_error(site):
    put(site / "ground_truth/crack/0_mask.png", 255, (3, 3))
    assert any("0_mask.png: mask of 3 x 3" in text for text in describe(site).errors)


@pytest.mark.parametrize("twin", ["test/good/9.png", "test/crack/9.png"])
def test_copy_in_two_pools_is_an_error_naming_both(site, twin):
    put(site / twin, 3)
    errors = describe(site).errors
    assert f"the same image in two pools: train/good/3.png, {twin}" in errors


def test_copy_in_one_pool_is_a_warning(site):
    put(site / "train/good/9.png", 3)
    found = describe(site)
    assert found.errors == ()
    assert found.warnings == ("the same image twice: train/good/3.png, train/good/9.png",)


def test_few_good_images_are_an_error(site):
    for number in range(2):
        (site / f"train/good/{number}.png").unlink()
    assert describe(site).errors == ("4 good training images, 5 are needed",)


def test_lacks_are_warnings(site):
    put(site / "test/crack/1.png", 103)
    put(site / "test/crack/2.png", 104)
    put(site / "ground_truth/crack/2_mask.png", 0)
    warnings = describe(site).warnings
    assert "1 of 3 defective images have no readable mask" in warnings
    assert "test/crack/2.png: the mask of this defect is empty" in warnings


def test_site_without_tests_is_warned_of(tmp_path):
    for number in range(5):
        put(tmp_path / f"train/good/{number}.png", number)
    (found,) = describe_sites(tmp_path)
    assert len(found.warnings) == 2
    assert found.errors == ()


def test_site_that_cannot_be_read_is_described_by_its_error(tmp_path):
    put(tmp_path / "train/1.png")
    put(tmp_path / "train/1_GT.png")
    put(tmp_path / "train/2.png")
    (tmp_path / "test").mkdir()
    (found,) = describe_sites(tmp_path)
    assert found.train_good == 0
    assert "2.png: no mask" in found.errors[0]


def test_roots_that_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        describe_sites(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="unknown layout"):
        describe_sites(tmp_path, "odd")


def test_command_prints_a_table(site):
    result = run("sites", site.parent)
    assert result.exit_code == 0
    assert "lid" in result.output
    assert "crack 1" in result.output


def test_command_exits_with_1_on_errors_and_not_on_warnings(site):
    put(site / "train/good/9.png", 3)
    result = run("sites", site.parent)
    assert result.exit_code == 0
    assert "warning lid: the same image twice" in result.output
    put(site / "test/good/9.png", 3)
    result = run("sites", site.parent)
    assert result.exit_code == 1
    assert "error lid: the same image in two pools" in result.output


def test_command_prints_json(site):
    result = run("sites", site, "--json", "--layout", "mvtec")
    (found,) = json.loads(result.output)
    assert found["defects"] == {"crack": 1}
    assert found["errors"] == []


def test_names_with_brackets_are_shown_as_they_are(site):
    put(site / "test/[red]/0.png", 77)
    result = run("sites", site.parent)
    assert "[red]" in result.output


def test_synthesise_writes_sites_that_describe_well(tmp_path):
    result = run("synthesise", tmp_path / "out", "--products", "1", "--size", "32")
    assert result.exit_code == 0
    (found,) = describe_sites(tmp_path / "out")
    assert found.name == "fabric_00"
    assert found.errors == ()
    assert found.masks == sum(found.defects.values())


def test_synthesise_refuses_a_wrong_setting(tmp_path):
    result = run("synthesise", tmp_path, "--size", "7")
    assert isinstance(result.exception, ConfigError)
    assert "data.synthetic.size" in str(result.exception)
