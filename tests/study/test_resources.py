"""How many cores this process may use, and how many trials fit on the machines that Ray has."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import ray

from study.resources import (
    LargestTrial,
    Node,
    Resources,
    concurrent_trials,
    gpus_per_trial,
    ray_resources,
    usable_cores,
)
from study.settings import StudySettings
from trainables.config import UsageError

COUNT = "from study.resources import usable_cores; print(usable_cores())"


def test_the_affinity_of_a_process_says_how_many_cores_it_may_use():
    """As `taskset -c` or a share by Slurm."""
    core = min(os.sched_getaffinity(0))
    done = subprocess.run(
        [sys.executable, "-c", COUNT],
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"


def made_tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/", {"cpu.max": "max 100000\n"}, 4),
        ("0::/a/b", {"a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000"}, 1),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "350000 100000"}, 3),
        (
            "2:cpuset:/\n1:cpu,cpuacct:/job\n0::/",
            {
                "cpu,cpuacct/job/cpu.cfs_quota_us": "30000",
                "cpu,cpuacct/job/cpu.cfs_period_us": "10000",
            },
            3,
        ),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ("0::/of/the/host", {"cpu.max": "100000 100000"}, 1),
        ("", {}, 4),
    ],
    ids=[
        "version 2",
        "no quota",
        "a quota above",
        "less than a core",
        "a fraction more",
        "version 1",
        "version 1, no quota",
        "the path of the host",
        "no control groups",
    ],
)
def test_the_quota_of_control_groups_bounds_the_cores(tmp_path, monkeypatch, groups, files, cores):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(4)))
    (tmp_path / "groups").write_text(groups)
    assert usable_cores(tmp_path / "groups", made_tree(tmp_path / "tree", files)) == cores


@pytest.fixture
def control_group():
    """A real control group of half the machine's cores, or of one."""
    cores = max(1, len(os.sched_getaffinity(0)) // 2)
    group = Path("/sys/fs/cgroup/cpu" if Path("/sys/fs/cgroup/cpu").exists() else "/sys/fs/cgroup")
    group = group / f"resnet-study-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error}")
    try:
        if (group / "cpu.max").exists():
            (group / "cpu.max").write_text(f"{cores}00000 100000")
        else:
            (group / "cpu.cfs_quota_us").write_text(f"{cores}00000")
        yield group, cores
    except OSError as error:
        pytest.skip(f"the control group takes no quota: {error}")
    finally:
        group.rmdir()


def test_a_process_in_a_control_group_may_use_its_quota(control_group):
    group, cores = control_group
    done = subprocess.run(
        [sys.executable, "-c", COUNT],
        preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid())),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{cores}\n"


SMALL = LargestTrial("k3 s1 no-pool d34", 128, 1e9)


def on(*nodes: tuple[float, ...]) -> Resources:
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
    assert concurrent_trials(StudySettings(), on(*nodes), gpus, SMALL) == (fit, [])


def test_threads_of_a_trial_count():
    assert (
        concurrent_trials(StudySettings(cpus_per_trial=3), on((8, 0), (2, 0)), 0.0, SMALL)[0] == 2
    )
    with pytest.raises(UsageError) as caught:
        concurrent_trials(StudySettings(cpus_per_trial=9), on((8, 0), (2, 0)), 0.0, SMALL)
    assert (
        str(caught.value)
        == "--cpus-per-trial: invalid value 9: expected at most 8, what a machine has"
    )


def test_more_than_fit_or_than_a_searcher_learns_from_is_noted():
    assert concurrent_trials(StudySettings(max_concurrent=3), on((2, 0)), 0.0, SMALL) == (
        *(2, ["max_concurrent: asked 3, only 2 fit"]),
    )
    most, (note,) = concurrent_trials(StudySettings(), on((64, 0)), 0.0, SMALL)
    assert (most, note[:34]) == (8, "max_concurrent: 8 of the 64 that f")
    assert concurrent_trials(StudySettings(max_concurrent=60), on((64, 0)), 0.0, SMALL) == (60, [])


def test_on_a_cluster_more_may_be_asked_for_than_fits_for_nodes_may_join():
    cluster = StudySettings(address="127.0.0.1:6379", max_concurrent=6)
    note = "max_concurrent: 6, 4 fit now, the others wait for nodes"
    assert concurrent_trials(cluster, on((0, 0), (4, 0)), 0.0, SMALL) == (6, [note])
    left_open = replace(cluster, max_concurrent=None)
    assert concurrent_trials(left_open, on((0, 0), (4, 0)), 0.0, SMALL) == (4, [])
    with pytest.raises(UsageError, match="--cpus-per-trial"):
        concurrent_trials(replace(cluster, cpus_per_trial=5), on((0, 0), (4, 0)), 0.0, SMALL)


def test_no_more_trials_at_once_than_there_is_memory_for():
    nodes = on((2, 0, 1.5e9), (4, 0, 2.5e9))
    assert concurrent_trials(StudySettings(), nodes, 0.0, SMALL) == (
        *(3, ["max_concurrent: 3, for a trial of k3 s1 no-pool d34 needs about 1.0 GB of memory"]),
    )
    assert concurrent_trials(StudySettings(max_concurrent=3), nodes, 0.0, SMALL) == (3, [])
    # One machine has cores for one and memory for many, the other the reverse.
    assert concurrent_trials(StudySettings(), on((1, 0, 8e9), (8, 0, 1e9)), 0.0, SMALL)[0] == 2
    assert concurrent_trials(StudySettings(), on((4, 1, 1e8)), 0.25, SMALL) == (4, [])
    with pytest.raises(UsageError) as caught:
        concurrent_trials(StudySettings(), on((2, 0, 9e8), (2, 0, 8e8)), 0.0, SMALL)
    assert str(caught.value) == (
        "batch_size: invalid value 128: expected less of it in the design, or smaller images: "
        "a trial of k3 s1 no-pool d34 needs about 1.0 GB of memory, a machine has 0.9 GB"
    )


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
        (node,) = ray_resources(StudySettings()).nodes
        assert (node.cpus, node.gpus) == (3, 0)
        assert 0.5e9 < node.memory <= psutil.virtual_memory().total
        (node,) = ray_resources(StudySettings(address="somewhere:6379")).nodes
        assert (node.cpus, node.gpus) == (3, 1)
    finally:
        ray.shutdown()
