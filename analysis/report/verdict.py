"""What the confirm stage concludes, in words and tables: these lead the report and the closing
lines.

The facts are those of `analysis.statistics.confirm`; here they only get their words.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.load import Study
from analysis.statistics import confirm, curves
from analysis.statistics.arms import FIELDS, READINGS, ConfirmStage, confirm_stage
from analysis.statistics.confirm import ArmSummary, Change, Drift, Effect, Interaction, Verdict
from analysis.statistics.curves import level_label
from analysis.statistics.estimate import Interval
from analysis.statistics.tuning import rates_tried
from trainables.vocabulary import ArmRole

OUTCOMES: Mapping[str, str] = {
    "test_accuracy": "test accuracy",
    "train_accuracy": "training accuracy",
}
EPOCHS_LISTED, SEEDS_LISTED, SHOWN = 12, 10, 3
NONE_CONFIRMED = "Nothing is confirmed: its arms have no complete seed in common."


def sentences(study: Study) -> list[str]:
    """The best arm, a line for each factor, whether effects depend on each other, and what to
    beware of; nothing before anything is confirmed."""
    stage = confirm_stage(study)
    if stage is None or not stage.paired(stage.compared)[0]:
        states = study.trials.loc[study.trials["stage"] == "confirm", "state"]
        return [NONE_CONFIRMED] if len(states) and not (states == "running").any() else []
    return [
        f"{standing(study, stage)}.",
        *effect_lines(study),
        *interaction_lines(study),
        *warnings(study, stage),
    ]


def standing(study: Study, stage: ConfirmStage) -> str:
    """What the winner reaches and how far that is above the first baseline; of designs without a
    winner, what the best arms reach."""
    kept, seeds = stage.paired(stage.compared)
    images = study.manifest["dataset"]["counts"].get("test", 0)
    lead = f"Confirmed with {_plural(len(seeds), 'seed')}"
    lead += f" on {images:,} test images" if stage.outcome == "test_accuracy" else ""
    lead += (
        ", each arm after its own epochs"
        if len({stage.arms[number]["max_epochs"] for number in kept}) > 1
        else ""
    )
    names = dict(zip(stage.arms, arm_names(stage), strict=True))
    winner = stage.numbers(ArmRole.WINNER)
    if not winner:
        best = sorted(confirm.arm_summaries(stage, stage.outcome), key=lambda row: -row.mean)[:4]
        return f"{lead}: {'; '.join(f'{names[row.arm]} {_mean(row)}' for row in best)} {OUTCOMES[stage.outcome]}"
    arm = stage.arms[winner[0]]
    rows = [row for row in confirm.arm_summaries(stage, "test_accuracy") if row.arm == arm]
    if not rows:
        return f"{lead}: the winner ({arm.label}) is not complete with enough seeds and is excluded"
    text = f"{lead}: the winner ({arm.label}, learning rate {arm['learning_rate']:.3g}) reaches {_mean(rows[0])}"
    return f"{text} test accuracy{_beside_baseline(study, stage)}{_optimism(study, rows[0])}"


def _beside_baseline(study: Study, stage: ConfirmStage) -> str:
    pair = confirm.against_baseline(study)
    if pair is None or stage.outcome != "test_accuracy":
        return ""
    baseline, estimate = pair
    row = next(row for row in confirm.arm_summaries(stage, "test_accuracy") if row.arm == baseline)
    seeds = (
        f"{min(row.values):.1%} to {max(row.values):.1%} by seed"
        if len(row.values) > 1
        else f"{row.mean:.1%}"
    )
    return f", {points(estimate.difference, estimate.interval)} against the baseline {baseline.baseline} ({seeds})"


def _optimism(study: Study, winner: ArmSummary) -> str:
    """How far the search's best score is from the confirmed mean."""
    table = curves.results(study.trials, study.epochs)
    best = table[table["trial"] == curves.winner(table)]
    scores, rates = best["validation_accuracy"], best["learning_rate"]
    if scores.empty or rates.iloc[0] != winner.arm["learning_rate"]:
        return ""  # the arm that is confirmed has another learning rate
    excess = float(scores.iloc[0]) - winner.mean
    return f"; its score in the search was {100 * abs(excess):.1f} points {'above' if excess > 0 else 'below'} that"


def effect_lines(study: Study) -> list[str]:
    """A line for each effect: its size, both intervals and what is concluded."""
    stage = confirm_stage(study)
    return [effect_line(effect, stage.margin) for effect in confirm.effects(study)] if stage else []


