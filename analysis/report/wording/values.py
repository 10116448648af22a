"""How a value, an interval, an arm and a count are written."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.load import Study
from analysis.report.largest_class import LargestClass
from analysis.statistics import confirm, curves
from analysis.statistics.arms import Arm
from analysis.statistics.contrasts import Change
from analysis.statistics.curves import level_label
from analysis.statistics.estimate import Interval
from trainables.vocabulary import ArmRole, Stage

MISSING = "–"
SHARES = ("score", "importance", "least", "most", "explained", "probability")
POINTS = ("interaction", "difference", "low", "high", "gap", "slope", "unsteadiness")


def show(value: Any, name: str) -> str:
    """A value of the column `name` as text: a dash where missing, accuracies and shares in percent,
    their differences in percentage points, other fractional numbers with three significant digits.
    """
    if pd.isna(value):
        return MISSING
    if not isinstance(value, float):
        if name in ("parameters", "forward_flops"):
            return f"{value / 1e6:,.1f} M"
        return spoken(value) if name == "factor" else str(value)
    if name.endswith("accuracy") or name in SHARES:
        return f"{value:.1%}"
    if name in POINTS:
        return signed(value)
    return f"{value:,.1f}" if name.endswith("seconds") else f"{value:.3g}"


def readable(table: pd.DataFrame, *names: str) -> pd.DataFrame:
    """These columns (all of them, where none is named) as text under their headings."""
    columns = names or map(str, table)
    return pd.DataFrame(
        {spoken(name): [show(value, name) for value in table[name]] for name in columns}
    )


def plural(count: int, noun: str) -> str:
    """Such as `1 trial`, `2 trials`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def spoken(name: str) -> str:
    """A factor's or column's name in a sentence."""
    return name.replace("_", " ")


def sentence(text: str) -> str:
    """The text with a capital letter first."""
    return text[:1].upper() + text[1:]


def trial_name(trial: Mapping[Any, Any]) -> str:
    """A row of `curves.results` by the name of its baseline, or else by its number."""
    origin = str(trial["origin"])
    if origin.startswith(curves.BASELINE):
        return origin.replace(":", " ", 1)
    return f"trial {trial['trial']}"


def arm_name(arm: Arm) -> str:
    """How an arm is called: by its role, its baseline's name, or its label and what else it differs
    in from others with this label."""
    match arm.role:
        case ArmRole.WINNER:
            return f"winner: {arm.label}"
        case ArmRole.BASELINE:
            return arm.baseline
        case ArmRole.ALONE:
            return f"winner with {_level_of(arm, arm.factor)}"
        case _:
            return ", ".join([arm.label, *(_level_of(arm, name) for name in arm.distinct)])


def _level_of(arm: Arm, factor: str) -> str:
    return f"{spoken(factor)} {level_label(arm[factor])}"


def network_text(config: Any) -> str:
    """A configuration in words, with its label and learning rate."""
    kernel, pool = config["stem_kernel"], "max-pool" if config["stem_maxpool"] else "no max-pool"
    parts = [f"{kernel}×{kernel} stem", f"stride {config['stem_stride']}", pool]
    parts.append(f"{config['depth']} layers")
    if not config["residual"]:
        parts.append("no residual connections")
    label = config.label if isinstance(config, Arm) else config["arm"]
    return f"{', '.join(parts)} ({label}), learning rate {config['learning_rate']:.2g}"


def levels_text(before: Any, after: Any) -> str:
    """Such as `3 → 5`."""
    return f"{level_label(before)} → {level_label(after)}"


def change_text(change: Change) -> str:
    """Such as `stem kernel 3 → 5`."""
    return f"{spoken(change.factor)} {levels_text(change.before, change.after)}"


def interval_text(interval: Interval) -> str:
    """Such as `+0.2 to +1.2`, in points; a dash where there is none."""
    if math.isnan(interval.low):
        return MISSING
    return f"{signed(interval.low)} to {signed(interval.high)}"


def size_text(value: float, interval: Interval) -> str:
    """Such as `+0.7 (+0.2 to +1.2)`, in points."""
    if math.isnan(value):
        return MISSING
    ends = "" if math.isnan(interval.low) else f" ({interval_text(interval)})"
    return f"{signed(value)}{ends}"


def points(value: float, interval: Interval) -> str:
    """Such as `+0.7 points (+0.2 to +1.2)`."""
    size, space, ends = size_text(value, interval).partition(" ")
    return size if math.isnan(value) else f"{size} points{space}{ends}"


def signed(fraction: float) -> str:
    """A difference in percentage points with its sign, which a zero has not."""
    text = f"{100 * fraction:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def point_count(fraction: float, form: str = "g") -> str:
    """Such as `1 point`, `0.5 points`."""
    value = round(100 * fraction, 6)
    return f"{value:{form}} point{'' if value == 1 and form == 'g' else 's'}"


def mean_text(summary: confirm.ArmSummary, form: str = ".1%") -> str:
    """A mean with its interval, where it has one."""
    interval = summary.interval
    mean = f"{summary.mean:{form}}"
    if math.isnan(interval.low):
        return mean
    return f"{mean} ({interval.low:{form}} to {interval.high:{form}})"


def beside_largest(largest: LargestClass | None) -> str:
    """What always naming the largest class reaches, where classes are uneven."""
    return f" (always naming class {largest.name}: {largest.share:.1%})" if largest else ""


def status_counts(statuses: Mapping[Any, int]) -> str:
    """Such as `19 complete, 1 stopped`."""
    return ", ".join(f"{count} {status}" for status, count in statuses.items())


def stage_trials(study: Study, stage: Stage) -> str:
    """A stage's trials by state, such as `20 trials: 19 complete, 1 stopped`."""
    counts = study.trials.loc[study.trials["stage"] == stage, "state"].value_counts()
    counts = counts[counts > 0]
    trials = plural(counts.sum(), "trial")
    return f"{trials}: {status_counts(counts.to_dict())}" if len(counts) else trials
