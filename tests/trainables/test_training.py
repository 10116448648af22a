"""The epoch loop: augmentation, a pinned step, learning by heart, divergence, continuing bit for
bit."""

import io
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from trial_data import SMALL, device_part, random_part, trial_data

from trainables.config import EpochMetrics, TrialConfig
from trainables.parts import Part, TrialData
from trainables.pixels import Pixels
from trainables.resnet import build_resnet, load_resnet, save_resnet
from trainables.training import Batches, Trainer, learning_rate_at


def test_every_batch_is_a_crop_of_the_padded_image_by_a_draw_of_its_own():
    part = random_part(300)
    batches = Batches(device_part(part), 64, True, torch.Generator().manual_seed(0))
    padded = np.pad(part.images, ((0, 0), (0, 0), (2, 2), (2, 2)))
    seen, places = [], set()
    for images, labels in batches:
        for image, label in zip(images.numpy(), labels.numpy(), strict=True):
            # Same class × flipped × top × left, of those equal in every channel and pixel.
            same = np.flatnonzero(part.labels == label)
            plain = np.lib.stride_tricks.sliding_window_view(padded[same], (16, 16), (2, 3))
            windows = np.stack([plain, plain[..., ::-1]], 1)
            equal = (windows == image[:, None, None]).all((2, 5, 6))
            found = [
                (same[index], top, left, flip) for index, flip, top, left in np.argwhere(equal)
            ]
            assert len(found) == 1
            seen.append(found[0][0])
            places.add(found[0][1:])
    assert sorted(seen) == list(range(300)), "an epoch shows every image once"
    # 50 places of 300 draws: all but a few are expected to occur, a draw for the whole batch would
    # give 5.
    assert len(places) > 40


def test_without_flip_no_image_is_mirrored():
    # Each row rises from left to right, so a mirrored one would fall.
    images = np.broadcast_to(np.arange(100, 116, dtype=np.uint8), (40, 1, 16, 16)).copy()
    batches = Batches(
        device_part(Part(images, np.zeros(40, np.int64))), 40, False, torch.Generator()
    )
    ((batch, _),) = list(batches)
    middle = batch[:, 0, 8, 4:12].int()
    assert (middle.diff(dim=1) > 0).all()


