"""Opens a study: what is asked for, held against what its record has; only what is missing runs.

The modules that run trials are imported where there is something to run: with Ray and torch that
takes seconds, and a complete study needs neither.
"""

import json
import logging
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from study.checkpoints import finish_ended
from study.confirm import missing_confirm_trials, missing_tune_trials
from study.design_files import design_from, read_design
from study.designs import Design
from study.images import compare_images, resolve_images
from study.predictions import lacks_predictions, write_predictions
from study.record import Record, has_study, write_views
from study.resources import has_gpu
from study.settings import SAME, DecidedSettings, StudySettings, continued, decided
from study.signals import interruptible
from study.state import StudyState
from trainables.config import UsageError
from trainables.named import DataUnavailable
from trainables.vocabulary import MOST_SEEDS_BY_WIDTH, Stage, TrialStatus

if TYPE_CHECKING:
    from study.copying import StudyCopy

log = logging.getLogger("study")

Advice = Callable[[Path, float], int | None]
"""Of a study directory, the confirm seeds at which every effect is known within ± a fraction; None
where no number is enough."""


@dataclass(frozen=True)
class Outcome:
    """What became of a study: its directory, what its record says, how many trials it shall have,
    and whether it was interrupted."""

    folder: Path
    state: StudyState
    wanted: int
    interrupted: bool


def run_study(
    given: Mapping[str, Any],
    console: Console,
    advice: Advice,
    copy: "StudyCopy | None" = None,
) -> Outcome:
    """Start or resume a study with the settings given, from its images to the end of its record.

    `advice` is the analysis's, for `--confirm-until-width`; `copy` is started.

    Raises:
        UsageError, DataUnavailable, CannotStart: something asked for is impossible; nothing was
            started.
        RecordError: the study's record is damaged; nothing was started.
        CannotWrite: the study directory could not be written to; the study can be resumed later.
        KeyboardInterrupt: it was interrupted before anything was recorded.
    """
    with interruptible() as interrupted, ExitStack() as ending:
        settings, design, record = _open(given, ending)
        if copy:
            copy.start(interrupted.end)
        if record and not _anything_to_run(settings, design, record, advice):
            compare_images(settings, record.state.header)
            outcome = _already_complete(record)
            if lacks_predictions(record.folder, record.state):
                _predict(settings, record)
            return outcome
        from study.driver import run_missing  # imports Ray

        record = run_missing(settings, design, record, console, interrupted, advice)
    lacking = missing(design, settings.samples, recorded_seeds(record.state), record.state)
    wanted = len(record.state.trials) + lacking
    return Outcome(record.folder, record.state, wanted, interrupted.asked)


def _open(
    given: Mapping[str, Any], ending: ExitStack
) -> tuple[DecidedSettings, Design, Record | None]:
    """The settings and the design, with the record of the study that they continue; None where they
    start one."""
    settings, design = begin_study(given)
    folder = find_study(settings)
    if folder is None:
        return settings, design, None
    record = ending.enter_context(closing(Record(folder)))
    if (uri := record.state.header["settings"].get("storage")) and not given.get("storage"):
        log.warning("not copied to %s any more; --storage continues the copies", uri)
    return *continue_study(given, record.state, folder), record


def _anything_to_run(
    settings: DecidedSettings, design: Design, record: Record, advice: Advice
) -> bool:
    retried = [TrialStatus.FAILED] if settings.retry_failed else []
    if record.state.in_state(TrialStatus.RUNNING, *retried):
        return True
    asked = settings.confirm_seeds
    seeds = recorded_seeds(record.state) if asked is None else asked
    lacking = missing(design, settings.samples, seeds, record.state)
    return bool(lacking or more_seeds(settings, record, advice))


