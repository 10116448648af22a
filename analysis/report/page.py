"""Writes the report: the page of a study, self-contained, with its figures."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from analysis.load import Study
from analysis.report import findings
from analysis.report.confirm_findings import ConfirmFindings
from analysis.report.document import MOST_BYTES, address, listing, write_page
from analysis.report.findings import study_findings
from analysis.report.fingerprint import made_of
from analysis.report.recommendation import next_command
from analysis.report.sections import sections
from analysis.report.trials import shown_trials, small_curves, trial_columns
from analysis.report.wording import captions, scope_text, study_text
from analysis.report.wording.values import change_text
from analysis.statistics import confirm, curves, search


class ForestRow(NamedTuple):
    """A row of the small forest plot: a factor's change, what is concluded, and its interval, all
    in percent of the plot's width."""

    change: str
    verdict: str
    low: float
    value: float
    high: float
    margin: float


def write_report(study: Study, out: str | Path | None = None, live: int | None = None) -> Path:
    """Write `index.html`, `effects.csv` and `figures/*.{png,svg}` into `out` (default: the study's
    `report/`), replacing what was there; gives the page's path. With `live`, the time in
    milliseconds, the page loads itself again when `watch` has made a newer one.

    Raises:
        UsageError: `out` cannot be made.
    """
    facts = study_findings(study)
    table = facts.search.table
    shown = shown_trials(table)
    axes = [*study.manifest["design"]["factors"], {"name": search.SCORE}]
    values = shown[[axis["name"] for axis in axes]]
    folder = study.path / "report" if out is None else Path(out)
    effects = confirm.conclude(study).to_csv(index=False)
    page = {
        "name": study.manifest["name"],
        "live": live,
        "made_of": made_of(study.path),
        "tiles": study_text.tiles(study),
        "forest": list(_forest(facts.confirmed)) if facts.confirmed else [],
        "command": next_command(study, facts.next_step),
        "scope": scope_text.scope_lines(study),
        "trials": listing(captions.heading("trials"), shown[trial_columns(facts.search)]),
        "curves": small_curves(study.epochs, shown["trial"]),
        "of": len(table),
        "best": str(curves.winner(table)),
        "plane": {
            "axes": axes,
            "rows": json.loads(values.to_json(orient="values")),
            "trials": shown["trial"].tolist(),
        },
        "files": _files(study, folder, effects),
        "manifest": json.dumps(study.manifest, indent=2, ensure_ascii=False),
    }
    path = write_page(folder, sections(study), page)
    (path.parent / "effects.csv").write_text(effects, encoding="utf-8")
    return path


def _forest(confirmed: ConfirmFindings) -> Iterator[ForestRow]:
    """The effects for the small plot on top."""
    margin = confirmed.stage.margin
    ends = [end for effect in confirmed.effects for end in effect.estimate.interval.ends]
    reach = 1.05 * float(np.nanmax([margin, *np.abs(ends)]))
    for effect in confirmed.effects:
        low, high = effect.estimate.interval.ends
        low, value, high = (
            50 + 50 * value / reach for value in (low, effect.estimate.difference, high)
        )
        change = change_text(effect.change)
        yield ForestRow(change, effect.verdict, low, value, high, 50 * margin / reach)


def _files(study: Study, folder: Path, effects: str) -> dict[str, str]:
    """The addresses of the study's files: what is small is in the page, so that it stays with it;
    else the way there."""
    files = {}
    for name in ("trials.csv", "epochs.csv"):
        path = study.path / name
        files[name] = os.path.relpath(path, folder.resolve())
        if path.stat().st_size < MOST_BYTES:
            files[name] = address(path.read_text(encoding="utf-8"))
    files["effects.csv"] = address(effects)
    config = findings.best_config(study)
    if config:
        lines = [f"{key} = {json.dumps(value)}" for key, value in config.items()]
        text = "\n".join(['search = "none"', "[baselines.winner]", *lines, ""])
        files["winner.toml"] = address(text)
    return files
