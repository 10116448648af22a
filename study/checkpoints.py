"""Checkpoints of running trials, `checkpoints/TRIAL/EPOCH-CRC32.pt`, and the winner's weights made from them.

The driver alone writes and reads them. A checkpoint is written before its epoch is recorded, so that the
weights of a trial that is recorded as finished are there; one that is ahead of the record does not count.
"""

import csv
import json
import re
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from study.record import StudyState, TrialState, replace_file, writing
from trainables.config import TrialConfig
from trainables.resnet import save_resnet, unpack

KEPT = 2


def save_checkpoint(folder: Path, trial: int, epoch: int, content: memoryview) -> None:
    """Write a checkpoint in one piece and remove all but the newest two."""
    home = folder / "checkpoints" / str(trial)
    with writing(home):
        home.mkdir(parents=True, exist_ok=True)
        replace_file(home / f"{epoch}-{zlib.crc32(content):08x}.pt", content, sync=True)
        for _, path in _newest_first(home)[KEPT:]:
            path.unlink()


def load_checkpoint(folder: Path, trial: TrialState) -> tuple[int, bytes | None, str]:
    """The newest whole checkpoint of a trial at a recorded epoch, its epoch, and what was wrong with newer ones.

    What cannot be used is removed. Without any it is epoch 0, the start of the trial.
    """
    home = folder / "checkpoints" / str(trial.trial)
    torn = False
    for epoch, path in _newest_first(home):
        content = path.read_bytes()
        whole = path.stem.endswith(f"-{zlib.crc32(content):08x}")
        if whole and epoch <= len(trial.epochs):
            note = f"the checkpoint of epoch {trial.checkpoint} is {'torn' if torn else 'lost'}"
            return epoch, content, note if epoch < trial.checkpoint else ""
        torn |= not whole
        path.unlink()
    lost = f"the checkpoints are {'torn' if torn else 'lost'}" if trial.checkpoint else ""
    return 0, None, lost


def remove_checkpoints(folder: Path, trial: int) -> None:
    """Remove those of a trial that has ended."""
    home = folder / "checkpoints"
    shutil.rmtree(home / str(trial), ignore_errors=True)
    if home.is_dir() and not any(home.iterdir()):
        home.rmdir()


def keep_best(folder: Path, state: StudyState) -> None:
    """Make `best/` from the winner's last checkpoint, unless it is the winner's already."""
    winner = state.winner()
    best, new = folder / "best", folder / "best.tmp"
    if winner is None or _trial_of(best) == winner.trial:
        return
    epoch, content, _ = load_checkpoint(folder, winner)
    if content is None or epoch < len(winner.epochs):
        return
    checkpoint, data = unpack(content), state.header["dataset"]
    with writing(best):
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        save_resnet(
            new,
            TrialConfig.from_dict(winner.config),
            image_shape=tuple(data["image_shape"]),
            classes=tuple(data["classes"]),
            pixel_mean=checkpoint["pixel_mean"],
            pixel_std=checkpoint["pixel_std"],
            weights=checkpoint["trainer"]["model"],
            trial=winner.trial,
        )
        _write_confusion(new, data["classes"], checkpoint["trainer"]["confusion"].tolist())
        shutil.rmtree(best, ignore_errors=True)
        new.rename(best)


def _write_confusion(folder: Path, classes: list[str], confusion_KxK: list[list[int]]) -> None:
    rows = list(zip(classes, confusion_KxK, strict=True))
    right = [counts[index] for index, counts in enumerate(confusion_KxK)]
    tables: Mapping[str, list[list[Any]]] = {
        "confusion_matrix": [["true class", *classes], *([name, *counts] for name, counts in rows)],
        "accuracy_by_class": [
            ["class", "images", "validation_accuracy"],
            *([name, sum(counts), hit / sum(counts)] for (name, counts), hit in zip(rows, right, strict=True)),
        ],
    }
    for name, table in tables.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(table)


def _trial_of(best: Path) -> int | None:
    try:
        return int(json.loads((best / "config.json").read_text())["trial"])
    except (OSError, ValueError, KeyError):
        return None


def _newest_first(home: Path) -> list[tuple[int, Path]]:
    named = [(re.fullmatch(r"(\d+)-[0-9a-f]{8}\.pt", path.name), path) for path in home.glob("*.pt")]
    return sorted(((int(match[1]), path) for match, path in named if match), reverse=True)
