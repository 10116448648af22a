"""Rankings, curves, levels and medians against hand values and independent pandas and numpy
computations."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import BASELINES, FACTORS, MadeTrial, falling, search_like, write_study

from analysis import Study, load_study
from analysis.statistics.curves import (
    arm_levels,
    best_so_far,
    factor_levels,
    learning_curves,
    level_curves,
    ranked,
    results,
    shape_by_level,
    training_shape,
    winner,
)

NAN = math.nan


def table_of(study: Study) -> pd.DataFrame:
    return results(study.trials, study.epochs)


def curves_of(study: Study) -> pd.DataFrame:
    return learning_curves(table_of(study), study.epochs)


def last(accuracy: float, loss: float) -> list[tuple[float, ...]]:
    """Two epochs, of which the first is better: only the last may count."""
    return [(0.1, 0.9, 0.01, 0.999), (0.1, 0.9, loss, accuracy)]


def tied(folder: Path) -> Study:
    made = [
        MadeTrial("complete", last(0.8, 0.5)),
        MadeTrial("complete", last(0.9, 0.5)),
        MadeTrial("complete", last(0.9, 0.4)),
        MadeTrial("complete", last(0.9, 0.4), "baseline:small-stem"),
        MadeTrial("stopped", last(0.99, 0.1)),
        MadeTrial("running", last(0.99, 0.1)),
        MadeTrial("complete", last(0.99, 0.1), stage="confirm"),
        MadeTrial("diverged", [(0.1, 0.9, 0.1, 0.99), (NAN, 0.9, NAN, 0.99)]),
        MadeTrial("failed", []),
    ]
    return load_study(write_study(folder, made))


def test_ranking_is_by_last_accuracy_then_loss_then_number(tmp_path: Path) -> None:
    study = tied(tmp_path)
    best = ranked(table_of(study))
    assert best["trial"].tolist() == [2, 3, 1, 0]
    assert best["validation_accuracy"].tolist() == [0.9, 0.9, 0.9, 0.8]
    assert winner(table_of(study)) == 2
    assert winner(results(study.trials.iloc[4:], study.epochs)) is None
    assert winner(results(study.trials.iloc[:0], study.epochs.iloc[:0])) is None


def test_results_hold_every_search_trial_with_its_last_reading(tmp_path: Path) -> None:
    study = tied(tmp_path)
    table = table_of(study)
    assert table["trial"].tolist() == [0, 1, 2, 3, 4, 5, 7, 8]
    assert table["epochs"].tolist() == [2] * 7 + [0]
    assert table["seconds"].tolist() == [5.0] * 7 + [0.0]
    assert table["validation_loss"].isna().tolist() == [False] * 6 + [True, True]


def test_learning_curves_are_the_epochs_with_state_and_role(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, search_like()))
    curves = curves_of(study)
    columns = [
        "trial",
        "epoch",
        "train_loss",
        "train_accuracy",
        "validation_loss",
        "validation_accuracy",
    ]
    pd.testing.assert_frame_equal(curves[columns], study.epochs[columns])
    roles = curves.groupby("role", observed=True)["trial"].unique().map(sorted).to_dict()
    assert [roles[f"baseline:{name}"] for name in BASELINES] == [[0], [1], [2]]
    complete = [i for i, made in enumerate(search_like()) if made.state == "complete"]
    assert roles["winner"] == [max(complete, key=lambda i: search_like()[i].readings[-1][3])]


def test_a_winning_baseline_keeps_its_role_and_confirm_trials_are_left_out(tmp_path: Path) -> None:
    made = [
        MadeTrial("complete", falling(2, accuracy=0.9), "baseline:small-stem"),
        MadeTrial("complete", falling(2, accuracy=0.5)),
        MadeTrial("complete", falling(2, accuracy=0.99), stage="confirm"),
    ]
    study = load_study(write_study(tmp_path, made))
    curves = curves_of(study)
    assert curves.drop_duplicates("trial")["role"].tolist() == ["baseline:small-stem", "other"]


def test_medians_say_where_they_are_over_survivors(tmp_path: Path) -> None:
    def made(state: str, losses: list[float], depth: int) -> MadeTrial:
        return MadeTrial(state, [(1.0, 0.5, loss, 0.5) for loss in losses], config={"depth": depth})

    study = load_study(
        write_study(
            tmp_path,
            [
                made("complete", [4.0, 3.0, 2.0], 10),
                made("complete", [5.0, 4.0, 1.0], 10),
                made("stopped", [9.0], 10),
                made("complete", [1.0, 1.0, 1.0], 18),
                made("diverged", [2.0, NAN], 34),
                made("complete", [3.0, 2.0, 1.0], 34),
                made("running", [], 34),
            ],
        )
    )
    levels = factor_levels(table_of(study), FACTORS[4])
    medians = level_curves(curves_of(study), levels)
    loss = medians[medians["reading"] == "validation_loss"]
    rows = loss[["level", "epoch", "median", "n", "trials", "over_all"]].to_numpy().tolist()
    assert rows == [
        ["10", 1, 5.0, 3, 3, True],
        ["10", 2, 3.5, 2, 3, False],
        ["10", 3, 1.5, 2, 3, False],
        *[["18", epoch, 1.0, 1, 1, True] for epoch in (1, 2, 3)],
        ["34", 1, 2.5, 2, 3, False],
        ["34", 2, 2.0, 1, 3, False],
        ["34", 3, 1.0, 1, 3, False],
    ]


@pytest.mark.parametrize("factor", FACTORS[1:], ids=lambda factor: str(factor["name"]))
def test_quartiles_equal_those_of_numpy(tmp_path: Path, factor: dict[str, object]) -> None:
    study = load_study(write_study(tmp_path, search_like()))
    levels = factor_levels(table_of(study), factor)
    medians = level_curves(curves_of(study), levels)
    names = {"True": "yes", "False": "no"}
    for row in medians.to_dict("records"):
        values = study.trials[factor["name"]].astype(str).replace(names)
        members = study.trials.loc[
            (values == row["level"]) & (study.trials["trial"] > 2), "trial"
        ]  # no baselines
        there = study.epochs[
            study.epochs["trial"].isin(members) & (study.epochs["epoch"] == row["epoch"])
        ]
        values = there[row["reading"]].dropna().to_numpy()
        expected = np.quantile(values, [0.25, 0.5, 0.75])
        assert [row["lower"], row["median"], row["upper"]] == pytest.approx(expected)
        assert (row["n"], row["over_all"]) == (len(values), len(values) == len(members))


def test_levels_keep_the_order_of_the_design_and_ranges_become_thirds(tmp_path: Path) -> None:
    rates = [0.0001, 0.0003, 0.0029, 0.0031, 0.029, 0.3, 0.5]
    study = load_study(
        write_study(
            tmp_path, [MadeTrial("running", [], config={"learning_rate": r}) for r in rates]
        )
    )
    bins = factor_levels(table_of(study), FACTORS[0])["level"]
    assert bins.cat.ordered
    assert list(bins.cat.categories) == ["0.0003–0.003", "0.003–0.03", "0.03–0.3"]
    assert bins.cat.codes.tolist() == [0, 0, 0, 1, 1, 2, 2]
    pool = factor_levels(table_of(study), {"name": "stem_maxpool", "levels": [True, False]})[
        "level"
    ]
    assert list(pool.cat.categories) == ["yes", "no"]
    assert set(pool) == {"yes"}
    outside = factor_levels(table_of(study), {"name": "depth", "levels": [34, 10]})["level"]
    assert list(outside.cat.categories) == ["34", "10", "18"]
    narrow = factor_levels(
        table_of(study), {"name": "momentum", "low": 0.6, "high": 0.9, "scale": "linear"}
    )["level"]
    assert list(narrow.cat.categories) == ["0.6–0.7", "0.7–0.8", "0.8–0.9"]
    assert set(narrow) == {"0.8–0.9"}
    few = factor_levels(
        table_of(study), {"name": "learning_rate", "low": 0.02, "high": 0.16, "scale": "log"}
    )["level"]
    assert list(few.cat.categories) == ["0.02–0.04", "0.04–0.08", "0.08–0.16"]


def test_a_study_without_trials_gives_empty_tables(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, []))
    curves = curves_of(study)
    assert ranked(table_of(study)).empty
    assert curves.empty
    assert level_curves(curves, factor_levels(table_of(study), FACTORS[0])).empty


def test_the_best_arms_are_those_of_the_best_complete_trials(tmp_path: Path) -> None:
    arms = [(10, 0.5), (18, 0.9), (10, 0.7), (34, 0.8)]
    made = [
        MadeTrial("complete", falling(2, accuracy=accuracy), config={"depth": depth})
        for depth, accuracy in arms
    ]
    made += [MadeTrial("stopped", falling(1, accuracy=0.99), config={"stem_kernel": 3})]
    made += [
        MadeTrial("complete", falling(2, accuracy=0.99), "baseline:small-stem", {"stem_kernel": 5})
    ]
    levels = arm_levels(table_of(load_study(write_study(tmp_path, made))))
    assert list(levels["level"].cat.categories) == [
        "k7 s2 pool d18",
        "k7 s2 pool d34",
        "k7 s2 pool d10",
    ]
    assert levels["trial"].tolist() == [0, 1, 2, 3]


def test_best_so_far_counts_complete_trials_only_and_all_that_was_spent(tmp_path: Path) -> None:
    made = [
        MadeTrial("stopped", last(0.9, 0.1)),
        MadeTrial("complete", last(0.5, 0.1)),
        MadeTrial("failed", []),
        MadeTrial("complete", last(0.4, 0.1)),
        MadeTrial("complete", last(0.8, 0.1)),
    ]
    table = best_so_far(table_of(load_study(write_study(tmp_path, made))), cores=2)
    np.testing.assert_array_equal(table["best"], [NAN, 0.5, 0.5, 0.5, 0.8])
    assert table["samples"].tolist() == [1, 2, 3, 4, 5]
    assert table["core_seconds"].tolist() == [10.0, 20.0, 20.0, 30.0, 40.0]


def test_shape_of_training_equals_numpy_on_each_curve(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    epochs = 12
    made = []
    for _ in range(5):
        made.append(
            MadeTrial(
                "complete",
                rng.uniform(0.1, 0.9, (epochs, 4)).tolist(),
                config={"max_epochs": epochs},
            )
        )
    made += [MadeTrial("stopped", falling(10), config={"max_epochs": epochs})]
    study = load_study(write_study(tmp_path, made))
    shape = training_shape(table_of(study), study.epochs)
    assert shape["trial"].tolist() == [0, 1, 2, 3, 4]
    for row, trial in zip(shape.to_dict("records"), made, strict=False):
        readings = np.array(trial.readings)
        validation = readings[:, 3]
        assert row["gap"] == pytest.approx(readings[-1, 1] - validation[-1])
        assert row["slope"] == pytest.approx(np.polyfit([9, 10, 11, 12], validation[8:], 1)[0])
        assert row["unsteadiness"] == pytest.approx(np.diff(validation[7:]).std(ddof=1))
        assert row["changes"] == 4
    levels = factor_levels(table_of(study), FACTORS[4])
    (medians,) = shape_by_level(shape, levels).to_dict("records")
    assert (medians["level"], medians["complete"]) == ("18", 5)
    assert medians["unsteadiness"] == np.median(shape["unsteadiness"])
