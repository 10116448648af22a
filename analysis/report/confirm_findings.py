"""What the confirm stage shows, as facts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from analysis.load import Study
from analysis.report.largest_class import LargestClass, largest_class
from analysis.statistics import confirm, curves
from analysis.statistics.arms import Arm, ConfirmStage, confirm_stage
from analysis.statistics.confirm import ArmSummary, Drift, Effect
from analysis.statistics.estimate import Estimate
from trainables.vocabulary import ArmRole, Outcome, Stage, TrialStatus

BEST_ARMS = 4
ENDED_BADLY = (TrialStatus.DIVERGED, TrialStatus.FAILED)


@dataclass(frozen=True)
class Standing:
    """What the confirmed arms reach.

    Attributes:
        seeds: that all compared arms have completed.
        images: test images that the outcome was read on, 0 where it is another.
        own_epochs: whether arms were trained for different numbers of epochs.
        outcome: the reading that decides.
        winner: None in a design without one.
        accuracy: test accuracy of the winner; None where too few of its seeds are complete.
        baseline: how far the winner is above it.
        optimism: by how much the winner's score in the search was above the mean of its seeds.
        best: in a design without a winner its best arms.
        largest_class: of the test images, where accuracy is to be read beside it.
    """

    seeds: int
    images: int
    own_epochs: bool
    outcome: Outcome
    winner: Arm | None = None
    accuracy: ArmSummary | None = None
    baseline: ArmSummary | None = None
    above_baseline: Estimate | None = None
    optimism: float | None = None
    best: tuple[ArmSummary, ...] = ()
    largest_class: LargestClass | None = None


class InteractionFinding(NamedTuple):
    """A significant interaction, with the simple effects where it is of one pair of factors."""

    interaction: confirm.Interaction
    simple: Sequence[confirm.SimpleEffect]


class IncompleteArm(NamedTuple):
    """An arm of which trials diverged or failed; `excluded` where too few are complete."""

    arm: Arm
    statuses: Mapping[TrialStatus, int]
    excluded: bool


@dataclass(frozen=True, eq=False)
class ConfirmFindings:
    """What the confirm stage shows.

    Attributes:
        stage: its arrays.
        arms: those with a complete trial, and what they reach.
        standing: None while the arms have no complete seed in common.
        effects: of each factor.
        interactions: the significant ones, by p.
        tested: the interactions there are.
        drifts: effects that still change at the last epoch.
        incomplete: arms of which trials diverged or failed.
        noisy: the arm that varies more over seeds than the others.
        tuned: whether arms have learning rates of their own.
        shared_nuisances: that were not tuned for each arm but are the winner's.
    """

    stage: ConfirmStage
    arms: tuple[ArmSummary, ...]
    standing: Standing | None
    effects: tuple[Effect, ...]
    interactions: tuple[InteractionFinding, ...]
    tested: tuple[confirm.Interaction, ...]
    drifts: tuple[Drift, ...]
    incomplete: tuple[IncompleteArm, ...]
    noisy: Arm | None
    tuned: bool
    shared_nuisances: tuple[str, ...]


def confirm_findings(study: Study) -> ConfirmFindings | None:
    """The findings of the confirm stage; None before it has a trial."""
    stage = confirm_stage(study)
    if stage is None:
        return None
    arms = tuple(confirm.arm_summaries(stage, stage.outcome))
    tested = confirm.interactions(study)
    significant = sorted((row for row in tested if row.significant), key=lambda row: row.p)
    tuned = bool((study.trials["stage"] == Stage.TUNE).any())
    return ConfirmFindings(
        stage=stage,
        arms=arms,
        standing=_standing(study, stage, arms),
        effects=confirm.effects(study),
        interactions=tuple(
            InteractionFinding(row, confirm.simple_effects(study, row)) for row in significant
        ),
        tested=tested,
        drifts=tuple(drift for drift in confirm.drifts(study) if drift.moves),
        incomplete=tuple(_incomplete(stage)),
        noisy=confirm.noisy_arm(stage),
        tuned=tuned or bool(stage.numbers(ArmRole.ARM)),
        shared_nuisances=_shared_nuisances(study, stage, tuned),
    )


def _standing(study: Study, stage: ConfirmStage, arms: Sequence[ArmSummary]) -> Standing | None:
    kept, seeds = stage.paired(stage.compared)
    if not kept:
        return None
    on_images = stage.outcome is Outcome.TEST_ACCURACY
    images = study.manifest["dataset"]["counts"].get("test", 0) if on_images else 0
    largest = largest_class(study, "test") if on_images else None
    own_epochs = len({stage.arms[number]["max_epochs"] for number in kept}) > 1
    winners = stage.numbers(ArmRole.WINNER)
    if not winners:
        best = sorted(arms, key=lambda summary: -summary.mean)[:BEST_ARMS]
        return Standing(
            seeds=len(seeds),
            images=images,
            own_epochs=own_epochs,
            outcome=stage.outcome,
            best=tuple(best),
            largest_class=largest,
        )
    winner = stage.arms[winners[0]]
    accuracies = {row.arm: row for row in confirm.arm_summaries(stage, Outcome.TEST_ACCURACY)}
    accuracy = accuracies.get(winner)
    pair = confirm.against_baseline(study) if on_images else None
    return Standing(
        seeds=len(seeds),
        images=images,
        own_epochs=own_epochs,
        outcome=stage.outcome,
        winner=winner,
        accuracy=accuracy,
        baseline=accuracies[pair.baseline] if pair else None,
        above_baseline=pair.estimate if pair else None,
        optimism=_optimism(study, accuracy) if accuracy else None,
        largest_class=largest,
    )


def _optimism(study: Study, winner: ArmSummary) -> float | None:
    """By how much the search's best score is above the confirmed mean; None where the confirmed arm
    has another learning rate."""
    table = curves.results(study.trials, study.epochs)
    best = table[table["trial"] == curves.winner(table)]
    if best.empty or best["learning_rate"].iloc[0] != winner.arm["learning_rate"]:
        return None
    return float(best["validation_accuracy"].iloc[0]) - winner.mean


def _incomplete(stage: ConfirmStage) -> list[IncompleteArm]:
    arms = []
    for number, arm in enumerate(stage.arms):
        states = stage.states[number].tolist()
        ended = (TrialStatus.COMPLETE, *ENDED_BADLY)
        counts = {status: states.count(status) for status in ended}
        if any(counts[status] for status in ENDED_BADLY):
            # A baseline is compared with the winner alone.
            pair = [*stage.numbers(ArmRole.WINNER), number]
            compared = stage.compared if number in stage.compared else pair
            arms.append(IncompleteArm(arm, counts, number not in stage.paired(compared)[0]))
    return arms


def _shared_nuisances(study: Study, stage: ConfirmStage, tuned: bool) -> tuple[str, ...]:
    if not stage.numbers(ArmRole.WINNER):
        return ()
    nuisances = [
        factor["name"]
        for factor in study.manifest["design"]["factors"]
        if factor.get("role") == "nuisance"
    ]
    return tuple(name for name in nuisances if not (tuned and name == "learning_rate"))


def has_confirmed_model(study: Study) -> bool:
    """Whether the chosen model is the winner's first confirm seed, and not yet the search trial."""
    stage = confirm_stage(study)
    if stage is None:
        return False
    return bool((stage.states[stage.numbers(ArmRole.WINNER)] == TrialStatus.COMPLETE).any())
