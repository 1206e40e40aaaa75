from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayfed.config import (
    Experiment,
    dump_experiment,
    experiment_hash,
    load_experiment,
    parse_experiment,
    top_count,
)
from bayfed.errors import ConfigError

QUICK = settings(max_examples=40, deadline=None, derandomize=True)
EXPERIMENTS = sorted((Path(__file__).parents[1] / "experiments").glob("*.yaml"))


def refused(action, *parts: object) -> str:
    """Return the message of a ConfigError of one line that holds ``parts``."""
    with pytest.raises(ConfigError) as caught:
        action()
    text = str(caught.value)
    assert "\n" not in text
    assert all(str(part) in text for part in parts), text
    return text


def written(folder: Path, text: str) -> Path:
    path = folder / "e.yaml"
    path.write_text(text)
    return path


def test_an_empty_file_is_all_defaults(tmp_path):
    assert load_experiment(written(tmp_path, "")) == Experiment()


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.name)
def test_the_experiments_of_the_house_are_valid(path):
    assert load_experiment(path).name


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.name)
def test_what_is_dumped_is_read_back(tmp_path, path):
    experiment = load_experiment(path, ["seed=5", "backbone.weights=w.safetensors"])
    assert load_experiment(written(tmp_path, dump_experiment(experiment))) == experiment


@pytest.mark.parametrize("key", ["sede", "method.inner.step", "federation.server.learning_rate"])
def test_an_unknown_setting_names_file_and_key(tmp_path, key):
    path = written(tmp_path, "seed: 1")
    refused(lambda: load_experiment(path, [f"{key}=1"]), path, f"unknown setting {key!r}")


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("seed=-1", ["seed: ", "greater than or equal to 0"]),
        ("seed=1.5", ["seed: "]),
        ("federation.rounds=many", ["federation.rounds: "]),
        ("federation.quorum=0", ["federation.quorum: "]),
        ("method.grain=pixel", ["method.grain: ", "'image' or 'patch'"]),
        ("method.prior.scale=.nan", ["method.prior.scale: "]),
        ("method.prior.scale=.inf", ["method.prior.scale: "]),
        ("method.loss.temperature=0", ["method.loss.temperature: "]),
        ("method.rates={head: -1}", ["method.rates.head: "]),
        ("episode.shots=1", ["episode.shots: "]),
        ("data=5", ["data: "]),
        ("data.source=folders", ["data.root is needed"]),
        ("protocol.name=new-product", ["protocol.holdout"]),
        ("protocol.holdout=[a]", ["protocol.holdout"]),
        ("backbone.smoothing=2", ["backbone.smoothing must be odd"]),
        ("backbone.stages=[2, 1]", ["backbone.stages must be"]),
        ("backbone.stages=[1, 1]", ["backbone.stages must be"]),
        ("backbone.stages=[-1]", ["backbone.stages must be"]),
        ("device=tpu", ["device: "]),
        ("method={name: patchcore, neighbours: 1}", ["method.neighbours: "]),
        ("method={name: padim, channels: 0}", ["method.channels: "]),
        ("method={name: pca, variance: 1}", ["method.variance: "]),
        ("method={name: mahalanobis, grain: patch}", ["method.grain: "]),
    ],
)
def test_a_wrong_value_names_file_and_key(tmp_path, setting, parts):
    path = written(tmp_path, "name: x")
    refused(lambda: load_experiment(path, [setting]), path, *parts)


