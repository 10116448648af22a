"""Reads study directories into typed tables."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from trainables.config import TrialConfig, UsageError

VERSION = 1
STATES = ("running", "complete", "stopped", "diverged", "failed")
STAGES = ("search", "confirm")
COUNT = "count"  # a whole number that may be missing

TRIAL_COLUMNS: Mapping[str, Any] = (
    {"trial": int, "stage": STAGES, "origin": str, "arm": str, "state": STATES, "error": str, "epochs": COUNT}
    | {field.name: field.type for field in fields(TrialConfig)}
    | {"parameters": COUNT, "forward_flops": COUNT, "precision": str, "node": str, "train_seconds": float}
)
EPOCH_COLUMNS: Mapping[str, Any] = (
    {"trial": int, "epoch": int, "learning_rate": float}
    | {f"{part}_{quantity}": float for part in ("train", "validation", "test") for quantity in ("loss", "accuracy")}
    | {"train_seconds": float, "eval_seconds": float}
)
MANIFEST: Mapping[str, type] = {
    "name": str,
    "version": int,
    "design.factors": list,
    "design.baselines": dict,
    "dataset.name": str,
} | {"dataset.counts": dict, "dataset.classes": list, "settings.epochs": int, "settings.seed": int}
"""What the analysis needs of study.json, by dotted key."""


@dataclass(frozen=True, eq=False)
class Study:
    """One study directory: where it is, its manifest (`study.json`), a row a trial, a row a trial and epoch.

    Equal only to itself, so that what is computed from it can be kept.
    """

    path: Path
    manifest: dict[str, Any]
    trials: pd.DataFrame
    epochs: pd.DataFrame


def load_study(path: str | Path) -> Study:
    """The study in the directory `path`, as far as it has got; what is half written is left out.

    Raises:
        UsageError: the directory or one of its files is missing, damaged or of another version.
    """
    folder = Path(path).resolve()
    if not folder.is_dir():
        raise UsageError(f"study: received {path}, which is no directory, allowed: a study directory")
    manifest = _read_manifest(folder / "study.json")
    factors = [factor["name"] for factor in manifest["design"]["factors"]]
    # A field that came later has the default that was the rule before; a factor of the design must be there.
    defaults = {field.name: field.default for field in fields(TrialConfig) if field.name not in factors}
    trials = _read_table(folder / "trials.csv", TRIAL_COLUMNS, defaults)
    epochs = _read_table(folder / "epochs.csv", EPOCH_COLUMNS, {})
    if trials["trial"].duplicated().any():
        twice = trials.loc[trials["trial"].duplicated(), "trial"].iloc[0]
        raise UsageError(f"{folder / 'trials.csv'}: trial {twice} is there twice, allowed: one row a trial")
    # epochs.csv grows row by row, trials.csv is replaced every few seconds: a new trial's rows may come first.
    epochs = epochs[epochs["trial"].isin(trials["trial"])].drop_duplicates(["trial", "epoch"])
    return Study(folder, manifest, trials, epochs.sort_values(["trial", "epoch"], ignore_index=True))


def load_studies(paths: Sequence[str | Path]) -> list[Study]:
    """Several studies of the same images, to be compared; their tables begin with the column `study`, its name.

    Raises:
        UsageError: one cannot be read, or two have one name or unlike images (by their fingerprint).
    """
    studies = {study.manifest["name"]: study for study in map(load_study, paths)}
    if len(studies) < len(paths):
        raise UsageError(f"studies: received {len(paths)} named {', '.join(studies)}, allowed: studies of unlike names")
    first, *others = studies.values()
    for study in others:
        prints = [each.manifest["dataset"].get("fingerprint") for each in (study, first)]
        if prints[0] != prints[1] or None in prints:
            raise UsageError(f"{study.path}: received images {prints[0]}, allowed: those of {first.path}, {prints[1]}")
    for name, study in studies.items():
        for table in (study.trials, study.epochs):
            table.insert(0, "study", pd.Series(pd.Categorical([name] * len(table)), table.index))
    return list(studies.values())


def read_confusion(folder: Path) -> pd.DataFrame | None:
    """The confusion matrix of the chosen model, images by true class (rows) and predicted class; None before it.

    Raises:
        UsageError: it is damaged.
    """
    path = folder / "best" / "confusion_matrix.csv"
    if not path.exists():
        return None
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)  # a class may be called 01 or NA
        table = table.set_index(table.columns[0])
        if table.empty or list(table.index) != list(table.columns):
            raise ValueError("rows and columns are not the same classes")
        return table.astype("int64")
    except (ValueError, OSError) as error:
        raise UsageError(f"{path}: damaged ({error}), allowed: a row and a column a class") from None


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        needed = "study.json, trials.csv and epochs.csv"
        raise UsageError(f"{path}: no such file, allowed: a study directory, which has {needed}") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error}), allowed: a readable UTF-8 file") from None


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(_read_bytes(path))
    except ValueError as error:
        raise UsageError(f"{path}: not JSON ({error}), allowed: the study.json of a study") from None
    for name, kind in MANIFEST.items():
        value = manifest
        for key in name.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, kind):
            raise UsageError(f"{path}: {name} is {value!r}, allowed: what the study wrote ({kind.__name__})")
    if manifest["version"] != VERSION:
        raise UsageError(f"{path}: received version {manifest['version']}, allowed: {VERSION}")
    known = [field.name for field in fields(TrialConfig)]
    for factor in manifest["design"]["factors"]:
        if not isinstance(factor, dict) or factor.get("name") not in known:
            raise UsageError(f"{path}: received factor {factor!r}, allowed names: {', '.join(known)}")
        if "levels" not in factor and not {"low", "high", "scale"} <= factor.keys():
            raise UsageError(f"{path}: received factor {factor!r}, allowed: with levels, or with low, high and scale")
    return dict(manifest)


def _read_table(path: Path, columns: Mapping[str, Any], defaults: Mapping[str, Any]) -> pd.DataFrame:
    """The columns in their dtypes and whatever else is there; those of `defaults` may be missing."""
    content = _read_bytes(path)
    # A line without its end is half written.
    written = content[: content.rfind(b"\n") + 1] or (",".join(columns) + "\n").encode()
    options: dict[str, Any] = {"keep_default_na": False, "na_values": ["", "nan"]}
    try:
        if set(columns.values()) <= {int, float}:
            try:  # Numbers at once, for a million rows; where that fails, the text below tells what is wrong.
                return _complete(path, pd.read_csv(io.BytesIO(written), dtype=columns, **options), columns, defaults)
            except (ValueError, OverflowError):
                pass
        table = _complete(path, pd.read_csv(io.BytesIO(written), dtype=str, **options), columns, defaults)
    except pd.errors.ParserError as error:
        raise UsageError(f"{path}: damaged ({' '.join(str(error).split())}), allowed: one row a line") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: cannot be read ({error}), allowed: a readable UTF-8 file") from None
    return table.assign(**{name: _typed(path, table[name].astype("str"), kind) for name, kind in columns.items()})


def _complete(path: Path, table: pd.DataFrame, columns: Mapping[str, Any], defaults: Mapping[str, Any]) -> pd.DataFrame:
    lacking = [name for name in columns if name not in table]
    if missing := [name for name in lacking if name not in defaults]:
        raise UsageError(f"{path}: has no column {', '.join(missing)}, allowed: all of {', '.join(columns)}")
    if not isinstance(table.index, pd.RangeIndex):
        raise UsageError(f"{path}: damaged (line 2 has more fields than the header), allowed: one row a line")
    return table.assign(**{name: defaults[name] for name in lacking})


def _typed(path: Path, text: pd.Series, kind: Any) -> pd.Series:
    """The column in the dtype that `kind` stands for; only counts, floats and text may be missing."""
    if kind is str:
        return text
    dtype: Any = {int: "int64", COUNT: "Int64", float: "float64", bool: "bool"}.get(kind)
    values: pd.Series
    if kind is bool:
        values = text.map({"True": True, "False": False})
    elif dtype is None:
        values, dtype = text.where(text.isin(kind)), pd.CategoricalDtype(kind)
    else:
        values = pd.to_numeric(text, errors="coerce")
        values = values if kind is float else values.where(values % 1 == 0)
    bad = values.isna() & (text.notna() | (kind not in (COUNT, float)))
    if bad.any():
        allowed = {int: "whole numbers", COUNT: "whole numbers", float: "numbers", bool: "True, False"}
        received = text[bad].iloc[0]
        raise UsageError(
            f"{path}: column {text.name}: received {received!r}, allowed: {allowed.get(kind) or ', '.join(kind)}"
        )
    typed: pd.Series = values.astype(dtype)
    return typed
