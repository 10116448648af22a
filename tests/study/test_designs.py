"""The built-in designs are what was asked for, written out by hand."""

import itertools
import math
from dataclasses import replace

import pytest

from study.designs import DESIGNS, Design, Factor, arm_label
from trainables.config import TrialConfig
from trainables.resnet import network_cost

SEARCH = DESIGNS["search"]


def test_search_varies_what_was_asked():
    assert SEARCH.to_dict()["factors"] == [
        {"name": "learning_rate", "role": "nuisance", "low": 3e-4, "high": 0.3, "scale": "log"},
        {"name": "stem_kernel", "role": "scientific", "levels": [2, 3, 5, 7]},
        {"name": "stem_stride", "role": "scientific", "levels": [1, 2]},
        {"name": "stem_maxpool", "role": "scientific", "levels": [True, False]},
        {"name": "depth", "role": "scientific", "levels": [10, 18, 34]},
    ]
    config = SEARCH.config({"learning_rate": 0.02, "stem_kernel": 5}, epochs=6, seed=3)
    assert config == TrialConfig(
        stem_kernel=5,
        learning_rate=0.02,
        init="he",
        normalize="data",
        max_epochs=6,
        seed=3,
        momentum=0.9,
        weight_decay=5e-4,
        batch_size=128,
        optimizer="sgd",
        schedule="constant",
        label_smoothing=0.0,
        nesterov=False,
    )


@pytest.mark.parametrize(
    ("name", "kernel", "stride", "pool"),
    [
        ("imagenet-stem", 7, 2, True),
        ("small-stem", 2, 1, True),
        ("small-stem-no-pool", 2, 1, False),
    ],
)
def test_baselines_are_the_course_reports(name, kernel, stride, pool):
    assert list(SEARCH.baselines) == ["imagenet-stem", "small-stem", "small-stem-no-pool"]
    assert SEARCH.baseline(name, epochs=6, seed=0) == TrialConfig(
        stem_kernel=kernel,
        stem_stride=stride,
        stem_maxpool=pool,
        depth=18,
        width=64,
        residual=True,
        shortcut="projection",
        init="default",
        normalize="half",
        learning_rate=0.01,
        optimizer="sgd",
        momentum=0.9,
        weight_decay=5e-4,
        batch_size=128,
        schedule="constant",
        max_epochs=6,
        seed=0,
    )


def test_arms_are_all_combinations():
    arms = SEARCH.arms()
    expected = {
        (kernel, stride, pool, depth)
        for kernel, stride, pool, depth in itertools.product(
            (2, 3, 5, 7), (1, 2), (True, False), (10, 18, 34)
        )
    }
    assert {
        tuple(arm[name] for name in ("stem_kernel", "stem_stride", "stem_maxpool", "depth"))
        for arm in arms
    } == (expected)
    assert len(arms) == 48
    assert all(len(arm) == 4 for arm in arms), "the scientific levels alone"


def test_networks_are_those_of_the_baselines_and_of_the_arms():
    networks = SEARCH.networks(7)
    assert [config.arm for config in networks[:3]] == [
        "k7 s2 pool d18",
        "k2 s1 pool d18",
        "k2 s1 no-pool d18",
    ]
    assert [config.init for config in networks] == ["default"] * 3 + ["he"] * 48
    assert len({config.arm for config in networks[3:]}) == 48
    assert {config.max_epochs for config in networks} == {7}
    assert [config.max_epochs for config in DESIGNS["course"].networks(7)] == [50, 50, 20]
    assert [config.arm for config in DESIGNS["course"].networks(7)] == [
        config.arm for config in networks[:3]
    ]


def test_course_is_the_baselines_alone_with_their_own_epochs():
    course = DESIGNS["course"]
    assert (course.search, course.samples, course.factors, course.outcome) == (
        "none",
        0,
        (),
        "test_accuracy",
    )
    for name, epochs in (("imagenet-stem", 50), ("small-stem", 50), ("small-stem-no-pool", 20)):
        # The budget that is asked for counts only for what has none of its own.
        # It reads them as the course report did.
        as_read = replace(SEARCH.baseline(name, epochs=epochs, seed=1), bn_statistics="running")
        assert course.baseline(name, epochs=6, seed=1) == as_read
        assert course.one_budget().baseline(name, epochs=6, seed=1) == replace(
            as_read, max_epochs=6
        )
    assert course.baselines["small-stem-no-pool"]["max_epochs"] == 20, "left as it was"


def test_a_design_as_version_1_had_it_reads_running_statistics():
    before = SEARCH.with_running_statistics()
    assert before.config({"depth": 10}, 6, 0) == replace(
        SEARCH.config({"depth": 10}, 6, 0), bn_statistics="running"
    )
    small = replace(SEARCH.baseline("small-stem", 6, 0), bn_statistics="running")
    assert before.baseline("small-stem", 6, 0) == small
    assert DESIGNS["course"].with_running_statistics().baselines == DESIGNS["course"].baselines


