"""Writes the report, one self-contained page and its figures, and the page that compares studies."""

import base64
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.load import Study, read_confusion
from analysis.report import figures
from analysis.report import summary as say
from analysis.report.confirm_figures import arm_points, effect_bars, effect_curves, seed_curves
from analysis.report.verdict import (
    OUTCOMES,
    arm_names,
    arm_tables,
    change_text,
    effect_tables,
    effects_finding,
    epochs_table,
    scope,
    sentences,
    verdict_text,
)
from analysis.statistics import confirm, search
from analysis.statistics import curves as tidy
from analysis.statistics.arms import ConfirmStage, confirm_stage
from analysis.statistics.cost import costs
from trainables.config import UsageError

TRIAL_COLUMNS = (
    *(
        "trial",
        "origin",
        "arm",
        "learning_rate",
        "state",
        "epochs",
        "validation_accuracy",
        "validation_loss",
    ),
    *("train_accuracy", "train_loss", "train_seconds", "parameters", "forward_flops", "error"),
)
TRIALS_SHOWN, POINTS_SHOWN = 300, 50
MOST_EFFECT_CURVES = 8
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text,
    "text.parse_math": False,  # a `$` in a name too
    "svg.hashsalt": "resnet-study",  # the same study gives the same bytes
    "font.sans-serif": ["DejaVu Sans"],  # else every text in an SVG lists a dozen fonts
}
EDGE = "A mark on the edge of a panel stands for a value beyond it."
LEVELS = "Levels differ in the other factors too; the baselines, which differ in fixed settings, are left out."
MEDIANS = "Bold: medians; solid, full markers: over all of the level's trials; dashed, open: over survivors only."
SHAPE = (
    "Medians over complete trials, in points: training less validation accuracy at the last epoch (gap); over the last "
    "third of the epochs its rise an epoch (slope) and the spread of its changes (unsteadiness)."
)
ARM_POINTS = "Grey: a seed each; diamonds: means, with pooled spread where arms are compared."
EFFECT_BARS = "An interval is of one effect; verdicts are adjusted for all (Holm), p-values are in effects.csv."
BOTH_INTERVALS = (
    "Thin: interval for new seeds and new test images; thick: for new seeds on these images."
)
EFFECT_CURVES = (
    "Band: 95% interval for new seeds on these images; grey: the margin. An effect moves at the end where its change "
    "over the last third of the epochs, paired over seeds, is significant (Holm)."
)


@dataclass(frozen=True)
class Section:
    """A part of the page: its heading, its finding, what it is about, what draws its figure of so
    many panels into a file of this name, if it has one (with a height for so many rows, where they
    count), and its tables."""

    name: str
    heading: str
    finding: str
    caption: str
    draw: Callable[[Sequence[Axes]], object] | None = None
    panels: int = 5
    rows: int = 0
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)


def write_report(study: Study, out: str | Path | None = None) -> Path:
    """Write `index.html`, `effects.csv` and `figures/*.{png,svg}` into `out` (default: the study's
    `report/`), replacing what was there; gives the page's path.

    Raises:
        UsageError: `out` cannot be made.
    """
    table, shown = say.findings(study).table, shown_trials(say.findings(study).table)
    axes = [*study.manifest["design"]["factors"], {"name": "validation_accuracy"}]
    page = {
        "name": study.manifest["name"],
        "answer": say.answer(study),
        "scope": say.scope(study),
        "trials": say.readable(shown, *TRIAL_COLUMNS),
        "curves": small_curves(study.epochs, shown["trial"]),
        "of": len(table),
        "best": str(tidy.winner(table)),
        "plane": {
            "axes": axes,
            "rows": json.loads(shown[[axis["name"] for axis in axes]].to_json(orient="values")),
        },
        "manifest": json.dumps(study.manifest, indent=2, ensure_ascii=False),
    }
    path = _write(study.path / "report" if out is None else Path(out), sections(study), page)
    confirm.conclude(study).to_csv(path.parent / "effects.csv", index=False)
    return path


def write_comparison(studies: Sequence[Study], out: str | Path) -> Path:
    """Write the page that sets studies (of `load_studies`) side by side into `out`; gives its path,
    raises as above."""
    named = {study.manifest["name"]: study for study in studies}
    page = {
        "name": " – ".join(named),
        "answer": [f"{name}: {say.answer(study)[0]}" for name, study in named.items()],
        "scope": " ".join(f"{name}: {say.scope(study)}" for name, study in named.items()),
    }
    return _write(Path(out), comparison(named), page)


