from __future__ import annotations

from pathlib import Path

import pytest

from bayfed.config import (
    Bench,
    Experiment,
    build_systems,
    choose,
    load_bench,
    load_experiment,
    presets,
)
from bayfed.errors import ConfigError


def written(folder: Path, text: str, name: str = "e.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def systems(folder: Path, text: str) -> dict[str, Experiment]:
    path = written(folder, text)
    _, bench, tree = load_bench(path)
    return build_systems(tree, bench, str(path))


def test_a_run_has_no_use_for_the_section_but_checks_it(tmp_path: Path) -> None:
    path = written(tmp_path, "seed: 4\nbench: {seeds: 3}\n")
    assert load_experiment(path).seed == 4
    assert load_bench(path, ["bench.seeds=5"])[1].seeds == 5
    with pytest.raises(ConfigError, match=r"e\.yaml: unknown setting 'bench\.sedes'"):
        load_experiment(path, ["bench.sedes=5"])
    with pytest.raises(ConfigError, match=r"bench\.seeds: "):
        load_experiment(path, ["bench.seeds=0"])


def test_a_file_stands_on_its_base(tmp_path: Path) -> None:
    written(tmp_path, "seed: 1\nmethod: {top_k: 0.5}\nprotocol: {name: new-product, "
            "holdout: [nut]}\n", "low.yaml")  # fmt: skip
    written(tmp_path, "base: low.yaml\nseed: 2\nmethod: {grain: image}\n", "middle.yaml")
    top = load_experiment(written(tmp_path, "base: middle.yaml\nprotocol: {name: standard}\n"))
    assert (top.seed, top.method.grain, top.method.top_k) == (2, "image", 0.5)
    assert top.protocol.holdout == ()


@pytest.mark.parametrize("name", ["low", "low.yaml"])
def test_a_base_may_be_a_bundled_file_unless_one_lies_beside(tmp_path: Path, name: str) -> None:
    bundled = tmp_path / "bundled"
    bundled.mkdir()
    written(bundled, "seed: 5\n", "low.yaml")
    path = written(tmp_path, f"base: {name}\n")
    assert load_experiment(path, bundled=bundled).seed == 5
    with pytest.raises(ConfigError, match=r"low.*: No such file"):
        load_experiment(path)
    written(tmp_path, "seed: 6\n", name)
    assert load_experiment(path, bundled=bundled).seed == 6
    outside = written(tmp_path, "base: ../bundled/other.yaml\n", "outside.yaml")
    with pytest.raises(ConfigError, match="No such file"):
        load_experiment(outside, bundled=bundled)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: e.yaml", "more than 8 files"),
        ("base: absent.yaml", "absent.yaml: No such file"),
        ("base: [a]", "base: the name of a file"),
    ],
)
def test_a_base_that_is_none_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_experiment(written(tmp_path, text))


def test_there_is_a_preset_for_every_method() -> None:
    for name in presets():
        (found,) = build_systems({}, choose(Bench(), (name,))).values()
        assert found.method.name == presets()[name]["name"]
    assert {"baypranometa", "patchcore", "padim", "mahalanobis", "pca"} <= presets().keys()


def test_without_systems_the_experiments_own_method_is_the_bench(tmp_path: Path) -> None:
    found = systems(tmp_path, "method: {name: padim, ridge: 0.5}\nfederation: {rounds: 0}")
    assert list(found) == ["padim"]
    assert found["padim"].method.ridge == 0.5


def test_a_system_keeps_the_settings_of_its_own_method_only(tmp_path: Path) -> None:
    found = systems(
        tmp_path,
        """
        method: {top_k: 0.5, inner: {steps: 2}}
        federation: {rounds: 3, server: {lr: 0.5}}
        bench:
          systems:
            baypranometa: {}
            baypranometa-image: {federation: {server: {lr: 0.25}}}
            mine: {method: {inner: {lr: 0.125}}}
            memory: {preset: patchcore, method: {coreset: 0.25}}
        """,
    )
    assert found["baypranometa"].method.top_k == 0.5
    image = found["baypranometa-image"]
    assert (image.method.grain, image.method.inner.steps) == ("image", 2)
    assert (image.federation.rounds, image.federation.server.lr) == (3, 0.25)
    assert (found["mine"].method.inner.steps, found["mine"].method.inner.lr) == (2, 0.125)
    assert found["memory"].method.coreset == 0.25


def test_a_refinement_is_for_every_system_that_has_none_of_its_own(tmp_path: Path) -> None:
    found = systems(
        tmp_path,
        """
        method: {refine: {cycles: 2}}
        bench: {systems: {baypranometa: {}, patchcore: {}, padim: {method: {refine: {cycles: 1}}}}}
        """,
    )
    cycles = {name: one.method.refine.cycles for name, one in found.items()}
    assert cycles == {"baypranometa": 2, "patchcore": 2, "padim": 1}


def test_a_sweep_changes_one_setting_at_a_time(tmp_path: Path) -> None:
    found = systems(
        tmp_path,
        """
        method: {prior: {scale: 3.0}}
        bench:
          systems: {baypranometa: {}}
          sweep: {method.prior.kappa: [0.1, 1], method.prior.scale: [2]}
        """,
    )
    assert list(found) == [
        "baypranometa", "baypranometa kappa=0.1", "baypranometa kappa=1", "baypranometa scale=2",
    ]  # fmt: skip
    assert found["baypranometa kappa=0.1"].method.prior.kappa == 0.1
    assert found["baypranometa kappa=0.1"].method.prior.scale == 3.0
    assert found["baypranometa scale=2"].method.prior.scale == 2.0
    assert found["baypranometa"].method.prior.scale == 3.0


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("systems: {patchcor: {}}", r"bench\.systems\.patchcor: no preset is called 'patchcor'"),
        ("systems: {a: {preset: b}}", r"bench\.systems\.a: no preset is called 'b'"),
        ("systems: {a b: {}}", r"bench\.systems\.a b"),
        ("systems: {padim: {method: {rigde: 1}}}", "system padim: unknown setting 'method.rigde'"),
        ("systems: {padim: {arms: [lokal]}}", r"bench\.systems\.padim\.arms\.0"),
        ("sweep: {method.prior.kapa: [1]}", "unknown setting 'method.prior.kapa'"),
        ("protocols: [new]", r"bench\.protocols\.0"),
        ("shots: [0]", r"bench\.shots\.0"),
    ],
)
def test_a_mistake_names_system_and_setting(tmp_path: Path, section: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        systems(tmp_path, f"bench:\n  {section}\n")
    assert "\n" not in str(caught.value)


def test_a_method_that_nobody_knows_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"methods: no system is called 'patchcor' .*patchcore"):
        choose(Bench(), ("padim", "patchcor"))
