"""The figures of the confirm stage hold the numbers that they are given."""

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from synthetic import confirm_like, manifest, write_study

from analysis import load_study
from analysis.report.confirm_figures import (
    COLORS,
    arm_points,
    effect_bars,
    effect_curves,
    seed_curves,
)
from analysis.report.wording.confirm_text import verdict_text
from analysis.report.wording.values import arm_name
from analysis.statistics import confirm
from analysis.statistics.arms import confirm_stage
from analysis.statistics.confirm import Effect, Verdict
from analysis.statistics.contrasts import Change
from analysis.statistics.estimate import Estimate
from trainables.vocabulary import Outcome


def panels(count: int) -> list:
    return list(np.atleast_1d(Figure().subplots(count)))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    made, plan = confirm_like({"depth": -1.5}, seeds=3)
    design = manifest()["design"] | {"search": "sampled", "margin": 0.01}
    return load_study(
        write_study(tmp_path_factory.mktemp("s"), made, version=2, design=design, confirm=plan)
    )


def marks(ax, kind: str, name: str = "") -> list:
    """The lines of a kind, of one series where it is named."""
    gids = [(line, str(line.get_gid()).split("|")) for line in ax.get_lines()]
    return [line for line, gid in gids if gid[0] == kind and (not name or gid[1] == name)]


def test_arms_stand_from_above_with_their_seeds_and_means(study):
    stage = confirm_stage(study)
    rows = confirm.arm_summaries(stage, "test_accuracy")
    (ax,) = arm_points(panels(1), rows, Outcome.TEST_ACCURACY)
    names = [arm_name(arm) for arm in stage.arms]
    assert [label.get_text() for label in ax.get_yticklabels()][::-1] == names
    assert names[0] == "winner: k3 s1 no-pool d18" and names[-1] == "imagenet-stem"
    seeds = [list(line.get_xdata()) for line in marks(ax, "seed")][::-1]
    assert seeds == [list(row.values) for row in rows]
    means = [bar for bar in ax.containers if bar.get_label() == "_nolegend_" or bar]
    assert [float(bar[0].get_xdata()[0]) for bar in means][::-1] == pytest.approx(
        [row.mean for row in rows]
    )


def effect(difference: float, p: float, p_equivalence: float, images: int = 100) -> Effect:
    value = Estimate(difference, 3, 1e-5, 6.0, images, 2e-5 if images else 0.0)
    return Effect(Change("depth", 18, 10), value, p, p_equivalence)


def test_effects_have_both_intervals_the_margin_and_the_colour_of_their_verdict():
    effects = [effect(0.03, 0.01, 1.0), effect(0.001, 1.0, 0.01), effect(0.01, 0.5, 0.5)]
    (ax,) = effect_bars(panels(1), effects, 0.01, Outcome.TEST_ACCURACY)
    (band,) = [patch for patch in ax.patches if patch.get_label() == "the margin (±1)"]
    assert (band.get_x(), band.get_width()) == pytest.approx((-0.01, 0.02))
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels == [f"depth 18 → 10\n{verdict_text(each, 0.01)}" for each in effects[::-1]]
    assert ax.get_xlabel() == "Difference in test accuracy (points)"
    narrow = [line.get_xdata() for line in marks(ax, "images")][::-1]
    assert np.array(narrow) == pytest.approx(
        np.array([each.estimate.interval_on_images.ends for each in effects])
    )
    for each, bar in zip(effects[::-1], ax.containers, strict=True):
        assert to_hex(bar[0].get_color()) == COLORS[each.verdict].lower()
        (ends,) = bar[2][0].get_segments()
        assert ends[:, 0] == pytest.approx(np.array(each.estimate.interval.ends))
    assert set(ax.get_legend_handles_labels()[1]) >= {"matters", "does not matter", "inconclusive"}


def test_effects_of_one_seed_or_without_images_are_drawn_too():
    lone = Effect(Change("depth", 18, 10), Estimate(0.01, 1, math.nan, 0.0), math.nan, math.nan)
    figure = Figure()
    ax = figure.subplots()
    effect_bars([ax], [lone, effect(0.0, 1.0, 1.0, images=0)], 0.01, Outcome.TRAIN_ACCURACY)
    figure.canvas.draw()
    assert marks(ax, "images") == []
    assert lone.verdict is Verdict.INCONCLUSIVE


def test_effects_by_epoch_are_a_line_and_a_band_each(study):
    table = confirm.effects_by_epoch(study)
    names = ["stem kernel 3 → 5", "stem stride 1 → 2", "stem maxpool no → yes", "depth 18 → 10"]
    axes = effect_curves(panels(4), table, 0.01)
    for ax, name, (_, rows) in zip(axes, names, table.groupby("factor", sort=False), strict=True):
        (line,) = marks(ax, "effect", name)
        np.testing.assert_array_equal(line.get_xydata(), rows[["epoch", "difference"]])
        low, high = ax.get_ylim()
        assert low == -high and high >= max(0.02, rows["high"].iloc[-1])


def test_curves_of_the_arms_are_means_over_complete_trials(study):
    stage = confirm_stage(study)
    axes = seed_curves(panels(4), stage, [stage.arms[0], stage.arms[8]])
    rows = study.epochs.merge(
        study.trials[study.trials["stage"] == "confirm"][["trial", "stem_kernel"]], on="trial"
    )
    mean = rows[rows["stem_kernel"] == 7].groupby("epoch")["test_accuracy"].mean()
    (line,) = marks(axes[3], "mean", "imagenet-stem")
    assert line.get_ydata() == pytest.approx(mean.to_numpy())
    assert axes[3].get_legend_handles_labels()[1] == ["winner: k3 s1 no-pool d18", "imagenet-stem"]
    assert len(axes[0].get_lines()) == 27 + 2
    assert isinstance(mean, pd.Series)


def test_levels_that_compare_equal_keep_their_own_names():
    rows = [("stem_stride", 1, 2), ("stem_maxpool", True, False)]
    table = pd.DataFrame(
        [(*row, epoch, 0.0, -0.01, 0.01) for row in rows for epoch in (1, 2)],
        columns="factor from to epoch difference low high".split(),
    )
    axes = effect_curves(panels(2), table, 0.01)
    titles = [ax.get_title(loc="left") for ax in axes]
    assert titles == ["stem stride 1 → 2", "stem maxpool yes → no"]
