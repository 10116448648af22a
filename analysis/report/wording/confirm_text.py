"""What the confirm stage shows, in words: one short function per fact."""

import math
from collections.abc import Sequence

from analysis.load import Study
from analysis.report.confirm_findings import (
    ConfirmFindings,
    IncompleteArm,
    InteractionFinding,
    Standing,
)
from analysis.report.findings import study_findings
from analysis.report.wording.captions import OUTCOMES
from analysis.report.wording.values import (
    arm_name,
    beside_largest,
    change_text,
    interval_text,
    mean_text,
    plural,
    point_count,
    points,
    sentence,
    signed,
    spoken,
    status_counts,
)
from analysis.statistics import confirm
from analysis.statistics.arms import Arm
from analysis.statistics.confirm import Effect, Verdict
from analysis.statistics.curves import level_label
from trainables.vocabulary import Outcome

INTERACTIONS_SHOWN = 3
EFFECT_BARS = (
    "Each interval is for one effect; verdicts are adjusted for all (Holm), p-values are in "
    "effects.csv."
)
BOTH_INTERVALS = (
    "Thin: interval for new seeds and new test images; thick: for new seeds on these images."
)
EFFECT_CURVES = (
    "Band: 95% interval for new seeds on these images; grey: the margin. An effect still changes "
    "at the end where its change over the last third of the epochs, paired over seeds, is "
    "significant (Holm)."
)
NONE_YET = "The first seed is not complete yet"
NONE_CONFIRMED = "Nothing is confirmed: its arms have no complete seed in common."


def sentences(study: Study) -> list[str]:
    """What the confirm stage says: the best arm, a line for each factor, whether effects depend on
    each other, and warnings; nothing before anything is confirmed."""
    facts = study_findings(study)
    if facts.nothing_confirmed:
        return [NONE_CONFIRMED]
    confirmed = facts.confirmed
    if confirmed is None or confirmed.standing is None:
        return []
    return [
        f"{confirmed_standing(confirmed.standing)}.",
        *effect_lines(confirmed),
        *interaction_lines(confirmed),
        *warnings(confirmed),
    ]


def confirmed_standing(facts: Standing) -> str:
    """What the winner reaches and how far that is above the first baseline; of designs without a
    winner, what the best arms reach."""
    images = f" on {facts.images:,} test images" if facts.images else ""
    epochs = ", each arm after its own epochs" if facts.own_epochs else ""
    lead = f"Confirmed with {plural(facts.seeds, 'seed')}{images}{epochs}"
    if facts.winner is None:
        best = [f"{arm_name(row.arm)} {mean_text(row)}" for row in facts.best]
        others = beside_largest(facts.largest_class)
        return f"{lead}: {'; '.join(best)} {OUTCOMES[facts.outcome]}{others}"
    label = facts.winner.label
    if facts.accuracy is None:
        return f"{lead}: the winner ({label}) is not complete with enough seeds and is excluded"
    winner = f"the winner ({label}, learning rate {facts.winner['learning_rate']:.3g})"
    reached = f"{lead}: {winner} reaches {mean_text(facts.accuracy)} test accuracy"
    reached += beside_largest(facts.largest_class)
    return f"{reached}{_beside_baseline(facts)}{_optimism(facts)}"


def _beside_baseline(facts: Standing) -> str:
    if facts.baseline is None or facts.above_baseline is None:
        return ""
    values = facts.baseline.values
    above = points(facts.above_baseline.difference, facts.above_baseline.interval)
    seeds = f"{min(values):.1%} to {max(values):.1%} by seed"
    if len(values) == 1:
        seeds = f"{values[0]:.1%}"
    return f", {above} against the baseline {facts.baseline.arm.baseline} ({seeds})"


def _optimism(facts: Standing) -> str:
    if facts.optimism is None:
        return ""
    if signed(facts.optimism) == "0.0":
        return "; its score in the search was the same"
    side = "above" if facts.optimism > 0 else "below"
    return f"; its score in the search was {100 * abs(facts.optimism):.1f} points {side} that"