def effect_line(effect: Effect, margin: float) -> str:
    """Such as `stem kernel 3 → 5: +0.7 points (+0.2 to +1.2; on these 359 test images +0.4 to
    +1.0): matters`."""
    estimate = effect.estimate
    if math.isnan(estimate.difference):
        return f"{change_text(effect.change)}: inconclusive, for its arms are lost"
    size = points(estimate.difference, estimate.interval)
    if estimate.images and not math.isnan(estimate.over_seeds):
        narrow = _ends(estimate.interval_on_images)
        size = f"{size[:-1]}; on these {estimate.images:,} test images {narrow})"
    return f"{change_text(effect.change)}: {size}: {verdict_text(effect, margin)}"


def effects_finding(effects: Sequence[Effect]) -> str:
    """The effects by what is concluded of them."""
    groups = {
        verdict: [change_text(effect.change) for effect in effects if effect.verdict is verdict]
        for verdict in Verdict
    }
    texts = [f"{verdict}: {', '.join(changes)}" for verdict, changes in groups.items() if changes]
    text = "; ".join(texts)
    return text[:1].upper() + text[1:]


def verdict_text(effect: Effect, margin: float) -> str:
    """What is concluded, in words."""
    if effect.verdict is Verdict.MATTERS:
        return "matters"
    if effect.verdict is Verdict.EQUIVALENT:
        bound = f"does not matter by more than {spoken_points(margin)}"
        return f"{bound} (there is a small effect)" if effect.small else bound
    half = effect.estimate.interval.half
    return (
        "inconclusive: one seed shows no spread"
        if math.isnan(half)
        else f"inconclusive, ±{spoken_points(half, '.1f')}"
    )


def interaction_lines(study: Study) -> list[str]:
    """Whether the effects depend on each other."""
    rows = confirm.interactions(study)
    significant = sorted((row for row in rows if row.significant), key=lambda row: row.p)
    if significant:
        return [
            f"Effects depend on each other: {'; '.join(_interaction(study, row) for row in significant[:SHOWN])}."
        ]
    if not rows or math.isnan(rows[0].p):
        return []
    most = max(len(row.pairs) for row in rows)
    shared = (
        f"; up to {most} pairs of factors share one, which these arms cannot separate"
        if most > 1
        else ""
    )
    return [f"No interaction of two factors is significant ({len(rows)} tested{shared})."]


def _interaction(study: Study, row: Interaction) -> str:
    simple = confirm.simple_effects(study, row)
    if len(simple) == 2:
        first = _spoken(row.pairs[0][0])
        sizes = [
            f"{points(value.difference, value.interval)} at {first} {level_label(at)}"
            for at, _, value in simple
        ]
        return f"{change_text(simple[0][1])} is {' and '.join(sizes)}"
    return f"{pairs_text(row)}, {points(row.estimate.difference, row.estimate.interval)}"


def pairs_text(row: Interaction) -> str:
    """The pairs of factors that share an interaction."""
    return " or ".join(f"{_spoken(one)} × {_spoken(two)}" for one, two in row.pairs)


def warnings(study: Study, stage: ConfirmStage) -> list[str]:
    """What to beware of: effects that still move, learning rates at an end, arms that were lost or
    spread more."""
    names = dict(zip(stage.arms, arm_names(stage), strict=True))
    lines = [_moving(drift) for drift in confirm.drifts(study) if drift.moves]
    ends = [f"{names[arm]} ({arm.rate_at_end})" for arm in stage.arms if arm.rate_at_end]
    if ends:
        lines.append(
            f"Best at an end of the learning rates tried, so a better one may lie beyond: {', '.join(ends)}."
        )
    lost = [
        number
        for number in range(len(stage.arms))
        if np.isin(stage.states[number], ("diverged", "failed")).any()
    ]
    if lost:
        lines.append(
            f"Not complete with every seed: {', '.join(_lost(stage, names, number) for number in lost)}."
        )
    if (noisy := confirm.noisy_arm(stage)) is not None:
        lines.append(
            f"{names[noisy]} varies more over seeds than the others (Cochran's test): each arm has its own variance."
        )
    return lines


def _moving(drift: Drift) -> str:
    size = points(drift.estimate.difference, drift.estimate.interval)
    epochs = f"from epoch {drift.start} to {drift.end}"
    return f"{change_text(drift.change)} still moves at the end: {size} {epochs}, so longer training may change it."


def _lost(stage: ConfirmStage, names: Mapping[Any, str], number: int) -> str:
    counts = {
        state: int((stage.states[number] == state).sum())
        for state in ("complete", "diverged", "failed")
    }
    compared = (
        stage.compared if number in stage.compared else [*stage.numbers(ArmRole.WINNER), number]
    )
    excluded = "" if number in stage.paired(compared)[0] else "; excluded"
    return f"{names[stage.arms[number]]} ({', '.join(f'{count} {state}' for state, count in counts.items())}{excluded})"


