"""Precise BatchNorm statistics: those of a fixed sample, and training never reads them."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from trial_data import SMALL, device_part, random_part, trial_data

from trainables.evaluation import (
    BN_BATCH,
    BN_SAMPLE,
    batchnorm_sample,
    compute_precise_statistics,
)
from trainables.parts import TrialData
from trainables.training import Trainer


def norms_of(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize(
    ("count", "size"),
    [(700, 16), (BN_BATCH + 1, 16), (20, 16), (300, 8)],
    ids=[
        "more than the sample",
        "one image over a batch",
        "less than a batch",
        "maps of one pixel",
    ],
)
def test_precise_statistics_are_the_mean_of_those_of_the_batches(count, size):
    """Against NumPy, in float64, on what every BatchNorm was given."""
    config = replace(SMALL, stem_kernel=7, stem_stride=2, stem_maxpool=True)
    data = TrialData(random_part(count, (3, size, size)), None, None, 4, True)
    trainer = Trainer(config, data)
    trainer.train_epoch()
    inputs: dict[nn.Module, list[np.ndarray]] = {norm: [] for norm in norms_of(trainer.model)}
    for norm in inputs:
        norm.register_forward_pre_hook(
            lambda module, args: inputs[module].append(args[0].double().numpy())
        )
    tracked = [norm.num_batches_tracked.item() for norm in inputs]
    compute_precise_statistics(trainer.model, trainer.bn_sample_NxCxHxW, trainer.pixels, "float32")
    for norm, batches in inputs.items():
        sizes = [len(batch) for batch in batches]
        assert sum(sizes) == min(count, BN_SAMPLE) and max(sizes) <= min(sizes) + 1 <= BN_BATCH + 1
        mean = np.mean([batch.mean((0, 2, 3)) for batch in batches], axis=0)
        variance = np.mean([batch.var((0, 2, 3), ddof=0) for batch in batches], axis=0)
        values = np.mean([batch[:, 0].size for batch in batches])
        np.testing.assert_allclose(norm.running_mean, mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(norm.running_var, variance * values / (values - 1), rtol=1e-3)
    assert [norm.num_batches_tracked.item() for norm in inputs] == tracked
    assert {norm.momentum for norm in inputs} == {0.1}


def test_the_sample_is_the_same_for_every_trial_and_of_images_as_they_are():
    part = device_part(random_part(600))
    sample = batchnorm_sample(part)
    torch.manual_seed(1)
    assert torch.equal(sample, batchnorm_sample(part))
    images = {image.numpy().tobytes() for image in part.images_NxCxHxW}
    assert len({image.numpy().tobytes() for image in sample} & images) == BN_SAMPLE
    assert (
        len(batchnorm_sample(device_part(random_part(40 * BN_SAMPLE, (1, 1, 1))))) == 2 * BN_SAMPLE
    )
    assert Trainer(replace(SMALL, bn_statistics="running"), trial_data()).bn_sample_NxCxHxW is None


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_is_the_same_with_precise_and_running_statistics(optimizer):
    trainers = {
        statistics: Trainer(
            replace(SMALL, bn_statistics=statistics, optimizer=optimizer), trial_data()
        )
        for statistics in ("precise", "running")
    }
    metrics = {name: [trainer.run_epoch() for _ in range(3)] for name, trainer in trainers.items()}
    for precise, running in zip(metrics["precise"], metrics["running"], strict=True):
        assert (precise.train_loss, precise.train_accuracy) == (
            running.train_loss,
            running.train_accuracy,
        )
        assert precise.validation_loss != running.validation_loss
    states = [trainer.state_dict() for trainer in trainers.values()]
    for name, precise in states[0]["model"].items():
        assert torch.equal(precise, states[1]["model"][name]) == ("running" not in name), name
    assert torch.equal(states[0]["generator"], states[1]["generator"])


def test_running_statistics_are_those_of_plain_training():
    trainer = Trainer(replace(SMALL, bn_statistics="running"), trial_data())
    other = Trainer(replace(SMALL, bn_statistics="running"), trial_data())
    trainer.run_epoch()
    other.train_epoch()
    for ours, plain in zip(
        trainer.model.state_dict().values(), other.model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, plain)


def test_statistics_of_a_diverged_epoch_are_not_computed():
    trainer = Trainer(replace(SMALL, learning_rate=1e30), trial_data(2000))
    before = [norm.num_batches_tracked.item() for norm in norms_of(trainer.model)]
    calls = Counter()
    trainer.model.stem.register_forward_hook(lambda *_: calls.update(["forward"]))
    metrics = trainer.run_epoch()
    assert math.isnan(metrics.train_loss) and math.isnan(metrics.validation_loss)
    after = [norm.num_batches_tracked.item() for norm in norms_of(trainer.model)]
    assert {b - a for a, b in zip(before, after, strict=True)} == {calls["forward"]}


def test_infinite_running_statistics_leave_no_trace():
    trainer = Trainer(SMALL, trial_data(100))
    for norm in norms_of(trainer.model):
        norm.running_var.fill_(math.inf)
    compute_precise_statistics(trainer.model, trainer.bn_sample_NxCxHxW, trainer.pixels, "float32")
    assert all(norm.running_var.isfinite().all() for norm in norms_of(trainer.model))