def comparison(named: Mapping[str, Study]) -> Iterator[Section]:
    """The best trial's curves of each study, the best arms, what differs, and the best so far."""
    best = {name: say.findings(study).ranked.head(5) for name, study in named.items()}
    curves = [
        tidy.learning_curves(best[name].head(1), study.epochs) for name, study in named.items()
    ]
    # By a role of its own, for a study may be called what a role of a search is.
    roles = {name: f"study {name}" for name in named}
    curves = [
        rows.assign(role=roles[name], trial=number)
        for number, (name, rows) in enumerate(zip(named, curves, strict=True))
    ]
    abouts = {
        name: study.manifest["dataset"]["counts"] | study.manifest["settings"]
        for name, study in named.items()
    }
    settings = pd.DataFrame(abouts).astype("str").rename_axis("setting").reset_index()
    tables = {
        "The five best trials of each": pd.concat(best.values())[["study", *TRIAL_COLUMNS]],
        "Settings that differ": settings[settings[[*named]].nunique(axis=1) > 1],
    }
    data = next(iter(named.values())).manifest["dataset"]
    about, classes = f"Data set {data['name']}. Scores: {say.CAVEAT}.", len(data["classes"])
    labels = {roles[name]: name for name in named if len(best[name])}
    draw = (
        partial(
            figures.comparative_curves, curves=pd.concat(curves), labels=labels, classes=classes
        )
        if labels
        else None
    )
    finding = (
        "The best complete trial of each study"
        if labels
        else "No study has a complete search trial"
    )
    yield Section("curves", "Best trials", finding, about, draw, tables=tables)
    yield _best_so_far(named, about)


def sections(study: Study) -> Iterator[Section]:
    """The page from above: what is confirmed, the comparative curves of the search, what each
    factor does in it, what the study cost, and the chosen model. What there are no trials for is
    left out."""
    yield from _confirmed(study)
    found, about = say.findings(study), say.scope(study)
    varied = bool((~tidy.is_baseline(found.table)).any())
    curves = tidy.learning_curves(found.table, study.epochs)
    shared: dict[str, Any] = {
        "curves": curves,
        "classes": len(study.manifest["dataset"]["classes"]),
    }
    if len(found.table):
        draw = partial(figures.comparative_curves, labels=role_labels(study), **shared)
        tables = {
            "Baselines": found.table.loc[tidy.is_baseline(found.table), [*TRIAL_COLUMNS[:10]]]
        }
        yield Section(
            "curves",
            "Comparative curves",
            say.headline(study),
            f"{about} {EDGE}",
            draw,
            tables=tables,
        )
    if varied:
        yield from _effects(
            found,
            study.manifest["design"]["factors"],
            say.factor_finding(study),
            f"{LEVELS} {about}",
        )
    by_level = {
        name: costs(found.spent.merge(levels, on="trial"), "level")
        for name, levels in found.levels.items()
    }
    tables = {f"Cost by {by}": costs(found.spent, by) for by in ("stage", "state")}
    yield Section(
        "cost",
        "Cost",
        say.cost_finding(study),
        about,
        tables=tables | {"Cost by level": _stacked(by_level)},
    )
    if len(found.table):
        draw = partial(figures.pareto_points, table=found.table)
        yield Section(
            "pareto",
            "Accuracy against cost",
            "What no other trial beats at its cost",
            about,
            draw,
            3,
        )
        yield _best_so_far({study.manifest["name"]: study}, about)
    shape = tidy.training_shape(found.table, study.epochs)
    shapes = _stacked(
        {name: tidy.shape_by_level(shape, levels) for name, levels in found.levels.items()}
    )
    finding = (
        "How far training was ahead, how fast validation accuracy rose at the end, and how steadily"
    )
    tables = {"Shape of training by level": shapes}
    yield Section("shape", "Shape of training", finding, f"{SHAPE} {about}", tables=tables)
    for name, levels in (
        {"arm": tidy.arm_levels(found.table), **found.levels}.items() if varied else ()
    ):
        quartiles = tidy.level_curves(curves, levels)
        draw = partial(figures.level_curves, levels=levels, quartiles=quartiles, **shared)
        heading = "The best arms" if name == "arm" else f"By {say.spoken(name)}"
        caption = f"{MEDIANS} {LEVELS} {about} {EDGE}"
        yield Section(
            f"by-{name}", heading, level_finding(quartiles, say.spoken(name)), caption, draw
        )
    try:
        confusion = read_confusion(study.path)
    except UsageError as error:  # costs its own section, not the report
        yield Section("confusion", "The chosen model", "No confusion matrix", str(error))
    else:
        if confusion is not None:
            yield _chosen(confusion, say.chosen_scope(study))