def _already_complete(record: Record) -> Outcome:
    state = record.state
    finish_ended(record.folder, state)
    if state.ended is None:  # the driver was killed after its last trial
        record.append("driver_started", pid=os.getpid(), host=platform.node())
        record.append("driver_ended", seconds=0.0, missing=0)
    log.info("nothing to run: all %d trials have ended", len(state.trials))
    return Outcome(record.folder, state, len(state.trials), interrupted=False)


def _predict(settings: DecidedSettings, record: Record) -> None:
    """Write the predictions that a driver that was killed, or an older one, left unwritten."""
    try:
        images = resolve_images(settings, record.state.header)
    except (UsageError, DataUnavailable) as error:
        log.warning("no best/predictions.csv: %s", error)
    else:
        write_predictions(record.folder, record.state, images.data)


def find_study(settings: StudySettings) -> Path | None:
    """The directory of the study that these settings continue; None where they begin one.

    The default data set, cifar10 with a GPU and else the digits, names it unless there is a name.
    """
    folder = settings.folder(settings.dataset or "digits")
    with_gpu = settings.folder(settings.dataset or "cifar10")
    if with_gpu != folder and has_study(with_gpu) and has_gpu():
        return with_gpu
    return folder if has_study(folder) else None


def begin_study(given: Mapping[str, Any]) -> tuple[DecidedSettings, Design]:
    """The settings and the design of a new study.

    Raises:
        UsageError: there is no such design, or it does not go with the settings.
    """
    settings = StudySettings(**given)
    design = read_design(settings.design)
    # A baseline's own budget of epochs gives way to one that is asked for.
    return decided(settings, design), design.one_budget() if settings.epochs else design


def continue_study(
    given: Mapping[str, Any], state: StudyState, folder: Path
) -> tuple[DecidedSettings, Design]:
    """The settings that continue a study: what is given, else what is recorded; and its design, as
    recorded.

    Raises:
        UsageError: they ask another question.
    """
    settings = continued(given, state.header["settings"], folder.name)
    recorded = {key: value for key, value in state.header["design"].items() if key != "name"}
    design = design_from(state.header["design"]["name"], recorded)
    if state.version == 1:
        design = design.with_running_statistics()
    if "design" in given:
        asked = read_design(given["design"])
        if state.version == 1:
            asked = asked.with_running_statistics()
        if design == design.one_budget():  # by --epochs, perhaps
            asked = asked.one_budget()
        if json.loads(json.dumps(asked.to_dict())) != json.loads(json.dumps(design.to_dict())):
            raise UsageError(
                f"--design: invalid value {given['design']!r}, not the study's design: {SAME}"
            )
    settings = decided(settings, design)
    # Trials that have started stay.
    samples = max(settings.samples, len(state.in_stage(Stage.SEARCH)))
    return replace(settings, samples=samples), design


def missing(design: Design, samples: int, seeds: int, state: StudyState) -> int:
    """How many trials have not started of the first stage that lacks any, in a study with so many
    search trials and confirm seeds."""
    if samples > len(state.in_stage(Stage.SEARCH)):
        return samples - len(state.in_stage(Stage.SEARCH))
    if seeds and (tune := missing_tune_trials(design, state)):
        return len(tune)
    return len(missing_confirm_trials(design, state, seeds))


def more_seeds(settings: DecidedSettings, record: Record, advice: Advice) -> int:
    """How many confirm seeds `--confirm-until-width` asks for where there are too few; else 0."""
    if settings.confirm_until_width is None:
        return 0
    write_views(record.folder, record.state)
    advised = advice(record.folder, settings.confirm_until_width / 100)
    if advised is None:
        log.warning("no seeds are added: with these test images no number of them is enough")
        return 0
    seeds = min(advised, MOST_SEEDS_BY_WIDTH)
    return seeds if seeds > recorded_seeds(record.state) else 0


def recorded_seeds(state: StudyState) -> int:
    """The confirm seeds that the study has been asked for."""
    seeds: int = state.header["settings"]["confirm_seeds"]
    return seeds