@pytest.mark.parametrize(("count", "batches"), [(32, 2), (33, 2), (34, 3), (2, 1)])
def test_a_last_batch_of_one_image_is_dropped(count, batches):
    assert [
        len(labels)
        for _, labels in Batches(device_part(random_part(count)), 16, True, torch.Generator())
    ] == ([16] * (count // 16) + ([count % 16] if count % 16 > 1 else []))
    assert len(Batches(device_part(random_part(count)), 16, True, torch.Generator())) == batches


def test_pixel_statistics():
    images = random_part(20).images // np.array([1, 2, 3], np.uint8)[:, None, None]
    pixels = Pixels.of("data", torch.from_numpy(images))
    scaled = images / 255
    np.testing.assert_allclose(pixels.mean_C, scaled.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(pixels.std_C, scaled.std((0, 2, 3)), rtol=1e-6)
    normalized = pixels.normalize(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(normalized.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(normalized.std((0, 2, 3)), 1, atol=1e-5)
    half = Pixels.of("half", torch.from_numpy(images)).normalize(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(half, (scaled - 0.5) / 0.5, atol=1e-6)


@pytest.mark.parametrize(
    "config",
    [
        TrialConfig(
            depth=10, width=8, nesterov=True, label_smoothing=0.1, schedule="cosine", max_epochs=3
        ),
        TrialConfig(depth=10, width=8, optimizer="adam", learning_rate=0.001),
        TrialConfig(depth=10, width=8, optimizer="adamw", learning_rate=0.001, weight_decay=0.1),
    ],
    ids=lambda config: config.optimizer,
)
def test_an_epoch_is_the_plain_recipe_step_by_step(config):
    """Against a loop written with the optimizers' formulas by hand, on the batches that the trial
    saw."""
    trainer = Trainer(config, trial_data(300), "cpu", "float32")
    replay = Batches(trainer.train, 128, True, torch.Generator().manual_seed(config.seed))
    model = build_resnet(config, (3, 16, 16), 4).train()
    state = {
        name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in model.named_parameters()
    }
    metrics = trainer.run_epoch()

    losses, right = [], 0
    for step, (images, labels) in enumerate(replay):
        rate = config.learning_rate
        if config.schedule == "cosine":
            rate *= (1 + math.cos(math.pi * step / (3 * config.max_epochs))) / 2
        logits = model(
            (images.float() / 255 - trainer.pixels.mean_C.view(3, 1, 1))
            / trainer.pixels.std_C.view(3, 1, 1)
        )
        smooth = config.label_smoothing
        target = F.one_hot(labels, 4) * (1 - smooth) + smooth / 4
        loss = -(target * logits.log_softmax(1)).sum(1).mean()
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for (name, parameter), gradient in zip(
                model.named_parameters(), gradients, strict=True
            ):
                first, second = state[name]
                if config.optimizer == "adamw":
                    parameter -= rate * config.weight_decay * parameter
                else:
                    gradient = gradient + config.weight_decay * parameter
                if config.optimizer == "sgd":
                    first.mul_(config.momentum).add_(gradient)
                    parameter -= rate * (gradient + config.momentum * first)
                else:
                    first.mul_(0.9).add_(gradient, alpha=0.1)
                    second.mul_(0.999).add_(gradient**2, alpha=0.001)
                    unbiased = second / (1 - 0.999 ** (step + 1))
                    parameter -= rate * first / (1 - 0.9 ** (step + 1)) / (unbiased.sqrt() + 1e-8)
        losses += [loss.item()] * len(labels)
        right += (logits.argmax(1) == labels).sum().item()
    assert metrics.train_loss == pytest.approx(np.mean(losses), rel=1e-4)
    assert metrics.train_accuracy == pytest.approx(right / 300, abs=1.5 / 300)
    assert metrics.learning_rate == config.learning_rate
    # Adam divides by the root of a gradient's square: rounding of tiny gradients shows in full.
    tolerance = 1e-4 if config.optimizer == "sgd" else 2e-3
    for ours, theirs in zip(trainer.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_pinned_epoch():
    """One epoch of a fixed trial: a change of these numbers is a change of what is trained."""
    for statistics, validation_loss in (("running", 1.377360), ("precise", 1.397670)):
        metrics = Trainer(replace(SMALL, bn_statistics=statistics), trial_data()).run_epoch()
        assert metrics.train_loss == pytest.approx(1.402224, rel=1e-4)
        assert metrics.validation_loss == pytest.approx(validation_loss, rel=1e-4)


def test_learns_a_small_batch_by_heart():
    part = Part(random_part(32).images, random_part(32).labels)
    config = TrialConfig(
        **{
            **SMALL.to_dict(),
            "width": 16,
            "learning_rate": 0.05,
            "batch_size": 32,
            "max_epochs": 80,
        }
    )
    # A wide crop shift would make it another picture each time: learn images of 7 pixels, which are
    # not padded.
    tiny = Part(part.images[:, :, :7, :7].copy(), part.labels)
    trainer = Trainer(config, TrialData(tiny, tiny, None, 4, False), "cpu", "float32")
    metrics = [trainer.run_epoch() for _ in range(80)]
    assert metrics[-1].train_accuracy == 1.0
    assert metrics[-1].train_loss < 0.05
    assert metrics[-1].validation_accuracy == 1.0


@pytest.mark.parametrize(
    ("optimizer", "statistics"), [("sgd", "precise"), ("adamw", "precise"), ("sgd", "running")]
)
def test_continues_bit_for_bit(optimizer, statistics):
    config = replace(SMALL, optimizer=optimizer, bn_statistics=statistics, schedule="cosine")
    straight = Trainer(config, trial_data(), "cpu", "float32")
    expected = [straight.run_epoch() for _ in range(4)]

    first = Trainer(config, trial_data(), "cpu", "float32")
    first.run_epoch()
    first.run_epoch()
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    first.run_epoch()  # what was saved must not move with the training that follows
    file.seek(0)
    second = Trainer(config, trial_data(), "cpu", "float32")
    second.load_state_dict(torch.load(file, weights_only=True))
    continued = [second.run_epoch(), second.run_epoch()]

    def readings(metrics: list[EpochMetrics]) -> list[dict]:
        return [
            {k: v for k, v in m.to_dict().items() if not k.endswith("seconds")} for m in metrics
        ]

    assert readings(continued) == readings(expected[2:])
    for ours, theirs in zip(
        second.model.state_dict().values(), straight.model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_divergence_ends_the_epoch_and_is_not_evaluated():
    config = TrialConfig(**{**SMALL.to_dict(), "learning_rate": 1e6})
    trainer = Trainer(config, trial_data(2000), "cpu", "float32")
    for _ in range(4):
        metrics = trainer.run_epoch()
        if metrics.diverged:
            break
    assert metrics.diverged
    assert math.isnan(metrics.train_loss)
    assert math.isnan(metrics.validation_accuracy)
    assert metrics.to_dict()["validation_loss"] is None


def test_a_last_update_that_breaks_the_weights_leaves_no_readings():
    data = trial_data(32)  # one batch: its loss is finite, what it leaves is not
    trainer = Trainer(
        TrialConfig(**{**SMALL.to_dict(), "learning_rate": 1e30, "batch_size": 32}), data
    )
    metrics = trainer.run_epoch()
    assert math.isfinite(metrics.train_loss)
    assert metrics.diverged
    assert math.isnan(metrics.validation_loss) and math.isnan(metrics.validation_accuracy)


def test_a_part_that_a_stage_must_not_read_is_none():
    data = trial_data()
    confirm = TrialData(data.train, None, random_part(20, seed=2), 4, True)
    search, confirmed = Trainer(SMALL, data).run_epoch(), Trainer(SMALL, confirm).run_epoch()
    assert search.test_loss is None and search.test_accuracy is None
    assert confirmed.validation_loss is None and confirmed.test_accuracy is not None


def test_bf16_trains_as_float32_does():
    runs = {}
    for precision in ("float32", "bf16"):
        trainer = Trainer(SMALL, trial_data(400), "cpu", precision)
        runs[precision] = [trainer.run_epoch().train_loss for _ in range(4)]
        assert all(parameter.dtype == torch.float32 for parameter in trainer.model.parameters())
    np.testing.assert_allclose(runs["bf16"], runs["float32"], rtol=0.05)
    assert runs["bf16"] != runs["float32"], "bf16 changed nothing: autocast was not on"


def test_learning_rate_schedules():
    constant, cosine = (
        TrialConfig(learning_rate=0.2),
        TrialConfig(learning_rate=0.2, schedule="cosine"),
    )
    assert [learning_rate_at(constant, x) for x in (0, 0.5, 1)] == [0.2, 0.2, 0.2]
    assert [learning_rate_at(cosine, x) for x in (0, 0.5, 1)] == pytest.approx([0.2, 0.1, 0.0])


def test_read_only_images_are_shared_and_never_written():
    part = random_part(50)
    before = part.images.copy()
    part.images.setflags(write=False)
    part.labels.setflags(write=False)
    trainer = Trainer(SMALL, TrialData(part, part, None, 4, True))
    trainer.run_epoch()
    assert trainer.train.images_NxCxHxW.data_ptr() == part.images.__array_interface__["data"][0]
    assert (part.images == before).all()


class Counted(TorchDispatchMode):
    """Counts the operators that run, and the elements of the tensors that are copied."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.largest_copy = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.calls[name] += 1
        if name in ("copy_", "_to_copy", "clone"):
            self.largest_copy = max(self.largest_copy, args[0].numel())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("statistics", "at_once"), [("running", 16), ("precise", 16 * 5)])
def test_what_an_epoch_does_is_counted(statistics, at_once):
    """Guards of speed that do not time: one fused update a step, one look at the loss, no copy of
    images or weights."""
    config = TrialConfig(depth=10, width=32, batch_size=16, bn_statistics=statistics)
    trainer = Trainer(config, trial_data(count=16 * 5))
    trainer.run_epoch()
    with Counted() as counted:
        trainer.run_epoch()
    steps = 5
    assert counted.calls["_fused_sgd_"] == steps
    # After every step whether the loss is finite, and at the end loss and accuracy.
    assert counted.calls["_local_scalar_dense"] == steps + 2
    assert counted.calls["convolution_backward"] > 0
    batch, largest_weight = at_once * 3 * 16 * 16, 3 * 3 * 256 * 256
    assert counted.largest_copy <= batch < largest_weight


def test_a_trial_shares_the_memory_of_the_images():
    data = trial_data()
    trainer = Trainer(SMALL, data)
    for ours, theirs in ((trainer.train, data.train), (trainer.validation, data.validation)):
        assert np.shares_memory(ours.images_NxCxHxW.numpy(), theirs.images)


def test_saved_weights_read_as_the_trial_did(tmp_path):
    """`best/` carries the statistics: what it loads recognises exactly the images that the trial
    recognised."""
    data = TrialData(random_part(200), None, random_part(120, seed=1), 4, True)
    trainer = Trainer(SMALL, data)
    metrics = trainer.run_epoch()
    pixels = {
        "pixel_mean": trainer.pixels.mean_C.tolist(),
        "pixel_std": trainer.pixels.std_C.tolist(),
    }
    save_resnet(
        tmp_path, SMALL, (3, 16, 16), tuple("abcd"), weights=trainer.state_dict()["model"], **pixels
    )
    images = torch.from_numpy(data.test.images) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in pixels.values())
    with torch.no_grad():
        predictions = load_resnet(tmp_path)((images - mean) / std).argmax(1).numpy()
    assert (predictions == data.test.labels).mean() == metrics.test_accuracy
    assert trainer.correct_N.dtype == bool
    assert (trainer.correct_N == (predictions == data.test.labels)).all()


def test_what_a_trial_recognised_is_of_its_test_part_alone():
    assert Trainer(SMALL, trial_data()).correct_N is None
    search = Trainer(SMALL, trial_data())
    search.run_epoch()
    assert search.correct_N is None
    diverging = Trainer(
        replace(SMALL, learning_rate=1e30),
        TrialData(random_part(50), None, random_part(20), 4, True),
    )
    assert diverging.run_epoch().diverged and diverging.correct_N is None
