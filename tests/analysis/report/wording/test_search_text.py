"""What a study says of its search."""

from pathlib import Path

from synthetic import FACTORS, MadeTrial, falling, write_study

from analysis import load_study
from analysis.report.search_findings import level_range
from analysis.report.wording.search_text import headline, level_finding, role_labels
from analysis.statistics.curves import factor_levels, learning_curves, level_curves, results


def test_headline_names_the_winner_and_the_best_baseline(tmp_path: Path) -> None:
    made = [
        MadeTrial("complete", falling(2, accuracy=0.9), "baseline:imagenet-stem"),
        MadeTrial("complete", falling(2, accuracy=0.92), "baseline:small-stem"),
        MadeTrial("complete", falling(2, accuracy=0.96), config={"depth": 34}),
    ]
    study = load_study(write_study(tmp_path, made))
    assert headline(study) == (
        "Trial 2 (k7 s2 pool d34, learning rate 0.01) is best: 98.0% validation accuracy after "
        "2 epochs, best baseline small-stem 96.0%"
    )
    assert list(role_labels(study)) == [
        "winner",
        "baseline:imagenet-stem",
        "baseline:small-stem",
    ]
    study = load_study(write_study(tmp_path, made[:2]))
    assert headline(study) == (
        "Baseline small-stem (k7 s2 pool d18, learning rate 0.01) is best: 96.0% validation "
        "accuracy after 2 epochs"
    )
    assert role_labels(study)["baseline:small-stem"] == "best: baseline small-stem, lr 0.01: 96.0%"


def test_a_factor_without_a_shared_epoch_gets_no_finding(tmp_path: Path) -> None:
    made = [
        MadeTrial("complete", falling(3, accuracy=0.4), config={"depth": 10}),
        MadeTrial("complete", falling(3, accuracy=0.7), config={"depth": 34}),
        MadeTrial("stopped", falling(2, accuracy=0.5), config={"depth": 34}),
    ]
    study = load_study(write_study(tmp_path, made))
    table = results(study.trials, study.epochs)
    curves, levels = (learning_curves(table, study.epochs), factor_levels(table, FACTORS[4]))
    assert level_finding(level_range(level_curves(curves, levels), 10), "depth") == (
        "After epoch 2, the last that all trials reached, median validation accuracy by depth "
        "runs from 70.0% (10) to 80.0% (34)"
    )
    waiting = load_study(
        write_study(tmp_path, [*made, MadeTrial("running", [], config={"depth": 10})])
    )
    levels = factor_levels(results(waiting.trials, waiting.epochs), FACTORS[4])
    assert (
        level_finding(level_range(level_curves(curves, levels), 10), "depth")
        == "Learning curves by depth"
    )
