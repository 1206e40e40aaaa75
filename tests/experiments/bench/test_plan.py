from __future__ import annotations

from typing import Any

import pytest

from bayfed.config import Arm, Bench
from bayfed.errors import ProtocolError
from experiments.bench.plan import Cell, Named, cells
from experiments.bench.tasks import FEATURES, MEASURING, TRAINING, Tasks
from tests import toys

SITES = ("bolt_00", "cap_00", "fabric_00", "metal_00")


def planned(arms: tuple[Arm, ...] = ("none",), moved: str = "", **bench: Any) -> list[Cell]:
    synthetic = {"products": 4, "kinds": ["hole"], "held_out_kinds": [moved] if moved else []}
    data = {"synthetic": synthetic, "families": {"steel": ["bolt_00", "metal_00"]}}
    experiment = toys.experiment(data=data, evaluation={"draws": 2})
    named = [Named("bayfed", "mine", experiment, arms)]
    return list(cells("b", named, Bench.model_validate(bench)))


def scored(cell: Cell) -> list[str]:
    return [measured.site for measured in cell.scored]


def test_a_cell_for_each_seed_protocol_arm_and_number_of_shots() -> None:
    protocols = ["standard", "new-defect"]
    found = planned(("none", "federated"), seeds=2, shots=[2, 3], protocols=protocols)
    names = ("seed", "protocol", "arm", "shots")
    contexts = {tuple(cell.context[name] for name in names) for cell in found}
    assert len(found) == len(contexts) == 16
    assert all(tuple(scored(cell)) == SITES for cell in found)
    assert all(cell.context["train_sites"] == "+".join(SITES) for cell in found)
    keys = set().union(*(cell.keys for cell in found))
    assert len(keys) == 16 * len(SITES) * 2


def test_a_cell_is_in_the_table_though_later_draws_repeated_its_support() -> None:
    (cell,) = planned(("none",))
    first = {key for key in cell.keys if key[-1] == 0}
    assert len(first) == len(SITES)
    assert cell.is_in(cell.keys)
    assert cell.is_in(first)
    assert not cell.is_in(first - {next(iter(first))})
    assert not cell.is_in(cell.keys - first)


def test_new_product_leaves_out_each_family_whole() -> None:
    found = planned(protocols=["new-product"])
    assert [scored(cell) for cell in found] == [["bolt_00", "metal_00"], ["cap_00"], ["fabric_00"]]
    assert found[1].context["train_sites"] == "bolt_00+fabric_00+metal_00"
    assert [m.site for m in found[1].calibrating] == ["bolt_00", "fabric_00", "metal_00"]


def test_the_held_out_groups_can_be_named() -> None:
    found = planned(protocols=["new-product"], holdouts=[["steel", "cap"]])
    assert [scored(cell) for cell in found] == [["bolt_00", "cap_00", "metal_00"]]
    with pytest.raises(ProtocolError, match="nobody"):
        planned(protocols=["new-product"], holdouts=[["nobody"]])


def test_alone_a_factory_is_scored_at_home_or_at_the_new_product() -> None:
    home = planned(("local",))
    assert [scored(cell) for cell in home] == [[site] for site in SITES]
    assert [cell.context["train_sites"] for cell in home] == list(SITES)
    away = planned(("local",), protocols=["new-product"])
    assert len(away) == 2 + 3 + 3
    for cell in away:
        assert cell.context["train_sites"] not in scored(cell)
        assert [m.site for m in cell.calibrating] == [cell.context["train_sites"]]


def test_finetuned_factories_calibrate_with_their_own_parameters() -> None:
    (cell,) = planned(("federated+finetune",), finetune_rounds=3)
    assert len({m.training.key for m in cell.scored if m.training}) == len(SITES)
    assert [m.key for m in cell.scored] == [m.key for m in cell.calibrating]
    assert cell.context["round"] == 10 + 3


def test_round_0_is_measured_once_for_all_protocols(tmp_path: Any) -> None:
    found = planned(protocols=["standard", "new-product"])
    tasks = Tasks(found, tmp_path).all.values()
    assert sum(task.kind == MEASURING for task in tasks) == len(SITES)
    assert sum(task.kind == FEATURES for task in tasks) == len(SITES)
    assert not any(task.kind == TRAINING for task in tasks)
    roles = {task.arguments[-2:] for task in tasks if task.kind == MEASURING}
    assert roles == {(True, True)}


def test_other_defects_of_a_held_out_site_are_another_measurement(tmp_path: Any) -> None:
    found = planned(protocols=["standard", "new-product"], moved="stain")
    tasks = Tasks(found, tmp_path).all.values()
    assert sum(task.kind == MEASURING for task in tasks) == 2 * len(SITES)
    assert sum(task.kind == FEATURES for task in tasks) == 2 * len(SITES)


def test_trainings_are_shared_between_numbers_of_shots(tmp_path: Any) -> None:
    found = planned(("federated", "federated+finetune"), shots=[2, 3])
    tasks = Tasks(found, tmp_path).all
    trainings = [task for task in tasks.values() if task.kind == TRAINING]
    assert len(trainings) == 1 + len(SITES)
    (federated,) = [task for task in trainings if "federated" in task.title]
    tuned = [task for task in trainings if task is not federated]
    assert all(federated.key in task.needs for task in tuned)
    assert federated.size == 10
    assert sum(task.kind == MEASURING for task in tasks.values()) == 2 * 2 * len(SITES)
    order = list(tasks)
    for task in tasks.values():
        assert all(order.index(need) < order.index(task.key) for need in task.needs)
