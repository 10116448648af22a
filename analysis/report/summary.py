"""What a study says in words: its answer in three sentences, its scope, and the closing lines for
the terminal.

Scores here are of the search stage: one seed, validation images, the best chosen as a maximum, so
optimistic.
"""

from functools import lru_cache
from math import ceil
from typing import Any

import pandas as pd
from scipy import stats

from analysis.load import Study
from analysis.report.verdict import effect_lines, sentences, spoken_points
from analysis.statistics import confirm, curves, search
from analysis.statistics.arms import confirm_stage
from analysis.statistics.cost import spent
from trainables.vocabulary import ArmRole

CAVEAT = (
    "search-stage validation scores of one seed; the best is a maximum over trials, so optimistic"
)
MISSING = "–"
MANY_SEEDS = 1_000_000
SHARES = ("score", "importance", "least", "most", "explained")
POINTS = ("interaction", "difference", "low", "high", "gap", "slope", "unsteadiness")


class Findings:
    """What text and figures share: the search trials, the complete ones best first, each factor's
    levels, and tables of the statistics."""

    def __init__(self, study: Study) -> None:
        factors = study.manifest["design"]["factors"]
        self.table = curves.results(study.trials, study.epochs)
        self.ranked = curves.ranked(self.table)
        self.levels = {
            factor["name"]: curves.factor_levels(self.table, factor) for factor in factors
        }
        self.spent = spent(study.trials, study.epochs, study.manifest["settings"])
        self.importance = search.importance(self.table, factors)
        ranges = [factor for factor in factors if "levels" not in factor]
        self.responses = {
            factor["name"]: search.rate_response(self.table, factor) for factor in ranges
        }


findings = lru_cache(maxsize=4)(Findings)
"""The findings of a study; they take seconds, and the page and the terminal ask for the same."""


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
        return f"{100 * value:+.1f}"
    return f"{value:,.1f}" if name.endswith("seconds") else f"{value:.3g}"


def plural(count: int, noun: str) -> str:
    """Such as `1 trial`, `2 trials`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def spoken(name: str) -> str:
    """A factor's or column's name in a sentence."""
    return name.replace("_", " ")


def named(trial: pd.Series) -> str:
    """A row of `results` by the name of its baseline, or else by its number."""
    origin: str = trial["origin"]
    return (
        origin.replace(":", " ", 1)
        if origin.startswith(curves.BASELINE)
        else f"trial {trial['trial']}"
    )


def readable(table: pd.DataFrame, *names: str) -> pd.DataFrame:
    """These columns (all of them, where none is named) as text under their headings."""
    shown = names or map(str, table)
    return pd.DataFrame(
        {spoken(name): [show(value, name) for value in table[name]] for name in shown}
    )


def states(trials: pd.DataFrame, stage: str = "search") -> str:
    """A stage's trials by state, such as `20 trials: 19 complete, 1 stopped`."""
    found = trials.loc[trials["stage"] == stage, "state"].value_counts()
    counts = ", ".join(f"{count} {state}" for state, count in found.items() if count)
    return f"{plural(found.sum(), 'trial')}{': ' if counts else ''}{counts}"


def answer(study: Study) -> list[str]:
    """The best arm, what each factor does, what it cost and what to run next: from the confirm
    stage where it has said something, else from the search."""
    cost = f"{cost_finding(study)}. Next: {_next(study)}."
    searched = [f"{headline(study)}{_doubt(study)}.", f"{factor_finding(study)}."]
    return [*(sentences(study) or searched), cost]


def headline(study: Study) -> str:
    """The best complete search trial, and the best baseline beside it; says so where there is none
    yet."""
    best, ended = findings(study).ranked, study.manifest.get("ended")
    if best.empty:
        return f"No complete trial{'' if ended else ' yet'} ({states(study.trials)})"
    first, rival = best.iloc[0], best[curves.is_baseline(best)].head(1)
    who = f"{named(first)} ({first['arm']}, learning rate {first['learning_rate']:.3g})"
    said = f"{who[0].upper()}{who[1:]} is best{'' if ended else ' so far'}: "
    said += f"{first['validation_accuracy']:.1%} validation accuracy after {plural(first['epochs'], 'epoch')}"
    for _, row in rival[rival["trial"] != first["trial"]].iterrows():
        said += f", best {named(row)} {row['validation_accuracy']:.1%}"
    return said