def scope(study: Study, stage: ConfirmStage) -> str:
    """What the intervals are of, and what the arms share."""
    known = stage.outcome == "test_accuracy" and stage.images
    text = (
        "Intervals: 95%, for new seeds and new test images."
        if known
        else (
            "Intervals: 95%, for new seeds; that other images would give other numbers is not in them."
        )
    )
    if (study.trials["stage"] == "tune").any() or stage.numbers(ArmRole.ARM):
        text += " That another learning rate may be chosen for an arm is in no interval."
    shared = shared_nuisances(study, stage)
    return (
        f"{text} In every arm as in the winner: {', '.join(map(_spoken, shared))}."
        if shared
        else text
    )


def shared_nuisances(study: Study, stage: ConfirmStage) -> list[str]:
    """The nuisances that were not tuned for each arm but are the winner's."""
    if not stage.numbers(ArmRole.WINNER):
        return []
    tuned = {"learning_rate"} if (study.trials["stage"] == "tune").any() else set()
    return [
        factor["name"]
        for factor in study.manifest["design"]["factors"]
        if factor.get("role") == "nuisance" and factor["name"] not in tuned
    ]


def arm_names(stage: ConfirmStage) -> list[str]:
    """How each arm is called: by its role, its baseline's name, or its label and what else it
    differs in from others with this label."""
    return [_arm_name(stage, number) for number in range(len(stage.arms))]


def _arm_name(stage: ConfirmStage, number: int) -> str:
    arm = stage.arms[number]
    if arm.role is ArmRole.WINNER:
        return f"winner: {arm.label}"
    if arm.role is ArmRole.BASELINE:
        return arm.baseline
    if arm.role is ArmRole.ALONE:
        return f"winner with {_spoken(arm.factor)} {level_label(arm[arm.factor])}"
    crossed = [
        stage.arms[other] for other in stage.numbers(ArmRole.WINNER, ArmRole.FRACTION, ArmRole.ARM)
    ]
    same = [other for other in crossed if other.label == arm.label]
    unlike = [name for name in FIELDS if any(other[name] != arm[name] for other in same)]
    return ", ".join([arm.label, *(f"{_spoken(name)} {level_label(arm[name])}" for name in unlike)])


def arm_tables(study: Study, stage: ConfirmStage) -> dict[str, pd.DataFrame]:
    """What the page lists of the arms, as text."""
    tables = {
        "Arms": _arms_table(stage),
        "Learning rates tried for each arm (validation loss)": _tuning_table(study, stage),
    }
    if not stage.numbers(ArmRole.WINNER):
        tables["By epoch, means over seeds"] = _means_by_epoch(stage)
    return tables


def effect_tables(study: Study, stage: ConfirmStage) -> dict[str, pd.DataFrame]:
    """What the page lists of the effects after the last epoch, as text."""
    title = f"Effects on {OUTCOMES[stage.outcome]}"
    interactions = "Interactions of two factors (half of how much one's effect differs)"
    return {title: _effects_table(study, stage), interactions: _interactions_table(study)}


def _arms_table(stage: ConfirmStage) -> pd.DataFrame:
    readings = list(dict.fromkeys([stage.outcome, "test_accuracy", "test_loss"]))
    names = dict(zip(stage.arms, arm_names(stage), strict=True))
    rows: dict[str, dict[str, str]] = {}
    for summary in confirm.arm_summaries(stage, stage.outcome):
        arm = summary.arm
        rate = {"learning_rate": f"{arm['learning_rate']:.3g}", "rate_at_end": arm.rate_at_end}
        states = {
            state: str(summary.states.get(state, 0)) for state in ("complete", "diverged", "failed")
        }
        rows[names[arm]] = {"name": names[arm], "arm": arm.label, **rate, **states}
    for reading in readings:
        write = _mean if reading.endswith("accuracy") else _loss
        for summary in confirm.arm_summaries(stage, reading):
            rows[names[summary.arm]][reading] = write(summary)
    for summary in confirm.arm_summaries(stage, stage.outcome):
        rows[names[summary.arm]]["by_seed"] = ", ".join(
            f"{value:.1%}" for value in summary.values[:SEEDS_LISTED]
        )
    return pd.DataFrame(list(rows.values()))


def _effects_table(study: Study, stage: ConfirmStage) -> pd.DataFrame:
    rows = []
    for effect in confirm.effects(study):
        estimate = effect.estimate
        narrow = (
            {"on_these_test_images": _ends(estimate.interval_on_images)} if estimate.images else {}
        )
        row = {"factor": effect.change.factor, "change": _arrow(effect.change)}
        row["difference"] = points(estimate.difference, estimate.interval)
        rows.append({**row, **narrow, "verdict": verdict_text(effect, stage.margin)})
    return pd.DataFrame(rows)


