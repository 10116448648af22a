"""What a study says in words: its answer in three sentences, its scope, and the closing lines for the terminal.

Scores here are of the search stage: one seed, validation images, the best chosen as a maximum, so optimistic.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pandas as pd
from scipy import stats

from analysis import curves, effects
from analysis.cost import spent
from analysis.load import Study
from analysis.verdict import sentences

CAVEAT = "search-stage validation scores of one seed; the best is a maximum over trials, so optimistic"
MISSING = "–"
POINTS = ("", 100, "+.1f")
COLUMNS: Mapping[str, tuple[str, float, str]] = {
    "learning_rate": ("", 1, ".3g"),
    "best_validation_accuracy": ("best over epochs", 1, ".1%"),
    **dict.fromkeys(("validation_accuracy", "score", "importance", "least", "most", "explained"), ("", 1, ".1%")),
    "train_accuracy": ("training accuracy", 1, ".1%"),
    "train_loss": ("training loss", 1, ".3g"),
    "train_seconds": ("training time (s)", 1, ",.1f"),
    **dict.fromkeys(("core_seconds", "gpu_seconds", "saved_core_seconds"), ("", 1, ",.1f")),
    **dict.fromkeys(("validation_loss", "best", "next_low", "next_high"), ("", 1, ".3g")),
    **dict.fromkeys(("interaction", "difference", "low", "high", "gap", "slope", "unsteadiness"), POINTS),
    "parameters": ("parameters (M)", 1e-6, ".3g"),
    "forward_flops": ("forward MFLOP", 1e-6, ".3g"),
}
"""How a column is headed (empty: by its name), scaled and written, where not as it is."""


@dataclass(frozen=True, eq=False)
class Findings:
    """What text and figures share: the search trials, the complete ones best first, each factor's levels, and tables
    of the statistics."""

    table: pd.DataFrame
    ranked: pd.DataFrame
    levels: Mapping[str, pd.DataFrame]
    spent: pd.DataFrame
    importance: pd.DataFrame
    rates: pd.DataFrame


@lru_cache(maxsize=4)
def findings(study: Study) -> Findings:
    """The findings of a study; they take seconds, and the page and the terminal ask for the same."""
    factors, table = study.manifest["design"]["factors"], curves.results(study.trials, study.epochs)
    rates = [effects.rate_response(table, factor) for factor in factors if factor["name"] == "learning_rate"]
    return Findings(
        table=table,
        ranked=curves.ranked(table),
        levels={factor["name"]: curves.factor_levels(table, factor) for factor in factors},
        spent=spent(study.trials, study.epochs, study.manifest["settings"]),
        importance=effects.importance(table, factors),
        rates=rates[0] if rates else pd.DataFrame(columns=["arm", "edge"]),
    )


def show(value: Any, spec: str = "") -> str:
    """A value by Python's format specification; a dash where missing."""
    return MISSING if pd.isna(value) else format(value, spec)


