"""Reading a study directory: types, half-written files, and one clear line for each damage."""

import json
import math
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from synthetic import MadeTrial, falling, manifest, search_like, write_study

from analysis import load_studies, load_study
from analysis.load import read_confusion
from trainables.config import TrialConfig, UsageError


def test_columns_have_their_types_and_values(tmp_path: Path) -> None:
    made = [
        MadeTrial(
            "complete",
            falling(3),
            "baseline:small-stem",
            {"stem_maxpool": False, "learning_rate": 0.125},
        ),
        MadeTrial("failed", [], error='RuntimeError: "a", b'),
    ]
    study = load_study(write_study(tmp_path / "s", made, name="s"))
    assert study.path == tmp_path / "s"
    assert study.manifest == manifest("s")
    trials = study.trials
    assert trials["stem_maxpool"].dtype == bool
    assert trials["stem_maxpool"].tolist() == [False, True]
    assert trials["depth"].dtype == "int64"
    assert trials["epochs"].dtype == "Int64"
    assert trials["learning_rate"].tolist() == [0.125, TrialConfig().learning_rate]
    assert list(trials["state"].cat.categories) == [
        "running",
        "complete",
        "stopped",
        "diverged",
        "failed",
    ]
    assert list(trials["stage"].cat.categories) == ["search", "tune", "confirm"]
    assert study.correct.empty
    assert trials["error"].tolist()[1] == 'RuntimeError: "a", b'
    assert pd.isna(trials["error"][0])
    assert study.epochs[["trial", "epoch"]].to_numpy().tolist() == [[0, 1], [0, 2], [0, 3]]
    assert study.epochs["validation_loss"].tolist() == [1.0, 0.5, 1 / 3]
    assert study.epochs["test_loss"].isna().all()
    assert study.epochs["test_loss"].dtype == "float64"


def test_numbers_are_read_as_they_were_written_to_the_last_bit(tmp_path: Path) -> None:
    # An arm's learning rate in study.json finds its trials in trials.csv: 0.01 / 3, say.
    draw = random.Random(0)
    rates = [0.01 / 3, *(10 ** draw.uniform(-4, 0) for _ in range(99))]
    made = [MadeTrial("complete", falling(1), config={"learning_rate": rate}) for rate in rates]
    study = load_study(write_study(tmp_path, made))
    assert study.trials["learning_rate"].tolist() == rates


def test_missing_counts_and_losses_stay_missing(tmp_path: Path) -> None:
    folder = write_study(tmp_path, [MadeTrial("diverged", [(math.nan, 0.1, math.nan, 0.1)])])
    table = pd.read_csv(folder / "trials.csv")
    table[["epochs", "parameters", "train_seconds"]] = None
    table.to_csv(folder / "trials.csv", index=False)
    study = load_study(folder)
    assert study.trials[["epochs", "parameters", "train_seconds"]].isna().all(axis=None)
    assert study.trials["parameters"].dtype == "Int64"
    assert study.epochs["train_loss"].isna().all()
    assert study.epochs["train_accuracy"].tolist() == [0.1]


def test_a_study_without_trials_or_even_headers_is_read(tmp_path: Path) -> None:
    folder = write_study(tmp_path, [])
    assert load_study(folder).trials.empty
    (folder / "epochs.csv").write_text("trial,epo")
    study = load_study(folder)
    assert study.epochs.empty
    assert study.epochs["epoch"].dtype == "int64"


def test_a_half_written_last_line_is_dropped(tmp_path: Path) -> None:
    folder = write_study(tmp_path, [MadeTrial("running", falling(3))])
    text = (folder / "epochs.csv").read_text()
    for cut in (1, 2, 30):
        (folder / "epochs.csv").write_text(text[:-cut])
        assert load_study(folder).epochs["epoch"].tolist() == [1, 2]


def test_rows_of_trials_not_yet_in_the_table_and_repeated_rows_are_skipped(tmp_path: Path) -> None:
    folder = write_study(
        tmp_path, [MadeTrial("running", falling(2)), MadeTrial("running", falling(1))]
    )
    lines = (folder / "trials.csv").read_text().splitlines(keepends=True)
    (folder / "trials.csv").write_text("".join(lines[:2]))
    repeated = (folder / "epochs.csv").read_text().splitlines(keepends=True)
    again = repeated[1].replace("1.0", "9.0")
    (folder / "epochs.csv").write_text("".join([*repeated, again]))
    epochs = load_study(folder).epochs
    assert epochs["trial"].tolist() == [0, 0]
    assert epochs["validation_loss"].tolist() == [1.0, 0.5]


def _edit_manifest(**changes: object) -> Callable[[Path], object]:
    return lambda folder: (folder / "study.json").write_text(json.dumps(manifest() | changes))