def confirmed_finding(confirmed: ConfirmFindings) -> str:
    """How many arms were confirmed, and with what."""
    if confirmed.standing is None:
        return NONE_YET
    images = confirmed.standing.images
    on = f" on {images:,} test images" if images else ""
    arms = plural(len(confirmed.arms), "arm")
    return f"{arms}, each with {plural(confirmed.standing.seeds, 'seed')}{on}"


def effect_lines(confirmed: ConfirmFindings) -> list[str]:
    """A line for each effect: its size, both intervals and what is concluded."""
    return [effect_line(effect, confirmed.stage.margin) for effect in confirmed.effects]


def effect_line(effect: Effect, margin: float) -> str:
    """Such as `stem kernel 3 → 5: +0.7 points (+0.2 to +1.2; on these 359 test images +0.4 to
    +1.0): matters`."""
    estimate = effect.estimate
    change = change_text(effect.change)
    if math.isnan(estimate.difference):
        return f"{change}: inconclusive, too few of its arms are complete"
    size = points(estimate.difference, estimate.interval)
    if estimate.images and not math.isnan(estimate.over_seeds):
        narrow = interval_text(estimate.interval_on_images)
        size = f"{size[:-1]}; on these {estimate.images:,} test images {narrow})"
    return f"{change}: {size}: {verdict_text(effect, margin)}"


def verdict_text(effect: Effect, margin: float) -> str:
    """What is concluded, in words."""
    if effect.verdict is Verdict.MATTERS:
        return "matters"
    if effect.verdict is Verdict.EQUIVALENT:
        small = " (there is a small effect)" if effect.small else ""
        return f"does not matter by more than {point_count(margin)}{small}"
    half = effect.estimate.interval.half
    if math.isnan(half):
        return "inconclusive: one seed shows no spread"
    return f"inconclusive, ±{point_count(half, '.1f')}"


def effect_label(effect: Effect, margin: float) -> str:
    """The label of an effect in its figure."""
    return f"{change_text(effect.change)}\n{verdict_text(effect, margin)}"


def effects_finding(effects: Sequence[Effect]) -> str:
    """The effects by what is concluded of them."""
    groups = []
    for verdict in Verdict:
        changes = [change_text(effect.change) for effect in effects if effect.verdict is verdict]
        if changes:
            groups.append(f"{verdict}: {', '.join(changes)}")
    return sentence("; ".join(groups))


def interaction_lines(confirmed: ConfirmFindings) -> list[str]:
    """Whether the effects depend on each other."""
    if confirmed.interactions:
        shown = [interaction_text(row) for row in confirmed.interactions[:INTERACTIONS_SHOWN]]
        return [f"Effects depend on each other: {'; '.join(shown)}."]
    tested = confirmed.tested
    if not tested or math.isnan(tested[0].p):
        return []
    most = max(len(row.pairs) for row in tested)
    shared = f"; these arms confound up to {most} pairs of factors" if most > 1 else ""
    return [f"No interaction of two factors is significant ({len(tested)} tested{shared})."]


def interaction_text(finding: InteractionFinding) -> str:
    """The effect of one factor at both levels of the other, or where pairs of factors share it,
    these and its size."""
    row = finding.interaction
    if len(finding.simple) == 2:
        sizes = [_simple_effect(row.pairs[0][0], effect) for effect in finding.simple]
        return f"{change_text(finding.simple[0].change)} is {' and '.join(sizes)}"
    return f"{pairs_text(row)}, {points(row.estimate.difference, row.estimate.interval)}"


def _simple_effect(factor: str, effect: confirm.SimpleEffect) -> str:
    size = points(effect.estimate.difference, effect.estimate.interval)
    return f"{size} at {spoken(factor)} {level_label(effect.level)}"