def _interactions_table(study: Study) -> pd.DataFrame:
    rows = [
        {
            "factors": pairs_text(row),
            "levels": " × ".join(
                f"{level_label(one)} → {level_label(two)}" for one, two in row.levels
            ),
            "interaction": points(row.estimate.difference, row.estimate.interval),
            "significant": "yes" if row.significant else "no",
        }
        for row in confirm.interactions(study)
    ]
    return pd.DataFrame(rows)


def _tuning_table(study: Study, stage: ConfirmStage) -> pd.DataFrame:
    """A row for an arm: what was tried, with its validation loss or how it ended, and what was
    chosen."""
    table, rows = rates_tried(study), []
    for number, name in enumerate(arm_names(stage)):
        arm, tried = stage.arms[number], table[table["number"] == number]
        trials = zip(tried["learning_rate"], tried["validation_loss"], tried["state"], strict=True)
        losses = [
            f"{rate:.3g}: {loss:.3f}" if end == "complete" else f"{rate:.3g}: {end}"
            for rate, loss, end in trials
        ]
        if losses:
            chosen = {"chosen": f"{arm['learning_rate']:.3g}", "rate_at_end": arm.rate_at_end}
            rows.append({"arm": name, "tried": ", ".join(losses), **chosen})
    return pd.DataFrame(rows)


def epochs_table(study: Study) -> pd.DataFrame:
    """A row for an epoch, a column for an effect; of many epochs some, the last among them."""
    table = confirm.effects_by_epoch(study)
    if table.empty or table["epoch"].max() < 2:
        return pd.DataFrame()
    step = -(-int(table["epoch"].max()) // EPOCHS_LISTED)
    rows = table[(table["epoch"].max() - table["epoch"]) % step == 0]
    names = [
        change_text(Change(*each))
        for each in zip(rows["factor"], rows["from"], rows["to"], strict=True)
    ]
    cells = [
        points(*each[:1], Interval(*each[1:])).replace(" points", "")
        for each in zip(rows["difference"], rows["low"], rows["high"], strict=True)
    ]
    wide = pd.DataFrame({"epoch": rows["epoch"], "name": names, "cell": cells})
    return wide.pivot(index="epoch", columns="name", values="cell")[
        list(dict.fromkeys(names))
    ].reset_index()


def _means_by_epoch(stage: ConfirmStage) -> pd.DataFrame:
    rows = []
    complete = stage.states == "complete"
    for number, name in enumerate(arm_names(stage)):
        means = {reading: stage.readings[reading][number][complete[number]] for reading in READINGS}
        last = (
            int(np.isfinite(means["train_loss"]).all(axis=0).sum()) if complete[number].any() else 0
        )
        for epoch in range(last):
            values = {reading: float(table[:, epoch].mean()) for reading, table in means.items()}
            texts = {
                key: f"{value:.1%}" if key.endswith("accuracy") else f"{value:.3f}"
                for key, value in values.items()
            }
            rows.append({"arm": name, "epoch": str(epoch + 1), **texts})
    return pd.DataFrame(rows)


def change_text(change: Change) -> str:
    """Such as `stem kernel 3 → 5`."""
    return f"{_spoken(change.factor)} {_arrow(change)}"


def points(value: float, interval: Interval) -> str:
    """A difference of fractions in points, with its interval where it has one."""
    ends = "" if math.isnan(interval.low) else f" ({_ends(interval)})"
    return "–" if math.isnan(value) else f"{100 * value:+.1f} points{ends}"


def _arrow(change: Change) -> str:
    return f"{level_label(change.before)} → {level_label(change.after)}"


def _ends(interval: Interval) -> str:
    return (
        "–"
        if math.isnan(interval.low)
        else f"{100 * interval.low:+.1f} to {100 * interval.high:+.1f}"
    )


def spoken_points(fraction: float, form: str = "g") -> str:
    """Such as `1 point`, `0.5 points`."""
    value = round(100 * fraction, 6)
    return f"{value:{form}} point{'' if value == 1 and form == 'g' else 's'}"


def _mean(row: ArmSummary) -> str:
    interval = row.interval
    return f"{row.mean:.1%}" + (
        "" if math.isnan(interval.low) else f" ({interval.low:.1%} to {interval.high:.1%})"
    )


def _loss(row: ArmSummary) -> str:
    interval = row.interval
    return f"{row.mean:.3f}" + (
        "" if math.isnan(interval.low) else f" ({interval.low:.3f} to {interval.high:.3f})"
    )


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _spoken(name: str) -> str:
    return name.replace("_", " ")