def _doubt(study: Study) -> str:
    """How many other arms have a score inside the winner's 95% interval for the sampling of
    validation images alone (Wilson 1927), and what that and the choice of a maximum say of the
    best."""
    scores, images = (
        findings(study).ranked,
        study.manifest["dataset"]["counts"].get("validation") or 0,
    )
    if scores.empty or not images:
        return "; which arm is best is not known yet"
    top = round(scores["validation_accuracy"].iloc[0] * images)
    low = stats.binomtest(top, images).proportion_ci(method="wilson").low
    rivals = scores.loc[scores["validation_accuracy"] >= low, "arm"].nunique() - 1
    tie = f", and on these images it is not significantly above {plural(rivals, 'other arm')} with {low:.1%} or more"
    drawn = f"{plural(len(scores), 'complete search trial')}, {plural(images, 'validation image')} and one seed"
    return f"; a maximum over {drawn} is optimistic{tie if rivals else ''}"


def factor_finding(study: Study) -> str:
    """Which factor matters, as far as importance can say."""
    shares = findings(study).importance
    trials = int(shares["trials"].max()) if len(shares) else 0
    if not shares["tells"].any():
        why = (
            ", and the factors do not predict their scores"
            if trials >= search.ENOUGH_TRIALS
            else ""
        )
        return f"Which factor matters is not known yet: {plural(trials, 'complete trial')} beside the baselines{why}"
    names = [factor["name"] for factor in search.scientific(study.manifest["design"]["factors"])]
    first, ours = shares.head(1), shares[shares["factor"].isin(names)].head(1)
    spread = [
        f"{spoken(str(row.factor))}, {row.importance:.0%} ({row.least:.0%}–{row.most:.0%} by forest)"
        for row in pd.concat([first, ours]).drop_duplicates("factor").itertuples()
    ]
    lead = (
        f"What seems to explain most of the variance over {trials} complete trials (fANOVA) is the "
    )
    return lead + "; of the scientific factors the ".join(spread)


def cost_finding(study: Study) -> str:
    """What the study cost, and what early stopping saved."""
    cores, gpus, saved = (
        findings(study).spent[["core_seconds", "gpu_seconds", "saved_core_seconds"]].sum()
    )
    wall = (study.manifest.get("seconds") or {}).get("wall")
    said = f"It cost {cores:,.0f} core-seconds{f' and {gpus:,.0f} GPU-seconds' if gpus else ''}"
    said += f" in {plural(len(study.trials), 'trial')}{f' and {wall:,.0f} s of wall time' if wall else ''}"
    return f"{said}; stopping early saved about {saved:,.0f}" if saved else said


def _next(study: Study) -> str:
    found, table = findings(study), findings(study).table
    search = study.manifest["design"].get("search", "sampled")
    if not study.manifest.get("ended"):
        return "let the study end; the same command resumes it"
    if found.ranked.empty and len(table):
        diverged = (table["state"] == "diverged").any()
        return (
            "lower learning rates, as trials diverged"
            if diverged
            else "see why no trial is complete (study.log)"
        )
    # In a factorial design the samples are a multiple of the arms, as those there are.
    samples = (
        len(table) * ceil(20 / max(1, min(10, len(table))))
        if search == "factorial"
        else 2 * max(10, len(table))
    )
    more = f"more trials (--samples {samples})"
    if confirm.effects(study):
        return _narrower(study) or (
            f"{more}, in case there is a better arm" if search == "sampled" else "nothing"
        )
    for name, rows in found.responses.items():
        for row in rows.head(1).to_dict("records"):
            if row["edge"] and row["arm"] == found.ranked["arm"].iloc[0]:
                end = f"for the best of {row['arm']} lies at the {row['edge']} end of the range"
                return (
                    f"{spoken(name)}s from {row['next_low']:.3g} to {row['next_high']:.3g}, {end}"
                )
    if search == "none":
        return "see why nothing is confirmed (study.log)"
    if not found.importance["tells"].any():
        return more
    return "the best arms again with several seeds (--confirm-seeds 3)"


