"""Which nodes of a cluster are avoided."""

from types import SimpleNamespace
from typing import Any

import pytest
import ray

from study.cluster.nodes import Nodes, unfit
from trainables.equipment import Equipment, equipment, versions


def test_a_node_is_fit_with_the_same_packages_built_for_whatever_gpu():
    here = equipment()
    assert here.error == "" and here.versions.keys() == {"numpy", "ray", "torch"}
    assert "+" not in here.versions["torch"]
    assert unfit(here, versions()) == ""


@pytest.mark.parametrize(
    ("installed", "error", "reason"),
    [
        ({"torch": "2.0"}, "", "numpy is not installed, the driver has 1.0"),
        ({"numpy": "1.1", "torch": "2.0"}, "", "numpy 1.1 is installed, the driver has 1.0"),
        (
            {"numpy": "1.0", "torch": "2.0"},
            "pandas is not installed",
            "pandas is not installed",
        ),
    ],
    ids=["missing", "another", "broken"],
)
def test_why_a_node_is_unfit(installed, error, reason):
    answer = Equipment("host", "cpu", installed, error)
    assert unfit(answer, {"numpy": "1.0", "torch": "2.0"}) == reason


def node(name: str, cpus: float, gpus: float = 0.0) -> dict[str, Any]:
    """A node as `ray.nodes()` has it."""
    resources = {"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}
    return {"NodeID": name, "NodeManagerHostname": name, "Alive": True, "Resources": resources}


def failed(trial: int, on: str) -> Any:
    """A try of a trial as Tune has it."""
    run = SimpleNamespace(last_result={"node_id": on})
    return SimpleNamespace(config={"trial": trial}, error_file=None, run_metadata=run)


def test_where_trials_fail_none_runs_while_there_are_others_that_have_what_it_needs(monkeypatch):
    alive = [node("head", 8), node("old", 4, 1)]
    monkeypatch.setattr(ray, "nodes", lambda: alive)
    nodes = Nodes()
    nodes.need(cpus=1, gpus=0.25)
    for trial in (0, 1):
        nodes.on_trial_error(0, [], failed(trial, "old"))
    assert nodes.avoided(0) == nodes.avoided(2) == (), "the head has no GPU"
    alive.append(node("new", 4, 1))
    assert nodes.avoided(0) == ("old",), "a try of it failed there"
    assert nodes.avoided(2) == ()
    nodes.on_trial_error(0, [], failed(2, "old"))
    assert nodes.avoided(3) == ("old",)
    alive.pop()
    assert nodes.avoided(3) == (), "no other is left"


def test_an_epoch_clears_a_node(monkeypatch):
    monkeypatch.setattr(ray, "nodes", lambda: [node("one", 2), node("two", 2)])
    nodes = Nodes()
    nodes.on_trial_error(0, [], failed(0, "one"))
    nodes.on_trial_result(0, [], None, {"node_id": "one"})
    nodes.on_trial_error(0, [], failed(1, "one"))
    assert nodes.avoided(2) == ()
    assert nodes.avoided(1) == ("one",)