def _effects(
    found: say.Findings, factors: Sequence[Mapping[str, Any]], importance: str, about: str
) -> Iterator[Section]:
    if search.scientific(factors):
        yield _isolation(found, factors, about)
    caption = (
        f"fANOVA, complete trials only, so weak regions count less; range over forests. {about}"
    )
    yield Section(
        "importance", "Importance", importance, caption, tables={"Importance": found.importance}
    )
    for factor in (factor for factor in factors if factor["name"] in found.responses):
        name, rows = factor["name"].replace("_", "-"), found.responses[factor["name"]]
        edges, noun = (rows["edge"] != "").sum(), say.spoken(factor["name"])
        finding = (
            f"{edges} of {say.plural(len(rows), 'arm')} did best at an end of the range of {noun}s"
        )
        caption = f"Diverged trials stand on the axis; dashed: the ends of the range. {about}"
        draw = partial(figures.rate_points, table=found.table, factor=factor)
        tables = {
            "Best by arm, and where that is at an end, which range to try next": rows.head(20)
        }
        yield Section(name, noun.capitalize(), finding, caption, draw, 1, tables=tables)


def _chosen(confusion: pd.DataFrame, about: str) -> Section:
    accuracy = pd.Series(confusion.to_numpy().diagonal(), confusion.index) / confusion.sum(
        axis=1
    ).replace(0, np.nan)
    finding = f"Least accurate on class {accuracy.idxmin()}, {accuracy.min():.1%}"
    images = confusion.add_prefix("as ").rename_axis("true class").reset_index()
    images.insert(1, "accuracy", accuracy.to_numpy())
    tables = {"Images by true and predicted class": images}
    return Section("confusion", "The chosen model", finding, about, tables=tables)


def _confirmed(study: Study) -> Iterator[Section]:
    """The arms that were trained again with several seeds, what differs among them, and their
    curves."""
    stage = confirm_stage(study)
    rows = confirm.arm_summaries(stage, stage.outcome) if stage else []
    if stage is None or not rows:
        return
    finding = next(iter(sentences(study)), "The first seed is not complete yet.")
    names, outcome = arm_names(stage), OUTCOMES[stage.outcome]
    shown = [names[stage.arms.index(row.arm)] for row in rows]
    title, tables = f"{outcome.capitalize()} after the last epoch (%)", arm_tables(study, stage)
    draw: Any = partial(arm_points, rows=rows, names=shown, title=title)
    trials = say.scope(study, "confirm")
    caption = f"{ARM_POINTS} {scope(study, stage)} {trials}"
    yield Section(
        "confirmed", "Confirmed", finding.removesuffix("."), caption, draw, 1, len(rows), tables
    )
    if confirm.effects(study):
        yield from _effect_sections(study, stage, f"{scope(study, stage)} {trials}")
    best = sorted(rows, key=lambda row: -row.mean)[:6]
    draw = partial(
        seed_curves, stage=stage, names=names, bold=[stage.arms.index(row.arm) for row in best]
    )
    caption = f"Bold: means over complete trials of the {len(best)} best arms; faint: a seed each. {trials}"
    yield Section(
        "confirmed-curves",
        "Curves of the confirmed arms",
        "The confirmed arms by epoch",
        caption,
        draw,
        4,
    )


