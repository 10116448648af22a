"""Every sentence, label, caption, heading and table header of page, figures and terminal.

One short function per fact of `findings`; `answer`, `sentences`, `scope` and `closing_lines` take a
study and put them together.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from analysis.load import Study
from analysis.report import comparable, findings
from analysis.report.findings import Reason, study_findings
from analysis.statistics import confirm, curves, search
from analysis.statistics.arms import Arm
from analysis.statistics.confirm import Effect, Verdict
from analysis.statistics.curves import level_label
from analysis.statistics.estimate import Interval
from trainables.vocabulary import ArmRole, Outcome, Stage, TrialStatus

MISSING = "–"
INTERACTIONS_SHOWN = 3
SHARES = ("score", "importance", "least", "most", "explained", "probability")
POINTS = ("interaction", "difference", "low", "high", "gap", "slope", "unsteadiness")

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
COMPARED: Mapping[comparable.Compared, str] = {
    comparable.Compared.ACCURACY: "Accuracies",
    comparable.Compared.COST: "Times and costs",
}
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
SLICES = (
    "Last panel: each trial's last validation accuracy by its learning rate; diverged trials are "
    "on the axis."
)
READINGS_NOTE = (
    "Accuracies and losses are those of the last epoch trained; training readings are means over "
    "the epoch, on augmented images while the weights change; the others are taken after it."
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
NO_CONFUSION = "No confusion matrix"
NONE_YET = "The first seed is not complete yet"
NONE_CONFIRMED = "Nothing is confirmed: its arms have no complete seed in common."

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


# Values


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


def levels_text(before: Any, after: Any) -> str:
    """Such as `3 → 5`."""
    return f"{level_label(before)} → {level_label(after)}"


def change_text(change: confirm.Change) -> str:
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


def status_counts(statuses: Mapping[Any, int]) -> str:
    """Such as `19 complete, 1 stopped`."""
    return ", ".join(f"{count} {status}" for status, count in statuses.items())


def stage_trials(study: Study, stage: Stage) -> str:
    """A stage's trials by state, such as `20 trials: 19 complete, 1 stopped`."""
    counts = study.trials.loc[study.trials["stage"] == stage, "state"].value_counts()
    counts = counts[counts > 0]
    trials = plural(counts.sum(), "trial")
    return f"{trials}: {status_counts(counts.to_dict())}" if len(counts) else trials


# The confirm stage


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


def confirmed_standing(facts: findings.Standing) -> str:
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


def _beside_baseline(facts: findings.Standing) -> str:
    if facts.baseline is None or facts.above_baseline is None:
        return ""
    values = facts.baseline.values
    above = points(facts.above_baseline.difference, facts.above_baseline.interval)
    seeds = f"{min(values):.1%} to {max(values):.1%} by seed"
    if len(values) == 1:
        seeds = f"{values[0]:.1%}"
    return f", {above} against the baseline {facts.baseline.arm.baseline} ({seeds})"


def _optimism(facts: findings.Standing) -> str:
    if facts.optimism is None:
        return ""
    if signed(facts.optimism) == "0.0":
        return "; its score in the search was the same"
    side = "above" if facts.optimism > 0 else "below"
    return f"; its score in the search was {100 * abs(facts.optimism):.1f} points {side} that"


def beside_largest(largest: findings.LargestClass | None) -> str:
    """What always naming the largest class reaches, where classes are uneven."""
    return f" (always naming class {largest.name}: {largest.share:.1%})" if largest else ""


def effect_lines(confirmed: findings.ConfirmFindings) -> list[str]:
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


def interaction_lines(confirmed: findings.ConfirmFindings) -> list[str]:
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


def interaction_text(finding: findings.InteractionFinding) -> str:
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


def warnings(confirmed: findings.ConfirmFindings) -> list[str]:
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


def incomplete_arm(facts: findings.IncompleteArm) -> str:
    """An arm with its trials by state."""
    excluded = "; excluded" if facts.excluded else ""
    return f"{arm_name(facts.arm)} ({status_counts(facts.statuses)}{excluded})"


def interval_scope(confirmed: findings.ConfirmFindings) -> str:
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


def effects_caption(confirmed: findings.ConfirmFindings) -> str:
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


# The search stage


