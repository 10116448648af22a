"""What a study says in words: its answer in three sentences, its scope, and the closing lines for the terminal.

Scores here are of the search stage: one seed, validation images, the best chosen as a maximum, so optimistic.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pandas as pd
from scipy import stats

from analysis import cost as costing
from analysis import effects
from analysis.curves import BASELINE, baselines, is_baseline, ranked, results
from analysis.load import Study

CAVEAT = "search-stage validation scores of one seed; the best is a maximum over trials, so optimistic"
MISSING = "–"


@dataclass(frozen=True, eq=False)
class Findings:
    """What text and figures share: the search trials, the complete ones best first, and tables of the statistics."""

    table: pd.DataFrame
    ranked: pd.DataFrame
    spent: pd.DataFrame
    importance: pd.DataFrame
    differences: pd.DataFrame
    rates: pd.DataFrame


@lru_cache(maxsize=4)
def findings(study: Study) -> Findings:
    """The findings of a study; they take seconds, and the page and the terminal ask for the same."""
    factors = study.manifest["design"]["factors"]
    table = results(study.trials, study.epochs)
    return Findings(
        table,
        ranked(table),
        costing.spent(study.trials, study.epochs, study.manifest["settings"]),
        effects.importance(table, factors),
        effects.matched_differences(table, factors),
        pd.concat(
            [effects.rate_response(table, factor) for factor in factors if factor["name"] == "learning_rate"]
            or [pd.DataFrame(columns=["arm", "edge"])]
        ),
    )


def percent(fraction: Any) -> str:
    """A fraction in percent with one decimal; a dash where missing."""
    return MISSING if pd.isna(fraction) else f"{100 * fraction:.1f}%"


def number(value: Any) -> str:
    """A number with three significant digits; a dash where missing."""
    return MISSING if pd.isna(value) else f"{value:.3g}"


def plural(count: int, noun: str) -> str:
    """Such as `1 trial`, `2 trials`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def points(fraction: Any) -> str:
    """A difference of two accuracies in percentage points, with its sign."""
    return MISSING if pd.isna(fraction) else f"{100 * fraction:+.1f}"


def seconds(value: Any) -> str:
    """Seconds, with tenths under a thousand; a dash where missing."""
    return MISSING if pd.isna(value) else f"{value:,.{1 if value < 1000 else 0}f}"


def spoken(name: str) -> str:
    """A factor's name in a sentence."""
    return name.replace("_", " ")


def text(value: Any) -> str:
    """A value as it is; a dash where missing."""
    return MISSING if pd.isna(value) else str(value)


COLUMNS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "learning_rate": ("learning rate", number),
    "validation_accuracy": ("validation accuracy", percent),
    "best_validation_accuracy": ("best over epochs", percent),
    "validation_loss": ("validation loss", number),
    "train_accuracy": ("training accuracy", percent),
    "train_loss": ("training loss", number),
    "train_seconds": ("training time (s)", seconds),
    "core_seconds": ("core-seconds", seconds),
    "gpu_seconds": ("GPU-seconds", seconds),
    "saved_core_seconds": ("core-seconds saved by stopping", seconds),
    "parameters": ("parameters (M)", lambda value: number(value / 1e6)),
    "forward_flops": ("forward MFLOP", lambda value: number(value / 1e6)),
    "score": ("mean of the best", percent),
    **dict.fromkeys(("importance", "explained"), ("", percent)),
    **dict.fromkeys(("interaction", "difference", "low", "high"), ("", points)),
    **dict.fromkeys(("best", "next_low", "next_high"), ("", number)),
}
"""How a column is headed (empty: by its name) and written, where not as it is."""


def readable(table: pd.DataFrame, *names: str) -> pd.DataFrame:
    """These columns (all of them, where none is named) as text under their headings."""
    heads = {name: COLUMNS.get(name, ("", text)) for name in names or table.columns}
    return pd.DataFrame(
        {
            head or name.replace("_", " "): [write(value) for value in table[name]]
            for name, (head, write) in heads.items()
        }
    )


def states(trials: pd.DataFrame) -> str:
    """Search trials by state, such as `20 trials: 19 complete, 1 stopped`."""
    found = trials.loc[trials["stage"] == "search", "state"].value_counts()
    counts = ", ".join(f"{count} {state}" for state, count in found.items() if count)
    return f"{plural(found.sum(), 'trial')}{': ' if counts else ''}{counts}"


def answer(study: Study) -> list[str]:
    """Three sentences: the best arm, the factor that matters, what it cost and what to run next."""
    found = findings(study)
    rivals = _rivals(study, found)
    return [_best(study, found, rivals), _factor(study, found), f"{_spent(found)} Next: {_next(study, found, rivals)}."]


def headline(study: Study) -> str:
    """The best complete search trial, and the best baseline beside it; says so where there is none yet."""
    best, ended = findings(study).ranked, study.manifest.get("ended")
    if best.empty:
        return f"No complete trial{'' if ended else ' yet'} ({states(study.trials)})"
    first, fixed = best.iloc[0], best[is_baseline(best)]
    name = first["origin"].removeprefix(BASELINE)
    who = f"Trial {first['trial']}" if name == first["origin"] else f"Baseline {name}"
    said = (
        f"{who} ({first['arm']}, learning rate {number(first['learning_rate'])}) is best{'' if ended else ' so far'}: "
    )
    said += f"{percent(first['validation_accuracy'])} validation accuracy after {plural(first['epochs'], 'epoch')}"
    if name != first["origin"] or fixed.empty:
        return said
    rival = fixed.iloc[0]
    return f"{said}; best baseline {rival['origin'].removeprefix(BASELINE)} {percent(rival['validation_accuracy'])}"


