"""What is measured of a study for Prometheus, and what `grafana.json` asks for. That Ray and a real
Prometheus pass it on is in `tests/end_to_end/test_dashboard.py`."""

import json
import re
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from records import HEADER, confirmed, end, epoch, start

import study.watch.metrics
from study.record import Record
from study.watch.metrics import GAUGES, SET_SECONDS, Metrics, values_of
from study.watch.progress import StageProgress
from trainables.vocabulary import Stage

DASHBOARD = Path(study.watch.metrics.__file__).with_name("grafana.json")
COUNTS = {"counts": {"train": 300, "validation": 60, "test": 11}}
METRIC = r"ray_resnet_study_(\w+)"


@pytest.fixture
def record(tmp_path):
    record = Record(tmp_path / "s", HEADER | {"dataset": COUNTS})
    yield record
    record.close()


def measured(record: Record, stage: Stage = Stage.SEARCH) -> dict[tuple[str, ...], float]:
    """By gauge and the values of its tags, what is set."""
    values = list(values_of(record.state, StageProgress.begin(record.state, stage, 10)))
    read = {(each.gauge, *each.tags.values()): each.value for each in values}
    assert len(read) == len(values), "no gauge is set twice"
    assert all(tuple(each.tags) == GAUGES[each.gauge][1] for each in values)
    return {key: value for key, value in read.items() if value is not None}


def test_trials_are_counted_by_stage_and_state_also_where_there_is_none_any_more(record):
    for number in range(3):
        start(record, number)
        epoch(record, number, 1, 0.5)
    assert measured(record)["trials", "search", "running"] == 3
    end(record, 0, "stopped")
    end(record, 1, "failed", "RuntimeError")
    end(record, 2, "stopped")
    confirmed(record, 3, "running")
    assert {key[1:]: value for key, value in measured(record).items() if key[0] == "trials"} == {
        ("search", "running"): 0,
        ("search", "complete"): 0,
        ("search", "stopped"): 2,
        ("search", "diverged"): 0,
        ("search", "failed"): 1,
        ("confirm", "running"): 1,
        ("confirm", "complete"): 0,
        ("confirm", "stopped"): 0,
        ("confirm", "diverged"): 0,
        ("confirm", "failed"): 0,
    }


def test_a_trial_is_measured_while_it_runs_by_what_its_stage_may_read(record):
    start(record, 0)
    arm = record.state.trials[0].arm
    of_trial = {key: value for key, value in measured(record).items() if arm in key}
    assert of_trial == {("trial_epochs", "search", "0", arm): 0}
    epoch(record, 0, 1, 0.5, 0.7)
    epoch(record, 0, 2, 0.75, 0.6)
    confirmed(record, 1, "running", stem_kernel=5)
    other = record.state.trials[1].arm
    values = measured(record, Stage.CONFIRM)
    assert {key: value for key, value in values.items() if key[0].startswith("trial_")} == {
        ("trial_epochs", "search", "0", arm): 2,
        ("trial_accuracy_ratio", "search", "0", arm): 0.75,
        ("trial_loss_nats", "search", "0", arm): 0.6,
        ("trial_images_per_second", "search", "0", arm): 150,
        ("trial_epochs", "confirm", "1", other): 1,
        ("trial_accuracy_ratio", "confirm", "1", other): 0.99,
        ("trial_loss_nats", "confirm", "1", other): 0.5,
        ("trial_images_per_second", "confirm", "1", other): 90,
    }
    end(record, 0, "stopped")
    end(record, 1, "failed", "RuntimeError")
    assert not [key for key in measured(record) if key[0].startswith("trial_")]


def test_cost_best_accuracy_and_time_left(record):
    start(record, 0)
    epoch(record, 0, 1, 0.9)
    end(record, 0, "stopped")
    values = measured(record)
    assert ("best_validation_accuracy_ratio",) not in values
    assert ("stage_seconds_left", "search") not in values
    start(record, 1)
    epoch(record, 1, 1, 0.5)
    epoch(record, 1, 2, 0.8)
    end(record, 1, "complete")
    confirmed(record, 2)
    values = measured(record)
    assert values["best_validation_accuracy_ratio",] == 0.8
    # Two cores and half a GPU a trial; 2.5 s an epoch, 5 s that of the confirm stage.
    assert (values["core_seconds", "search"], values["core_seconds", "confirm"]) == (15, 10)
    assert (values["gpu_seconds", "search"], values["gpu_seconds", "confirm"]) == (3.75, 2.5)
    half = StageProgress(Stage.SEARCH, 4, before=0.0, started=time.monotonic() - 100)
    left = {each.gauge: each.value for each in values_of(record.state, half)}
    assert left["stage_seconds_left"] == pytest.approx(100, abs=5)


class Heard:
    """A gauge that keeps what it is set to, and has its tags checked as Ray does."""

    def __init__(self, name, description, tag_keys):
        self.name, self.tag_keys, self.told = name, tag_keys, []

    def set(self, value, tags):
        assert set(tags) == set(self.tag_keys)
        self.told.append((value, tags))


def test_gauges_are_set_again_now_and_then_with_the_age_of_the_last_result(record, monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(study.watch.metrics, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(study.watch.metrics, "Gauge", Heard)
    metrics = Metrics()
    gauges = {gauge.name: gauge.told for gauge in metrics._gauges.values()}
    start(record, 0)
    metrics.start(record.state)
    metrics.tick(record.state)
    assert not any(gauges.values()), "no stage has begun"
    metrics.stage(record.state, Stage.SEARCH, 10)
    age = gauges["resnet_study_last_result_age_seconds"]
    for _ in range(3):
        metrics.tick(record.state)
    assert age == [(0, {"study": "s"})]
    clock.now += SET_SECONDS
    metrics.tick(record.state)
    metrics.event(record.state, {"event": "epoch", "trial": 0})
    metrics.event(record.state, {"event": "trial_ended", "trial": 0})
    clock.now += 3 * SET_SECONDS
    metrics.tick(record.state)
    assert [value for value, _ in age] == [0, SET_SECONDS, 3 * SET_SECONDS]
    running = (1, {"study": "s", "stage": "search", "state": "running"})
    assert gauges["resnet_study_trials"].count(running) == 3
    assert SET_SECONDS <= 5


def queries() -> list[str]:
    """All that `grafana.json` asks Prometheus for."""
    board = json.loads(DASHBOARD.read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return asked + [
        variable["definition"]
        for variable in board["templating"]["list"]
        if variable["type"] == "query"
    ]


@pytest.mark.parametrize("query", queries())
def test_every_query_of_the_dashboard_names_metrics_of_ours_with_their_tags(query):
    names = re.findall(METRIC, query)
    assert names and set(names) <= set(GAUGES)
    grouped = re.findall(r"by \(([^)]*)\)", query)
    used = {word.strip() for words in grouped for word in words.split(",")}
    used |= set(re.findall(r"(\w+)=", query))
    assert used <= {"study", *GAUGES[names[0]][1]}


def test_every_metric_has_a_panel_and_panels_do_not_overlap():
    board = json.loads(DASHBOARD.read_text())
    shown = [re.findall(METRIC, panel["targets"][0]["expr"]) for panel in board["panels"]]
    assert {name for names in shown for name in names} == set(GAUGES)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    cells = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in board["panels"]
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells) and max(x for x, _ in cells) < 24
    names = {variable["name"]: variable["type"] for variable in board["templating"]["list"]}
    assert names == {"datasource": "datasource", "study": "query"}
