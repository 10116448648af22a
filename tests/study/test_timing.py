"""Training is timed before a study is planned, in a process of its own or by Ray."""

import time
from dataclasses import replace

import numpy as np
import psutil
import pytest
import ray

import study.timing
from study.errors import CannotStart
from study.images import resolve_images
from study.opening import begin_study
from study.timing import TIMING, slowest, timing_here, timing_job, timing_on_ray
from trainables.parts import ImageData, Part
from trainables.resnet import network_cost
from trainables.timing import time_training


def images_of(size: int) -> ImageData:
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (64, 3, size, size), dtype=np.uint8)
    part = Part(pixels, draw.integers(0, 4, 64))
    return ImageData("made", tuple("abcd"), part, part, flip=False)


@pytest.mark.parametrize("gpu", [False, True], ids=["CPU", "GPU"])
@pytest.mark.parametrize("size", [16, 32, 64, 224])
def test_what_is_timed_is_bounded_by_its_cost_not_by_its_images(size, gpu):
    settings, design = begin_study({"dataset": "digits"})
    data = images_of(size)
    job = timing_job(settings, design, data, gpu)
    cost = network_cost(job.config, data.image_shape, 4).forward_flops
    costs = [network_cost(arm, data.image_shape, 4).forward_flops for arm in design.networks(1)]
    assert job.scale * cost == pytest.approx(max(costs))
    assert 2 <= len(job.data.train) <= 64
    # Forward and backward are three times that, in two rounds of two precisions.
    assert len(job.data.train) * cost <= (2e13 if gpu else 4e10)
    if size <= 64:
        assert job.scale == 1, "the most expensive arm itself"


@pytest.mark.slow
def test_large_images_are_timed_in_seconds():
    """Sixteen of 224 pixels took minutes."""
    settings, design = begin_study({"dataset": "digits", "precision": "float32"})
    job = timing_job(settings, design, images_of(224), gpu=False)
    before = time.process_time()
    (seconds,) = time_training(*job).values()
    assert time.process_time() - before < 30
    # An image of the most expensive arm is 3 × 113 GFLOP.
    assert seconds > 0.3


def timed_in() -> psutil.Process:
    """The process that times training, among what other tests have left to this one
    (multiprocessing's tracker)."""
    (child,) = (child for child in psutil.Process().children() if TIMING in child.cmdline())
    return child


def test_training_is_timed_in_a_process_that_is_gone_afterwards(tmp_path):
    settings, design = begin_study(
        {"dataset": "digits", "results_dir": str(tmp_path), "precision": "float32"}
    )
    with timing_here(settings, design, resolve_images(settings).data) as result:
        child = timed_in()
        timings = result().seconds
    assert set(timings) == {"float32"} and 0 < timings["float32"] < 10
    assert not child.is_running()
    with timing_here(
        replace(settings, cpus_per_trial=9999), design, resolve_images(settings).data
    ) as result:
        assert result() is None, "Ray refuses it in words"


def test_a_timing_that_dies_is_none(tmp_path):
    settings, design = begin_study({"dataset": "digits", "results_dir": str(tmp_path)})
    with timing_here(settings, design, resolve_images(settings).data) as result:
        timed_in().kill()
        assert result() is None


def test_training_that_cannot_be_timed_is_one_line(tmp_path, monkeypatch):
    """As on a GPU for which torch has no kernels: there training is timed by a task of Ray."""

    def breaks(*_):
        raise RuntimeError("no kernel image is available for execution on the device")

    monkeypatch.setattr(study.timing, "time_training", breaks)
    settings, design = begin_study(
        {"dataset": "digits", "results_dir": str(tmp_path), "gpus_per_trial": 0.0}
    )
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        with pytest.raises(
            CannotStart, match=r"^training cannot be timed: RuntimeError: no kernel image"
        ):
            timing_on_ray(
                timing_job(settings, design, resolve_images(settings).data, gpu=False), 0.0, {}
            )
    finally:
        ray.shutdown()


def test_the_slowest_kind_of_node_decides_in_the_precisions_that_all_have():
    timings = {
        "Zen 4": {"float32": 3.0, "bf16": 1.0},
        "Xeon": {"float32": 4.0, "bf16": 5.0},
    }
    assert slowest(timings) == ({"float32": 4.0, "bf16": 5.0}, [])
    old = {"Zen 3": {"float32": 2.0}, "Zen 2": {"float32": 3.5}}
    note = "precision: no bf16 on Zen 3, Zen 2"
    assert slowest(timings | old) == ({"float32": 4.0}, [note])
    assert slowest(old) == ({"float32": 3.5}, [])