def _rivals(study: Study, found: Findings) -> tuple[int, float]:
    """How many other arms have their best score inside the winner's 95% interval for the sampling of validation
    images alone (Wilson 1927), and where that starts."""
    images = study.manifest["dataset"]["counts"].get("validation") or 0
    if found.ranked.empty or not images:
        return 0, 1.0
    top = found.ranked["validation_accuracy"].iloc[0]
    low = stats.binomtest(round(top * images), images).proportion_ci(method="wilson").low
    arms = found.ranked.groupby("arm")["validation_accuracy"].max()
    return int((arms >= low).sum()) - 1, float(low)


def _best(study: Study, found: Findings, rivals: tuple[int, float]) -> str:
    if found.ranked.empty:
        return f"{headline(study)}: which arm is best cannot be told yet."
    images = study.manifest["dataset"]["counts"].get("validation") or 0
    said = f"{headline(study)}; that is the maximum of {plural(len(found.ranked), 'complete search trial')} on "
    said += f"{plural(images, 'validation image')} with one seed, so optimistic"
    if rivals[0]:
        best = plural(rivals[0], "other arm")
        said += f", and {best} reached {percent(rivals[1])} or more, which these images cannot tell from it"
    return f"{said}."


def _factor(study: Study, found: Findings) -> str:
    shares = found.importance
    trials = int(shares["trials"].max()) if len(shares) else 0
    if not shares["tells"].any():
        why = f"{plural(trials, 'complete trial')} beside the baselines"
        if trials >= effects.ENOUGH_TRIALS:
            why += ", and the factors do not predict their scores"
        return f"Which factor matters cannot be told yet: {why}."
    names = [factor["name"] for factor in effects.scientific(study.manifest["design"]["factors"])]
    first, ours = shares.iloc[0], shares[shares["factor"].isin(names)]
    said = f"The {spoken(first['factor'])} seems to matter most: alone it explains {_share(first)} of the variance of "
    said += f"the score over {trials} complete trials (fANOVA)"
    if len(ours) and ours["factor"].iloc[0] != first["factor"]:
        said += f"; of the architecture's factors the {spoken(ours['factor'].iloc[0])} most, {_share(ours.iloc[0])}"
    pairs = found.differences
    if len(pairs):
        wide = pairs.loc[pairs["difference"].abs().idxmax()]
        said += f"; {spoken(wide['factor'])} {wide['level']} is {points(wide['difference'])} points against "
        said += f"{wide['reference']} over {wide['pairs']} matched pairs of arms"
        said += f" (95% interval {points(wide['low'])} to {points(wide['high'])})" if wide["pairs"] > 1 else ""
    return f"{said}."


def _share(row: pd.Series) -> str:
    return f"{100 * row['importance']:.0f}% ({100 * row['low']:.0f}–{100 * row['high']:.0f}% by forest)"


def _spent(found: Findings) -> str:
    used, saved = found.spent["core_seconds"].sum(), found.spent["saved_core_seconds"].sum()
    gpu = found.spent["gpu_seconds"].sum()
    said = f"It cost {used:,.0f} core-seconds{f' and {gpu:,.0f} GPU-seconds' if gpu else ''} in "
    return f"{said}{plural(len(found.spent), 'trial')}{f'; stopping early saved about {saved:,.0f}' if saved else ''}."


def _next(study: Study, found: Findings, rivals: tuple[int, float]) -> str:
    table, settings = found.table, study.manifest["settings"]
    diverged = (table["state"] == "diverged").sum()
    best = found.rates[found.rates["edge"] != ""].head(1)
    if not study.manifest.get("ended"):
        return "let the study end; the same command goes on with it"
    if found.ranked.empty and len(table):
        return "lower learning rates, as trials diverged" if diverged else "see the errors in study.log, or more epochs"
    if len(best) and best["arm"].iloc[0] == found.ranked["arm"].iloc[0]:
        row = best.iloc[0]
        span = f"{number(row['next_low'])} to {number(row['next_high'])}"
        return f"learning rates from {span}, as the best of {row['arm']} lies at the {row['edge']} end of the range"
    if not found.importance["tells"].any():
        return f"more trials (--samples {2 * (settings.get('samples') or len(table) or 10)})"
    return "the closest arms again with several seeds" if rivals[0] else "the best arm again with several seeds"


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
    """Plain lines for the terminal: the answer, the five best, the baselines, warnings, and what it cost."""
    found = findings(study)
    top, fixed = found.ranked.head(5), baselines(found.table, study.manifest["design"]["baselines"])
    shown = ("arm", "learning_rate", "validation_accuracy", "validation_loss", "epochs")
    lines = [*answer(study), scope(study)]
    if len(top):
        lines += ["", f"Best complete trials ({CAVEAT}):", *_lines(readable(top, "trial", *shown))]
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
