"""What a study with a confirm stage concludes, in words and tables: these lead the report and the closing lines.

Scores of the search stage are not in it, but for how far the best of them was above what its arm does when it
is trained again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import isnan
from typing import Any

import pandas as pd

from analysis import conclusions as confirm
from analysis import curves
from analysis.load import Study

OUTCOMES: Mapping[str, str] = {"test_accuracy": "test accuracy", "train_accuracy": "training accuracy"}
SCOPE = "Intervals: 95%, over seeds; that other test images would give other numbers is not in them."
SPREADS = "Those of differences take all arms to spread alike."


@dataclass(frozen=True, eq=False)
class Verdict:
    """The confirm stage of a study: its `arms`, those `lost` of which a trial has ended that is not complete,
    `curves` by label, seed and epoch, the `outcome` of the design by arm and seed, and tables of
    `analysis.conclusions`; `optimism` is the search's best score less the confirmed mean."""

    arms: pd.DataFrame
    lost: pd.DataFrame
    curves: pd.DataFrame
    outcome: str
    seeds: pd.DataFrame
    means: Mapping[str, pd.DataFrame]
    effects: pd.DataFrame
    differences: Mapping[str, pd.DataFrame]
    optimism: float | None


@lru_cache(maxsize=4)
def verdict(study: Study) -> Verdict | None:
    """What the confirm stage of a study says so far; None where no trial of it is complete."""
    design, table = study.manifest["design"], curves.results(study.trials, study.epochs)
    best = curves.winner(table)
    trials = confirm.labelled(study.trials, design, best)
    trials = trials[trials["role"] != "earlier"]
    if trials.empty:
        return None
    arms = confirm.arms_of(trials)
    lost = arms[arms["diverged"] + arms["failed"] > 0]
    # Seeds are compared that all arms have completed: an arm that lost most of them would take them from the others.
    without = lost.loc[2 * lost["complete"] < arms["complete"].max(), "label"]
    rows = confirm.confirm_curves(trials[~trials["label"].isin(without)], study.epochs)
    outcome = design.get("outcome", "test_accuracy")
    seeds = confirm.seed_table(rows, outcome)
    if seeds.empty:
        return None
    readings = dict.fromkeys([outcome, "test_accuracy", "test_loss"])
    means = {reading: means_of(rows, reading) for reading in readings}
    arms = arms[arms["label"].isin(seeds.index)]
    seeds = seeds.loc[arms["label"]]
    winner, fixed = arms.loc[arms["role"] == "winner", "label"], arms.loc[arms["baseline"] != "", "label"]
    references = [*winner.head(1), *fixed.head(1)]
    optimism = None
    if len(winner):
        score = table.loc[table["trial"] == best, "validation_accuracy"].iloc[0]
        optimism = float(score - means["test_accuracy"].set_index("label").loc[winner.iloc[0], "mean"])
    return Verdict(
        arms=arms,
        lost=lost,
        curves=rows,
        outcome=outcome,
        seeds=seeds,
        means=means,
        effects=confirm.factor_effects(seeds, arms, design),
        differences={label: confirm.differences(seeds, label) for label in dict.fromkeys(references)},
        optimism=optimism,
    )


def means_of(curves: pd.DataFrame, reading: str, epoch: int | None = None) -> pd.DataFrame:
    """`arm_means` of a reading; no interval reaches below 0, and none of an accuracy above 1."""
    means = confirm.arm_means(confirm.seed_table(curves, reading, epoch))
    most = 1.0 if reading.endswith("accuracy") else None
    return means.assign(low=means["low"].clip(lower=0.0), high=means["high"].clip(upper=most))


def scope(found: Verdict) -> str:
    """What the intervals are of."""
    if (arm := confirm.unlike_spread(found.seeds)) is None:
        return f"{SCOPE} {SPREADS}"
    return f"{SCOPE} Those of differences are each by its own spread: {arm} spreads more than others (Cochran's test)."