def _effect_sections(study: Study, stage: ConfirmStage, caption: str) -> Iterator[Section]:
    """What each factor does after the last epoch, and by epoch."""
    effects, outcome = confirm.effects(study), OUTCOMES[stage.outcome]
    names = [change_text(effect.change) for effect in effects]
    labels = [
        f"{name}\n{verdict_text(effect, stage.margin)}"
        for name, effect in zip(names, effects, strict=True)
    ]
    title = f"Difference in {outcome} (points)"
    draw: Any = partial(
        effect_bars, effects=effects, names=labels, margin=stage.margin, title=title
    )
    lead = (
        f"{BOTH_INTERVALS} {EFFECT_BARS}"
        if any(effect.estimate.images for effect in effects)
        else EFFECT_BARS
    )
    finding, caption = effects_finding(effects), f"{lead} {caption}"
    tables = effect_tables(study, stage)
    yield Section("effects", "What matters", finding, caption, draw, 1, 2 * len(effects), tables)
    table = confirm.effects_by_epoch(study)
    if table.empty or table["epoch"].max() < 2:
        return
    names = [change_text(effect.change) for effect in effects if effect.estimate.seeds]
    draw = partial(effect_curves, table=table, names=names, margin=stage.margin)
    moving = [change_text(drift.change) for drift in confirm.drifts(study) if drift.moves]
    finding = (
        f"Still moving at the end: {', '.join(moving)}"
        if moving
        else "No effect is seen to move at the end"
    )
    caption = f"{title} by epoch. {EFFECT_CURVES} {say.scope(study, 'confirm')}"
    tables = {f"Effects on {outcome} by epoch (points)": epochs_table(study)}
    heading, count = "Does it hold for longer training?", min(len(names), MOST_EFFECT_CURVES)
    yield Section("effects-by-epoch", heading, finding, caption, draw, count, tables=tables)


def _isolation(found: say.Findings, factors: Sequence[Mapping[str, Any]], about: str) -> Section:
    ours = search.scientific(factors)
    best = _stacked({factor["name"]: search.isolation(found.table, factor) for factor in ours})
    # Maxima of unlike numbers of trials are not compared.
    complete = best["complete"] if "complete" in best else pd.Series(0, best.index)
    even = complete.groupby(best["factor"]).transform("nunique") == 1
    gaps = (
        best[even.to_numpy()]
        .groupby("factor")["validation_accuracy"]
        .agg(lambda scores: scores.max() - scores.min())
        .dropna()
    )
    widest = (
        f": widest apart by {say.spoken(str(gaps.idxmax()))}, {100 * gaps.max():.1f} points"
        if len(gaps)
        else ""
    )
    finding = f"The best of each level over everything else{widest}"
    tables = {"Best of each level": best}
    caption = f"Bar: the level's best complete trial, a maximum: higher the more trials, no interval. {about}"
    draw = partial(figures.isolation_points, table=found.table, factors=ours)
    return Section("isolation", "Isolation", finding, caption, draw, len(ours), tables=tables)


def _best_so_far(named: Mapping[str, Study], about: str) -> Section:
    cores = {
        name: study.manifest["settings"].get("cpus_per_trial") or 1 for name, study in named.items()
    }
    tables = {
        name: tidy.best_so_far(say.findings(study).table, cores[name])
        for name, study in named.items()
    }
    best = {name: tidy.winner(say.findings(study).table) for name, study in named.items()}
    found = [
        f"{name}, trial {best[name]}, sample {1 + list(rows['trial']).index(best[name])} of {len(rows)}"
        for name, rows in tables.items()
        if best[name] is not None
    ]
    finding, caption = (
        f"When the best came: {'; '.join(found) or 'not yet'}",
        f"Trials in order of number. {about}",
    )
    return Section(
        "best-so-far",
        "Best so far",
        finding,
        caption,
        partial(figures.best_lines, tables=tables),
        2,
    )


def _stacked(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The tables of the factors, one below the other, after a column with the factor's name."""
    return pd.concat(tables, names=["factor"]).reset_index("factor") if tables else pd.DataFrame()


def _write(folder: Path, parts: Iterable[Section], page: Mapping[str, Any]) -> Path:
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"out: invalid value {folder}: expected a directory that can be made ({error.strerror})"
        ) from None
    shown = []
    for part in parts:
        images = {}
        if part.draw:
            with mpl.rc_context(STYLE):
                make = partial(
                    figures.compose,
                    part.draw,
                    part.finding,
                    part.caption,
                    part.panels,
                    rows=part.rows,
                )
                wide, narrow = make(columns=2), make(columns=1)
                svg, png, small = _image(wide, "svg"), _image(wide, "png"), _image(narrow, "svg")
            (folder / "figures" / f"{part.name}.svg").write_bytes(svg)
            (folder / "figures" / f"{part.name}.png").write_bytes(png)
            images = {
                "wide": base64.b64encode(svg).decode(),
                "narrow": base64.b64encode(small).decode(),
            }
        tables = {label: say.readable(table) for label, table in part.tables.items() if len(table)}
        shown.append({"part": part, "images": images, "tables": tables})
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined
    )
    text = environment.get_template("template.html.jinja").render(
        sections=shown, caveat=say.CAVEAT, **page
    )
    temporary = folder / ".index.html"  # the page is there whole or not at all
    temporary.write_text(text, encoding="utf-8")
    return temporary.replace(folder / "index.html")


