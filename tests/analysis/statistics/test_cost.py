"""Costs and the Pareto front against sums by hand and a search over all pairs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import MadeTrial, falling, manifest, write_study

from analysis import load_study
from analysis.statistics.cost import costs, pareto, spent
from analysis.statistics.curves import results


def test_costs_are_seconds_by_the_cores_and_gpus_of_a_trial(tmp_path: Path) -> None:
    made = [
        MadeTrial("complete", falling(6), config={"max_epochs": 6}),
        MadeTrial("stopped", falling(2), config={"max_epochs": 6}),
        MadeTrial("stopped", falling(1), config={"max_epochs": 6}),
        MadeTrial("diverged", falling(3), config={"max_epochs": 6}),
        MadeTrial("failed", [], config={"max_epochs": 6}),
        MadeTrial("complete", falling(6), config={"max_epochs": 6}, stage="confirm"),
    ]
    settings = manifest()["settings"] | {"cpus_per_trial": 2, "gpus_per_trial": 0.25}
    study = load_study(write_study(tmp_path, made, settings=settings))
    rows = spent(study.trials, study.epochs, study.manifest["settings"])
    an_epoch = 2.5  # seconds of training and evaluation, see tests/synthetic.py
    assert rows["core_seconds"].tolist() == [2 * an_epoch * n for n in (6, 2, 1, 3, 0, 6)]
    assert rows["gpu_seconds"].tolist() == [0.25 * an_epoch * n for n in (6, 2, 1, 3, 0, 6)]
    assert rows["saved_core_seconds"].tolist() == [2 * an_epoch * n for n in (0, 4, 5, 0, 0, 0)]
    by_state = costs(rows, "state").set_index("state")
    assert by_state["trials"].to_dict() == {"complete": 2, "stopped": 2, "diverged": 1, "failed": 1}
    assert by_state.loc["stopped", ["core_seconds", "saved_core_seconds"]].tolist() == [15.0, 45.0]
    by_stage = costs(rows, "stage").set_index("stage")
    assert by_stage["core_seconds"].to_dict() == {"search": 60.0, "confirm": 30.0}


@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_what_no_other_trial_beats(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = [MadeTrial("complete", [(1, 0.5, 1, float(rng.integers(1, 8)) / 10)]) for _ in range(40)]
    made.append(MadeTrial("stopped", [(1, 0.5, 1, 0.99)]))
    study = load_study(write_study(tmp_path, made))
    sizes = rng.integers(1, 9, len(study.trials))  # few values, so that many tie
    table = results(study.trials.assign(parameters=pd.array(sizes, "Int64")), study.epochs)
    rows = pareto(table, "parameters")
    assert sorted(rows["trial"]) == list(range(40))
    scores = rows["validation_accuracy"].to_numpy()
    size = rows["parameters"].to_numpy(int)
    for i in range(len(rows)):
        beaten = (
            (size <= size[i]) & (scores >= scores[i]) & ((size < size[i]) | (scores > scores[i]))
        )
        assert rows["front"].iloc[i] == (not beaten.any())
    assert pareto(table.iloc[:0], "seconds_per_epoch").empty
    assert set(pareto(table, "seconds_per_epoch")["seconds_per_epoch"]) == {2.5}