def headline(study: Study) -> str:
    """The best complete search trial, and the best baseline beside it; or that there is none."""
    ranked = study_findings(study).search.ranked
    finished = study.manifest.get("ended")
    if ranked.empty:
        yet = "" if finished else " yet"
        return f"No complete trial{yet} ({stage_trials(study, Stage.SEARCH)})"
    best = ranked.iloc[0].to_dict()
    so_far = "" if finished else " so far"
    rate = f"learning rate {best['learning_rate']:.3g}"
    score = f"{best['validation_accuracy']:.1%} validation accuracy"
    lead = f"{sentence(trial_name(best))} ({best['arm']}, {rate}) is best{so_far}"
    text = f"{lead}: {score} after {plural(best['epochs'], 'epoch')}"
    text += beside_largest(study_findings(study).search.largest_class)
    for rival in ranked[curves.is_baseline(ranked)].head(1).to_dict("records"):
        if rival["trial"] != best["trial"]:
            return f"{text}, best {trial_name(rival)} {rival['validation_accuracy']:.1%}"
    return text


def ties_text(ties: findings.Ties | None) -> str:
    """What the number of trials, images and seeds says of the best score."""
    if ties is None:
        return "which arm is best is not known yet"
    trials = plural(ties.trials, "complete search trial")
    images = plural(ties.images, "validation image")
    optimistic = f"a maximum over {trials}, {images} and one seed is optimistic"
    if not ties.arms:
        return optimistic
    arms = f"{plural(ties.arms, 'other arm')} with {ties.bound:.1%} or more"
    return f"{optimistic}, and on these images it is not significantly above {arms}"


def importance_finding(searched: findings.SearchFindings) -> str:
    """Which factor matters, as far as importance is reliable."""
    shares = searched.importances
    trials = int(shares["trials"].max()) if len(shares) else 0
    if not shares["reliable"].any():
        enough = trials >= search.ENOUGH_TRIALS
        reason = ", and the factors do not predict their scores" if enough else ""
        complete = f"{plural(trials, 'complete trial')} beside the baselines"
        return f"Which factor matters is not known yet: {complete}{reason}"
    names = [factor["name"] for factor in searched.scientific]
    first = shares.head(1)
    scientific = shares[shares["factor"].isin(names)].head(1)
    texts = [
        f"{spoken(row['factor'])}, {row['importance']:.0%} "
        f"({row['least']:.0%}–{row['most']:.0%} by forest)"
        for row in pd.concat([first, scientific]).drop_duplicates("factor").to_dict("records")
    ]
    lead = f"What seems to explain most of the variance over {trials} complete trials (fANOVA)"
    return f"{lead} is the {'; of the scientific factors the '.join(texts)}"


def rates_finding(responses: pd.DataFrame, factor: str) -> str:
    """How many arms did best at an end of a range."""
    arms = plural(len(responses), "arm")
    edges = (responses["edge"] != "").sum()
    return f"{edges} of {arms} did best at an end of the range of {spoken(factor)}s"


def level_finding(levels: findings.LevelRange | None, factor: str) -> str:
    """The lowest and the highest median among the levels of a factor."""
    name = spoken(factor)
    if levels is None:
        return f"Learning curves by {name}"
    lead = f"After epoch {levels.epoch}, the last that all trials reached"
    low, high = f"{levels.low:.1%} ({levels.lowest})", f"{levels.high:.1%} ({levels.highest})"
    return f"{lead}, median validation accuracy by {name} runs from {low} to {high}"


def idle_finding(use: findings.SlotUse) -> str:
    """How many trials ran at once, and how long slots stood idle."""
    at_once = f"At most {plural(use.slots, 'trial')} at once"
    return f"{at_once}; slots were idle {use.idle:.0%} of {use.seconds / 60:.1f} minutes"


def best_so_far_finding(best: Sequence[findings.BestTrial]) -> str:
    """Which sample was the best of each study."""
    texts = [
        f"{row.study}, trial {row.trial}, sample {row.sample} of {row.samples}" for row in best
    ]
    return f"The best trial: {'; '.join(texts) or 'none yet'}"


def confusion_finding(accuracies: pd.Series) -> str:
    """The class that is recognised least often."""
    return f"Least accurate on class {accuracies.idxmin()}, {accuracies.min():.1%}"