@pytest.mark.parametrize(
    ("name", "rates", "fixed", "levels", "samples", "outcome"),
    [
        (
            "stem",
            (3e-4, 0.3),
            {"init": "he", "normalize": "data", "depth": 18},
            {"stem_kernel": (2, 3, 5, 7), "stem_stride": (1, 2), "stem_maxpool": (True, False)},
            64,
            "test_accuracy",
        ),
        (
            "degradation",
            (3e-4, 0.3),
            {"init": "he", "normalize": "data"},
            {"residual": (True, False), "depth": (18, 34)},
            24,
            "train_accuracy",
        ),
        (
            "recipe",
            (1e-4, 0.3),
            {"init": "he", "normalize": "data"},
            {"optimizer": ("sgd", "adam"), "shortcut": ("projection", "zero-padding")},
            24,
            "test_accuracy",
        ),
    ],
)
def test_factorial_designs(name, rates, fixed, levels, samples, outcome):
    design = DESIGNS[name]
    assert (design.search, design.samples, design.outcome, design.fixed) == (
        "factorial",
        samples,
        outcome,
        fixed,
    )
    (nuisance,) = [factor for factor in design.factors if factor.role == "nuisance"]
    assert (nuisance.name, nuisance.low, nuisance.high, nuisance.scale) == (
        "learning_rate",
        *rates,
        "log",
    )
    assert {factor.name: factor.levels for factor in design.scientific} == levels
    product = [dict(zip(levels, each, strict=True)) for each in itertools.product(*levels.values())]
    assert design.arms() == product
    assert samples % len(product) == 0
    # Labels tell the arms apart.
    assert len({config.arm for config in design.networks(7)}) == len(product)
    assert not design.baselines


SHORTCUT = Design(
    "shortcut",
    (
        Factor("residual", "scientific", (True, False)),
        Factor("shortcut", "scientific", ("projection", "zero-padding"), when={"residual": True}),
        Factor("optimizer", "nuisance", ("sgd", "adam")),
        Factor("momentum", "nuisance", low=0.5, high=0.99, when={"optimizer": "sgd"}),
    ),
    {"width": 8},
    search="factorial",
    samples=6,
)


def test_a_condition_makes_a_factor_exist_at_a_level_only():
    assert SHORTCUT.arms() == [
        {"residual": True, "shortcut": "projection"},
        {"residual": True, "shortcut": "zero-padding"},
        {"residual": False},
    ]
    drawn = {"residual": False, "shortcut": "zero-padding", "optimizer": "adam", "momentum": 0.6}
    config = SHORTCUT.config(drawn, epochs=2, seed=1)
    assert config == TrialConfig(residual=False, optimizer="adam", width=8, max_epochs=2, seed=1)
    assert (config.shortcut, config.momentum) == ("projection", 0.9), "as usual"
    kept = SHORTCUT.config(drawn | {"optimizer": "sgd", "residual": True}, epochs=2, seed=1)
    assert (kept.shortcut, kept.momentum) == ("zero-padding", 0.6)
    fixed = replace(SHORTCUT, fixed={"width": 8, "nesterov": True})
    assert fixed.config({"residual": True, "optimizer": "sgd", "momentum": 0.7}, 1, 0).nesterov


def test_what_depends_on_a_factor_that_does_not_exist_does_not_exist():
    chain = Design(
        "chain",
        (
            Factor("residual", "scientific", (False, True)),
            Factor(
                "shortcut", "scientific", ("zero-padding", "projection"), when={"residual": True}
            ),
            Factor("depth", "scientific", (10, 18), when={"shortcut": "projection"}),
        ),
    )
    assert chain.arms() == [
        {"residual": False},
        {"residual": True, "shortcut": "zero-padding"},
        {"residual": True, "shortcut": "projection", "depth": 10},
        {"residual": True, "shortcut": "projection", "depth": 18},
    ]
    assert chain.config(
        {"residual": False, "shortcut": "projection", "depth": 10}, 1, 0
    ) == TrialConfig(residual=False, max_epochs=1)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 16, 16), (3, 64, 64)])
def test_the_dearest_arm_is_the_deepest_that_keeps_most_pixels(shape):
    flops = {arm.arm: network_cost(arm, shape, 10).forward_flops for arm in SEARCH.networks(7)[3:]}
    # An even kernel with padding 1 makes 33×33 of 32×32, and 17, 9 and 5 where the others have 16,
    # 8 and 4.
    assert max(flops, key=lambda arm: flops[arm]) == "k2 s1 no-pool d34"
    assert min(flops, key=lambda arm: flops[arm]) == "k3 s2 pool d10"


def test_what_a_factor_holds():
    rate = Factor("learning_rate", "nuisance", low=1e-4, high=1.0, scale="log")
    assert [rate.holds(value) for value in (9e-5, 1e-4, 0.5, 1.0, 1.1, math.nan)] == [
        False,
        *[True] * 3,
        *[False] * 2,
    ]
    kernel = Factor("stem_kernel", "scientific", levels=(2, 3))
    assert [kernel.holds(value) for value in (2, 3, 5)] == [True, True, False]


def test_points_of_the_unit_cube():
    rate = Factor("learning_rate", "nuisance", low=1e-4, high=1.0, scale="log")
    assert [rate.at(u) for u in (0, 0.25, 0.5)] == pytest.approx([1e-4, 1e-3, 1e-2])
    assert Factor("momentum", "nuisance", low=0.0, high=0.8).at(0.5) == pytest.approx(0.4)
    kernel = Factor("stem_kernel", "scientific", levels=(2, 3, 5, 7))
    assert [kernel.at(u) for u in (0, 0.24, 0.25, 0.5, 0.999)] == [2, 2, 3, 5, 7]
    assert not math.isnan(rate.at(math.nextafter(1, 0)))


def test_the_label_of_an_arm_names_every_scientific_factor():
    factors = [
        Factor("schedule", "scientific", ("constant", "cosine")),
        Factor("depth", "scientific", (10, 18)),
    ]
    design = Design(
        "mine", (*factors, Factor("momentum", "nuisance", low=0.5, high=0.9)), search="factorial"
    ).to_dict()
    config = TrialConfig(schedule="cosine", depth=10, momentum=0.7)
    assert arm_label(config, design) == "k7 s2 pool d10, schedule cosine"
    assert arm_label(config, SEARCH.to_dict()) == config.arm