def sentences(study: Study) -> list[str]:
    """The best arm with its interval, and what each scientific factor does; nothing where nothing is confirmed."""
    found = verdict(study)
    if found is None:
        confirm_states = study.trials.loc[study.trials["stage"] == "confirm", "state"]
        ended = len(confirm_states) and not (confirm_states == "running").any()
        return ["Nothing is confirmed: its arms have no complete seed in common."] if ended else []
    seeds = f"{found.seeds.shape[1]} seed{'s' * (found.seeds.shape[1] > 1)}"
    images = study.manifest["dataset"]["counts"].get("test", 0)
    lead = f"Confirmed with {seeds}" + (f" on {images:,} test images" if found.outcome == "test_accuracy" else "")
    lead += ", each arm after its own epochs" if found.arms["max_epochs"].nunique() > 1 else ""
    said = [f"{lead}: {_standing(found)}{_lost(found)}."]
    if len(found.effects):
        said.append(f"{factor_verdict(found)}.")
    return said


def _standing(found: Verdict) -> str:
    """What the winner reaches, how much that is more than the first baseline and less than the search promised; of
    other designs, what every arm reaches."""
    winner = found.arms.loc[found.arms["role"] == "winner", "label"]
    if winner.empty:
        means = found.means[found.outcome].set_index("label")
        names = means.sort_values("mean", ascending=False).head(4).index
        return "; ".join(f"{name} {_mean(means.loc[name])}" for name in names) + f" {OUTCOMES[found.outcome]}"
    means = found.means["test_accuracy"].set_index("label")
    arm = found.arms[found.arms["role"] == "winner"].iloc[0]
    text = f"the winner ({arm['arm']}, learning rate {arm['learning_rate']:.3g}) reaches "
    text += f"{_mean(means.loc[winner.iloc[0]])} test accuracy"
    fixed = found.arms.loc[found.arms["role"] == "baseline", "label"]
    if len(fixed) and found.outcome == "test_accuracy":
        row = found.differences[winner.iloc[0]].set_index("arm").loc[fixed.iloc[0]]
        text += f", {_points(-row['difference'], -row['high'], -row['low'])} against {fixed.iloc[0]}"
        text += "" if row["tells"] else " (which these seeds cannot tell apart)"
    if found.optimism is not None:
        way = "above" if found.optimism > 0 else "below"
        text += f"; its score in the search was {100 * abs(found.optimism):.1f} points {way} that"
    return text


def _lost(found: Verdict) -> str:
    """The arms that are not complete with every seed, or have no number, for they are with few of them."""
    rows = found.lost.assign(there=found.lost["label"].isin(found.seeds.index)).to_dict("records")
    said = [
        f"{row['label']} ({row['complete']} complete, {row['diverged']} diverged, {row['failed']} failed"
        f"{'' if row['there'] else '; left out'})"
        for row in rows
    ]
    return f"; not complete with every seed: {', '.join(said)}" if said else ""


def factor_verdict(found: Verdict) -> str:
    """Which factors matter when changed alone, by how much, and how many seeds could tell of the others."""
    rows = found.effects.to_dict("records")
    clear = [row for row in rows if row["tells"]]
    lead = f"What matters for {OUTCOMES[found.outcome]}"
    # Of each factor the largest; the others stand in the figure below.
    largest: dict[str, Mapping[Any, Any]] = {}
    for row in sorted(clear, key=lambda row: -abs(row["difference"])):
        largest.setdefault(row["factor"], row)
    said = "; ".join(map(_effect, largest.values())) + (" (each factor's largest)" if len(clear) > len(largest) else "")
    if found.seeds.shape[1] == 1:
        return f"{lead} cannot be told by one seed, which shows no spread"
    many = f"none of the {len(rows)} effects compared is" if len(rows) > 1 else "the one effect compared is not"
    text = f"{lead}: {said}" if clear else f"{lead} cannot be told: {many} clear of the spread over seeds"
    text += " (p adjusted for their number)" if not clear and len(rows) > 1 else ""
    unclear = [row for row in rows if row["factor"] not in {each["factor"] for each in clear}]
    if clear and unclear:
        text += f"; not told: {', '.join(dict.fromkeys(row['factor'].replace('_', ' ') for row in unclear))}"
    if unclear:
        needed = [row["seeds_needed"] for row in unclear]
        most = f"over {confirm.MOST_SEEDS}" if any(map(isnan, needed)) else f"about {max(needed):.0f}"
        text += f"; telling effects as large as these takes {most} seeds"
    return text


