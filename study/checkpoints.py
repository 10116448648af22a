"""Checkpoints of running trials, `checkpoints/TRIAL/EPOCH-CRC32.pt`, and the winner's weights made
from them.

The driver alone writes and reads them. A checkpoint is written before its epoch is recorded, so
that the weights of a trial that is recorded as finished are there; one that is ahead of the record
does not count.
"""

import csv
import re
import shutil
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from study.record import replace_file, writing
from study.state import StudyState, TrialRecord
from trainables.config import TrialConfig

KEPT = 2


def save_checkpoint(folder: Path, trial: int, epoch: int, content: memoryview) -> None:
    """Write a checkpoint in one piece and remove all but the newest two."""
    home = folder / "checkpoints" / str(trial)
    with writing(home):
        home.mkdir(parents=True, exist_ok=True)
        replace_file(home / f"{epoch}-{zlib.crc32(content):08x}.pt", content)
        for _, path in _newest_first(home)[KEPT:]:
            path.unlink()


def load_checkpoint(folder: Path, trial: TrialRecord) -> tuple[int, bytes | None, str]:
    """Epoch and content of a trial's newest complete checkpoint, and a note where there was a
    newer one.

    What cannot be used is removed. Without any it is epoch 0, the start of the trial, and None.
    """
    torn = False
    newest: tuple[int, bytes | None] = 0, None
    for epoch, path in _newest_first(folder / "checkpoints" / str(trial.trial)):
        content = path.read_bytes()
        complete = path.stem.endswith(f"-{zlib.crc32(content):08x}")
        if complete and epoch <= len(trial.epochs):
            newest = epoch, content
            break
        torn |= not complete
        path.unlink()
    note = f"what was newer is {'torn' if torn else 'lost'}" if newest[0] < trial.checkpoint else ""
    return *newest, note


def remove_checkpoints(folder: Path, trial: int) -> None:
    """Remove those of a trial that has ended."""
    home = folder / "checkpoints"
    shutil.rmtree(home / str(trial), ignore_errors=True)
    if home.is_dir() and not any(home.iterdir()):
        home.rmdir()


def keep_best(folder: Path, state: StudyState) -> None:
    """Make `best/` from the chosen trial's last checkpoint, unless it is that trial's already.

    An arm may win after its confirm seeds have ended and their checkpoints are gone: then it is the
    winner's own.
    """
    best, new = folder / "best", folder / "best.tmp"
    shutil.rmtree(new, ignore_errors=True)
    whose = best / "trial.txt"
    for winner in filter(None, (state.chosen(), state.winner)):
        if whose.exists() and whose.read_text() == f"{winner.trial}\n":
            return
        epoch, content, _ = load_checkpoint(folder, winner)
        if content is not None and epoch == len(winner.epochs):
            break
    else:
        return
    # Imports torch, which takes seconds and mostly is not needed: nothing has changed.
    from trainables.resnet import save_resnet, unpack

    checkpoint, data = unpack(content), state.header["dataset"]
    confusion_KxK = checkpoint["trainer"]["confusion"].numpy()
    with writing(best):
        save_resnet(
            new,
            TrialConfig.from_dict(winner.config),
            weights=checkpoint["trainer"]["model"],
            pixel_mean=checkpoint["pixel_mean"],
            pixel_std=checkpoint["pixel_std"],
            image_shape=data["image_shape"],
            classes=data["classes"],
            value_range=data.get("value_range"),
        )
        write_class_tables(new, data["classes"], confusion_KxK, winner.part)
        (new / "trial.txt").write_text(f"{winner.trial}\n")
        shutil.rmtree(best, ignore_errors=True)
        new.rename(best)


def write_class_tables(
    folder: Path, classes: list[str], confusion_KxK: np.ndarray, part: str
) -> None:
    """Write `confusion_matrix.csv`, images by true class (rows) and predicted class, and
    `accuracy_by_class.csv`, of the part that was evaluated.

    Classes are in quotation marks: whatever their names hold, such as a carriage return, which
    Python's csv does not quote by itself, they are read back.
    """
    names = pd.Index(classes, name="true class")
    confusion = pd.DataFrame(confusion_KxK, names, classes)
    confusion.to_csv(folder / "confusion_matrix.csv", quoting=csv.QUOTE_NONNUMERIC)
    counts_K = confusion_KxK.sum(1)
    by_class = {
        "class": classes,
        "images": counts_K,
        f"{part}_accuracy": confusion_KxK.diagonal() / counts_K,
    }
    path = folder / "accuracy_by_class.csv"
    pd.DataFrame(by_class).to_csv(path, index=False, quoting=csv.QUOTE_NONNUMERIC)


def finish_ended(folder: Path, state: StudyState) -> None:
    """Do what a driver that was killed had left to do for trials recorded as ended."""
    keep_best(folder, state)
    for trial in state.ended_trials():
        remove_checkpoints(folder, trial.trial)


def epoch_of(path: Path) -> int | None:
    """The epoch of a checkpoint; None where the file is none."""
    match = re.fullmatch(r"(\d+)-[0-9a-f]{8}\.pt", path.name)
    return int(match[1]) if match else None


def _newest_first(home: Path) -> list[tuple[int, Path]]:
    named = [(epoch_of(path), path) for path in home.glob("*.pt")]
    return sorted(((epoch, path) for epoch, path in named if epoch is not None), reverse=True)
