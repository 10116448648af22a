"""A trial's config refuses what cannot be; an epoch's metrics say when a trial diverged."""

import json
import math

import pytest

from trainables.config import EpochMetrics, TrialConfig, UsageError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stem_kernel", 4),
        ("stem_kernel", 3.0),
        ("stem_stride", True),
        ("stem_maxpool", 1),
        ("depth", 50),
        ("width", 0),
        ("width", 2.5),
        ("shortcut", "none"),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("learning_rate", math.inf),
        ("learning_rate", "0.1"),
        ("momentum", 1.0),
        ("weight_decay", -1e-9),
        ("label_smoothing", 1),
        ("batch_size", 1),
        ("max_epochs", 0),
        ("max_epochs", True),
        ("seed", -1),
        ("normalize", "imagenet"),
    ],
)
def test_a_wrong_value_is_named(field, value):
    with pytest.raises(UsageError) as caught:
        TrialConfig(**{field: value})
    said = str(caught.value)
    assert said.startswith(f"{field}: received {value!r}, allowed: ")
    assert "\n" not in said


def test_an_unknown_field_is_named():
    with pytest.raises(UsageError, match="kernel: no such field of a trial, allowed: stem_kernel, "):
        TrialConfig.from_dict({"kernel": 3})


def test_nesterov_needs_a_momentum():
    for wrong in ({"momentum": 0.0}, {"optimizer": "adam"}):
        with pytest.raises(UsageError, match="nesterov"):
            TrialConfig(nesterov=True, **wrong)


def test_round_trip_through_json():
    config = TrialConfig(stem_kernel=2, learning_rate=0.1 + 0.2, stem_maxpool=False)
    assert TrialConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("values", "arm"),
    [
        ({}, "k7 s2 pool d18"),
        ({"stem_kernel": 3, "stem_stride": 1, "stem_maxpool": False}, "k3 s1 no-pool d18"),
        ({"depth": 34, "residual": False}, "k7 s2 pool d34 plain"),
        ({"width": 16, "shortcut": "zero-padding"}, "k7 s2 pool d18 w16 zero-padding"),
    ],
)
def test_arm(values, arm):
    assert TrialConfig(**values).arm == arm


def metrics(**values: float | None) -> EpochMetrics:
    usual = {"epoch": 1, "learning_rate": 0.1, "train_loss": 1.0, "train_accuracy": 0.5, "validation_loss": 1.0}
    rest = {"validation_accuracy": 0.5, "test_loss": None, "test_accuracy": None}
    return EpochMetrics(**{**usual, **rest, "train_seconds": 1.0, "eval_seconds": 1.0, **values})


def test_metrics_know_when_a_loss_is_not_finite():
    assert not metrics().diverged
    for part in ("train_loss", "validation_loss", "test_loss"):
        for value in (math.nan, math.inf):
            assert metrics(**{part: value}).diverged
            assert json.loads(json.dumps(metrics(**{part: value}).to_dict(), allow_nan=False))[part] is None
