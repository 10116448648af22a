"""Writes the page that compares studies."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from analysis.load import Study
from analysis.report import comparable, figures
from analysis.report.document import Section, write_page
from analysis.report.findings import study_findings
from analysis.report.sections import best_so_far
from analysis.report.trials import TRIAL_COLUMNS
from analysis.report.wording import captions, comparison_text, scope_text, study_text
from analysis.statistics import curves


def write_comparison(studies: Sequence[Study], out: str | Path) -> Path:
    """Write the page that sets studies (of `load_studies`) side by side into `out`; gives its path.

    Raises:
        UsageError: `out` cannot be made.
    """
    named = {study.manifest["name"]: study for study in studies}
    page = {
        "name": " – ".join(named),
        "answer": [
            *comparison_text.incomparable_lines(comparable.incomparable(named)),
            *(f"{name}: {study_text.answer(study)[0]}" for name, study in named.items()),
        ],
        "scope": [f"{name}: {scope_text.scope(study)}" for name, study in named.items()],
    }
    return write_page(Path(out), comparison(named), page)


def comparison(named: Mapping[str, Study]) -> Iterator[Section]:
    """The best trial's curves of each study, the best arms, what differs, and the best so far."""
    best = {name: study_findings(study).search.ranked.head(5) for name, study in named.items()}
    dataset = next(iter(named.values())).manifest["dataset"]
    scope = comparison_text.comparison_scope(dataset["name"])
    # By a role of its own, for a study may be called what a role of a search is.
    labels = {f"study {name}": name for name, trials in best.items() if len(trials)}
    rows = []
    for number, (role, name) in enumerate(labels.items()):
        trial = curves.learning_curves(best[name].head(1), named[name].epochs)
        rows.append(trial.assign(role=role, trial=number))
    draw = None
    # One epoch is no curve, and one trial no progress.
    if any(len(trial) > 1 for trial in rows):
        draw = partial(
            figures.comparative_curves,
            readings=pd.concat(rows),
            labels=labels,
            classes=len(dataset["classes"]),
        )
    listed = {
        captions.FIVE_BEST: pd.concat(best.values())[["study", *TRIAL_COLUMNS]],
        captions.DIFFERENT_SETTINGS: _different_settings(named),
    }
    yield Section(
        "curves",
        comparison_text.comparison_finding(bool(labels)),
        scope=scope,
        draw=draw,
        tables=listed,
        heading=captions.BEST_TRIALS,
    )
    if any(len(study_findings(study).search.ranked) > 1 for study in named.values()):
        yield best_so_far(named, scope)


def _different_settings(named: Mapping[str, Study]) -> pd.DataFrame:
    """The settings and numbers of images in which the studies differ, a column per study."""
    settings = pd.DataFrame(
        {
            name: study.manifest["dataset"]["counts"] | study.manifest["settings"]
            for name, study in named.items()
        }
    )
    settings = settings.astype("str").rename_axis("setting").reset_index()
    return settings[settings[[*named]].nunique(axis=1) > 1]
