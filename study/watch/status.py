"""What the studies of a results directory are doing, from their records alone:
`resnet-study list` and `resnet-study status`."""

import json
import os
import platform
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from study.phrases import counted, duration
from study.record import RecordError, has_study, read_record
from study.state import StudyState, TrialRecord
from study.summary import Summary
from study.watch.progress import best_trials, last_reading
from trainables.config import invalid
from trainables.vocabulary import TrialStatus

NOTHING = "–"


@dataclass(frozen=True)
class Look:
    """What is asked for: all studies of a directory, or one of them; the newest has the name ''."""

    results_dir: str
    name: str | None = None


def show(look: Look, console: Console) -> None:
    """Print what is asked for.

    Raises:
        UsageError: there is no such study, or no study at all.
        RecordError: the record of the study that is asked for is damaged.
    """
    folder = Path(look.results_dir).expanduser()
    studies = sorted(filter(has_study, _folders(folder)), key=_changed, reverse=True)
    if look.name and folder / look.name not in studies:
        names = ", ".join(path.name for path in studies) or "no study is there"
        raise invalid("status", look.name, f"a study of {folder} ({names})")
    if not studies:
        raise invalid("--results-dir", look.results_dir, "a directory with studies")
    if look.name is None:
        console.print(_overview(studies))
        return
    chosen = folder / look.name if look.name else studies[0]
    for part in _details(read_record(chosen)):
        console.print(part, markup=False)


def condition(summary: Summary) -> str:
    """Whether a study is complete, a driver is at it, or it waits to be resumed. Of a driver on
    another machine only its record is known."""
    if summary.ended:
        return "complete"
    if summary.started is None:
        return "interrupted"
    if summary.host != platform.node():
        return f"running on {summary.host}, by its record"
    if _lives(summary.pid):
        return f"running, process {summary.pid}"
    return "interrupted (its process is gone)"


def progress_text(summary: Summary) -> str:
    """The trials that ended of those known to be wanted, by stage."""
    counts = summary.trials.items()
    return " · ".join(f"{stage} {ended}/{wanted}" for stage, (ended, wanted) in counts) or "nothing"


def _summary(folder: Path) -> Summary:
    """The summary of a study: of `study.json` where that is as new as the record.

    Raises:
        RecordError: the record has to be read and is damaged.
    """
    try:
        recorded = json.loads((folder / "study.json").read_bytes())["summary"]
        kept = Summary(**recorded)
        if kept.events == (folder / "record.jsonl").read_bytes().count(b"\n"):
            return kept
    except (OSError, ValueError, KeyError, TypeError):
        pass  # missing, damaged or of an older version: all of it is in the record
    return Summary.of(read_record(folder))


def _folders(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # none there, or none that may be read: no study either
        return []


def _changed(folder: Path) -> float:
    return (folder / "record.jsonl").stat().st_mtime


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's process
        return True
    return True


def _overview(studies: list[Path]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("study", "state", "trials", "best in the search", "core time", "last event"):
        table.add_column(column, overflow="fold")
    for folder in studies:
        try:
            summary = _summary(folder)
        except RecordError as error:
            table.add_row(folder.name, f"damaged: {error}", *[NOTHING] * 4)
            continue
        best = summary.best
        table.add_row(
            folder.name,
            condition(summary),
            progress_text(summary),
            f"{best[0]:.1%} ({best[1]})" if best else NOTHING,
            duration(summary.core_seconds),
            f"{_age(summary.last)} ago",
        )
    return table


def _details(state: StudyState) -> Iterator[str | Table]:
    header, summary = state.header, Summary.of(state)
    yield f"{header['name']}: {condition(summary)}"
    data, counts = header["dataset"], header["dataset"]["counts"]
    images = counted(counts["train"], "training image")
    yield f"design {header['design']['name']}, data set {data['name']}, {images}"
    yield f"{progress_text(summary)}; last event {_age(state.last)} ago"
    spent = f"{duration(summary.core_seconds)} of core time in {duration(state.wall())}"
    states = Counter(str(trial.state) for trial in state.trials.values())
    yield f"{spent}; {', '.join(f'{count} {name}' for name, count in states.items())}"
    running = state.in_state(TrialStatus.RUNNING)
    if running:
        yield _trials("running", running)
    if best := best_trials(state):
        yield _trials("best in the search", best)
    for trial in state.in_state(TrialStatus.FAILED):
        yield f"trial {trial.trial} failed: {trial.error}"


def _trials(title: str, trials: list[TrialRecord]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("trial", "stage", "arm", "learning rate", "epoch", "accuracy", "s per epoch"):
        table.add_column(column)
    for trial in trials:
        epochs = len(trial.epochs)
        table.add_row(
            str(trial.trial),
            trial.stage,
            trial.arm,
            f"{trial.config['learning_rate']:.2g}",
            f"{epochs}/{trial.config['max_epochs']}",
            _accuracy(trial),
            f"{trial.seconds / epochs:.3g}" if epochs else NOTHING,
        )
    return table


def _accuracy(trial: TrialRecord) -> str:
    """The last reading of the part that its stage may read."""
    value = last_reading(trial, "accuracy")
    return NOTHING if value is None else f"{value:.1%} ({trial.part})"


def _age(time: str) -> str:
    return duration((datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds())