def _edit(name: str, old: str, new: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(
        (folder / name).read_text().replace(old, new, 1)
    )


def _plan(**arm: object) -> dict[str, object]:
    return {"factors": [], "arms": [{"role": "winner", "config": {"depth": 34}, **arm}]}


def _images(*rows: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "test_images.csv").write_text(
        "\n".join(["trial,correct", *rows, ""])
    )


def _repeat_last_line(folder: Path) -> None:
    text = (folder / "trials.csv").read_text()
    (folder / "trials.csv").write_text(text + text.splitlines()[-1] + "\n")


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda folder: (folder / "study.json").unlink(), "study.json: no such file"),
    "no trials": (lambda folder: (folder / "trials.csv").unlink(), "trials.csv: no such file"),
    "no epochs": (lambda folder: (folder / "epochs.csv").unlink(), "epochs.csv: no such file"),
    "torn manifest": (
        lambda folder: (folder / "study.json").write_text('{"name": '),
        "study.json: damaged (not JSON: ",
    ),
    "list": (
        lambda folder: (folder / "study.json").write_text("[1]"),
        "study.json: invalid name None: expected what the study wrote (str)",
    ),
    "binary": (
        lambda folder: (folder / "trials.csv").write_bytes(b"\xff\xfe\x00\n"),
        "trials.csv: damaged",
    ),
    "version": (_edit_manifest(version=3), "study.json: invalid version 3: expected 1, 2"),
    "margin": (
        _edit_manifest(design=manifest()["design"] | {"margin": 1.0}),
        "invalid margin 1.0: expected a number",
    ),
    "search": (
        _edit_manifest(design=manifest()["design"] | {"search": "best"}),
        "invalid search 'best': expected sampled, factorial, none",
    ),
    "outcome": (
        _edit_manifest(design=manifest()["design"] | {"outcome": "loss"}),
        "invalid outcome 'loss': expected test_accuracy, train_accuracy",
    ),
    "plan": (
        _edit_manifest(confirm=[]),
        "invalid confirm []: expected an object with the lists factors and arms",
    ),
    "plan lists": (
        _edit_manifest(confirm={"factors": [], "arms": {}}),
        "invalid confirm {'factors': [], 'arms': {}}",
    ),
    "change": (
        _edit_manifest(confirm={"factors": [{"factor": "depth"}], "arms": []}),
        "invalid confirm factor {'fac",
    ),
    "role": (
        _edit_manifest(confirm=_plan(role="best")),
        "invalid role of an arm 'best': expected winner, fraction",
    ),
    "config": (
        _edit_manifest(confirm=_plan(config={"seed": 1})),
        "invalid config of an arm {'seed': 1}: expected ",
    ),
    "alone": (
        _edit_manifest(confirm=_plan(role="alone", factor="x")),
        "invalid factor of an arm 'x': expected a field",
    ),
    "bits": (
        _images("0,01", "1,02"),
        "test_images.csv: invalid row '02': expected a 0 or 1 for each test image",
    ),
    "bits missing": (_images("0,01", "1,"), "test_images.csv: invalid row nan"),
    "bits short": (_images("0,011", "1,010", "2,01"), "test_images.csv: invalid row '01'"),
    "bits twice": (_images("0,01", "0,01"), "test_images.csv: damaged (two rows of a trial)"),
    "bits of none": (
        _images("x,01"),
        "test_images.csv: invalid trial 'x': expected integers",
    ),
    "design": (
        _edit_manifest(design="search"),
        "invalid design.factors None: expected what the study wrote (list)",
    ),
    "factor": (
        _edit_manifest(design={"factors": [{"name": "x"}], "baselines": {}}),
        "invalid factor {'name': 'x'}",
    ),
    "levels": (
        _edit_manifest(design={"factors": [{"name": "depth"}], "baselines": {}}),
        "with levels, or with low",
    ),
    "column": (
        _edit("trials.csv", "stem_kernel", "kernel"),
        "trials.csv: damaged (no column stem_kernel)",
    ),
    "state": (
        _edit("trials.csv", "complete", "finished"),
        "invalid state 'finished': expected running",
    ),
    "bool": (
        _edit("trials.csv", "True", "maybe"),
        "invalid stem_maxpool 'maybe': expected True, False",
    ),
    "number": (
        _edit("epochs.csv", "1.0", "1.0.0"),
        "invalid validation_loss '1.0.0': expected numbers",
    ),
    "fraction": (
        _edit("epochs.csv", "0,1,", "0,1.5,"),
        "invalid epoch '1.5': expected integers",
    ),
    "fields": (_edit("epochs.csv", "0.5\n0,2", "0.5\n0,2,7,7"), "epochs.csv: damaged"),
    "first row": (_edit("epochs.csv", "0,1,", "0,1,7,"), "epochs.csv: damaged"),
    "twice": (
        _repeat_last_line,
        "trials.csv: damaged (two rows of trial 2): expected one row per trial",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_in_one_line(tmp_path: Path, damage: str) -> None:
    folder = write_study(tmp_path, [MadeTrial("complete", falling(3))] * 3)
    spoil, message = DAMAGE[damage]
    spoil(folder)
    with pytest.raises(UsageError) as caught:
        load_study(folder)
    assert message in str(caught.value)
    assert "expected" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_test_images_that_a_trial_is_right_about_are_a_row_of_flags(tmp_path: Path) -> None:
    made = [
        MadeTrial("complete", falling(1), stage="confirm", correct=bits)
        for bits in ([0, 1, 1], [1, 0, 1], [])
    ]
    folder = write_study(tmp_path, [MadeTrial("complete", falling(1)), *made])
    correct = load_study(folder).correct
    assert correct.index.tolist() == [1, 2]
    assert correct.to_numpy().tolist() == [[False, True, True], [True, False, True]]
    text = (folder / "test_images.csv").read_text()
    (folder / "test_images.csv").write_text(
        text + "9,000\n3,1"
    )  # of a trial that is not there yet, and half written
    assert load_study(folder).correct.equals(correct)


def test_plans_of_both_versions_are_read(tmp_path: Path) -> None:
    for version, plan in (
        (1, None),
        (2, None),
        (2, _plan()),
        (2, _plan(role="alone", factor="depth")),
    ):
        folder = write_study(tmp_path / f"{version}{plan}"[:9], [], version=version, confirm=plan)
        assert load_study(folder).manifest["confirm"] == plan


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"study: invalid value .*nowhere"):
        load_study(tmp_path / "nowhere")