def effect_label(row: Mapping[Any, Any]) -> str:
    """An effect in two lines."""
    others = f"others {row['others']}" if row["others"] == "those of the winner" else row["others"]
    return f"{row['factor'].replace('_', ' ')} {row['change']}\n{others}"


def _effect(row: Mapping[Any, Any]) -> str:
    where = "" if row["others"] in ("", "on average", "those of the winner") else f" at {row['others']}"
    change = f"{row['factor'].replace('_', ' ')} {row['change']}{where}"
    return f"{change} {_points(row['difference'], row['low'], row['high'])}"


def listed(found: Verdict) -> dict[str, pd.DataFrame]:
    """What the page lists, as text: every arm, the differences, and where the budgets differ or nothing was searched
    the arms at the last epoch that all have and the readings by epoch."""
    complete, trials = found.curves[found.curves["state"] == "complete"], found.arms.set_index("label")
    about = trials[["arm", "learning_rate", "complete", "diverged"]].assign(
        learning_rate=[f"{rate:.3g}" for rate in trials["learning_rate"]]
    )
    shown = {f"Arms ({scope(found)[:-1]})": about.join(_means(found.means)).reset_index()}
    shared, last = (complete.groupby("trial")["epoch"].max().agg(which) for which in ("min", "max"))
    if shared < last:
        there = {reading: means_of(found.curves, reading, shared) for reading in found.means}
        shown[f"At epoch {shared}, the last that all have"] = _means(there).reset_index()
    effects = set(trials.index[trials["role"] == "changed"])
    for label, rows in found.differences.items():
        if trials.loc[label, "role"] == "winner":  # the others stand among the effects, adjusted for these
            rows = rows[~rows["arm"].isin(effects)]
        shown[f"Differences in {OUTCOMES[found.outcome]} from {label}"] = _listed(rows)
    shown[f"Effects on {OUTCOMES[found.outcome]}"] = _listed(found.effects)
    if "winner" not in set(found.arms["role"]):
        means = complete.groupby(["label", "epoch"], sort=False)[confirm.READINGS].mean().reset_index()
        texts = {
            name: [f"{x:.1%}" if name.endswith("accuracy") else f"{x:.3f}" for x in means[name]]
            for name in confirm.READINGS
        }
        shown["By epoch, means over seeds"] = means.assign(**texts)
    return shown


def _means(means: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    columns = {}
    for reading, table in means.items():
        rows = table.set_index("label")
        write = _mean if reading.endswith("accuracy") else _loss
        columns[reading] = pd.Series([write(row) for row in rows.to_dict("records")], rows.index)
    return pd.DataFrame(columns)


def _listed(rows: pd.DataFrame) -> pd.DataFrame:
    about = rows[[name for name in rows if name in ("arm", "factor", "change", "others")]]
    points = [_points(row["difference"], row["low"], row["high"]) for row in rows.to_dict("records")]
    return about.assign(
        difference=points,
        adjusted_p=["–" if p != p else f"{p:.2g}" for p in rows["p"]],
        told=["yes" if tells else "no" for tells in rows["tells"]],
        seeds_that_could=[_seeds_that_could(row) for row in rows.to_dict("records")],
    )


def _seeds_that_could(row: Mapping[Any, Any]) -> str:
    if row["tells"]:
        return ""
    if pd.isna(row["p"]):
        return "–"
    return f"over {confirm.MOST_SEEDS}" if pd.isna(row["seeds_needed"]) else f"{row['seeds_needed']:.0f}"


def _mean(row: Mapping[Any, float]) -> str:
    return f"{row['mean']:.1%}" + (f" ({row['low']:.1%}–{row['high']:.1%})" if row["low"] == row["low"] else "")


def _points(value: float, low: float, high: float) -> str:
    return f"{100 * value:+.1f} points" + (f" ({100 * low:+.1f} to {100 * high:+.1f})" if low == low else "")


def _loss(row: Mapping[Any, float]) -> str:
    return f"{row['mean']:.3f}" + (f" ({row['low']:.3f}–{row['high']:.3f})" if row["low"] == row["low"] else "")
