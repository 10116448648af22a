"""Whether the page of a study is of the study as it is, by a hash of what it was made of."""

import hashlib
import re
from pathlib import Path

STUDY_FILES = ("study.json", "trials.csv", "epochs.csv", "test_images.csv")
BEST_FILES = tuple(
    f"best/{name}" for name in ("confusion_matrix.csv", "predictions.csv", "mistakes.png")
)
SOURCES = (".py", ".jinja", ".js")
HEAD = 2000
"""Bytes of a page among which its hash is."""


def made_of(study: Path) -> str:
    """A SHA-256 of the files of a study that its page shows, and of the code that makes it."""
    analysis = Path(__file__).parents[1]
    sources = sorted(path for path in analysis.rglob("*") if path.suffix in SOURCES)
    digest = hashlib.sha256()
    for path in (*(study / name for name in STUDY_FILES + BEST_FILES), *sources):
        digest.update(path.name.encode())
        digest.update(hashlib.sha256(path.read_bytes() if path.exists() else b"").digest())
    return digest.hexdigest()


def is_current(study: Path) -> bool:
    """Whether the study's `report/` has a page that would be made again as it is."""
    try:
        with (study / "report" / "index.html").open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return False
    match = re.search(rb'name="made-of" content="(\w+)"', head)
    return match is not None and match[1].decode() == made_of(study)
