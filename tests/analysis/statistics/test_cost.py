"""Costs and the Pareto front against sums by hand and a search over all pairs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import MadeTrial, falling, manifest, write_study

from analysis import load_study
from analysis.statistics.cost import costs, pareto, spent, timeline
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


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_epochs_are_in_as_many_slots_as_there_were_workers(workers: int) -> None:
    """Of workers that each train one trial after the other, and tell of an epoch a little late."""
    draw = np.random.default_rng(workers)
    trials, epochs, where = [], [], {}
    for worker in range(workers):
        clock = draw.random()
        for trial in range(worker, 12, workers):
            where[trial] = worker
            trials.append({"trial": trial, "stage": "search"})
            clock += draw.uniform(0.5, 2)
            for _ in range(draw.integers(1, 6)):
                train = draw.uniform(1, 3)
                clock += train + 0.2
                late = clock + draw.uniform(0, 0.1)
                epochs.append([trial, train, 0.2, late])
    columns = ["trial", "train_seconds", "eval_seconds", "wall_seconds"]
    table = pd.DataFrame(epochs, columns=columns).sample(frac=1, random_state=1)
    bars = timeline(pd.DataFrame(trials), table)
    assert len(bars) == len(epochs)
    assert sorted(bars["slot"].unique()) == list(range(workers))
    # An epoch is where its trial's last one was, and two trials of different workers that
    # overlap are apart.
    assert (bars.groupby("trial")["slot"].nunique() == 1).all()
    busy = (bars["end"] - bars["start"]).sum()
    assert busy == pytest.approx(sum(train + 0.2 for _, train, _, _ in epochs))
    for one in bars.itertuples():
        for other in bars[bars["slot"] == one.slot].itertuples():
            if where[one.trial] != where[other.trial]:
                assert min(one.end, other.end) - max(one.start, other.start) < 0.5 * 3.2


def test_epochs_of_older_studies_have_no_place_in_time() -> None:
    trials = pd.DataFrame({"trial": [0], "stage": ["search"]})
    row = {"trial": 0, "train_seconds": 1.0, "eval_seconds": 1.0, "wall_seconds": np.nan}
    assert timeline(trials, pd.DataFrame([row])).empty
