"""What was left open is decided and said; here without Ray, which whole studies cover."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import ray

import study.plan
from study.designs import DESIGNS
from study.plan import (
    TIMING,
    CannotStart,
    Plan,
    begin_study,
    continue_study,
    find_study,
    git_commit,
    machine,
    make_plan,
    resolve_images,
    timing_here,
)
from study.record import StudyState
from study.settings import StudySettings
from trainables.config import TrialConfig, UsageError
from trainables.datasets import Part, TrialData
from trainables.training import time_training

CONFIG = TrialConfig(stem_kernel=3, depth=10, width=4)


def test_the_default_data_set_is_digits_without_a_gpu_and_says_why(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    caplog.set_level("INFO", "study")
    images = resolve_images(StudySettings(results_dir=str(tmp_path), data_dir=str(tmp_path)))
    assert images.data.name == "digits"
    assert "no GPU" in images.chosen
    assert caplog.messages[0] == f"data set: digits ({images.chosen})"
    # 1,797 digits: a fifth for testing, a tenth of the rest for validation.
    assert [len(part.labels) for part in (images.split.train, images.split.validation, images.split.test)] == [
        *(1294, 144, 359)
    ]


def test_a_directory_that_holds_something_else_is_refused_before_images_are_read(tmp_path):
    (tmp_path / "search-cifar10").mkdir()
    (tmp_path / "search-cifar10" / "mine.txt").write_text("")
    with pytest.raises(UsageError, match="--name: received 'search-cifar10'"):
        resolve_images(StudySettings(dataset="cifar10", results_dir=str(tmp_path), data_dir=str(tmp_path)))


def test_a_study_is_found_once_it_is_begun(tmp_path):
    settings = StudySettings(dataset="digits", results_dir=str(tmp_path))
    assert find_study(settings) is None
    (tmp_path / "search-digits").mkdir()
    (tmp_path / "search-digits" / "record.jsonl").write_text('{"event": "stu')
    assert find_study(settings) is None, "a driver was killed in its first line"
    (tmp_path / "search-digits" / "record.jsonl").write_text("{}\n")
    assert find_study(settings) == tmp_path / "search-digits"


def test_other_images_than_recorded_are_refused(tmp_path):
    settings = StudySettings(dataset="digits", results_dir=str(tmp_path))
    fingerprint = resolve_images(settings).data.fingerprint
    assert resolve_images(settings, fingerprint).data.fingerprint == fingerprint
    with pytest.raises(
        UsageError, match=f"--dataset: received 'digits' with fingerprint {fingerprint}, the study has x"
    ):
        resolve_images(settings, "x")


def test_timing_gives_seconds_an_image_for_each_precision():
    draw = np.random.default_rng(0)
    part = Part(draw.integers(0, 256, (16, 1, 16, 16), dtype=np.uint8), draw.integers(0, 2, 16))
    data = TrialData(part, None, None, 2, False)
    timings = time_training(CONFIG, data, ("float32", "bf16"), 1, False)
    has_bf16 = "bf16" in Path("/proc/cpuinfo").read_text()
    assert set(timings) == ({"float32", "bf16"} if has_bf16 else {"float32"})
    assert set(time_training(CONFIG, data, ("bf16",), 1, False)) == {"bf16"}, "what is asked for alone is taken"
    assert all(0 < seconds < 1 for seconds in timings.values())


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """A plan on digits, made without Ray: two trials at once, and an image of the dearest arm takes 1.5 seconds."""
    monkeypatch.setattr(study.plan, "_gpus_per_trial", lambda settings: 0.0)
    monkeypatch.setattr(study.plan, "_concurrent", lambda settings, gpus: (2, []))
    # Networks of which one costs a third of the dearest: on average they cost two thirds.
    networks = [TrialConfig(depth=18), TrialConfig(depth=10)]
    monkeypatch.setattr(study.plan, "network_cost", lambda arm, *_: SimpleNamespace(forward_flops=30 * arm.depth - 240))

    def plan(**given) -> Plan:
        settings, design = begin_study({"dataset": "digits", "results_dir": str(tmp_path), **given})
        design = replace(design)
        own = dict(design.baselines).get("small-stem-no-pool", {}).get("max_epochs")
        object.__setattr__(
            design,
            "networks",
            lambda epochs: [replace(networks[0], max_epochs=own or epochs), replace(networks[1], max_epochs=epochs)],
        )
        return make_plan(settings, design, resolve_images(settings), {"bf16": 1.5, "float32": 2.5})

    return plan


SEARCH, CONFIRM = 1294 + 144 / 3, 1294 + 144 + 359 / 3
"""Images an epoch of a stage trains on, those that it only evaluates counted as a third."""
MEAN = 1.5 * (60 + 300) / 2 / 300
"""Seconds that training the mean network takes an image."""


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({"samples": 10, "scheduler": "fifo", "confirm_seeds": 0}, 10 * 6 * SEARCH * MEAN),
        ({"samples": 10, "confirm_seeds": 0}, 10 * 6 / 2 * SEARCH * MEAN),
        # A half fraction of four factors is eight arms, tuned at two rates more (the winner has one) and confirmed
        # together with the first baseline.
        (
            {"samples": 10, "scheduler": "fifo", "confirm_seeds": 3},
            6 * ((10 + 8 * 3 - 1) * SEARCH + 3 * 9 * CONFIRM) * MEAN,
        ),
        ({"design": "stem", "epochs": 2, "confirm_seeds": 5}, 2 * (64 * SEARCH + 5 * 16 * CONFIRM) * MEAN),
        ({"design": "course", "epochs": 4, "confirm_seeds": 2}, 2 * 3 * 4 * CONFIRM * MEAN),
        # Its dearest baseline has a budget of 20 epochs, others of 50.
        ({"design": "course", "confirm_seeds": 2}, 2 * 3 * CONFIRM * 1.5 * (50 * 60 + 20 * 300) / 2 / 300),
    ],
)
def test_estimate_by_hand(planned, given, seconds):
    assert planned(**given).estimate_seconds == pytest.approx(seconds / 2)


@pytest.mark.parametrize(
    ("given", "epochs", "own"),
    [
        ({}, 6, None),
        ({"epochs": 9}, 9, None),
        ({"design": "degradation"}, 6, None),
        ({"design": "course"}, 50, 20),
        ({"design": "course", "epochs": 4}, 4, None),
    ],
)
def test_the_budget_of_epochs(planned, given, epochs, own):
    plan = planned(**given)
    assert plan.epochs == plan.resolved_settings()["epochs"] == epochs
    last = dict(plan.design.baselines).get("small-stem-no-pool", {})
    assert last.get("max_epochs") == own


def test_what_is_fewer_than_it_seems_is_noted(planned):
    assert "baselines: left out for want of samples: small-stem, small-stem-no-pool" in planned(samples=1).notes
    assert not [note for note in planned(design="course").notes if note.startswith("baselines")]
    gp = "sampler: gp learns from complete trials only, and asha lets few complete"
    assert gp in planned(sampler="gp").notes
    assert gp not in planned(sampler="gp", scheduler="fifo").notes
    assert planned(precision="auto").precision == "bf16"


@pytest.mark.parametrize("name", DESIGNS)
def test_a_study_is_continued_from_its_header(planned, name):
    plan = planned(design=name, train_images=200)
    header = json.loads(json.dumps(plan.header()))
    assert header["design"]["name"] == name
    assert header["dataset"]["duplicates"] == {"validation": 0, "test": 0}
    state = StudyState(header=header)
    settings, design = continue_study({"confirm_seeds": 7}, state, plan.folder)
    assert design == DESIGNS[name]
    assert (settings.confirm_seeds, settings.samples) == (7, DESIGNS[name].samples)
    assert (settings.epochs, settings.precision, settings.scheduler) == (
        *(plan.epochs, plan.precision, plan.settings.scheduler),
    )
    again, _ = continue_study({"design": name, "epochs": plan.epochs}, state, plan.folder)
    assert again.confirm_seeds == 5
    other = "recipe" if name == "stem" else "stem"
    with pytest.raises(UsageError) as caught:
        continue_study({"design": other}, state, plan.folder)
    assert str(caught.value) == (
        f"--design: received '{other}', which is not the design of the study; allowed: the same, or another --name"
    )


def test_a_design_file_that_was_changed_is_another_question(planned, tmp_path):
    path = tmp_path / "own.toml"
    text = '[[factors]]\nname = "depth"\nrole = "scientific"\nlevels = [10, 18]\n'
    path.write_text(text)
    plan = planned(design=str(path))
    assert plan.folder == tmp_path / "own-digits"
    state = StudyState(header=json.loads(json.dumps(plan.header())))
    assert continue_study({"design": str(path)}, state, plan.folder)[1] == plan.design
    path.write_text(text.replace("18", "34"))
    with pytest.raises(UsageError, match=r"^--design: received '.*own.toml', which is not the design of the study; "):
        continue_study({"design": str(path)}, state, plan.folder)
    path.unlink()
    assert continue_study({}, state, plan.folder)[1] == plan.design, "the record has it"


def test_one_budget_for_all_holds_when_a_study_is_continued(planned):
    plan = planned(design="course", epochs=4)
    state = StudyState(header=json.loads(json.dumps(plan.header())))
    for given in ({}, {"design": "course"}, {"design": "course", "epochs": 4}):
        _, design = continue_study(given, state, plan.folder)
        assert {design.baseline(name, 4, 0).max_epochs for name in design.baselines} == {4}


def test_a_baselines_own_budget_that_was_changed_is_another_question(planned, tmp_path):
    path = tmp_path / "own.toml"
    text = 'search = "none"\n\n[baselines.one]\nmax_epochs = 6\n'
    path.write_text(text)
    plan = planned(design=str(path))
    state = StudyState(header=json.loads(json.dumps(plan.header())))
    assert continue_study({"design": str(path)}, state, plan.folder)[1] == plan.design
    path.write_text(text.replace("6", "50"))
    with pytest.raises(UsageError, match=r"^--design: received '.*own.toml', which is not the design of the study; "):
        continue_study({"design": str(path)}, state, plan.folder)


def test_a_gpu_that_torch_cannot_use_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"GPU": 1.0})
    settings, _ = begin_study({"dataset": "digits"})
    assert study.plan._gpus_per_trial(settings) == 0
    said = "--gpus-per-trial: received 0.5, allowed: 0 where torch finds no GPU that it can use"
    with pytest.raises(UsageError) as caught:
        study.plan._gpus_per_trial(replace(settings, gpus_per_trial=0.5))
    assert str(caught.value) == said


def timed_in() -> psutil.Process:
    """The process that times training, among what other tests have left to this one (multiprocessing's tracker)."""
    (child,) = (child for child in psutil.Process().children() if TIMING in child.cmdline())
    return child


def test_training_is_timed_in_a_process_that_is_gone_afterwards(tmp_path):
    settings, design = begin_study({"dataset": "digits", "results_dir": str(tmp_path), "precision": "float32"})
    with timing_here(settings, design, resolve_images(settings)) as result:
        child = timed_in()
        timings = result()
    assert set(timings) == {"float32"} and 0 < timings["float32"] < 10
    assert not child.is_running()
    with timing_here(replace(settings, cpus_per_trial=9999), design, resolve_images(settings)) as result:
        assert result() is None, "Ray refuses it in words"


def test_a_timing_that_dies_is_none(tmp_path):
    settings, design = begin_study({"dataset": "digits", "results_dir": str(tmp_path)})
    with timing_here(settings, design, resolve_images(settings)) as result:
        timed_in().kill()
        assert result() is None


def test_training_that_cannot_be_timed_is_one_line(tmp_path, monkeypatch):
    """On a GPU for which torch has no kernels, for one: there training is timed by a task of Ray."""

    def breaks(*_):
        raise RuntimeError("no kernel image is available for execution on the device")

    monkeypatch.setattr(study.plan, "time_training", breaks)
    settings, design = begin_study({"dataset": "digits", "results_dir": str(tmp_path), "gpus_per_trial": 0.0})
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        with pytest.raises(CannotStart, match=r"^training cannot be timed: RuntimeError: no kernel image"):
            make_plan(settings, design, resolve_images(settings), None)
    finally:
        ray.shutdown()


def test_no_trial_has_shares_of_two_gpus(tmp_path, monkeypatch):
    node = {"Alive": True, "Resources": {"CPU": 16.0, "GPU": 2.0}}
    monkeypatch.setattr(study.plan.ray, "nodes", lambda: [node])
    settings, _ = begin_study({"dataset": "digits", "results_dir": str(tmp_path)})
    assert study.plan._concurrent(settings, 0.4)[0] == 4
    assert study.plan._concurrent(settings, 1.0)[0] == 2
    assert study.plan._concurrent(settings, 0.25)[0] == 8


def test_a_factorial_study_is_extended_by_whole_rounds(planned):
    plan = planned(design="recipe", samples=8)
    state = StudyState(header=json.loads(json.dumps(plan.header())))
    assert continue_study({"samples": 12}, state, plan.folder)[0].samples == 12
    with pytest.raises(UsageError, match=r"^--samples: received 10, allowed with design recipe: a multiple of the 4"):
        continue_study({"samples": 10}, state, plan.folder)
    with pytest.raises(UsageError, match=r"^--scheduler: received 'asha', the study has 'fifo'"):
        continue_study({"scheduler": "asha"}, state, plan.folder)


def test_machine_and_commit():
    about = machine()
    assert about["cores"] >= 1
    assert about["cpu"]
    assert git_commit() is None or len(git_commit().split("+")[0]) == 40
