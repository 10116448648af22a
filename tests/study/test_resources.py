"""How many trials fit on the machines that Ray has."""

import pytest
import ray

from study.resources import Node, Resources, concurrent_trials, gpus_per_trial, ray_resources
from study.settings import StudySettings
from trainables.config import UsageError


def on(*nodes: tuple[float, float]) -> Resources:
    return Resources(tuple(Node(*node) for node in nodes))


@pytest.mark.parametrize(
    ("nodes", "gpus", "fit"),
    [
        ([(16, 2)], 0.4, 4),  # no trial has shares of two GPUs
        ([(16, 2)], 1.0, 2),
        ([(16, 2)], 0.25, 8),
        ([(2, 0)], 0.0, 2),
        ([(2, 0), (4, 1), (1, 0)], 0.0, 7),
        ([(2, 0), (4, 1)], 0.5, 2),
        ([(3, 4)], 2.0, 2),
    ],
    ids=[
        "shares",
        "whole GPUs",
        "quarters",
        "cores",
        "three machines",
        "a machine without a GPU",
        "two GPUs each",
    ],
)
def test_so_many_trials_fit(nodes, gpus, fit):
    assert concurrent_trials(StudySettings(), on(*nodes), gpus) == (fit, [])


def test_threads_of_a_trial_count():
    assert concurrent_trials(StudySettings(cpus_per_trial=3), on((8, 0), (2, 0)), 0.0)[0] == 2
    with pytest.raises(UsageError) as caught:
        concurrent_trials(StudySettings(cpus_per_trial=9), on((8, 0), (2, 0)), 0.0)
    assert (
        str(caught.value)
        == "--cpus-per-trial: invalid value 9: expected at most 8, what a machine has"
    )


def test_more_than_fit_or_than_a_searcher_learns_from_is_noted():
    assert concurrent_trials(StudySettings(max_concurrent=3), on((2, 0)), 0.0) == (
        *(2, ["max_concurrent: asked 3, only 2 fit"]),
    )
    most, (note,) = concurrent_trials(StudySettings(), on((64, 0)), 0.0)
    assert (most, note[:34]) == (8, "max_concurrent: 8 of the 64 that f")
    assert concurrent_trials(StudySettings(max_concurrent=60), on((64, 0)), 0.0) == (60, [])


def test_gpus_of_a_trial():
    assert gpus_per_trial(StudySettings(), on((8, 0))) == 0
    assert gpus_per_trial(StudySettings(), on((8, 0), (8, 1))) == 0.25
    assert gpus_per_trial(StudySettings(gpus_per_trial=2.0), on((8, 2))) == 2
    for asked, node, expected in (
        (0.5, (8, 0), "0 where torch finds no GPU that it can use"),
        (2.0, (8, 1), "at most 1, what a machine has"),
    ):
        with pytest.raises(UsageError) as caught:
            gpus_per_trial(StudySettings(gpus_per_trial=asked), on(node))
        assert (
            str(caught.value) == f"--gpus-per-trial: invalid value {asked:g}: expected {expected}"
        )


def test_a_gpu_that_torch_cannot_use_is_none(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    ray.init("local", num_cpus=3, num_gpus=1, include_dashboard=False, log_to_driver=False)
    try:
        assert ray_resources(StudySettings()) == on((3, 0))
        assert ray_resources(StudySettings(address="somewhere:6379")) == on((3, 1))
    finally:
        ray.shutdown()
