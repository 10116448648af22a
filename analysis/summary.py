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
    **dict.fromkeys(("interaction", "difference", "gap", "slope", "unsteadiness"), ("", points)),
    **dict.fromkeys(("low", "high"), ("", points)),
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
    rivals, said = _rivals(study)
    cost = cost_finding(study)
    return [f"{headline(study)}{said}.", f"{factor_finding(study)}.", f"{cost}. Next: {_next(study, rivals)}."]


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


def _rivals(study: Study) -> tuple[int, str]:
    """How many other arms have a score inside the winner's 95% interval for the sampling of validation images alone
    (Wilson 1927), and what that says of the best."""
    scores, images = findings(study).ranked, study.manifest["dataset"]["counts"].get("validation") or 0
    if scores.empty or not images:
        return 0, ": which arm is best cannot be told yet"
    top = round(scores["validation_accuracy"].iloc[0] * images)
    low = stats.binomtest(top, images).proportion_ci(method="wilson").low
    rivals = scores.loc[scores["validation_accuracy"] >= low, "arm"].nunique() - 1
    said = f"; that is the maximum of {plural(len(scores), 'complete search trial')} on "
    said += f"{plural(images, 'validation image')} with one seed, so optimistic"
    if rivals:
        said += f", and these images cannot tell it from {plural(rivals, 'other arm')} with {percent(low)} or more"
    return rivals, said


def factor_finding(study: Study) -> str:
    """Which factor matters, as far as importance can say."""
    shares = findings(study).importance
    trials = int(shares["trials"].max()) if len(shares) else 0
    if not shares["tells"].any():
        why = ", and the factors do not predict their scores" if trials >= effects.ENOUGH_TRIALS else ""
        return f"Which factor matters cannot be told yet: {plural(trials, 'complete trial')} beside the baselines{why}"
    names = [factor["name"] for factor in effects.scientific(study.manifest["design"]["factors"])]
    first, ours = shares.iloc[0], shares[shares["factor"].isin(names)]
    said = f"The {spoken(first['factor'])} seems to matter most: alone it explains {_share(first)} of the variance of "
    said += f"the score over {trials} complete trials (fANOVA)"
    if len(ours) and ours["factor"].iloc[0] != first["factor"]:
        said += f"; of the architecture's factors the {spoken(ours['factor'].iloc[0])} most, {_share(ours.iloc[0])}"
    return said


def _share(row: pd.Series) -> str:
    return f"{100 * row['importance']:.0f}% ({100 * row['low']:.0f}–{100 * row['high']:.0f}% by forest)"


def cost_finding(study: Study) -> str:
    """What the study cost, and what early stopping saved."""
    sums = findings(study).spent[["core_seconds", "gpu_seconds", "saved_core_seconds"]].sum()
    said = f"It cost {sums['core_seconds']:,.0f} core-seconds"
    said += f" and {sums['gpu_seconds']:,.0f} GPU-seconds" if sums["gpu_seconds"] else ""
    wall = (study.manifest.get("seconds") or {}).get("wall")
    said += f" in {plural(len(study.trials), 'trial')}{f' and {wall:,.0f} s of wall time' if wall else ''}"
    saved = sums["saved_core_seconds"]
    return f"{said}; stopping early saved about {saved:,.0f}" if saved else said


def steadiness_finding(table: pd.DataFrame, shape: pd.DataFrame) -> str:
    """Whether, as the course report remarked, accuracy rises and steadiness falls without the pool: by the medians of
    complete trials, and a Mann–Whitney test (1947) of each, two-sided, at 5%."""
    rows = shape[~shape["trial"].isin(table.loc[is_baseline(table), "trial"])].dropna(subset="unsteadiness")
    pooled = rows["trial"].map(table.set_index("trial")["stem_maxpool"]).astype(bool)
    if min(pooled.sum(), (~pooled).sum()) < 4:
        return "Whether training is less steady without the pool cannot be told yet"
    said = []
    for name, noun in (("validation_accuracy", "accuracy"), ("unsteadiness", "its spread from epoch to epoch")):
        without, kept = rows.loc[~pooled, name], rows.loc[pooled, name]
        clear = stats.mannwhitneyu(without, kept).pvalue < 0.05
        values = f"{percent(without.median())} against {percent(kept.median())}"
        word = "higher" if without.median() > kept.median() else "lower"
        said.append(f"{noun} is {f'{word}, {values}' if clear else f'not clearly different ({values})'}")
    return f"Without the pool {said[0]}, and {said[1]} ({(~pooled).sum()} and {pooled.sum()} complete trials)"


def _next(study: Study, rivals: int) -> str:
    found, table = findings(study), findings(study).table
    if not study.manifest.get("ended"):
        return "let the study end; the same command goes on with it"
    if found.ranked.empty and len(table):
        diverged = (table["state"] == "diverged").any()
        return "lower learning rates, as trials diverged" if diverged else "see why no trial is complete (study.log)"
    edges = found.rates[found.rates["edge"] != ""].head(1)
    if len(edges) and edges["arm"].iloc[0] == found.ranked["arm"].iloc[0]:
        row = edges.iloc[0]
        span = f"{number(row['next_low'])} to {number(row['next_high'])}"
        return f"learning rates from {span}, for the best of {row['arm']} lies at the {row['edge']} end of the range"
    if not found.importance["tells"].any():
        return f"more trials (--samples {2 * max(len(table), 10)})"
    return f"the best arm{' and its rivals' if rivals else ''} again with several seeds"


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
    """Plain lines for the terminal: the answer, the five best, the baselines, and warnings."""
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
    return lines


def _lines(table: pd.DataFrame) -> list[str]:
    return ["  " + line for line in table.to_string(index=False).splitlines()]
