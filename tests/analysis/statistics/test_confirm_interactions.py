"""Interactions of the confirm stage, from the files of a study."""

import itertools
import math

import numpy as np
import pytest
from confirmed import (
    CODES,
    EIGHT,
    RANDOM,
    SQUARE,
    fraction,
    study_of,
)
from synthetic import (
    CHANGES,
    half_fraction,
)

from analysis.statistics import confirm
from analysis.statistics.contrasts import Change


def test_interactions_are_shared_by_pairs_that_the_fraction_does_not_separate(tmp_path):
    kernel, stride, pool, depth = CODES.T * 2 - 1
    table = EIGHT + 0.01 * (kernel * stride)[:, None]
    study = study_of(tmp_path, fraction(half_fraction()), table, CHANGES)
    rows = {row.pairs: row for row in confirm.interactions(study)}
    columns = {
        (("stem_kernel", "stem_stride"), ("stem_maxpool", "depth")): kernel * stride,
        (("stem_kernel", "stem_maxpool"), ("stem_stride", "depth")): kernel * pool,
        (("stem_kernel", "depth"), ("stem_stride", "stem_maxpool")): kernel * depth,
    }
    assert rows.keys() == columns.keys()
    for pairs, column in columns.items():
        assert rows[pairs].estimate.difference == pytest.approx(column @ table.mean(axis=1) / 4)
    assert [row.significant for row in rows.values()] == [True, False, False]
    assert confirm.simple_effects(study, next(iter(rows.values()))) == []


def test_an_interaction_of_a_factorial_design_has_simple_effects(tmp_path):
    table = np.array(
        [[0.90, 0.91, 0.90], [0.91, 0.91, 0.92], [0.89, 0.90, 0.89], [0.80, 0.80, 0.81]]
    )
    configs = [
        {"residual": residual, "depth": depth} for residual in (True, False) for depth in (18, 34)
    ]
    study = study_of(
        tmp_path, [{"role": "arm", "config": config} for config in configs], table, design=SQUARE
    )
    (row,) = confirm.interactions(study)
    a, b, c, d = table.mean(axis=1)
    assert row.significant
    assert row.estimate.difference == pytest.approx(((d - c) - (b - a)) / 2)
    shown = [
        (at, change, value.difference) for at, change, value in confirm.simple_effects(study, row)
    ]
    depth = Change("depth", 18, 34)
    assert shown == [(True, depth, pytest.approx(b - a)), (False, depth, pytest.approx(d - c))]


def test_five_factors_in_sixteen_arms_separate_all_interactions(tmp_path):
    levels = {
        "stem_kernel": (3, 5),
        "stem_stride": (1, 2),
        "stem_maxpool": (True, False),
        "depth": (18, 10),
        "residual": (True, False),
    }
    signs = [(*row, math.prod(row)) for row in itertools.product((1, -1), repeat=4)]
    configs = [
        {name: pair[sign < 0] for (name, pair), sign in zip(levels.items(), row, strict=True)}
        for row in signs
    ]
    study = study_of(
        tmp_path,
        fraction(configs),
        RANDOM.normal(0.9, 0.01, (16, 2)),
        [(n, *p) for n, p in levels.items()],
    )
    assert [len(row.pairs) for row in confirm.interactions(study)] == [1] * 10
    assert len(confirm.effects(study)) == 5