def _narrower(study: Study) -> str:
    """Which seeds bring every effect's interval within the margin; nothing where all are."""
    values = [effect.estimate for effect in confirm.effects(study) if effect.estimate.seeds]
    margin = study.manifest["design"].get("margin", 0.01)
    if any(value.seeds == 1 for value in values):
        return "--confirm-seeds 5, for one seed shows no spread"
    if all(value.interval.half <= margin for value in values):
        return ""
    bound = f"±{spoken_points(margin)}"
    lasting = max(
        (value.with_seeds(MANY_SEEDS).interval.half for value in values if value.images),
        default=0.0,
    )
    floor = (
        f"; the test images alone leave ±{100 * lasting:.1f} points, however many seeds"
        if lasting
        else ""
    )
    seeds = confirm.seeds_for_width(study, margin)
    if seeds is None:
        return (
            f"more test images, for no number of seeds brings every interval within {bound}{floor}"
        )
    aim = f"about {seeds} seeds, until every effect is known within {bound}"
    return f"--confirm-until-width {100 * margin:g} ({aim}{floor})"


def scope(study: Study, stage: str = "search") -> str:
    """What a stage's numbers are about: data set, trials, epochs, seeds; said on every figure."""
    data, settings = study.manifest["dataset"], study.manifest["settings"]
    train, validation, test = (
        data["counts"].get(part, 0) for part in ("train", "validation", "test")
    )
    available, chosen = data.get("available") or 0, data.get("chosen")
    images = f"{train:,} training and {validation:,} validation images"
    images += (
        f", only {train + validation:,} of the {available:,} there are"
        if available > train + validation
        else ""
    )
    images += f" (data set chosen by default: {chosen})" if chosen else ""
    if stage == "confirm":
        images += f", all trained on, and {test:,} test images"
    how = (
        f"Search stage: validation images, one seed ({settings['seed']})."
        if stage == "search"
        else ""
    )
    unfinished = "" if study.manifest.get("ended") else "; the study is not finished"
    return (
        f"Data set {data['name']}: {images}. {states(study.trials, stage)}; "
        f"at most {plural(settings['epochs'], 'epoch')}{unfinished}. {how}"
    ).strip()


def chosen_scope(study: Study) -> str:
    """What the confusion matrix of the chosen model is of: its first confirm seed, or before there
    is one the search trial."""
    stage = confirm_stage(study)
    if stage and (stage.states[stage.numbers(ArmRole.WINNER)] == "complete").any():
        return f"The winner's first confirm seed, on test images. {scope(study, 'confirm')}"
    return f"The best search trial, on validation images. {scope(study)}"


def closing_lines(study: Study) -> list[str]:
    """Plain lines for the terminal: the answer, the five best, the baselines, warnings, and a line
    for each effect."""
    found, shown = (
        findings(study),
        ("arm", "learning_rate", "validation_accuracy", "validation_loss", "epochs"),
    )
    fixed = found.table[curves.is_baseline(found.table)]
    tables = {
        f"Best complete trials ({CAVEAT}):": readable(found.ranked.head(5), "trial", *shown),
        "Baselines (last reading):": readable(fixed, "origin", "trial", "state", *shown),
    }
    effects = effect_lines(study)
    lines = [*(line for line in answer(study) if line not in effects), scope(study)]
    for title, table in tables.items():
        if len(table):
            lines += [
                "",
                title,
                *("  " + line for line in table.to_string(index=False).splitlines()),
            ]
    for state in ("failed", "diverged"):
        hit = study.trials.loc[study.trials["state"] == state, "trial"]
        if len(hit):
            lines += ["", f"Warning: {len(hit)} {state}: trial {', '.join(map(str, hit))}"]
    return [*lines, "", *effects] if effects else lines