def role_labels(study: Study) -> dict[str, str]:
    """The legend's text of the winner and of each baseline that has started, by role, the best
    first."""
    table = study_findings(study).search.table
    best = curves.winner(table)
    shown = table[table["role"] != curves.OTHER]
    shown = shown.sort_values("trial", key=lambda trial: trial != best, kind="stable")
    return {row["role"]: _role_label(row, best) for row in shown.to_dict("records")}


def _role_label(trial: Mapping[Any, Any], best: int | None) -> str:
    lead = "best: " if trial["trial"] == best else ""
    arm = f", {trial['arm']}" if trial["role"] == curves.WINNER else ""
    score = show(trial["validation_accuracy"], "validation_accuracy")
    state = "" if trial["state"] == TrialStatus.COMPLETE else f" ({trial['state']})"
    return f"{lead}{trial_name(trial)}{arm}, lr {trial['learning_rate']:.3g}: {score}{state}"


def others_label(trials: int) -> str:
    """All trials that are neither the best nor baselines, in a legend."""
    return f"{trials} other trials and their median"


def level_legend(level: str, trials: int, epoch: int, read: int) -> str:
    """A level in a legend, with how many of its trials were read at the last epoch."""
    return f"{level}: n = {trials}, at epoch {epoch} n = {read}"


def status_legend(status: str, trials: int) -> str:
    """A state's marker in a legend."""
    return f"{status} ({trials})"


# The study


def answer(study: Study) -> list[str]:
    """The best arm, what each factor does, what it cost and what to run next: from the confirm
    stage where it has a result, else from the search."""
    facts = study_findings(study)
    searched = [
        f"{headline(study)}; {ties_text(facts.search.ties)}.",
        f"{importance_finding(facts.search)}.",
    ]
    last = f"{cost_text(facts.cost)}. Next: {next_step(facts.next_step)}."
    return [*(sentences(study) or searched), last]


class Tile(NamedTuple):
    """One of the answers on top of the page."""

    title: str
    value: str
    text: str


def tiles(study: Study) -> list[Tile]:
    """Which network, how it compares with the baseline, what matters, and what it cost."""
    facts = study_findings(study)
    standing = facts.confirmed.standing if facts.confirmed else None
    best = _searched_tiles(study, facts) if standing is None else _confirmed_tiles(standing)
    effects = facts.confirmed.effects if facts.confirmed else ()
    why = "" if effects else f"{importance_finding(facts.search)}."
    cost = facts.cost
    value = f"{cost.core:,.0f} core-seconds"
    after = f"{sentence(_cost_details(cost))}. Next: {next_step(facts.next_step)}."
    return [*best, Tile("What matters", "", why), Tile("Cost and next step", value, after)]


def _confirmed_tiles(standing: findings.Standing) -> list[Tile]:
    title, other = "Best network", "Against the baseline"
    arm, summary = standing.winner, standing.accuracy
    if arm is None and standing.best:
        arm, summary = standing.best[0].arm, standing.best[0]
    if arm is None or summary is None:
        return [Tile(title, MISSING, f"{confirmed_standing(standing)}."), Tile(other, MISSING, "")]
    on = f" on {standing.images:,} test images" if standing.images else ""
    ends = ""
    if not math.isnan(summary.interval.low):
        ends = f", 95% interval {summary.interval.low:.1%} to {summary.interval.high:.1%}"
    chosen = ". It was chosen on validation images" if standing.winner else ""
    reached = f"{OUTCOMES[standing.outcome]}{on}, {plural(standing.seeds, 'seed')}{ends}"
    reached += f"{beside_largest(standing.largest_class)}{chosen}."
    best = Tile(title, f"{summary.mean:.1%}", f"{sentence(network_text(arm))}: {reached}")
    if standing.baseline is None or standing.above_baseline is None:
        return [best, Tile(other, MISSING, "No baseline is confirmed.")]
    estimate, baseline = standing.above_baseline, standing.baseline
    reach = interval_text(estimate.interval)
    interval = f"95% interval {reach}; " if reach != MISSING else ""
    against = f"{baseline.arm.baseline} ({network_text(baseline.arm)}) has {baseline.mean:.1%}."
    points_above = f"{signed(estimate.difference)} points"
    return [best, Tile(other, points_above, f"{interval}{against}")]


