"""`python -m tests.benchmarks.pictures STUDY`: the README's pictures, drawn by headless Chromium.

`report.png`: the top of the example study's report. `terminal.png`: what the terminal showed of a
study, whose record has to be there, when half of its search was over. Both go beside the examples.
"""

import io
import json
import sys
import time
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from rich.console import Console
from rich.terminal_theme import MONOKAI

from analysis import load_study
from analysis.report.page import write_report
from study.state import StudyState
from study.watch.progress import StageProgress
from study.watch.terminal import live_view
from tests.browsers import chromium
from trainables.vocabulary import Stage, TrialStatus

EXAMPLE = Path(__file__).parents[2] / "analysis" / "notebooks" / "example"
WIDTH = 80


def halfway(folder: Path) -> tuple[StudyState, StageProgress, dict[int, float]]:
    """The study when half of its search trials had ended, its search stage then, and the seconds
    since each trial was heard of."""
    state, heard = StudyState(), {}
    lines = (folder / "record.jsonl").read_text(encoding="utf-8").splitlines()
    for event in map(json.loads, lines):
        state.apply(event)
        if "trial" in event:
            heard[event["trial"]] = datetime.fromisoformat(event["time"])
        trials = state.header["settings"]["samples"]
        ended = sum(t.state != TrialStatus.RUNNING for t in state.in_stage(Stage.SEARCH))
        if ended >= trials // 2 and event["event"] == "epoch":
            break
    now = datetime.fromisoformat(state.last)
    stage = StageProgress(Stage.SEARCH, trials, 0.0, time.monotonic() - state.wall())
    return state, stage, {trial: (now - at).total_seconds() for trial, at in heard.items()}


def terminal_svg(folder: Path) -> str:
    """The live view as a picture."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(live_view(*halfway(folder), WIDTH))
    return console.export_svg(title="python study/run.py --samples 20", theme=MONOKAI)


def save(picture: bytes, path: Path) -> None:
    """Write a screenshot with few colours: a third of its size."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size:,} bytes")


def main(folder: Path) -> None:
    """Make both pictures."""
    with chromium() as browser, TemporaryDirectory() as scratch:
        page = browser.new_page(viewport={"width": 1160, "height": 820})
        report = write_report(load_study(EXAMPLE / "seed0"), Path(scratch))
        page.goto(report.as_uri())
        save(page.screenshot(), EXAMPLE / "report.png")
        page.set_content(terminal_svg(folder))
        save(page.locator("svg").screenshot(), EXAMPLE / "terminal.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
