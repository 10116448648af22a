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
        ("stem_stride", 0),
        ("stem_stride", True),
        ("stem_maxpool", 1),
        ("depth", 50),
        ("depth", "18"),
        ("residual", 0),
        ("shortcut", "none"),
        ("init", None),
        ("bn_statistics", "batch"),
        ("optimizer", "SGD"),
        ("nesterov", "no"),
        ("schedule", "step"),
        ("normalize", "imagenet"),
        ("normalize", ["data"]),
        ("width", 0),
        ("width", 1025),
        ("width", 2.5),
        ("learning_rate", 0.0),
        ("learning_rate", -0.1),
        ("learning_rate", math.nan),
        ("learning_rate", math.inf),
        ("learning_rate", "0.1"),
        ("learning_rate", True),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("momentum", math.nan),
        ("weight_decay", -1e-9),
        ("weight_decay", math.inf),
        ("label_smoothing", 1),
        ("label_smoothing", math.nan),
        ("label_smoothing", None),
        ("batch_size", 1),
        ("batch_size", 64.0),
        ("max_epochs", 0),
        ("max_epochs", True),
        ("seed", -1),
        ("seed", 1 << 32),
        ("seed", 0.0),
    ],
)
def test_a_wrong_value_is_named(field, value):
    with pytest.raises(UsageError) as caught:
        TrialConfig(**{field: value})
    message = str(caught.value)
    assert message.startswith(f"{field}: invalid value {value!r}: expected ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("width", 1),
        ("width", 1024),
        ("learning_rate", 5e-324),
        ("learning_rate", 1),
        ("momentum", 0),
        ("momentum", 0.999),
        ("weight_decay", 0),
        ("label_smoothing", 0.0),
        ("batch_size", 2),
        ("max_epochs", 1),
        ("seed", (1 << 32) - 1),
    ],
)
def test_the_ends_of_a_range_are_allowed(field, value):
    assert TrialConfig.from_dict({field: value}).to_dict()[field] == value


def test_the_fields_are_those_of_the_contract():
    assert (
        list(TrialConfig().to_dict())
        == (
            "stem_kernel stem_stride stem_maxpool depth width residual shortcut init bn_statistics "
            "learning_rate optimizer momentum nesterov weight_decay label_smoothing batch_size "
            "schedule max_epochs normalize seed"
        ).split()
    )


def test_an_unknown_field_is_named():
    with pytest.raises(
        UsageError, match="kernel: no such field of a trial: expected stem_kernel, "
    ):
        TrialConfig.from_dict({"kernel": 3})


def test_nesterov_needs_a_momentum():
    for wrong in ({"momentum": 0.0}, {"optimizer": "adam"}):
        with pytest.raises(UsageError, match="nesterov"):
            TrialConfig(nesterov=True, **wrong)
    assert TrialConfig(nesterov=True, momentum=0.5).nesterov


def test_round_trip_through_json():
    config = TrialConfig(stem_kernel=2, learning_rate=0.1 + 0.2, stem_maxpool=False)
    assert TrialConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("values", "arm"),
    [
        ({}, "k7 s2 pool d18"),
        ({"stem_kernel": 3, "stem_stride": 1, "stem_maxpool": False}, "k3 s1 no-pool d18"),
        ({"depth": 34, "residual": False}, "k7 s2 pool d34 plain"),
        ({"bn_statistics": "running"}, "k7 s2 pool d18"),
        ({"width": 16, "shortcut": "zero-padding"}, "k7 s2 pool d18 w16 zero-padding"),
    ],
)
def test_arm(values, arm):
    assert TrialConfig(**values).arm == arm


def metrics(**values: float | None) -> EpochMetrics:
    usual = {
        "epoch": 1,
        "learning_rate": 0.1,
        "train_loss": 1.0,
        "train_accuracy": 0.5,
        "validation_loss": 1.0,
    }
    rest = {"validation_accuracy": 0.5, "test_loss": None, "test_accuracy": None}
    rest |= dict.fromkeys(("validation_balanced_accuracy", "test_balanced_accuracy"))
    return EpochMetrics(**{**usual, **rest, "train_seconds": 1.0, "eval_seconds": 1.0, **values})


def test_metrics_know_when_a_loss_is_not_finite():
    assert not metrics().diverged
    for part in ("train_loss", "validation_loss", "test_loss"):
        for value in (math.nan, math.inf):
            assert metrics(**{part: value}).diverged
            assert (
                json.loads(json.dumps(metrics(**{part: value}).to_dict(), allow_nan=False))[part]
                is None
            )
