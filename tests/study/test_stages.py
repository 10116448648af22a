"""Whole studies with a confirm stage, of designs from files, by the command: few images, tiny
networks."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drivers import DESIGN_FILE, Place, ray_head
from ray import cloudpickle

from analysis.load import read_predictions
from study.stages import RecordCallback
from trainables.config import TrialConfig

pytestmark = pytest.mark.slow

COURSE = """
search = "none"

[baselines.short]
width = 4
depth = 10
stem_kernel = 3
batch_size = 32
max_epochs = 1

[baselines.long]
width = 4
depth = 10
stem_kernel = 7
batch_size = 32
max_epochs = 2
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with ray_head(home) as (address, _):
        yield Place(tmp_path_factory.mktemp("studies"), address, home)


def configs(trials: pd.DataFrame) -> list[dict]:
    names = list(TrialConfig().to_dict())
    return [{name: row[name] for name in names} for row in trials.to_dict("records")]


def check_readings(trials: pd.DataFrame, epochs: pd.DataFrame) -> None:
    """Every trial is complete; search and tuning read validation images only, the confirm stage
    test images only."""
    assert set(trials["state"]) == {"complete"}
    counted = epochs.groupby("trial")["epoch"].apply(list)
    assert counted.tolist() == [list(range(1, budget + 1)) for budget in trials["max_epochs"]]
    stage = epochs["trial"].map(trials.set_index("trial")["stage"])
    for part, mine in (("validation", stage != "confirm"), ("test", stage == "confirm")):
        for reading in ("loss", "accuracy"):
            assert epochs[f"{part}_{reading}"].notna().tolist() == mine.tolist(), (part, reading)


def at_best_rates(
    crossed: list[dict], rates: list[float], trials: pd.DataFrame, epochs: pd.DataFrame
) -> list[dict]:
    """The arms (winner, optimizer, kernel, both) at the rates of least validation loss by least
    squares on its
    logarithm: a level for each arm, a shared parabola in the logarithm of the rate, slopes additive
    in the factors."""
    last = trials.merge(epochs[epochs["epoch"] == 3], on="trial", suffixes=("", "_of_epoch"))
    rows = []
    for row, config in zip(last.to_dict("records"), configs(last), strict=True):
        rate = config["learning_rate"]
        for number, arm in enumerate(crossed):
            same = {**config, "learning_rate": 0, "seed": 0} == {
                **arm,
                "learning_rate": 0,
                "seed": 0,
            }
            if same and row["stage"] != "confirm" and rates[0] <= rate <= rates[-1]:
                rows.append((number, rate, math.log(row["validation_loss"])))
    terms = []
    for number, rate, _ in rows:
        step = math.log(rate / crossed[0]["learning_rate"])
        optimizer, kernel = (1, -1, 1, -1)[number], (1, 1, -1, -1)[number]
        terms.append(
            [
                *(float(number == arm) for arm in range(4)),
                step,
                step**2,
                optimizer * step,
                kernel * step,
            ]
        )
    fitted = np.array(terms) @ (
        np.linalg.pinv(np.array(terms)) @ np.array([loss for *_, loss in rows])
    )
    best = {}
    for (number, rate, _), _ in sorted(zip(rows, fitted, strict=True), key=lambda pair: -pair[1]):
        best[number] = rate
    return [{**arm, "learning_rate": best[number]} for number, arm in enumerate(crossed)]


def unordered(made: list[dict]) -> list[str]:
    return sorted(json.dumps(config, sort_keys=True) for config in made)


def check_search(search: pd.DataFrame) -> None:
    """The baseline first, then what is drawn within the design's ranges; momentum with SGD only."""
    assert search["trial"].tolist() == list(range(6))
    assert search["origin"].tolist() == ["baseline:first"] + ["random"] * 5
    drawn = search[1:]
    assert drawn["weight_decay"].between(1e-5, 1e-2).all() and drawn["weight_decay"].nunique() == 5
    sgd = drawn["optimizer"] == "sgd"
    assert drawn["momentum"].between(0.5, 0.8).tolist() == sgd.tolist()
    assert set(drawn["momentum"][~sgd]) <= {0.9}


