"""The command: `python study/run.py --samples 20`, or `resnet-study` where the package is
installed.

Exit status: 0 the study is complete, 1 it is not (the last line says why), 2 wrong usage, 130
interrupted.
"""

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from rich.console import Console

from study.command_line import parse_command
from study.phrases import counted
from study.record import RecordError
from study.terminal import SafeStream
from study.watch.notify import notify
from study.watch.status import Look, show
from trainables.config import UsageError
from trainables.vocabulary import Stage, TrialStatus

if TYPE_CHECKING:
    from study.copying import StudyCopy
    from study.state import StudyState

log = logging.getLogger("study")

INTERRUPTED = 130

RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Tune's own loggers would write every result a second and a third time.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Tune's newer output prints a table however quiet it shall be.
    "RAY_AIR_NEW_OUTPUT": "0",
    # Signals are the driver's, see study.signals.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}


class ConsoleHandler(logging.Handler):
    """Log lines on a rich console, so that they stand above its moving line."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        console.file = cast(IO[str], SafeStream(console.file))

    @contextmanager
    def with_time(self) -> Iterator[None]:
        """While it lasts, lines bear the time; on a terminal somebody watches, and they do not."""
        if not self.console.is_terminal:
            self.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        try:
            yield
        finally:
            self.setFormatter(None)

    def emit(self, record: logging.LogRecord) -> None:
        style = "bold yellow" if record.levelno >= logging.WARNING else None
        self.console.print(self.format(record), style=style, markup=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or refuse a study; returns the exit status."""
    console = Console(soft_wrap=True, highlight=False)
    try:
        asked = parse_command(sys.argv[1:] if arguments is None else arguments)
        if isinstance(asked, Look):
            show(asked, console)
            return 0
    except (UsageError, RecordError) as error:
        return _refuse(error)
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    handler = ConsoleHandler(console)
    if console.is_terminal:
        handler.addFilter(lambda record: record.name == "study" or record.levelno > logging.INFO)
    handler.setLevel(logging.WARNING if asked.get("quiet") else logging.INFO)
    log.addHandler(handler)
    # Tracebacks of trials, for study.log only.
    log.setLevel(logging.DEBUG)
    try:
        return _run(asked, handler)
    finally:
        log.removeHandler(handler)


def _refuse(error: Exception) -> int:
    """Say in one line why nothing was started; returns the exit status."""
    print(f"resnet-study: {error}", file=sys.stderr)
    return 2 if isinstance(error, UsageError) else 1


def _run(given: Mapping[str, Any], handler: ConsoleHandler) -> int:
    # Not before the command line is known to be right: this takes a second to import.
    from study.design_files import show_design
    from study.errors import CannotStart
    from study.opening import begin_study, find_study
    from study.provenance import command
    from study.record import CannotWrite
    from trainables.named import DataUnavailable

    try:
        if given.get("show_design"):
            print(show_design(begin_study(given)[1]), end="")
            return 0
        with _copied(given, handler) as copy:
            status = _study(given, handler, copy)
        if copy and (copy.is_lost or (copy.error and not status)):
            return 1
        if status != INTERRUPTED:
            return status
    except (UsageError, CannotStart, DataUnavailable, RecordError) as error:
        return _refuse(error)
    except CannotWrite as error:
        log.error("stopped: %s; to resume when it can be written to: %s", error, command())
        _notify(given, find_study(begin_study(given)[0]), "incomplete", f"stopped: {error}")
        return 1
    except KeyboardInterrupt:
        pass  # before anything was recorded; what follows is the same
    log.warning("to resume: %s", command())
    return INTERRUPTED


def _study(given: Mapping[str, Any], handler: ConsoleHandler, copy: "StudyCopy | None") -> int:
    """Run the study and say what became of it; returns the exit status."""
    from study.opening import run_study
    from study.provenance import command

    with handler.with_time():
        done = run_study(given, handler.console, _seeds_for_width, copy)
    ended = f"{len(done.state.ended_trials())} of {done.wanted} trials ended"
    if done.interrupted:
        log.warning("interrupted: %s", ended)
        _notify(given, done.folder, "interrupted", ended)
        return INTERRUPTED
    headline = _report(done.folder)
    status = conclude(done.state, done.wanted, command())
    _notify(given, done.folder, "incomplete" if status else "complete", headline)
    return status


@contextmanager
def _copied(given: Mapping[str, Any], handler: ConsoleHandler) -> Iterator["StudyCopy | None"]:
    """The copy in storage, where one is asked for."""
    if not given.get("storage"):
        yield None
        return
    from study.copying import copied  # with pyarrow

    with ExitStack() as ending:
        with handler.with_time():
            copy = ending.enter_context(copied(given))
        yield copy


def _seeds_for_width(folder: Path, width: float) -> int | None:
    from analysis.load import load_study
    from analysis.statistics.confirm import seeds_for_width

    return seeds_for_width(load_study(folder), width)


def _notify(given: Mapping[str, Any], folder: Path | None, status: str, headline: str) -> None:
    if given.get("notify"):
        notify(given["notify"], folder.name if folder else "", status, headline)


def _report(folder: Path) -> str:
    """Write the report and say what it says; returns its first sentence."""
    from analysis.load import load_study
    from analysis.report.fingerprint import is_current
    from analysis.report.wording.study_text import closing_lines
    from study.record import writing

    study, report = load_study(folder), folder / "report" / "index.html"
    if not is_current(folder):
        from analysis.report.page import write_report  # with matplotlib

        with writing(folder):
            report = write_report(study)
    log.info("study: %s", folder)
    log.info("report: %s", report)
    lines = closing_lines(study)
    for line in lines:
        log.info("%s", line)
    return next(iter(lines), "")


def conclude(state: "StudyState", wanted: int, command: str) -> int:
    """The exit status of a study, and where it is not complete the reason and how to resume."""
    ended, failed = len(state.ended_trials()), state.in_state(TrialStatus.FAILED)
    if failed:
        trials = counted(len(failed), "trial")
        log.warning("%s failed, the first: %s", trials, failed[0].error)
        log.warning("to try again: %s --retry-failed", command)
    if ended < wanted:
        log.error("not complete: %d of %d trials ended; to resume: %s", ended, wanted, command)
        return 1
    # A study without a search stage needs a complete confirm trial, all others a search trial.
    stage = state.trials[0].stage
    if not any(trial.stage == stage for trial in state.in_state(TrialStatus.COMPLETE)):
        ends = f"{len(state.in_state(TrialStatus.DIVERGED))} diverged, {len(failed)} failed"
        more = f"{command} with more {'--samples' if stage == Stage.SEARCH else '--confirm-seeds'}"
        log.error("not complete: no trial is complete (%s); to resume: %s", ends, more)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