def pairs_text(row: confirm.Interaction) -> str:
    """The pairs of factors that share an interaction."""
    return " or ".join(f"{spoken(one)} × {spoken(other)}" for one, other in row.pairs)


def warnings(confirmed: ConfirmFindings) -> list[str]:
    """Effects that still change, rates at an end, arms that are incomplete or vary more."""
    lines = [drift_warning(drift) for drift in confirmed.drifts]
    at_end = [arm for arm in confirmed.stage.arms if arm.rate_at_end]
    if at_end:
        arms = ", ".join(f"{arm_name(arm)} ({arm.rate_at_end})" for arm in at_end)
        lead = "Best at an end of the learning rates tried, so a better one may lie beyond"
        lines.append(f"{lead}: {arms}.")
    if confirmed.incomplete:
        arms = ", ".join(incomplete_arm(arm) for arm in confirmed.incomplete)
        lines.append(f"Not complete with every seed: {arms}.")
    if confirmed.noisy:
        test = "varies more over seeds than the others (Cochran's test)"
        lines.append(f"{arm_name(confirmed.noisy)} {test}: it has its own variance.")
    return lines


def drift_warning(drift: confirm.Drift) -> str:
    """By how much an effect still changes."""
    size = points(drift.estimate.difference, drift.estimate.interval)
    epochs = f"from epoch {drift.start} to {drift.end}"
    change = f"{change_text(drift.change)} still changes at the end"
    return f"{change}: {size} {epochs}, so longer training may change it."


def drifts_finding(drifts: Sequence[confirm.Drift]) -> str:
    """Which effects still change."""
    if drifts:
        return f"Still changing at the end: {', '.join(change_text(row.change) for row in drifts)}"
    return "No effect changes significantly at the end"


def incomplete_arm(facts: IncompleteArm) -> str:
    """An arm with its trials by state."""
    excluded = "; excluded" if facts.excluded else ""
    return f"{arm_name(facts.arm)} ({status_counts(facts.statuses)}{excluded})"


def interval_scope(confirmed: ConfirmFindings) -> str:
    """What the intervals include, and what the arms share."""
    on_images = confirmed.stage.outcome is Outcome.TEST_ACCURACY and confirmed.stage.images
    texts = [
        "Intervals: 95%, for new seeds and new test images."
        if on_images
        else "Intervals: 95%, for new seeds; the variation over other images is not included."
    ]
    if confirmed.tuned:
        texts.append("No interval includes the choice of each arm's learning rate.")
    if confirmed.shared_nuisances:
        shared = ", ".join(map(spoken, confirmed.shared_nuisances))
        texts.append(f"The same in every arm as in the winner: {shared}.")
    return " ".join(texts)


def arms_axis(outcome: Outcome) -> str:
    """What the axis of the arms shows."""
    return f"{sentence(OUTCOMES[outcome])} after the last epoch (%)"


def effects_axis(outcome: Outcome) -> str:
    """What the axis of the effects shows."""
    return f"Difference in {OUTCOMES[outcome]} (points)"


def effects_caption(confirmed: ConfirmFindings) -> str:
    """How to read the figure of the effects."""
    images = any(effect.estimate.images for effect in confirmed.effects)
    return f"{BOTH_INTERVALS} {EFFECT_BARS}" if images else EFFECT_BARS


def effects_by_epoch_caption(outcome: Outcome) -> str:
    """How to read the figure of the effects by epoch."""
    return f"{effects_axis(outcome)} by epoch. {EFFECT_CURVES}"


def confirmed_curves_caption(arms: Sequence[Arm]) -> str:
    """How to read the curves of the confirmed arms."""
    return (
        f"Bold: means over complete trials of the {len(arms)} best arms; faint: one line per seed."
    )


def margin_label(margin: float) -> str:
    """The margin in a legend."""
    return f"the margin (±{100 * margin:g})"
