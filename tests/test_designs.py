"""The built-in design is what was asked for, written out by hand."""

import itertools
import math

import pytest

from study.designs import DESIGNS, Factor
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
        stem_kernel=5, learning_rate=0.02, init="he", normalize="data", max_epochs=6, seed=3, momentum=0.9,
        weight_decay=5e-4, batch_size=128, optimizer="sgd", schedule="constant", label_smoothing=0.0, nesterov=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kernel", "stride", "pool"),
    [("imagenet-stem", 7, 2, True), ("small-stem", 2, 1, True), ("small-stem-no-pool", 2, 1, False)],
)
def test_baselines_are_the_course_reports(name, kernel, stride, pool):
    assert list(SEARCH.baselines) == ["imagenet-stem", "small-stem", "small-stem-no-pool"]
    assert SEARCH.baseline(name, epochs=6, seed=0) == TrialConfig(
        stem_kernel=kernel, stem_stride=stride, stem_maxpool=pool, depth=18, width=64, residual=True,
        shortcut="projection", init="default", normalize="half", learning_rate=0.01, optimizer="sgd", momentum=0.9,
        weight_decay=5e-4, batch_size=128, schedule="constant", max_epochs=6, seed=0,
    )  # fmt: skip


def test_arms_are_all_combinations():
    arms = SEARCH.arms()
    expected = {
        (kernel, stride, pool, depth)
        for kernel, stride, pool, depth in itertools.product((2, 3, 5, 7), (1, 2), (True, False), (10, 18, 34))
    }
    assert {(arm.stem_kernel, arm.stem_stride, arm.stem_maxpool, arm.depth) for arm in arms} == expected
    assert len(arms) == len({arm.arm for arm in arms}) == 48
    assert {arm.init for arm in arms} == {"he"}


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 16, 16), (3, 64, 64)])
def test_the_dearest_arm_is_the_deepest_that_keeps_most_pixels(shape):
    flops = {arm.arm: network_cost(arm, shape, 10).forward_flops for arm in SEARCH.arms()}
    # An even kernel with padding 1 makes 33×33 of 32×32, and 17, 9 and 5 where the others have 16, 8 and 4.
    assert max(flops, key=lambda arm: flops[arm]) == "k2 s1 no-pool d34"
    assert min(flops, key=lambda arm: flops[arm]) == "k3 s2 pool d10"


def test_points_of_the_unit_cube():
    rate = Factor("learning_rate", "nuisance", low=1e-4, high=1.0, scale="log")
    assert [rate.at(u) for u in (0, 0.25, 0.5)] == pytest.approx([1e-4, 1e-3, 1e-2])
    assert Factor("momentum", "nuisance", low=0.0, high=0.8).at(0.5) == pytest.approx(0.4)
    kernel = Factor("stem_kernel", "scientific", levels=(2, 3, 5, 7))
    assert [kernel.at(u) for u in (0, 0.24, 0.25, 0.5, 0.999)] == [2, 2, 3, 5, 7]
    assert not math.isnan(rate.at(math.nextafter(1, 0)))