def _searched_tiles(study: Study, facts: findings.StudyFindings) -> list[Tile]:
    title, other = "Best network so far", "Against the baseline"
    ranked = facts.search.ranked
    if ranked.empty:
        return [Tile(title, MISSING, f"{headline(study)}."), Tile(other, MISSING, "")]
    best = ranked.iloc[0].to_dict()
    score = best[search.SCORE]
    others = beside_largest(facts.search.largest_class)
    text = f"{sentence(network_text(best))}: validation accuracy, not confirmed{others}."
    first = Tile(title, f"{score:.1%}", f"{text} {sentence(ties_text(facts.search.ties))}.")
    for rival in ranked[curves.is_baseline(ranked)].head(1).to_dict("records"):
        gap = f"{signed(score - rival[search.SCORE])} points"
        text = f"{sentence(trial_name(rival))} ({network_text(rival)}) has"
        return [first, Tile(other, gap, f"{text} {rival[search.SCORE]:.1%} in the search.")]
    return [first, Tile(other, MISSING, "No baseline is complete.")]


def network_text(config: Any) -> str:
    """A configuration in words, with its label and learning rate."""
    kernel, pool = config["stem_kernel"], "max-pool" if config["stem_maxpool"] else "no max-pool"
    parts = [f"{kernel}×{kernel} stem", f"stride {config['stem_stride']}", pool]
    parts.append(f"{config['depth']} layers")
    if not config["residual"]:
        parts.append("no residual connections")
    label = config.label if isinstance(config, Arm) else config["arm"]
    return f"{', '.join(parts)} ({label}), learning rate {config['learning_rate']:.2g}"


def scope_lines(study: Study) -> list[str]:
    """Everything that limits the results, once."""
    facts = study_findings(study)
    lines = [scope(study)]
    if facts.confirmed:
        lines.append(f"Confirm stage: {stage_trials(study, Stage.CONFIRM)}.")
        lines += [interval_scope(facts.confirmed), *interaction_lines(facts.confirmed)]
        lines += warnings(facts.confirmed)
    if facts.nothing_confirmed:
        lines.append(NONE_CONFIRMED)
    return [*lines, f"Unless stated otherwise, scores are {CAVEAT}. {READINGS_NOTE}"]


def confirmed_finding(confirmed: findings.ConfirmFindings) -> str:
    """How many arms were confirmed, and with what."""
    if confirmed.standing is None:
        return NONE_YET
    images = confirmed.standing.images
    on = f" on {images:,} test images" if images else ""
    arms = plural(len(confirmed.arms), "arm")
    return f"{arms}, each with {plural(confirmed.standing.seeds, 'seed')}{on}"


def cost_text(cost: findings.Cost) -> str:
    """What the study cost, and what early stopping saved."""
    return f"It cost {cost.core:,.0f} core-seconds {_cost_details(cost)}"


def _cost_details(cost: findings.Cost) -> str:
    gpu = f"and {cost.gpu:,.0f} GPU-seconds " if cost.gpu else ""
    wall = f" and {cost.wall:,.0f} s of wall time" if cost.wall else ""
    saved = (
        f"; stopping early saved about {cost.saved_core:,.0f} core-seconds"
        if cost.saved_core
        else ""
    )
    return f"{gpu}in {plural(cost.trials, 'trial')}{wall}{saved}"


NEXT_STEPS: Mapping[Reason, str] = {
    Reason.UNFINISHED: "wait for the study to end; the same command resumes it",
    Reason.DIVERGED: "lower learning rates, as trials diverged",
    Reason.NONE_COMPLETE: "see why no trial is complete (study.log)",
    Reason.ONE_SEED: "{command}, for one seed shows no spread",
    Reason.WIDE_INTERVALS: (
        "{command} (about {seeds} seeds, until every effect is known within {bound}{floor})"
    ),
    Reason.TOO_FEW_IMAGES: (
        "more test images, for no number of seeds brings every interval within {bound}{floor}"
    ),
    Reason.BETTER_ARM: "more trials ({command}), in case there is a better arm",
    Reason.ALL_CONCLUDED: "nothing",
    Reason.RATE_AT_END: "{rates}",
    Reason.NONE_CONFIRMED: "see why nothing is confirmed (study.log)",
    Reason.FACTORS_UNCLEAR: "more trials ({command})",
    Reason.BEST_UNCONFIRMED: "the best arms again with several seeds ({command})",
}


def next_step(step: findings.Recommendation) -> str:
    """What to run next, and why."""
    images = f"the test images alone leave ±{100 * step.floor:.1f} points, however many seeds"
    return NEXT_STEPS[step.reason].format(
        command=step.command,
        seeds=step.seeds,
        bound=f"±{point_count(step.width)}",
        floor=f"; {images}" if step.floor >= 0.0005 else "",
        rates=rates_text(step.rates) if step.rates else "",
    )


