"""The live page: the report of a running study, made again as results come."""

import os
import re
import signal
import sys
import time
from pathlib import Path

from analysis.load import Study, load_study
from analysis.report.document import replace_text
from analysis.report.fingerprint import STUDY_FILES, made_of
from analysis.report.page import write_report
from analysis.report.wording import study_text
from trainables.config import UsageError

HELPER = "newest.js"
"""Beside a live page, which asks it whether there is a newer one."""
LIVE_LINE = re.compile(r'<p id="live".*?</p>\n', re.DOTALL)
POLL = 3.0
"""Seconds between two looks at the study, which replaces its files every two (a large one less
often)."""
NICENESS = 10


def watch(path: Path, out: Path | None = None) -> tuple[Study, Path]:
    """Write the report of the study in `path` whenever it has changed, until the study is over;
    gives the study and its page, which is live no more, however the watch ends.

    Raises:
        FileNotFoundError: the study has disappeared.
        UsageError: it cannot be read, or `out` cannot be made.
    """
    folder = path / "report" if out is None else out
    if sys.platform != "win32":
        os.nice(NICENESS)  # the study needs the cores
    # As after Ctrl+C, the page is left as one file.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if not _is_there(path):
        print(study_text.waiting(path), flush=True)
    while not _is_there(path):
        time.sleep(POLL)
    try:
        return _follow(path, folder), folder / "index.html"
    finally:
        _settle(folder)


def _is_there(path: Path) -> bool:
    return all((path / name).exists() for name in STUDY_FILES[:3])


def _follow(path: Path, folder: Path) -> Study:
    shown = ""
    while True:
        start = time.monotonic()
        now = made_of(path)
        if now != shown:
            study = _load(path)
            made = round(1000 * time.time())
            page = write_report(study, folder, live=made)
            replace_text(folder / HELPER, f"newest({made});\n")
            if not shown:
                print(study_text.watching(page), flush=True)
            shown = now
        elif study.manifest.get("ended"):  # and the page shows its last files
            return study
        # The page of a large study takes a while: half of the time at most.
        time.sleep(max(POLL, time.monotonic() - start))


def _load(path: Path) -> Study:
    try:
        return load_study(path)
    except UsageError:
        if _is_there(path):
            raise
        raise FileNotFoundError(f"{path}: the study is no longer there") from None


def _settle(folder: Path) -> None:
    """Make the page one file that needs no other; where it is open, it then loads itself again."""
    page = folder / "index.html"
    if page.exists():
        replace_text(page, LIVE_LINE.sub("", page.read_text(encoding="utf-8"), count=1))
    (folder / HELPER).unlink(missing_ok=True)
