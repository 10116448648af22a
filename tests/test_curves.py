"""Rankings, curves, levels and medians against hand values and independent pandas and numpy computations."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import BASELINES, FACTORS, MadeTrial, falling, search_like, write_study

from analysis import Study, load_study
from analysis.curves import (
    baselines,
    best_trials,
    curve_ends,
    factor_levels,
    learning_curves,
    level_medians,
    results,
    winner,
)

NAN = math.nan


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
    ranked = best_trials(study.trials, study.epochs)
    assert ranked["trial"].tolist() == [2, 3, 1, 0]
    assert ranked["validation_accuracy"].tolist() == [0.9, 0.9, 0.9, 0.8]
    assert ranked["best_validation_accuracy"].tolist() == [0.999] * 4
    assert winner(study.trials, study.epochs) == 2
    assert winner(study.trials.iloc[4:], study.epochs) is None
    assert winner(study.trials.iloc[:0], study.epochs.iloc[:0]) is None


def test_results_hold_every_search_trial_with_its_last_reading(tmp_path: Path) -> None:
    study = tied(tmp_path)
    table = results(study.trials, study.epochs)
    assert table["trial"].tolist() == [0, 1, 2, 3, 4, 5, 7, 8]
    assert table["epochs"].tolist() == [2] * 7 + [0]
    assert table["validation_loss"].isna().tolist() == [False] * 6 + [True, True]


def test_baselines_are_all_there_also_what_has_not_run(tmp_path: Path) -> None:
    study = tied(tmp_path)
    table = baselines(study.trials, study.epochs, BASELINES)
    assert table["baseline"].tolist() == list(BASELINES)
    assert table["state"].tolist() == ["not run", "complete", "not run"]
    assert table["trial"].isna().tolist() == [True, False, True]
    row = table.iloc[1]
    assert (row["trial"], row["epochs"], row["train_loss"], row["validation_accuracy"]) == (3, 2, 0.1, 0.9)


def test_learning_curves_are_the_epochs_table_made_long(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, search_like()))
    curves = learning_curves(study.trials, study.epochs)
    assert len(curves) == 4 * len(study.epochs)
    for part, prefix in {"training": "train", "validation": "validation"}.items():
        for quantity in ("loss", "accuracy"):
            rows = curves[(curves["part"] == part) & (curves["quantity"] == quantity)]
            wide = rows.pivot(index="trial", columns="epoch", values="value")
            expected = study.epochs.pivot(index="trial", columns="epoch", values=f"{prefix}_{quantity}")
            pd.testing.assert_frame_equal(wide, expected)
    roles = curves.groupby("role")["trial"].unique().map(sorted).to_dict()
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
    curves = learning_curves(study.trials, study.epochs)
    assert curves.drop_duplicates("trial")["role"].tolist() == ["baseline:small-stem", "other"]


def test_ends_are_the_last_readings_of_what_is_not_complete(tmp_path: Path) -> None:
    study = tied(tmp_path)
    ends = curve_ends(learning_curves(study.trials, study.epochs))
    loss = ends[(ends["part"] == "validation") & (ends["quantity"] == "loss")]
    assert loss[["trial", "epoch"]].to_numpy().tolist() == [[4, 2], [5, 2], [7, 2]]
    assert loss["state"].tolist() == ["stopped", "running", "diverged"]
    np.testing.assert_array_equal(loss["value"], [0.1, 0.1, NAN])


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
    levels = factor_levels(study.trials, FACTORS[4])
    medians = level_medians(learning_curves(study.trials, study.epochs), levels)
    loss = medians[(medians["part"] == "validation") & (medians["quantity"] == "loss")]
    rows = loss[["level", "epoch", "median", "n", "trials", "whole"]].to_numpy().tolist()
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
def test_medians_equal_those_of_numpy(tmp_path: Path, factor: dict[str, object]) -> None:
    study = load_study(write_study(tmp_path, search_like()))
    levels = factor_levels(study.trials, factor)
    medians = level_medians(learning_curves(study.trials, study.epochs), levels)
    names = {"True": "yes", "False": "no"}
    for row in medians.to_dict("records"):
        values = study.trials[factor["name"]].astype(str).replace(names)
        members = study.trials.loc[values == row["level"], "trial"]
        prefix = {"training": "train", "validation": "validation"}[row["part"]]
        there = study.epochs[study.epochs["trial"].isin(members) & (study.epochs["epoch"] == row["epoch"])]
        found = there[f"{prefix}_{row['quantity']}"].dropna().to_numpy()
        assert row["median"] == pytest.approx(np.median(found))
        assert (row["n"], row["whole"]) == (len(found), len(found) == len(members))


def test_levels_keep_the_order_of_the_design_and_ranges_become_decades(tmp_path: Path) -> None:
    rates = [0.0001, 0.0003, 0.001, 0.00999, 0.01, 0.3, 0.5]
    study = load_study(write_study(tmp_path, [MadeTrial("running", [], config={"learning_rate": r}) for r in rates]))
    bins = factor_levels(study.trials, FACTORS[0])["level"]
    assert bins.cat.ordered
    assert list(bins.cat.categories) == ["0.0003–0.001", "0.001–0.01", "0.01–0.1", "0.1–0.3"]
    assert bins.cat.codes.tolist() == [0, 0, 1, 1, 2, 3, 3]
    pool = factor_levels(study.trials, {"name": "stem_maxpool", "levels": [True, False]})["level"]
    assert list(pool.cat.categories) == ["yes", "no"]
    assert set(pool) == {"yes"}
    outside = factor_levels(study.trials, {"name": "depth", "levels": [34, 10]})["level"]
    assert list(outside.cat.categories) == ["34", "10", "18"]
    narrow = factor_levels(study.trials, {"name": "momentum", "low": 0.6, "high": 0.9, "scale": "linear"})["level"]
    assert list(narrow.cat.categories) == ["0.6–0.7", "0.7–0.8", "0.8–0.9"]
    assert set(narrow) == {"0.8–0.9"}
    few = factor_levels(study.trials, {"name": "learning_rate", "low": 0.02, "high": 0.16, "scale": "log"})["level"]
    assert list(few.cat.categories) == ["0.02–0.04", "0.04–0.08", "0.08–0.16"]


def test_a_study_without_trials_gives_empty_tables(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, []))
    curves = learning_curves(study.trials, study.epochs)
    assert best_trials(study.trials, study.epochs).empty
    assert curves.empty
    assert curve_ends(curves).empty
    assert level_medians(curves, factor_levels(study.trials, FACTORS[0])).empty
