"""What the numbers of a study rest on, and what limits them."""

from collections.abc import Mapping
from typing import Any

from analysis.load import Study
from analysis.report.confirm_findings import has_confirmed_model
from analysis.report.findings import study_findings
from analysis.report.wording.captions import CAVEAT
from analysis.report.wording.confirm_text import (
    NONE_CONFIRMED,
    interaction_lines,
    interval_scope,
    warnings,
)
from analysis.report.wording.values import plural, stage_trials
from trainables.vocabulary import Stage

READINGS_NOTE = (
    "Accuracies and losses are those of the last epoch trained; training readings are means over "
    "the epoch, on augmented images while the weights change; the others are taken after it."
)


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
    if has_confirmed_model(study):
        return "The winner's first confirm seed, on test images."
    return "The best search trial, on validation images."
