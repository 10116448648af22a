"""Reads study directories into typed tables."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trainables.config import EpochMetrics, TrialConfig, UsageError
from trainables.vocabulary import ArmRole, Stage, TrialStatus

VERSIONS = (1, 2)
"""Of study.json: version 1 has no tune stage, no plan of the confirm stage, no margin and no test
images."""
COUNT = "count"  # a whole number that may be missing
DTYPES: Mapping[Any, tuple[Any, str]] = {
    int: ("int64", "whole numbers"),
    COUNT: ("Int64", "whole numbers"),
    float: ("float64", "numbers"),
    bool: ("bool", "True, False"),
    str: ("str", "text"),
}

TRIAL_COLUMNS: Mapping[str, Any] = (
    {
        "trial": int,
        "stage": tuple(Stage),
        "origin": str,
        "arm": str,
        "state": tuple(TrialStatus),
        "error": str,
        "epochs": COUNT,
    }
    | {field.name: field.type for field in fields(TrialConfig)}
    | {
        "parameters": COUNT,
        "forward_flops": COUNT,
        "precision": str,
        "node": str,
        "train_seconds": float,
    }
)
EPOCH_COLUMNS: Mapping[str, Any] = {"trial": int, "epoch": int} | {
    field.name: float for field in fields(EpochMetrics) if field.name != "epoch"
}
MANIFEST: Mapping[str, type] = {
    **{
        "name": str,
        "version": int,
        "design.factors": list,
        "design.baselines": dict,
        "dataset.name": str,
    },
    **{
        "dataset.counts": dict,
        "dataset.classes": list,
        "settings.epochs": int,
        "settings.seed": int,
    },
}
"""What the analysis needs of study.json, by dotted key."""


@dataclass(frozen=True, eq=False)
class Study:
    """One study directory. Equal only to itself, so that what is computed from it can be kept.

    Attributes:
        path: the directory.
        manifest: `study.json`.
        trials: a row for each trial.
        epochs: a row for each trial and epoch.
        correct: for each confirm trial (the index) whether it is right about each test image (the
        columns).
    """

    path: Path
    manifest: dict[str, Any]
    trials: pd.DataFrame
    epochs: pd.DataFrame
    correct: pd.DataFrame = field(default_factory=pd.DataFrame)


def load_study(path: str | Path) -> Study:
    """The study in the directory `path`, as far as it has got; what is half written is left out.

    Raises:
        UsageError: the directory or one of its files is missing, damaged or of another version.
    """
    folder = Path(path).resolve()
    if not folder.is_dir():
        raise UsageError(
            f"study: invalid value {path}, which is no directory: expected a study directory"
        )
    manifest = _read_manifest(folder / "study.json")
    factors = [factor["name"] for factor in manifest["design"]["factors"]]
    # A field that came later has the default that was the rule before; a factor of the design must
    # be there.
    rules = {field.name: field.default for field in fields(TrialConfig)} | {
        "bn_statistics": "running"
    }
    defaults = {name: value for name, value in rules.items() if name not in factors}
    trials = _read_table(folder / "trials.csv", TRIAL_COLUMNS, defaults)
    epochs = _read_table(folder / "epochs.csv", EPOCH_COLUMNS, {})
    if trials["trial"].duplicated().any():
        twice = trials.loc[trials["trial"].duplicated(), "trial"].iloc[0]
        raise UsageError(
            f"{folder / 'trials.csv'}: trial {twice} is there twice: expected one row a trial"
        )
    # epochs.csv grows row by row, trials.csv is replaced every few seconds: a new trial's rows may
    # come first.
    epochs = epochs[epochs["trial"].isin(trials["trial"])].drop_duplicates(["trial", "epoch"])
    epochs = epochs.sort_values(["trial", "epoch"], ignore_index=True)
    return Study(
        folder, manifest, trials, epochs, _read_correct(folder / "test_images.csv", trials["trial"])
    )


def load_studies(paths: Sequence[str | Path]) -> list[Study]:
    """Several studies of the same images, to be compared; their tables begin with the column
    `study`, its name.

    Raises:
        UsageError: one cannot be read, or two have one name or unlike images (by their
        fingerprint).
    """
    studies = {study.manifest["name"]: study for study in map(load_study, paths)}
    if len(studies) < len(paths):
        raise UsageError(
            f"studies: invalid value {len(paths)} named {', '.join(studies)}: expected studies of unlike names"
        )
    first, *others = studies.values()
    for study in others:
        prints = [each.manifest["dataset"].get("fingerprint") for each in (study, first)]
        if prints[0] != prints[1] or None in prints:
            raise UsageError(
                f"{study.path}: invalid value images {prints[0]}: expected those of {first.path}, {prints[1]}"
            )
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
        raise UsageError(
            f"{path}: damaged ({error}): expected a row and a column a class"
        ) from None


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        needed = "a study directory, which has study.json, trials.csv and epochs.csv"
        raise UsageError(f"{path}: {str(error.strerror).lower()}: expected {needed}") from None


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(_read_bytes(path))
    except ValueError as error:
        raise UsageError(
            f"{path}: not JSON ({error}): expected the study.json of a study"
        ) from None
    for name, kind in MANIFEST.items():
        value = manifest
        for key in name.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, kind):
            raise UsageError(
                f"{path}: {name} is {value!r}: expected what the study wrote ({kind.__name__})"
            )
    if manifest["version"] not in VERSIONS:
        raise UsageError(
            f"{path}: invalid value version {manifest['version']}: expected {', '.join(map(str, VERSIONS))}"
        )
    margin = manifest["design"].get("margin", 0.01)
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 < margin < 1:
        raise UsageError(
            f"{path}: invalid value margin {margin!r}: expected a number between 0 and 1"
        )
    _check_plan(path, manifest.get("confirm"))
    names, ranged = {field.name for field in fields(TrialConfig)}, {"low", "high", "scale"}
    for factor in manifest["design"]["factors"]:
        known = isinstance(factor, dict) and factor.get("name") in names
        if not known or not ("levels" in factor or ranged <= factor.keys()):
            expected = "a field of a trial with levels, or with low, high and scale"
            raise UsageError(f"{path}: invalid value factor {factor!r}: expected {expected}")
    return dict(manifest)


def _check_plan(path: Path, plan: Any) -> None:
    """Refuses a plan of the confirm stage that is not as the study writes it; there may be none
    yet."""
    if plan is None:
        return
    lists = [plan.get(name) for name in ("factors", "arms")] if isinstance(plan, dict) else [None]
    if not all(
        isinstance(each, list) and all(isinstance(one, dict) for one in each) for each in lists
    ):
        raise UsageError(
            f"{path}: invalid value confirm {plan!r:.80}: expected an object with the lists factors and arms"
        )
    names = {field.name for field in fields(TrialConfig)} - {"seed"}
    for factor in plan["factors"]:
        if factor.get("factor") not in names or not {"from", "to"} <= factor.keys():
            raise UsageError(
                f"{path}: invalid value confirm factor {factor!r}: expected a field of a trial with from and to"
            )
    for arm in plan["arms"]:
        if arm.get("role") not in list(ArmRole):
            raise UsageError(
                f"{path}: invalid value role {arm.get('role')!r} of an arm: expected {', '.join(ArmRole)}"
            )
        config = arm.get("config")
        if not isinstance(config, dict) or not config.keys() <= names:
            raise UsageError(
                f"{path}: invalid value config {config!r:.80} of an arm: expected fields of a trial but seed"
            )
        if arm["role"] == ArmRole.ALONE and arm.get("factor") not in names:
            raise UsageError(
                f"{path}: invalid value factor {arm.get('factor')!r} of an arm: expected a field of a trial"
            )


def _read_correct(path: Path, trials: pd.Series) -> pd.DataFrame:
    """Which test images each of the `trials` in the file is right about; empty where there is no
    file."""
    if not path.exists():
        return pd.DataFrame()
    table = _read_table(path, {"trial": int, "correct": str}, {}).set_index("trial")["correct"]
    table = table[table.index.isin(trials)]
    bad = table[
        ~table.str.fullmatch("[01]+").fillna(False) | (table.str.len() != table.str.len().median())
    ]
    if len(bad) or table.index.has_duplicates:
        received = f"{bad.iloc[0]!r:.40}" if len(bad) else "a trial twice"
        raise UsageError(
            f"{path}: invalid value {received}: expected a row a trial with a 0 or 1 for each test image"
        )
    bits = np.array([np.frombuffer(text.encode(), np.uint8) == ord("1") for text in table], bool)
    return pd.DataFrame(bits, table.index) if len(table) else pd.DataFrame()


def _read_table(
    path: Path, columns: Mapping[str, Any], defaults: Mapping[str, Any]
) -> pd.DataFrame:
    """The columns in their dtypes and whatever else is there; those of `defaults` may be missing."""
    content = _read_bytes(path)
    # A line without its end is half written.
    written = content[: content.rfind(b"\n") + 1] or (",".join(columns) + "\n").encode()
    text = {name: str for name, kind in columns.items() if kind not in (int, COUNT, float)}
    options: dict[str, Any] = {
        "keep_default_na": False,
        "na_values": ["", "nan"],
        "low_memory": False,
    }
    try:
        table: pd.DataFrame = pd.read_csv(io.BytesIO(written), dtype=text, **options)
        if not isinstance(table.index, pd.RangeIndex):
            raise ValueError("line 2 has more fields than the header")
    except ValueError as error:
        raise UsageError(
            f"{path}: damaged ({' '.join(str(error).split())}): expected one row a line"
        ) from None
    if missing := [name for name in columns if name not in table and name not in defaults]:
        raise UsageError(
            f"{path}: has no column {', '.join(missing)}: expected all of {', '.join(columns)}"
        )
    found = {
        name: table[name] if name in table else pd.Series(defaults[name], table.index)
        for name in columns
    }
    return table.assign(
        **{name: _typed(path, name, found[name], kind) for name, kind in columns.items()}
    )


def _typed(path: Path, name: str, read: pd.Series, kind: Any) -> pd.Series:
    """The column in the dtype that `kind` stands for; only counts, floats and text may be missing."""
    dtype, expected = DTYPES.get(kind) or (pd.CategoricalDtype(kind), ", ".join(kind))
    values: pd.Series = read
    if kind is bool:
        values = read.astype("str").map({"True": True, "False": False})
    elif kind in (int, COUNT, float):
        values = pd.to_numeric(read, errors="coerce")
        values = (
            values if kind is float else values.where((values % 1 == 0) & (values.abs() < 2**53))
        )
    elif kind is not str:
        values = read.where(read.isin(kind))
    bad = values.isna() & (read.notna() | (kind not in (COUNT, float, str)))
    if bad.any():
        raise UsageError(
            f"{path}: column {name}: invalid value {str(read[bad].iloc[0])!r}: expected {expected}"
        )
    return values.astype(dtype)
