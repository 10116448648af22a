"""What the studies of a results directory are doing, from their records alone:
`resnet-study list` and `resnet-study status`."""

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
from trainables.config import invalid
from trainables.vocabulary import Stage, TrialStatus

BEST_SHOWN = 5
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


def condition(state: StudyState) -> str:
    """Whether a study is complete, a driver is at it, or it waits to be resumed. Of a driver on
    another machine only its record is known."""
    if state.ended:
        return "complete"
    if state.started is None:
        return "interrupted"
    pid, host = state.driver.get("pid", 0), state.driver.get("host")
    if host != platform.node():
        return f"running on {host}, by its record"
    return f"running, process {pid}" if _lives(pid) else "interrupted (its process is gone)"


def progress_text(state: StudyState) -> str:
    """The trials that ended of those known to be wanted, by stage."""
    settings, arms = state.header["settings"], len(state.confirm.get("arms", ()))
    wanted = {Stage.SEARCH: settings["samples"], Stage.CONFIRM: arms * settings["confirm_seeds"]}
    parts = []
    for stage in Stage:
        trials = state.in_stage(stage)
        ended = sum(trial.state != TrialStatus.RUNNING for trial in trials)
        if trials or wanted.get(stage):
            parts.append(f"{stage} {ended}/{max(len(trials), wanted.get(stage, 0))}")
    return " · ".join(parts) or "nothing yet"


def _folders(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
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
            state = read_record(folder)
        except RecordError as error:
            table.add_row(folder.name, f"damaged: {error}", *[NOTHING] * 4)
            continue
        best = state.winner()
        table.add_row(
            folder.name,
            condition(state),
            progress_text(state),
            _score(best) if best else NOTHING,
            duration(_core_seconds(state)),
            f"{_age(state.last)} ago",
        )
    return table


def _details(state: StudyState) -> Iterator[str | Table]:
    header = state.header
    yield f"{header['name']}: {condition(state)}"
    data, counts = header["dataset"], header["dataset"]["counts"]
    images = counted(counts["train"], "training image")
    yield f"design {header['design']['name']}, data set {data['name']}, {images}"
    yield f"{progress_text(state)}; last event {_age(state.last)} ago"
    spent = f"{duration(_core_seconds(state))} of core time in {duration(state.wall())}"
    states = Counter(str(trial.state) for trial in state.trials.values())
    yield f"{spent}; {', '.join(f'{count} {name}' for name, count in states.items())}"
    running = state.in_state(TrialStatus.RUNNING)
    if running:
        yield _trials("running", running)
    searched = state.in_stage(Stage.SEARCH)
    complete = [trial for trial in searched if trial.state == TrialStatus.COMPLETE]
    if complete:
        best = sorted(complete, key=lambda trial: trial.rank, reverse=True)[:BEST_SHOWN]
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
    part = "test" if trial.stage == Stage.CONFIRM else "validation"
    value = trial.epochs[-1][f"{part}_accuracy"] if trial.epochs else None
    return NOTHING if value is None else f"{value:.1%} ({part})"


def _score(trial: TrialRecord) -> str:
    return f"{trial.epochs[-1]['validation_accuracy']:.1%} ({trial.arm})"


def _core_seconds(state: StudyState) -> float:
    threads: int = state.header["settings"]["cpus_per_trial"]
    return threads * sum(trial.seconds for trial in state.trials.values())


def _age(time: str) -> str:
    return duration((datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds())