def plural(count: int, noun: str) -> str:
    """Such as `1 trial`, `2 trials`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def spoken(name: str) -> str:
    """A factor's or column's name in a sentence."""
    return name.replace("_", " ")


def readable(table: pd.DataFrame, *names: str) -> pd.DataFrame:
    """These columns (all of them, where none is named) as text under their headings."""
    shown = {}
    for name in names or table.columns:
        heading, scale, spec = COLUMNS.get(name, ("", 1, ""))
        cells = table[name]
        values = [*map(show, cells)] if cells.dtype == "str" else [show(x * scale if spec else x, spec) for x in cells]
        shown[heading or spoken(name)] = [*map(spoken, values)] if name == "factor" else values
    return pd.DataFrame(shown)


def states(trials: pd.DataFrame) -> str:
    """Search trials by state, such as `20 trials: 19 complete, 1 stopped`."""
    found = trials.loc[trials["stage"] == "search", "state"].value_counts()
    counts = ", ".join(f"{count} {state}" for state, count in found.items() if count)
    return f"{plural(found.sum(), 'trial')}{': ' if counts else ''}{counts}"


def answer(study: Study) -> list[str]:
    """Three sentences: the best arm, the factor that matters, what it cost and what to run next; the first two from
    the confirm stage where it has said something."""
    rivals, doubt = _doubt(study)
    cost = f"{cost_finding(study)}. Next: {_next(study, rivals)}."
    searched = [f"{headline(study)}{doubt}.", f"{factor_finding(study)}."]
    return [*(sentences(study) or searched), cost]


def headline(study: Study) -> str:
    """The best complete search trial, and the best baseline beside it; says so where there is none yet."""
    best, ended = findings(study).ranked, study.manifest.get("ended")
    if best.empty:
        return f"No complete trial{'' if ended else ' yet'} ({states(study.trials)})"
    first, fixed = best.iloc[0], best[curves.is_baseline(best)]
    name = first["origin"].removeprefix(curves.BASELINE)
    who = f"Trial {first['trial']}" if name == first["origin"] else f"Baseline {name}"
    said = f"{who} ({first['arm']}, learning rate {first['learning_rate']:.3g}) is best{'' if ended else ' so far'}: "
    said += f"{first['validation_accuracy']:.1%} validation accuracy after {plural(first['epochs'], 'epoch')}"
    if name != first["origin"] or fixed.empty:
        return said
    rival = fixed.iloc[0]
    return f"{said}, best baseline {rival['origin'].removeprefix(curves.BASELINE)} {rival['validation_accuracy']:.1%}"


def _doubt(study: Study) -> tuple[int, str]:
    """How many other arms have a score inside the winner's 95% interval for the sampling of validation images alone
    (Wilson 1927), and what that and the choice of a maximum say of the best."""
    scores, images = findings(study).ranked, study.manifest["dataset"]["counts"].get("validation") or 0
    if scores.empty or not images:
        return 0, "; which arm is best cannot be told yet"
    top = round(scores["validation_accuracy"].iloc[0] * images)
    low = stats.binomtest(top, images).proportion_ci(method="wilson").low
    rivals = scores.loc[scores["validation_accuracy"] >= low, "arm"].nunique() - 1
    said = f"; a maximum over {plural(len(scores), 'complete search trial')}, {plural(images, 'validation image')} and "
    said += "one seed is optimistic"
    if rivals:
        said += f", and these images cannot tell it from {plural(rivals, 'other arm')} with {low:.1%} or more"
    return rivals, said


def factor_finding(study: Study) -> str:
    """Which factor matters, as far as importance can say."""
    shares = findings(study).importance
    trials = int(shares["trials"].max()) if len(shares) else 0
    if not shares["tells"].any():
        why = ", and the factors do not predict their scores" if trials >= effects.ENOUGH_TRIALS else ""
        return f"Which factor matters cannot be told yet: {plural(trials, 'complete trial')} beside the baselines{why}"
    names = [factor["name"] for factor in effects.scientific(study.manifest["design"]["factors"])]
    ours, said = shares[shares["factor"].isin(names)].head(1), []
    for row in pd.concat([shares.head(1), ours]).drop_duplicates("factor").to_dict("records"):
        said.append(
            f"{spoken(row['factor'])}, {row['importance']:.0%} ({row['least']:.0%}–{row['most']:.0%} by forest)"
        )
    lead = f"What seems to explain most of the variance over {trials} complete trials (fANOVA) is the "
    return lead + "; of the scientific factors the ".join(said)


def cost_finding(study: Study) -> str:
    """What the study cost, and what early stopping saved."""
    sums = findings(study).spent[["core_seconds", "gpu_seconds", "saved_core_seconds"]].sum()
    gpu = f" and {sums['gpu_seconds']:,.0f} GPU-seconds" if sums["gpu_seconds"] else ""
    wall = (study.manifest.get("seconds") or {}).get("wall")
    said = f"It cost {sums['core_seconds']:,.0f} core-seconds{gpu} in {plural(len(study.trials), 'trial')}"
    said += f" and {wall:,.0f} s of wall time" if wall else ""
    saved = sums["saved_core_seconds"]
    return f"{said}; stopping early saved about {saved:,.0f}" if saved else said


def steadiness_finding(study: Study, shape: pd.DataFrame) -> str:
    """Whether, as the course report remarked, accuracy rises and steadiness falls without the pool: medians over
    complete trials (of `training_shape`), and a two-sided Mann–Whitney test of each at 5% (1947)."""
    varied = shape.merge(study.trials.loc[~curves.is_baseline(study.trials), ["trial", "stem_maxpool"]], on="trial")
    groups = [rows for _, rows in varied.dropna(subset="unsteadiness").groupby("stem_maxpool")]
    if len(groups) < 2 or min(map(len, groups)) < 4:
        return "Whether training is less steady without the pool cannot be told yet"
    said = []
    for name, noun in (("validation_accuracy", "accuracy"), ("unsteadiness", "unsteadiness")):
        without, pooled = (rows[name] for rows in groups)
        clear = stats.mannwhitneyu(without, pooled).pvalue < 0.05
        word = "higher" if without.median() > pooled.median() else "lower"
        said.append(f"{noun} is {word if clear else 'not clearly different'}")
        said[-1] += f" ({without.median():.1%} against {pooled.median():.1%})"
    return f"Without the pool {' and '.join(said)}, {len(groups[0])} and {len(groups[1])} complete trials"


def _next(study: Study, rivals: int) -> str:
    found, table = findings(study), findings(study).table
    if not study.manifest.get("ended"):
        return "let the study end; the same command goes on with it"
    if found.ranked.empty and len(table):
        diverged = (table["state"] == "diverged").any()
        return "lower learning rates, as trials diverged" if diverged else "see why no trial is complete (study.log)"
    for row in found.rates.head(1).to_dict("records"):
        if row["edge"] and row["arm"] == found.ranked["arm"].iloc[0]:
            end = f"for the best of {row['arm']} lies at the {row['edge']} end of the range"
            return f"learning rates from {row['next_low']:.3g} to {row['next_high']:.3g}, {end}"
    if not found.importance["tells"].any():
        return f"more trials (--samples {2 * max(len(table), 10)})"
    return f"the best arm{' and its rivals' if rivals else ''} again with several seeds"


def scope(study: Study) -> str:
    """What the study's numbers are about: data set, trials, epochs, stage, seed; said on every figure."""
    data, settings = study.manifest["dataset"], study.manifest["settings"]
    train, validation = (data["counts"].get(part, 0) for part in ("train", "validation"))
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
    top, fixed = found.ranked.head(5), curves.baselines(found.table, study.manifest["design"]["baselines"])
    shown = ("arm", "learning_rate", "validation_accuracy", "validation_loss", "epochs")
    lines = [*answer(study), scope(study)]
    if len(top):
        lines += ["", f"Best complete trials ({CAVEAT}):", *_lines(readable(top, "trial", *shown))]
    if len(fixed):
        lines += ["", "Baselines (last reading):", *_lines(readable(fixed, "baseline", "trial", "state", *shown))]
    for state in ("failed", "diverged"):
        hit = study.trials[study.trials["state"] == state]
        if len(hit):
            lines += ["", f"Warning: {len(hit)} {state}: trial {', '.join(map(str, hit['trial']))}"]
    return lines


def _lines(table: pd.DataFrame) -> list[str]:
    return ["  " + line for line in table.to_string(index=False).splitlines()]
