"""What was left open is decided and noted; without Ray, which complete studies cover."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

import study.timing
from study.designs import DESIGNS
from study.images import resolve_images
from study.opening import begin_study, continue_study, find_study
from study.plan import Plan, make_plan
from study.resources import Node, Resources
from study.settings import StudySettings
from study.state import StudyState
from trainables.config import TrialConfig, UsageError


def test_a_study_is_found_once_it_is_begun(tmp_path):
    settings = StudySettings(dataset="digits", results_dir=str(tmp_path))
    assert find_study(settings) is None
    (tmp_path / "search-digits").mkdir()
    (tmp_path / "search-digits" / "record.jsonl").write_text('{"event": "stu')
    assert find_study(settings) is None, "a driver was killed in its first line"
    (tmp_path / "search-digits" / "record.jsonl").write_text("{}\n")
    assert find_study(settings) == tmp_path / "search-digits"


TWO_CORES = Node(2)
TIMINGS = {"bf16": 1.5, "float32": 2.5}


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """A plan on digits for two cores (or what `node` says), where one image of the most expensive
    arm takes 1.5 s."""
    # Networks of which one costs a third of the most expensive: on average they cost two thirds.
    networks = [TrialConfig(depth=18), TrialConfig(depth=10)]
    monkeypatch.setattr(
        study.timing,
        "network_cost",
        lambda arm, *_: SimpleNamespace(
            forward_flops=30 * arm.depth - 240, training_bytes=lambda batch_size: 1e9
        ),
    )

    def plan(node=TWO_CORES, **given) -> Plan:
        settings, design = begin_study({"dataset": "digits", "results_dir": str(tmp_path), **given})
        design = replace(design)
        own = dict(design.baselines).get("small-stem-no-pool", {}).get("max_epochs")
        object.__setattr__(
            design,
            "networks",
            lambda epochs: [
                replace(networks[0], max_epochs=own or epochs),
                replace(networks[1], max_epochs=epochs),
            ],
        )
        return make_plan(settings, design, resolve_images(settings), Resources((node,)), TIMINGS)

    return plan


SEARCH, CONFIRM = 1294 + 144 / 3, 1294 + 144 + 359 / 3
"""Images an epoch of a stage trains on, those that it only evaluates counted as a third."""
MEAN = 1.5 * (60 + 300) / 2 / 300
"""Seconds that training the mean network takes an image."""


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({"samples": 10, "scheduler": "fifo", "confirm_seeds": 0}, 10 * 4 * SEARCH * MEAN),
        ({"samples": 10, "confirm_seeds": 0}, 10 * 4 / 2 * SEARCH * MEAN),
        # A half fraction of four factors is eight arms, tuned at two rates more (the winner has
        # one) and confirmed together with the first baseline.
        (
            {"samples": 10, "scheduler": "fifo", "confirm_seeds": 3},
            4 * ((10 + 8 * 3 - 1) * SEARCH + 3 * 9 * CONFIRM) * MEAN,
        ),
        (
            {"design": "stem", "epochs": 2, "confirm_seeds": 5},
            2 * (64 * SEARCH + 5 * 16 * CONFIRM) * MEAN,
        ),
        ({"design": "course", "epochs": 4, "confirm_seeds": 2}, 2 * 3 * 4 * CONFIRM * MEAN),
        # Its most expensive baseline has a budget of 20 epochs, others of 50.
        (
            {"design": "course", "confirm_seeds": 2},
            2 * 3 * CONFIRM * 1.5 * (50 * 60 + 20 * 300) / 2 / 300,
        ),
    ],
)
def test_estimate_by_hand(planned, given, seconds):
    assert planned(**given).estimate_seconds == pytest.approx(seconds / 2)


def test_on_a_gpu_cheap_networks_are_estimated_like_expensive_ones(planned):
    """Measured on an H200, batches of 128 CIFAR-10 images, float32: 19,666 images a second of a
    network of 74 MFLOP, 20,711 of one of 1,385."""
    plan = planned(node=Node(16, gpus=1), samples=10, scheduler="fifo", confirm_seeds=0)
    assert plan.concurrent == 4
    assert plan.estimate_seconds == pytest.approx(10 * 4 * SEARCH * 1.5 / 4)


@pytest.mark.parametrize(
    ("given", "seeds"),
    [({}, 10), ({"confirm_seeds": 3}, 3), ({"confirm_seeds": 0}, 0)],
)
def test_the_number_of_confirm_seeds(planned, given, seeds):
    plan = planned(**given)
    assert plan.confirm_seeds == plan.resolved_settings()["confirm_seeds"] == seeds


@pytest.mark.parametrize(
    ("given", "epochs", "own"),
    [
        ({}, 4, None),
        ({"epochs": 9}, 9, None),
        ({"design": "degradation"}, 4, None),
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
    assert (
        "baselines: skipped, too few samples: small-stem, small-stem-no-pool"
        in planned(samples=1).notes
    )
    assert not [note for note in planned(design="course").notes if note.startswith("baselines")]
    gp = "sampler: gp learns from complete trials only, and asha lets few complete"
    assert gp in planned(sampler="gp").notes
    assert gp not in planned(sampler="gp", scheduler="fifo").notes
    assert planned(precision="auto").precision == "bf16"


@pytest.mark.parametrize("name", DESIGNS)
def test_a_study_is_continued_from_its_header(planned, name):
    plan = planned(design=name, train_images=200, notify="curl https://secret")
    header = json.loads(json.dumps(plan.header()))
    assert header["design"]["name"] == name
    assert header["dataset"]["duplicates"] == {"validation": 0, "test": 0}
    assert header["settings"]["flip"] is False
    assert "secret" not in json.dumps(header)
    assert [note for note in header["notes"] if note.startswith("augmentation: ")]
    state = StudyState(header=header)
    settings, design = continue_study({"confirm_seeds": 7}, state, plan.folder)
    assert design == DESIGNS[name]
    assert (settings.confirm_seeds, settings.samples) == (7, DESIGNS[name].samples)
    assert (settings.epochs, settings.precision, settings.scheduler) == (
        *(plan.epochs, plan.precision, plan.settings.scheduler),
    )
    again, _ = continue_study({"design": name, "epochs": plan.epochs}, state, plan.folder)
    assert again.confirm_seeds == 10
    other = "recipe" if name == "stem" else "stem"
    with pytest.raises(UsageError) as caught:
        continue_study({"design": other}, state, plan.folder)
    assert str(caught.value) == (
        f"--design: invalid value '{other}', not the study's design: expected the same, or "
        f"another --name"
    )


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ('[[factors]]\nname = "depth"\nrole = "scientific"\nlevels = [10, 18]\n', "18", "34"),
        ('search = "none"\n\n[baselines.one]\nmax_epochs = 6\n', "6", "50"),
    ],
    ids=["levels", "a baseline's own budget"],
)
def test_a_design_file_that_was_changed_is_another_question(planned, tmp_path, text, before, after):
    path = tmp_path / "own.toml"
    path.write_text(text)
    plan = planned(design=str(path))
    assert plan.folder == tmp_path / "own-digits"
    state = StudyState(header=json.loads(json.dumps(plan.header())))
    assert continue_study({"design": str(path)}, state, plan.folder)[1] == plan.design
    path.write_text(text.replace(before, after))
    with pytest.raises(
        UsageError,
        match=r"^--design: invalid value '.*own.toml', not the study's design: ",
    ):
        continue_study({"design": str(path)}, state, plan.folder)
    path.unlink()
    assert continue_study({}, state, plan.folder)[1] == plan.design, "the record has it"


def test_one_budget_for_all_holds_when_a_study_is_continued(planned):
    plan = planned(design="course", epochs=4)
    state = StudyState(header=json.loads(json.dumps(plan.header())))
    for given in ({}, {"design": "course"}, {"design": "course", "epochs": 4}):
        _, design = continue_study(given, state, plan.folder)
        assert {design.baseline(name, 4, 0).max_epochs for name in design.baselines} == {4}


def test_a_factorial_study_is_extended_by_whole_rounds(planned):
    plan = planned(design="recipe", samples=8)
    state = StudyState(header=json.loads(json.dumps(plan.header())))
    assert continue_study({"samples": 12}, state, plan.folder)[0].samples == 12
    with pytest.raises(
        UsageError,
        match=r"^--samples: invalid value 10: expected a multiple of the 4 arms",
    ):
        continue_study({"samples": 10}, state, plan.folder)
    with pytest.raises(
        UsageError, match=r"^--scheduler: invalid value 'asha', the study has 'fifo'"
    ):
        continue_study({"scheduler": "asha"}, state, plan.folder)