def crossed_arms(search: pd.DataFrame, epochs: pd.DataFrame) -> list[dict]:
    """The winner, and it with the other optimizer, the other kernel and both."""
    last = (
        epochs[epochs["epoch"] == 3]
        .merge(search[["trial"]])
        .sort_values(
            ["validation_accuracy", "validation_loss", "trial"], ascending=[False, True, True]
        )
    )
    best = int(last["trial"].iloc[0])
    assert best != 0, "the baseline cannot learn"
    winner = configs(search)[best] | {"seed": 1}
    other = {"optimizer": {"sgd": "adam", "adam": "sgd"}[winner["optimizer"]], "momentum": 0.9}
    if winner["optimizer"] == "adam":
        other["momentum"] = TrialConfig().momentum  # what exists with SGD only is the usual one
    kernel = {"stem_kernel": 8 - winner["stem_kernel"]}
    return [winner, {**winner, **other}, {**winner, **kernel}, {**winner, **other, **kernel}]


def check_tuned(trials: pd.DataFrame, crossed: list[dict], rates: list[float]) -> None:
    """Every arm at every rate, but what the search has had."""
    search, tune = (trials[trials["stage"] == stage] for stage in ("search", "tune"))
    wanted = [{**arm, "learning_rate": each, "seed": 0} for arm in crossed for each in rates]
    assert unordered(configs(tune)) == unordered(
        [each for each in wanted if each not in configs(search)]
    )
    assert set(tune["origin"]) == {"tune"}


def check_confirmed(study: Path, confirm: pd.DataFrame, arms: list[dict]) -> None:
    """Every arm once, and in the plan."""
    assert unordered(configs(confirm)) == unordered(arms)
    assert confirm["forward_flops"].is_monotonic_decreasing, "the most expensive ones first"
    assert set(confirm["origin"]) == {"confirm"}
    plan = json.loads((study / "study.json").read_text())["confirm"]
    assert [arm["role"] for arm in plan["arms"]] == [
        "winner",
        "fraction",
        "fraction",
        "fraction",
        "baseline",
    ]
    assert unordered([{**arm["config"], "seed": 1} for arm in plan["arms"]]) == unordered(arms)


def check_best(study: Path, first: int, winner: dict, accuracy: float) -> None:
    """`best/` is of trial `first`, the winner's first seed, and so are its tables."""
    assert (study / "best" / "trial.txt").read_text() == f"{first}\n", "the winner's first seed"
    assert json.loads((study / "best" / "config.json").read_text())["config"] == winner
    counts = json.loads((study / "study.json").read_text())["dataset"]["counts"]
    assert counts["train"] + counts["validation"] == 200
    by_class = pd.read_csv(study / "best" / "accuracy_by_class.csv")
    assert by_class["images"].sum() == counts["test"]
    mean = (by_class["test_accuracy"] * by_class["images"]).sum() / counts["test"]
    assert mean == pytest.approx(accuracy)
    predictions = read_predictions(study)
    assert len(predictions) == counts["test"]
    right = predictions["predicted class"] == predictions["true class"]
    accuracies = right.groupby(predictions["true class"]).mean()
    expected = accuracies[by_class["class"].astype(str)].tolist()
    assert by_class["test_accuracy"].tolist() == pytest.approx(expected)


def check_test_images(study: Path, confirm: pd.DataFrame, accuracy: pd.Series) -> None:
    """Of each confirm trial it is known which test images it recognises; `accuracy` is by trial."""
    images = json.loads((study / "study.json").read_text())["dataset"]["counts"]["test"]
    bits = pd.read_csv(study / "test_images.csv", dtype={"correct": str}).set_index("trial")[
        "correct"
    ]
    assert list(bits.index) == list(confirm["trial"])
    for trial, correct in bits.items():
        assert len(correct) == images
        assert correct.count("1") / images == pytest.approx(accuracy[trial])


def check_seeds_by_width(place: Place, command: str) -> None:
    """As many seeds as the width takes, at most 20, and recorded."""
    study = place.root / "own"
    command += " --confirm-seeds 2 --confirm-until-width 6"
    assert place.run("own", command, report=True) == 0, place.output("own")
    advised, _ = place.tables("own")
    seeds = advised.loc[advised["stage"] == "confirm", "seed"].nunique()
    assert seeds > 2
    assert json.loads((study / "study.json").read_text())["settings"]["confirm_seeds"] == seeds
    effects = pd.read_csv(study / "report" / "effects.csv")
    half = (effects["high"] - effects["low"]).max() / 2
    assert half <= 0.06 or seeds == 20


