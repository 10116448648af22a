"""The words that a study directory uses: `study` writes them and `analysis` reads them."""

from enum import StrEnum

MOST_SEEDS_BY_WIDTH = 20
"""Up to so many confirm seeds `--confirm-until-width` adds."""


class Stage(StrEnum):
    """What a trial is for."""

    SEARCH = "search"
    """To explore, on validation images."""
    TUNE = "tune"
    """To find an arm its own nuisances, on validation images."""
    CONFIRM = "confirm"
    """To measure an arm with one of several seeds, on test images."""


class TrialStatus(StrEnum):
    """How far a trial has come."""

    RUNNING = "running"
    COMPLETE = "complete"
    STOPPED = "stopped"
    """By the scheduler."""
    DIVERGED = "diverged"
    """Its loss or weights are no longer finite."""
    FAILED = "failed"
    """It crashed."""

    @property
    def has_ended(self) -> bool:
        """Whether no more epochs are to come."""
        return self is not TrialStatus.RUNNING


class SearchMode(StrEnum):
    """How a design finds the arms to confirm."""

    SAMPLED = "sampled"
    """A sampler draws trials."""
    FACTORIAL = "factorial"
    """Every combination of the scientific levels gets the same number of trials."""
    NONE = "none"
    """There is no search: the baselines are confirmed as they stand."""


class Outcome(StrEnum):
    """The reading that confirmed arms are compared by: a column of `epochs.csv`, a fraction."""

    TEST_ACCURACY = "test_accuracy"
    TRAIN_ACCURACY = "train_accuracy"


class ArmRole(StrEnum):
    """What an arm is in the confirm stage."""

    WINNER = "winner"
    FRACTION = "fraction"
    """Another arm of the two-level design around the winner."""
    ALONE = "alone"
    """The winner with one factor changed."""
    ARM = "arm"
    """Of a factorial design."""
    BASELINE = "baseline"


TUNED = (ArmRole.WINNER, ArmRole.FRACTION, ArmRole.ALONE)
"""The roles of the arms that get their own learning rate in the tune stage."""