def shown_trials(table: pd.DataFrame) -> pd.DataFrame:
    """At most 300 trials for the page: the 100 best, the baselines, and a fixed draw of the rest."""
    first = table["trial"].isin(
        tidy.ranked(table)["trial"].head(TRIALS_SHOWN // 3)
    ) | tidy.is_baseline(table)
    rest = table[~first]
    rest = rest.sample(min(len(rest), max(0, TRIALS_SHOWN - int(first.sum()))), random_state=0)
    return pd.concat([table[first], rest]).sort_values("trial", ignore_index=True)


def small_curves(epochs: pd.DataFrame, trials: pd.Series) -> list[str]:
    """Each trial's validation accuracy by epoch as the points of a line in a box of 100 × 100, at
    most 50 of them."""
    rows = epochs[epochs["trial"].isin(trials) & epochs["validation_accuracy"].notna()]
    last = int(max(rows["epoch"].max(), 2)) if len(rows) else 2
    rows = rows[(rows["epoch"] - 1) % -(-last // POINTS_SHOWN) == 0]
    pairs = zip(rows["epoch"], rows["validation_accuracy"], strict=True)
    places = [
        f"{100 * (epoch - 1) / (last - 1):.0f},{100 - 100 * value:.1f}" for epoch, value in pairs
    ]
    lines = pd.Series(places, rows["trial"], dtype="str").groupby(level=0).agg(" ".join)
    return list(lines.reindex(trials, fill_value=""))


def role_labels(study: Study) -> dict[str, str]:
    """The legend's text of the winner and of each baseline that has begun, by role, the best first."""
    labels, table = {}, say.findings(study).table
    best = tidy.winner(table)
    bold = table[table["role"] != tidy.OTHER].sort_values(
        "trial", key=lambda trial: trial != best, kind="stable"
    )
    for _, row in bold.iterrows():
        lead = "best: " if row["trial"] == best else ""
        arm = f", {row['arm']}" if row["role"] == tidy.WINNER else ""
        score = say.show(row["validation_accuracy"], "validation_accuracy")
        state = "" if row["state"] == "complete" else f" ({row['state']})"
        labels[row["role"]] = (
            f"{lead}{say.named(row)}{arm}, lr {row['learning_rate']:.3g}: {score}{state}"
        )
    return labels


def level_finding(quartiles: pd.DataFrame, name: str) -> str:
    """The least and the greatest median validation accuracy among levels at the last epoch where
    all quartiles are over all trials; where there is none, no finding."""
    rows = quartiles[quartiles["reading"] == "validation_accuracy"].astype({"level": "str"})
    rows["median"] = rows["median"].where(rows["whole"])
    shared = rows.pivot(index="epoch", columns="level", values="median").dropna()
    if shared.empty or len(shared.columns) < 2:
        return f"Learning curves by {name}"
    last = shared.iloc[-1].sort_values(kind="stable")
    low, high = (f"{median:.1%} ({level})" for level, median in last.iloc[[0, -1]].items())
    where = f"After epoch {shared.index[-1]}, the last that all trials reached"
    return f"{where}, median validation accuracy by {name} runs from {low} to {high}"


def _image(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    vector = kind == "svg"  # in it, only what is dense is a picture
    figure.savefig(
        buffer, format=kind, dpi=60 if vector else 150, metadata={"Date": None} if vector else None
    )
    content = buffer.getvalue()
    # A hundredth of a point is fine enough, and a third of the size is digits. (In tags alone: text
    # stays as it is.)
    return (
        re.sub(rb"<[^>]+>", lambda tag: re.sub(rb"(\.\d\d)\d+", rb"\1", tag[0]), content)
        if vector
        else content
    )