def test_a_design_from_a_file_is_searched_and_confirmed(place, tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(DESIGN_FILE)
    # Without a scheduler every trial is complete, and after three epochs the baseline is behind.
    command = f"--design {path} --epochs 3 --scheduler fifo --max-concurrent 2"
    study = place.root / "own"
    assert place.run("own", f"{command} --confirm-seeds 1", report=True) == 0, place.output("own")
    trials, epochs = place.tables("own")
    check_readings(trials, epochs)
    search, confirm = (trials[trials["stage"] == stage] for stage in ("search", "confirm"))
    check_search(search)
    crossed = crossed_arms(search, epochs)
    rate = crossed[0]["learning_rate"]
    rates = sorted({min(max(rate * step, 1e-2), 3e-2) for step in (1 / 3, 1, 3)})
    check_tuned(trials, crossed, rates)
    arms = [*at_best_rates(crossed, rates, trials, epochs), configs(search)[0] | {"seed": 1}]
    check_confirmed(study, confirm, arms)
    first = int(confirm["trial"].iloc[configs(confirm).index(arms[0])])
    accuracy = epochs[epochs["epoch"] == 3].set_index("trial")["test_accuracy"]
    check_best(study, first, arms[0], accuracy[first])
    check_test_images(study, confirm, accuracy)
    assert (study / "report" / "index.html").exists()

    # One seed more is one trial more of every arm, and nothing else.
    assert place.run("own", f"{command} --confirm-seeds 2") == 0, place.output("own")
    more, more_epochs = place.tables("own")
    pd.testing.assert_frame_equal(more[: len(trials)], trials)
    pd.testing.assert_frame_equal(more_epochs[: len(epochs)], epochs)
    assert configs(more[len(trials) :]) == [{**config, "seed": 2} for config in configs(confirm)]
    check_readings(more, more_epochs)
    assert (study / "best" / "trial.txt").read_text() == f"{first}\n"

    record = (study / "record.jsonl").read_bytes()
    assert place.run("own", f"{command} --confirm-seeds 2") == 0
    assert f"nothing to run: all {len(more)} trials have ended" in place.output("own")
    assert (study / "record.jsonl").read_bytes() == record
    check_seeds_by_width(place, command)


def test_baselines_alone_are_confirmed_at_once_each_with_its_own_epochs(place, tmp_path):
    path = tmp_path / "course.toml"
    path.write_text(COURSE)
    study = place.root / "course"
    assert place.run("course", f"--design {path} --confirm-seeds 1", report=True) == 0, (
        place.output("course")
    )
    trials, epochs = place.tables("course")
    check_readings(trials, epochs)
    small = {"width": 4, "depth": 10, "batch_size": 32}
    expected = [
        TrialConfig(**small, stem_kernel=3, max_epochs=1, seed=1).to_dict(),
        TrialConfig(**small, stem_kernel=7, max_epochs=2, seed=1).to_dict(),
    ]
    assert unordered(configs(trials)) == unordered(expected)
    assert set(trials["stage"]) == {"confirm"}
    settings = json.loads((study / "study.json").read_text())["settings"]
    assert (settings["epochs"], settings["samples"]) == (2, 0)
    assert not (study / "best").exists(), "nothing is chosen by test images"
    assert (study / "report" / "index.html").exists()

    assert place.run("course", "--confirm-seeds 2") == 0, place.output("course")
    more, more_epochs = place.tables("course")
    assert configs(more) == configs(trials) + [{**config, "seed": 2} for config in configs(trials)]
    check_readings(more, more_epochs)
    record = (study / "record.jsonl").read_bytes()
    assert place.run("course", "--epochs 1 --confirm-seeds 2") == 2
    assert "--epochs: invalid value 1, the study has 2" in place.output("course").splitlines()[-1]
    assert (study / "record.jsonl").read_bytes() == record


def test_the_callback_is_not_pickled_with_the_record():
    """Tune pickles its callbacks; ours hold an open file and are never restored."""
    copy = cloudpickle.loads(cloudpickle.dumps(RecordCallback(None, None, False)))
    assert not isinstance(copy, RecordCallback)
