"""Reads study directories into typed tables."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trainables.config import EpochMetrics, TrialConfig, UsageError
from trainables.vocabulary import ArmRole, Outcome, SearchMode, Stage, TrialStatus

VERSIONS = (1, 2)
"""Of study.json: version 1 has no tune stage, no plan of the confirm stage, no margin and no test
images."""
COUNT = "count"  # an integer that may be missing
DTYPES: Mapping[Any, tuple[Any, str]] = {
    int: ("int64", "integers"),
    COUNT: ("Int64", "integers"),
    float: ("float64", "numbers"),
    bool: ("bool", "True, False"),
    str: ("str", "text"),
}
_CONFIG = {field.name: field.type for field in fields(TrialConfig)}
_READINGS = [field.name for field in fields(EpochMetrics) if field.name != "epoch"]
TRIAL_COLUMNS: Mapping[str, Any] = {
    "trial": int,
    "stage": tuple(Stage),
    "origin": str,
    "arm": str,
    "state": tuple(TrialStatus),
    "error": str,
    "epochs": COUNT,
    **_CONFIG,
    "parameters": COUNT,
    "forward_flops": COUNT,
    "precision": str,
    "node": str,
    "train_seconds": float,
}
EPOCH_COLUMNS: Mapping[str, Any] = {
    "trial": int,
    "epoch": int,
    **dict.fromkeys([*_READINGS, "wall_seconds"], float),
}
MANIFEST: Mapping[str, type] = {
    "name": str,
    "version": int,
    "design.factors": list,
    "design.baselines": dict,
    "dataset.name": str,
    "dataset.counts": dict,
    "dataset.classes": list,
    "settings.epochs": int,
    "settings.seed": int,
}
"""What the analysis needs of study.json, by dotted key."""
EARLIER: Mapping[str, Any] = {field.name: field.default for field in fields(TrialConfig)} | {
    "bn_statistics": "running"
}
"""A field that came later has the value that was the rule before."""
LATER_READINGS = dict.fromkeys(
    ["validation_balanced_accuracy", "test_balanced_accuracy", "wall_seconds"], np.nan
)
ROW = "one row per trial"


@dataclass(frozen=True, eq=False)
class Study:
    """One study directory. Equal only to itself, so that what is computed from it can be kept.

    Attributes:
        path: the directory.
        manifest: `study.json`.
        trials: one row per trial.
        epochs: one row per trial and epoch.
        correct: for each confirm trial (the index) whether it is right about each test image (the
        columns).
    """

    path: Path
    manifest: dict[str, Any]
    trials: pd.DataFrame
    epochs: pd.DataFrame
    correct: pd.DataFrame = field(default_factory=pd.DataFrame)


def load_study(path: str | Path) -> Study:
    """The study in the directory `path`, as far as it has got; what is half written is skipped.

    Raises:
        UsageError: the directory or one of its files is missing, damaged or of another version.
    """
    folder = Path(path).resolve()
    if not folder.is_dir():
        raise UsageError(f"study: invalid value {path}: expected a study directory")
    manifest = _read_manifest(folder / "study.json")
    # A factor of the design must be a column.
    factors = [factor["name"] for factor in manifest["design"]["factors"]]
    defaults = {name: value for name, value in EARLIER.items() if name not in factors}
    trials = _read_table(folder / "trials.csv", TRIAL_COLUMNS, defaults)
    epochs = _read_table(folder / "epochs.csv", EPOCH_COLUMNS, LATER_READINGS)
    twice = trials.loc[trials["trial"].duplicated(), "trial"]
    if len(twice):
        raise _damaged(folder / "trials.csv", f"two rows of trial {twice.iloc[0]}", ROW)
    # epochs.csv grows row by row, trials.csv is replaced every few seconds: a new trial's rows may
    # come first.
    epochs = epochs[epochs["trial"].isin(trials["trial"])].drop_duplicates(["trial", "epoch"])
    epochs = epochs.sort_values(["trial", "epoch"], ignore_index=True)
    correct = _read_correct(folder / "test_images.csv", trials["trial"])
    return Study(folder, manifest, trials, epochs, correct)


def load_studies(paths: Sequence[str | Path]) -> list[Study]:
    """Several studies of the same images, to be compared; their tables begin with the column
    `study`, its name.

    Raises:
        UsageError: one cannot be read, or two have one name or different images (by their
        fingerprint).
    """
    studies = {study.manifest["name"]: study for study in map(load_study, paths)}
    if len(studies) < len(paths):
        names = f"{len(paths)} studies named {', '.join(studies)}"
        raise UsageError(f"studies: invalid value {names}: expected different names")
    first, *others = studies.values()
    expected = first.manifest["dataset"].get("fingerprint")
    for study in others:
        fingerprint = study.manifest["dataset"].get("fingerprint")
        if fingerprint != expected or expected is None:
            same = f"the images of {first.path}, {expected}"
            raise _invalid(study.path, "data set", fingerprint, same)
    for name, study in studies.items():
        for table in (study.trials, study.epochs):
            table.insert(0, "study", pd.Series(pd.Categorical([name] * len(table)), table.index))
    return list(studies.values())


def read_confusion(folder: Path) -> pd.DataFrame | None:
    """The confusion matrix of the chosen model, images by true class (rows) and predicted class;
    None before it.

    Raises:
        UsageError: it is damaged.
    """
    path = folder / "best" / "confusion_matrix.csv"
    if not path.exists():
        return None
    try:
        # A class may be called 01, NA or `true class`: nothing is converted, no row is a header.
        cells = pd.read_csv(path, header=None, dtype=str, keep_default_na=False)
        classes = cells.iloc[0, 1:].tolist()
        if not classes or cells.iloc[1:, 0].tolist() != classes:
            raise ValueError("rows and columns are not the same classes")
        names = pd.Index(classes, name="true class")
        return pd.DataFrame(cells.iloc[1:, 1:].astype("int64").to_numpy(), names, classes)
    except (ValueError, OSError) as error:
        raise _damaged(path, error, "one row and one column per class") from None


def read_predictions(folder: Path) -> pd.DataFrame | None:
    """What the chosen model predicts of each test image; None where it has not read them.

    Returns:
        image: its place in the test part (the index).
        true class, predicted class: their names.
        probability: of the predicted class, 0 to 1.

    Raises:
        UsageError: it is damaged.
    """
    path = folder / "best" / "predictions.csv"
    if not path.exists():
        return None
    try:
        # A class may be called 01 or NA.
        table = pd.read_csv(path, dtype=str, keep_default_na=False).set_index("image")
        table.index = table.index.astype("int64")
        table = table[["true class", "predicted class", "probability"]]
        return table.astype({"probability": "float64"})
    except (ValueError, KeyError, OSError) as error:
        raise _damaged(path, error, "one row per test image") from None


def _invalid(path: Path, name: str, value: object, expected: str) -> UsageError:
    """The error of a value in a file."""
    return UsageError(f"{path}: invalid {name} {value!r:.80}: expected {expected}")


def _damaged(path: Path, reason: object, expected: str) -> UsageError:
    """The error of a file that cannot be read."""
    return UsageError(f"{path}: damaged ({' '.join(str(reason).split())}): expected {expected}")


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        expected = "a study directory, which has study.json, trials.csv and epochs.csv"
        raise UsageError(f"{path}: {str(error.strerror).lower()}: expected {expected}") from None


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(_read_bytes(path))
    except ValueError as error:
        raise _damaged(path, f"not JSON: {error}", "the study.json of a study") from None
    for name, kind in MANIFEST.items():
        value = manifest
        for key in name.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, kind):
            raise _invalid(path, name, value, f"what the study wrote ({kind.__name__})")
    if manifest["version"] not in VERSIONS:
        raise _invalid(path, "version", manifest["version"], ", ".join(map(str, VERSIONS)))
    _check_design(path, manifest["design"])
    _check_plan(path, manifest.get("confirm"))
    return dict(manifest)


def _check_design(path: Path, design: Mapping[str, Any]) -> None:
    margin = design.get("margin", 0.01)
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 < margin < 1:
        raise _invalid(path, "margin", margin, "a number between 0 and 1")
    modes: Mapping[str, type[StrEnum]] = {"search": SearchMode, "outcome": Outcome}
    for name, kind in modes.items():
        if name in design and design[name] not in list(kind):
            raise _invalid(path, name, design[name], ", ".join(kind))
    for factor in design["factors"]:
        known = isinstance(factor, dict) and factor.get("name") in _CONFIG
        if not known or not ("levels" in factor or {"low", "high", "scale"} <= factor.keys()):
            expected = "a field of a trial with levels, or with low, high and scale"
            raise _invalid(path, "factor", factor, expected)


def _check_plan(path: Path, plan: Any) -> None:
    """Refuses a plan of the confirm stage that is not as the study writes it; there may be none
    yet."""
    if plan is None:
        return
    lists = [plan.get(name) for name in ("factors", "arms")] if isinstance(plan, dict) else [None]
    if not all(_is_list_of_objects(each) for each in lists):
        raise _invalid(path, "confirm", plan, "an object with the lists factors and arms")
    names = _CONFIG.keys() - {"seed"}
    for factor in plan["factors"]:
        if factor.get("factor") not in names or not {"from", "to"} <= factor.keys():
            raise _invalid(path, "confirm factor", factor, "a field of a trial with from and to")
    for arm in plan["arms"]:
        role, config, factor = (arm.get(name) for name in ("role", "config", "factor"))
        if role not in list(ArmRole):
            raise _invalid(path, "role of an arm", role, ", ".join(ArmRole))
        if not isinstance(config, dict) or not config.keys() <= names:
            raise _invalid(path, "config of an arm", config, "fields of a trial but seed")
        if role == ArmRole.ALONE and factor not in names:
            raise _invalid(path, "factor of an arm", factor, "a field of a trial")


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _read_correct(path: Path, trials: pd.Series) -> pd.DataFrame:
    """Which test images each of the `trials` in the file is right about; empty where there is no
    file."""
    if not path.exists():
        return pd.DataFrame()
    table = _read_table(path, {"trial": int, "correct": str}, {}).set_index("trial")["correct"]
    table = table[table.index.isin(trials)]
    if table.index.has_duplicates:
        raise _damaged(path, "two rows of a trial", ROW)
    flags = table.str.fullmatch("[01]+").fillna(False)
    bad = table[~flags | (table.str.len() != table.str.len().median())]
    if len(bad):
        raise _invalid(path, "row", bad.iloc[0], "a 0 or 1 for each test image")
    bits = np.array([np.frombuffer(text.encode(), np.uint8) == ord("1") for text in table], bool)
    return pd.DataFrame(bits, table.index) if len(table) else pd.DataFrame()


def _read_table(
    path: Path, columns: Mapping[str, Any], defaults: Mapping[str, Any]
) -> pd.DataFrame:
    """The columns in their dtypes and all others; those of `defaults` may be missing."""
    content = _read_bytes(path)
    # A line without its end is half written.
    written = content[: content.rfind(b"\n") + 1] or (",".join(columns) + "\n").encode()
    text = {name: str for name, kind in columns.items() if kind not in (int, COUNT, float)}
    missing: dict[str, Any] = {"keep_default_na": False, "na_values": ["", "nan"]}
    try:
        table: pd.DataFrame = pd.read_csv(
            io.BytesIO(written), dtype=text, low_memory=False, **missing
        )
        if not isinstance(table.index, pd.RangeIndex):
            raise ValueError("line 2 has more fields than the header")
    except ValueError as error:
        raise _damaged(path, error, "one row per line") from None
    absent = [name for name in columns if name not in table and name not in defaults]
    if absent:
        raise _damaged(path, f"no column {', '.join(absent)}", ", ".join(columns))
    typed = {}
    for name, kind in columns.items():
        read = table[name] if name in table else pd.Series(defaults[name], table.index)
        typed[name] = _typed(path, name, read, kind)
    return table.assign(**typed)


def _typed(path: Path, name: str, read: pd.Series, kind: Any) -> pd.Series:
    """The column in the dtype of `kind`; only counts, floats and text may be missing."""
    dtype, expected = DTYPES.get(kind) or (pd.CategoricalDtype(kind), ", ".join(kind))
    values: pd.Series = read
    if kind is bool:
        values = read.astype("str").map({"True": True, "False": False})
    elif kind in (int, COUNT, float):
        values = pd.to_numeric(read, errors="coerce")
        if kind is not float:
            values = values.where((values % 1 == 0) & (values.abs() < 2**53))
    elif kind is not str:
        values = read.where(read.isin(kind))
    bad = values.isna() & (read.notna() | (kind not in (COUNT, float, str)))
    if bad.any():
        raise _invalid(path, name, str(read[bad].iloc[0]), expected)
    return values.astype(dtype)
