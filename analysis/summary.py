"""What a study says in words: its headline, its scope, and the closing lines for the terminal.

Scores here are of the search stage: one seed, validation images, the best chosen as a maximum, so optimistic.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from analysis.curves import baselines, best_trials
from analysis.load import Study

CAVEAT = "search-stage validation scores of one seed; the best is a maximum over trials, so optimistic"
MISSING = "–"


def percent(fraction: Any) -> str:
    """A fraction in percent with one decimal; a dash where missing."""
    return MISSING if pd.isna(fraction) else f"{100 * fraction:.1f}%"


def number(value: Any) -> str:
    """A number with three significant digits; a dash where missing."""
    return MISSING if pd.isna(value) else f"{value:.3g}"


def plural(count: int, noun: str) -> str:
    """Such as `1 trial`, `2 trials`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def text(value: Any) -> str:
    """A value as it is; a dash where missing."""
    return MISSING if pd.isna(value) else str(value)


COLUMNS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "baseline": ("baseline", text),
    "trial": ("trial", text),
    "origin": ("origin", text),
    "arm": ("arm", text),
    "learning_rate": ("learning rate", number),
    "state": ("state", text),
    "error": ("error", text),
    "epochs": ("epochs", text),
    "validation_accuracy": ("validation accuracy", percent),
    "best_validation_accuracy": ("best over epochs", percent),
    "validation_loss": ("validation loss", number),
    "train_accuracy": ("training accuracy", percent),
    "train_loss": ("training loss", number),
    "train_seconds": ("training time (s)", lambda value: MISSING if pd.isna(value) else f"{value:,.1f}"),
    "parameters": ("parameters (M)", lambda value: number(value / 1e6)),
    "forward_flops": ("forward MFLOP", lambda value: number(value / 1e6)),
}
"""How a column of `results` is headed and written."""


def readable(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """These columns as text under their headings."""
    return pd.DataFrame({COLUMNS[name][0]: [COLUMNS[name][1](value) for value in table[name]] for name in columns})


def states(trials: pd.DataFrame) -> str:
    """Search trials by state, such as `20 trials: 19 complete, 1 stopped`."""
    found = trials.loc[trials["stage"] == "search", "state"].value_counts()
    counts = ", ".join(f"{count} {state}" for state, count in found.items() if count)
    return f"{plural(found.sum(), 'trial')}{': ' if counts else ''}{counts}"


def headline(study: Study) -> str:
    """The best complete search trial, and the best baseline beside it; says so where there is none yet."""
    ranked = best_trials(study.trials, study.epochs)
    ended = study.manifest.get("ended")
    if ranked.empty:
        return f"No complete trial{'' if ended else ' yet'} ({states(study.trials)})"
    best = ranked.iloc[0]
    fixed = ranked[ranked["origin"].str.startswith("baseline:")]
    name = best["origin"].removeprefix("baseline:")
    who = f"Trial {best['trial']} ({best['arm']})" if name == best["origin"] else f"Baseline {name} ({best['arm']})"
    text = f"{who} is best{'' if ended else ' so far'}: "
    text += f"{percent(best['validation_accuracy'])} validation accuracy after {plural(best['epochs'], 'epoch')}"
    if name != best["origin"] or fixed.empty:
        return text
    rival = fixed.iloc[0]
    return f"{text}; best baseline {rival['origin'].removeprefix('baseline:')} {percent(rival['validation_accuracy'])}"


def scope(study: Study) -> str:
    """What the study's numbers are about: data set, trials, epochs, stage, seed; said on every figure."""
    data, settings = study.manifest["dataset"], study.manifest["settings"]
    counts = data["counts"]
    train, validation = counts.get("train", 0), counts.get("validation", 0)
    text = f"Data set {data['name']}: {train:,} training and {validation:,} validation images"
    if (available := data.get("available") or 0) > train + validation:
        text += f", only {train + validation:,} of the {available:,} there are"
    if data.get("chosen"):
        text += f" (data set chosen by default: {data['chosen']})"
    unfinished = "" if study.manifest.get("ended") else "; the study is not finished"
    return (
        f"{text}. {states(study.trials)}; at most {plural(settings['epochs'], 'epoch')}{unfinished}. "
        f"Search stage: validation images, one seed ({settings['seed']})."
    )


def closing_lines(study: Study) -> list[str]:
    """Plain lines for the terminal: the five best, the baselines, warnings, where it is kept and what it cost."""
    ranked = best_trials(study.trials, study.epochs).head(5)
    fixed = baselines(study.trials, study.epochs, study.manifest["design"]["baselines"])
    shown = ("arm", "learning_rate", "validation_accuracy", "validation_loss", "epochs")
    lines = [headline(study), scope(study)]
    if len(ranked):
        lines += ["", f"Best complete trials ({CAVEAT}):", *_lines(readable(ranked, "trial", *shown))]
    if len(fixed):
        lines += ["", "Baselines (last reading):", *_lines(readable(fixed, "baseline", "trial", "state", *shown))]
    lines.append("")
    for state in ("failed", "diverged"):
        hit = study.trials[study.trials["state"] == state]
        if len(hit):
            lines.append(f"Warning: {len(hit)} {state}: trial {', '.join(map(str, hit['trial']))}")
    return [*lines, cost(study)]


def cost(study: Study) -> str:
    """One line: core- and accelerator-seconds by stage, and the wall time in seconds."""
    seconds = study.manifest.get("seconds") or {}
    stages = [
        f"{stage} {used.get('core', 0):,.0f} core-seconds and {used.get('accelerator', 0):,.0f} accelerator-seconds"
        for stage, used in seconds.items()
        if isinstance(used, dict)
    ]
    wall = seconds.get("wall")
    return "Cost: " + ", ".join([*stages, "wall time unknown" if wall is None else f"{wall:,.0f} s wall time"])


def _lines(table: pd.DataFrame) -> list[str]:
    return ["  " + line for line in table.to_string(index=False).splitlines()]
