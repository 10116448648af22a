"""The decoded images of a folder, kept in the data directory so that the next study need not decode
them again."""

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.parts import ImageData, Part

log = logging.getLogger(__name__)

VERSION = "5"
"""To be raised with every change to what is parsed, how it is split into training and test part, or
how it is kept."""
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class ParsedCopy:
    """One folder's file in `DATA_DIR/.parsed/`; `key` is of the state in which the folder was."""

    path: Path
    key: str

    @classmethod
    def of(cls, data_dir: Path, source: object, state: object) -> "ParsedCopy":
        """Of a source that changes only the newest copy is kept."""
        path = data_dir / ".parsed" / f"{_digest(source)}.npz"
        return cls(path, _digest((VERSION, state)))

    def load(self, name: str) -> ImageData | None:
        """What was saved of this state, under that name; None without it or where it is damaged."""
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                if str(stored["key"]) != self.key:
                    return None
                # Reading a member to its end checks its CRC-32.
                parts: dict[str, Any] = {
                    part: Part(stored[f"{part}_images"], stored[f"{part}_labels"])
                    for part in PARTS
                    if f"{part}_images" in stored
                }
                facts = json.loads(str(stored["facts"]))
                facts = {
                    fact: tuple(value) if isinstance(value, list) else value
                    for fact, value in facts.items()
                }
                return ImageData(name=name, **parts, **facts)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except Exception as error:  # damage can show as nearly any error
            log.warning("the parsed images in %s are damaged and made again: %s", self.path, error)
            return None

    def save(self, data: ImageData) -> None:
        """Write the copy, all of it or nothing; where there is no room, only warn."""
        facts = {
            name: getattr(data, name)
            for name in ("classes", "flip", "skipped", "value_range", "remarks")
        }
        arrays = {
            f"{part}_{name}": array
            for part in PARTS
            if getattr(data, part) is not None
            for name, array in vars(getattr(data, part)).items()
        }
        # One name is enough: the lock of the data directory is held.
        temporary = self.path.parent.with_name(".parsing.npz")
        try:
            self.path.parent.mkdir(exist_ok=True)
            np.savez(temporary, key=self.key, facts=json.dumps(facts), **arrays)
            os.replace(temporary, self.path)
        except OSError as error:
            log.warning("cannot keep the parsed images in %s: %s", self.path, error)
            temporary.unlink(missing_ok=True)


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()
