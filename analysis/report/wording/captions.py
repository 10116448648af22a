"""Headings, labels of figures, captions of sections and titles of tables."""

from collections.abc import Mapping

from analysis.report.wording.values import spoken
from trainables.vocabulary import Outcome

# Labels of figures

OUTCOMES: Mapping[Outcome, str] = {
    Outcome.TEST_ACCURACY: "test accuracy",
    Outcome.TRAIN_ACCURACY: "training accuracy",
}
READINGS: Mapping[str, str] = {
    "train_loss": "Training loss (nats)",
    "train_accuracy": "Training accuracy (%)",
    "validation_loss": "Validation loss (nats)",
    "validation_accuracy": "Validation accuracy (%)",
    "test_loss": "Test loss (nats)",
    "test_accuracy": "Test accuracy (%)",
}
COSTS: Mapping[str, str] = {
    "parameters": "parameters",
    "forward_flops": "forward FLOP per image",
    "seconds_per_epoch": "seconds per epoch",
    "samples": "samples",
    "core_seconds": "core-seconds",
}
BEST_SO_FAR = "Best so far: validation accuracy (%)"
LEARNING_RATE = "learning rate"
TRIAL_COUNTS = "Trials read at the epoch (n)"
EPOCH = "epoch"
SURVIVORS = "median of survivors only (some trials ended earlier)"
COMPLETE_TRIALS = "complete trials"
PARETO_FRONT = "Pareto front"

# Headings, findings and captions of sections

HEADINGS: Mapping[str, str] = {
    "confirmed": "Confirmed",
    "effects": "What matters",
    "effects-by-epoch": "Does it hold for longer training?",
    "confirmed-curves": "Curves of the confirmed arms",
    "curves": "Comparative curves",
    "scope": "Scope and caveats",
    "factors": "By factor",
    "trials": "Trials",
    "files": "Files",
    "manifest": "Configuration and environment",
    "importance": "Importance",
    "cost": "Cost",
    "pareto": "Accuracy against cost",
    "best-so-far": "Best so far",
    "shape": "Shape of training",
    "by-arm": "The best arms",
    "confusion": "The chosen model",
}
BEST_TRIALS = "Best trials"
CAVEAT = (
    "search-stage validation scores of one seed; the best is a maximum over trials, so optimistic"
)
EDGE = "A marker on the edge of a panel is a value beyond it."
LEVELS = (
    "Levels differ in the other factors too; the baselines, which differ in fixed settings, are "
    "excluded."
)
MEDIANS = (
    "Bold: medians; solid with filled markers: over all trials of the level; dashed with hollow "
    "markers: over survivors only."
)
COST = "Where the time went"
SLOTS, MINUTES = "Slot", "Minutes that the study has run"
TIMELINE = (
    "Each bar is an epoch; gaps: Ray starting, trials and stages waiting for the last of those "
    "before them. Pauses between two runs of the command are excluded."
)
SHAPE = (
    "Medians over complete trials, in points: training less validation accuracy at the last epoch "
    "(gap); over the last third of the epochs its rise per epoch (slope) and the standard "
    "deviation of its changes (unsteadiness)."
)
SHAPE_FINDING = (
    "How far training was ahead, how fast validation accuracy rose at the end, and how steadily"
)
ARM_POINTS = (
    "Grey: one point per seed; diamonds: means, with pooled spread where arms are compared."
)
SLICES = (
    "Last panel: each trial's last validation accuracy by its learning rate; diverged trials are "
    "on the axis."
)
FOREST = "Intervals of 95%; grey: too little to matter. Details"
FILES: Mapping[str, str] = {
    "trials.csv": "one row per trial, of all stages",
    "epochs.csv": "one row per trial and epoch",
    "effects.csv": "one row per factor and epoch, with intervals and p-values",
    "winner.toml": "the best network as a design, to train it again with --design winner.toml",
}
IMPORTANCE_HIDDEN = "Why importance is not shown"
PARALLEL = (
    "Drag along an axis to keep the trials in that range, or go to it with Tab and move the range "
    "with the arrow keys (with Shift: its upper end); Escape resets it. Click a trial to mark it "
    "in every figure."
)
IMPORTANCE = "fANOVA, complete trials only, so weak regions count less; range over forests."
RATES = "Diverged trials are on the axis; dashed: the ends of the range."
IN_ORDER = "Trials in order of number."
PARETO = "The Pareto front: trials that no other trial beats in both accuracy and cost"
CONFIRMED_CURVES = "The confirmed arms by epoch"
LIVE = "Live: updated while the study runs; this page is {age} old."
LIVE_COPY = "Made while the study was running; this copy is not updated."
NO_CONFUSION = "No confusion matrix"

# Titles of tables

BASELINES_LAST = "Baselines (last reading):"
BEST_COMPLETE = f"Best complete trials ({CAVEAT}):"
FIVE_BEST = "The five best trials of each"
DIFFERENT_SETTINGS = "Settings that differ"
BEST_BY_ARM = "Best by arm, and where that is at an end, which range to try next"
SHAPE_BY_LEVEL = "Shape of training by level"
CONFUSION = "Images by true and predicted class"
MISTAKES = "Most confident mistakes on the test images"
SHEET = "The test images of the most confident mistakes, in the order of the table"
ARMS = "Arms"
RATES_TRIED = "Learning rates tried for each arm (validation loss)"
MEANS_BY_EPOCH = "By epoch, means over seeds"
INTERACTIONS = "Interactions of two factors (half of how much one's effect differs)"


def heading(section: str) -> str:
    """The heading of a section by its name: by-depth is `By depth`."""
    return HEADINGS.get(section) or spoken(section.replace("-", " ")).capitalize()


def factor_tab(section: str) -> str:
    """The name of a view by factor."""
    return heading(section).removeprefix("By ").removeprefix("The ")


def cost_table(by: str) -> str:
    """The title of the table of costs by a column."""
    return f"Cost by {by}"


def effects_table(outcome: Outcome) -> str:
    """The title of the table of effects."""
    return f"Effects on {OUTCOMES[outcome]}"


def epochs_table(outcome: Outcome) -> str:
    """The title of the table of effects by epoch."""
    return f"{effects_table(outcome)} by epoch (points)"