def rates_text(rates: findings.RateRange) -> str:
    """Which range to try next, and why."""
    span = f"from {rates.low:.3g} to {rates.high:.3g}"
    reason = f"for the best of {rates.arm} lies at the {rates.edge} end of the range"
    return f"{spoken(rates.factor)}s {span}, {reason}"


def scope(study: Study, stage: Stage = Stage.SEARCH) -> str:
    """What a stage's numbers rest on: data set, trials, epochs, seeds; it is under every figure."""
    dataset, settings = study.manifest["dataset"], study.manifest["settings"]
    tested = ""
    if stage is Stage.CONFIRM:
        tested = f", all trained on, and {dataset['counts'].get('test', 0):,} test images"
    images = f"Data set {dataset['name']}: {images_text(dataset)}{tested}"
    epochs = f"at most {plural(settings['epochs'], 'epoch')}"
    unfinished = "" if study.manifest.get("ended") else "; the study is not finished"
    text = f"{images}. {stage_trials(study, stage)}; {epochs}{unfinished}."
    if stage is not Stage.SEARCH:
        return text
    return f"{text} Search stage: validation images, one seed ({settings['seed']})."


def images_text(dataset: Mapping[str, Any]) -> str:
    """How many images of the data set were used, and whether it was the default."""
    train, validation = (dataset["counts"].get(part, 0) for part in ("train", "validation"))
    used, available = train + validation, dataset.get("available") or 0
    part = f", only {used:,} of the {available:,} available" if available > used else ""
    default = dataset.get("chosen")
    chosen = f" (data set chosen by default: {default})" if default else ""
    return f"{train:,} training and {validation:,} validation images{part}{chosen}"


def chosen_scope(study: Study) -> str:
    """What the confusion matrix of the chosen model is of."""
    if findings.has_confirmed_model(study):
        return "The winner's first confirm seed, on test images."
    return "The best search trial, on validation images."


def closing_lines(study: Study) -> list[str]:
    """Plain lines for the terminal: the answer, the five best, the baselines, warnings, and a line
    for each effect."""
    facts = study_findings(study)
    ranked, table = facts.search.ranked, facts.search.table
    columns = ("arm", "learning_rate", "validation_accuracy", "validation_loss", "epochs")
    baselines = table[curves.is_baseline(table)]
    tables = {
        BEST_COMPLETE: readable(ranked.head(5), "trial", *columns),
        BASELINES_LAST: readable(baselines, "origin", "trial", "state", *columns),
    }
    effects = effect_lines(facts.confirmed) if facts.confirmed else []
    lines = [line for line in answer(study) if line not in effects]
    lines.append(scope(study))
    for title, rows in tables.items():
        if len(rows):
            lines += ["", title, *_indented(rows.to_string(index=False))]
    for status in (TrialStatus.FAILED, TrialStatus.DIVERGED):
        trials = study.trials.loc[study.trials["state"] == status, "trial"]
        if len(trials):
            numbers = ", ".join(map(str, trials))
            lines += ["", f"Warning: {len(trials)} {status}: trial {numbers}"]
    return [*lines, "", *effects] if effects else lines


def _indented(text: str) -> Iterable[str]:
    return (f"  {line}" for line in text.splitlines())


# The page that compares studies


def comparison_scope(dataset: str) -> str:
    """What the scores of the compared studies are."""
    return f"Data set {dataset}. Scores: {CAVEAT}."


def incomparable_lines(differences: Sequence[comparable.Difference]) -> list[str]:
    """What makes accuracies or costs of studies not comparable, a line for each of both."""
    lines = []
    for compared, noun in COMPARED.items():
        texts = []
        for row in differences:
            if row.of in (compared, comparable.Compared.BOTH):
                values = ", ".join(f"{name}: {value}" for name, value in row.values.items())
                texts.append(f"{spoken(row.name)} ({values})")
        if texts:
            lines.append(f"{noun} are not comparable, for these differ: {'; '.join(texts)}.")
    return lines


def comparison_finding(complete: bool) -> str:
    """What the curves of the compared studies are of."""
    if complete:
        return "The best complete trial of each study"
    return "No study has a complete search trial"