@pytest.mark.parametrize("name", ["patchcore", "anomalydino", "padim", "mahalanobis", "pca"])
def test_a_system_that_learns_nothing_has_no_rounds(tmp_path, name):
    path, setting = written(tmp_path, "name: x"), f"method={{name: {name}}}"
    said = refused(lambda: load_experiment(path, [setting]))
    expected = f"method.name: {name} has nothing to train; set federation.rounds to 0"
    assert said == f"{path}: {expected}"
    assert load_experiment(path, [setting, "federation.rounds=0"]).method.name == name


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("seed", "key=value"),
        ("=1", "key=value"),
        ("seed=[1", "not a YAML value"),
        ("name=2026-13-45", "not a YAML value"),
        ("name=!!python/object:os.system x", "not a YAML value"),
        ("seed.x=1", "is a value, not a group"),
    ],
)
def test_an_override_that_cannot_be_read_is_one_line(tmp_path, text, part):
    path = written(tmp_path, "seed: 1")
    refused(lambda: load_experiment(path, [text]), part)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (b"- 1\n- 2\n", "a mapping of settings"),
        (b"seed: [1", "not a YAML file"),
        (b"\xff\xfe\x00", "not a YAML file"),
        (b"seed: 2026-13-45", "not a YAML file"),
        (b"a: !!python/object/apply:os.system [ls]", "not a YAML file"),
        (b"1: 2", ""),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line_naming_it(tmp_path, text, part):
    path = tmp_path / "e.yaml"
    path.write_bytes(text)
    refused(lambda: load_experiment(path), path, part)


@pytest.mark.parametrize("name", ["absent.yaml", "."])
def test_a_missing_file_is_one_line_naming_it(tmp_path, name):
    refused(lambda: load_experiment(tmp_path / name), tmp_path / name)


def test_overrides_reach_into_groups_and_the_last_one_holds(tmp_path):
    path = written(tmp_path, "method: {inner: {steps: 1, lr: 0.2}}")
    experiment = load_experiment(
        path, ["method.inner.steps=2", "method.inner.steps=4", "data.sites=[a, b]"]
    )
    assert experiment.method.inner.steps == 4
    assert experiment.method.inner.lr == 0.2
    assert experiment.data.sites == ("a", "b")


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        parse_experiment({}).seed = 2


@QUICK
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([*Experiment.model_fields, "name", "inner", "x\ny"]), inner
            )
        ),
        max_leaves=6,
    )
)
def test_any_tree_is_an_experiment_or_a_one_line_error(tree):
    try:
        parse_experiment({"data": tree, "method": tree, "backbone": tree})
    except ConfigError as error:
        assert "\n" not in str(error)  # noqa: PT017


@QUICK
@given(st.floats(0.001, 1), st.integers(1, 2000))
def test_a_fraction_of_the_tokens_is_at_least_one_and_at_most_all(fraction, tokens):
    assert fraction * tokens <= top_count(fraction, tokens) <= tokens


@pytest.mark.parametrize("name", ["../out", "a/b", ".hidden", "", "a\x00"])
def test_a_name_that_would_be_a_path_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        parse_experiment({"name": name})


def test_nesting_without_end_is_one_line(tmp_path: Path) -> None:
    deep = "[" * 20000
    (tmp_path / "deep.yaml").write_text(f"a: {deep}")
    with pytest.raises(ConfigError, match="not a YAML file"):
        load_experiment(tmp_path / "deep.yaml")
    (tmp_path / "flat.yaml").write_text("seed: 1")
    with pytest.raises(ConfigError, match="is not a YAML value"):
        load_experiment(tmp_path / "flat.yaml", [f"seed={deep}"])


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_more_rounds_continue_a_run_unless_its_rate_falls_towards_the_last_one(decay):
    server = {"decay": decay}
    hashes = {
        experiment_hash(parse_experiment({"federation": {"rounds": n, "server": server}}))
        for n in (10, 20)
    }
    assert len(hashes) == (2 if decay else 1)


def test_a_mixture_has_nothing_personal() -> None:
    federation = {"personal": ["prior"], "clients": {"partition": "dirichlet"}}
    with pytest.raises(ConfigError, match="federation: personal: a mixture of sites"):
        parse_experiment({"federation": federation})


@pytest.mark.parametrize(
    "asked",
    [{"noise": 1.0}, {"epsilon": 8.0}, {"features": 1.0}, {"added_by": "clients", "shares": 3}],
)
def test_who_asks_for_privacy_does_not_go_without(asked: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"hides nothing without federation\.privacy\.level"):
        parse_experiment({"federation": {"privacy": asked}})