def test_importing_analysis_loads_no_heavy_library() -> None:
    heavy = "torch ray optuna sklearn matplotlib jinja2"
    code = (
        f"import sys, analysis; print([name for name in '{heavy}'.split() if name in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "[]\n"
    )


def test_a_search_as_the_driver_leaves_it_is_read_completely(tmp_path: Path) -> None:
    made = search_like()
    study = load_study(write_study(tmp_path, made))
    assert len(study.trials) == 20
    assert len(study.epochs) == sum(len(trial.readings) for trial in made)


def test_columns_of_later_and_of_earlier_versions(tmp_path: Path) -> None:
    folder = write_study(tmp_path, [MadeTrial("complete", falling(2))])
    trials, epochs = (pd.read_csv(folder / name) for name in ("trials.csv", "epochs.csv"))
    trials.drop(columns=["nesterov", "bn_statistics"]).assign(later="x").to_csv(
        folder / "trials.csv", index=False
    )
    epochs.assign(note="odd").to_csv(folder / "epochs.csv", index=False)
    study = load_study(folder)
    assert study.trials["nesterov"].tolist() == [TrialConfig().nesterov]
    assert study.trials["nesterov"].dtype == bool
    assert study.trials["bn_statistics"].tolist() == [
        "running"
    ]  # the rule before there was the field
    assert study.trials["later"].tolist() == ["x"]
    assert study.epochs["note"].tolist() == ["odd", "odd"]


def test_studies_of_the_same_images_load_together(tmp_path: Path) -> None:
    folders = [
        write_study(tmp_path / name, search_like(4, 2), name=name) for name in ("one", "two")
    ]
    studies = load_studies(folders)
    trials = pd.concat([study.trials for study in studies])
    assert trials.groupby("study", observed=True).size().to_dict() == {"one": 4, "two": 4}
    assert [set(study.epochs["study"]) for study in studies] == [{"one"}, {"two"}]


def test_studies_of_different_images_or_of_one_name_are_not_compared(tmp_path: Path) -> None:
    one, two = (write_study(tmp_path / name, [], name=name) for name in ("one", "two"))
    same = write_study(tmp_path / "same", [], name="one")
    other = write_study(
        tmp_path / "other", [], name="other", dataset=manifest()["dataset"] | {"fingerprint": "cd"}
    )
    with pytest.raises(
        UsageError, match=r"other: invalid data set 'cd': expected the images of .*one, sha256:ab"
    ):
        load_studies([one, two, other])
    with pytest.raises(
        UsageError, match="studies: invalid value 2 studies named one: expected different names"
    ):
        load_studies([one, same])


def test_the_confusion_matrix_keeps_the_names_of_classes(tmp_path: Path) -> None:
    assert read_confusion(tmp_path) is None
    (tmp_path / "best").mkdir()
    path = tmp_path / "best" / "confusion_matrix.csv"
    path.write_text("true class,0,01\n0,3,1\n01,0,5\n")
    table = read_confusion(tmp_path)
    assert table is not None
    assert list(table.columns) == list(table.index) == ["0", "01"]
    assert table.loc["0", "01"] == 1
    for damage in ("", "true class,a,b\na,1,2\n", "true class,a\na,x\n"):
        path.write_text(damage)
        with pytest.raises(UsageError, match=r"confusion_matrix\.csv: damaged"):
            read_confusion(tmp_path)
