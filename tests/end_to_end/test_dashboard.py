"""A running study in the Ray dashboard, by a real browser, and in a real Prometheus that scrapes it
by the configuration that Ray writes and the line that is documented."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import pytest
from browsers import NEEDS_CHROMIUM, chromium
from commands import Place, wait_for
from terminals import hear_signals

import study.watch.metrics
from study.state import StudyState
from trainables.vocabulary import TrialStatus

pytestmark = pytest.mark.slow
PROMETHEUS = shutil.which("prometheus")
DASHBOARD = Path(study.watch.metrics.__file__).with_name("grafana.json")
# A trial of four seconds; a twentieth of them, after which the time left is told, in about twelve.
DESIGN = """
search = "sampled"
[fixed]
depth = 10
width = 4
stem_stride = 2
[[factors]]
name = "learning_rate"
role = "nuisance"
low = 0.001
high = 0.01
scale = "log"
[[factors]]
name = "stem_kernel"
role = "scientific"
levels = [3, 5]
[baselines.a]
learning_rate = 0.01
"""
STUDY = "--design small.toml --epochs 30 --samples 60 --max-concurrent 2 --scheduler fifo"
LATE = timedelta(seconds=25)
"""Prometheus is not further behind: it looks every 10 s at what Ray passes on every 2.5 s here."""


@dataclass
class Watched:
    """A study that runs."""

    folder: Path
    dashboard: str
    token: str

    def state(self, until: datetime | None = None) -> StudyState:
        """What was recorded by then."""
        state = StudyState()
        lines = (self.folder / "record.jsonl").read_bytes().splitlines(keepends=True)
        for line in lines:
            event = json.loads(line) if line.endswith(b"\n") else {"time": ""}
            if event["time"] and (not until or datetime.fromisoformat(event["time"]) <= until):
                state.apply(event)
        return state

    def ask(self, path: str, token: str | None = None) -> tuple[int, str]:
        """Status and text of an answer of the dashboard."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(self.dashboard + path, headers=headers)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()


@pytest.fixture(scope="module")
def temporary() -> Iterator[Path]:
    """Where Ray keeps its own files, apart from those of any other Ray; its sockets need a short
    path."""
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def watched(tmp_path_factory, squares, temporary) -> Iterator[Watched]:
    place = Place(tmp_path_factory.mktemp("place"), squares)
    place.environment |= {"RAY_TMPDIR": str(temporary), "RAY_metrics_report_interval_ms": "2500"}
    (place.root / "small.toml").write_text(DESIGN)
    arguments = place.arguments("--name", "watched", *STUDY.split())
    arguments.remove("--no-dashboard")
    output = place.root / "output.txt"
    with output.open("w") as file:
        driver = subprocess.Popen(
            arguments,
            cwd=place.root,
            env=place.environment,
            stdout=file,
            stderr=file,
            preexec_fn=hear_signals,
        )
        try:
            wait_for(lambda: "dashboard: http" in output.read_text() or driver.poll() is not None)
            address = re.search(r"dashboard: (http://\S+)", output.read_text())
            assert address, output.read_text()
            ray = Path(sys.executable).with_name("ray")
            token = subprocess.check_output([ray, "get-auth-token"], env=place.environment)
            folder = place.root / "results" / "watched"
            yield Watched(folder, address[1], token.decode().strip())
            assert driver.poll() is None, "long enough to be watched"
            driver.send_signal(signal.SIGINT)
            assert driver.wait(60) == 130, output.read_text()
            assert "not written any more" not in output.read_text()
        finally:
            driver.kill()
            driver.wait()


def documented() -> list[str]:
    """The command that starts Prometheus."""
    text = study.watch.metrics.__doc__.replace("\\\n", "")
    (line,) = re.findall(r"^ {4}(prometheus .*)$", text, re.MULTILINE)
    return line.split()


@pytest.fixture(scope="module")
def prometheus(watched, temporary, tmp_path_factory) -> Iterator[str | None]:
    """Its address, where there is one."""
    if not PROMETHEUS:
        yield None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    # Its places are ours here, and two may run on a machine.
    moved = {"/tmp/ray/": f"{temporary}/ray/", "/tmp/prometheus": tmp_path_factory.mktemp("series")}
    command = documented()
    for place, ours in moved.items():
        assert sum(place in word for word in command) == 1
        command = [word.replace(place, str(ours)) for word in command]
    own = [f"--web.listen-address={address}", "--log.level=warn"]
    with subprocess.Popen([*command, *own]) as process:
        yield f"http://{address}"
        assert process.poll() is None
        process.terminate()


# Prometheus has begun to scrape when the other tests run.
@NEEDS_CHROMIUM
@pytest.mark.usefixtures("prometheus")
def test_the_study_is_a_job_of_the_dashboard_by_its_name_for_who_has_the_token(watched):
    assert watched.ask("/api/jobs/")[0] == 401
    assert watched.ask("/api/jobs/", "x" * len(watched.token))[0] in (401, 403)
    status, text = watched.ask("/api/jobs/", watched.token)
    assert status == 200
    assert [job["metadata"] for job in json.loads(text)] == [{"job_name": "watched"}]
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"{watched.dashboard}/#/jobs")
        field = page.locator("input[type=password]")
        field.wait_for()
        assert page.get_by_text("watched", exact=True).count() == 0
        field.fill(watched.token)
        page.get_by_role("button", name="Submit").click()
        page.get_by_role("cell", name="watched", exact=True).wait_for(timeout=20_000)


def test_lines_of_a_process_are_marked_with_the_trial_and_epoch_it_trains(watched, temporary):
    wait_for(lambda: len(watched.state().ended_trials()) > 2, every=0.5)
    state = watched.state()
    marks = {}
    for file in (temporary / "ray" / "session_latest" / "logs").glob("worker-*.out"):
        lines = re.findall(r"^:actor_name:watched trial (\d+) (.*)$", file.read_text(), re.M)
        for trial, when in lines:
            marks.setdefault(int(trial), []).append(when)
        trials = [trial for trial, _ in groupby(lines, key=itemgetter(0))]
        assert len(trials) == len(set(trials)), "one trial after the other, in whatever order"
    for trial in state.ended_trials():
        epochs = [f"epoch {epoch}" for epoch in range(1, len(trial.epochs) + 1)]
        assert marks[trial.trial] == ["starts", *epochs]


def ask(prometheus: str, query: str) -> dict[tuple[str, ...], float]:
    """What Prometheus answers, by the values of the labels."""
    query = urllib.parse.urlencode({"query": query.replace("$study", "watched")})
    with urllib.request.urlopen(f"{prometheus}/api/v1/query?{query}") as answer:
        result = json.load(answer)["data"]["result"]
    # Not those that are Ray's own.
    ours = ("stage", "state", "trial", "arm")
    return {
        tuple(each["metric"][label] for label in ours if label in each["metric"]): float(
            each["value"][1]
        )
        for each in result
    }


def panels() -> dict[str, str]:
    """The queries of the Grafana dashboard by the titles of its panels."""
    board = json.loads(DASHBOARD.read_text())
    return {
        panel["title"]: target["expr"] for panel in board["panels"] for target in panel["targets"]
    }


def check_running_trials(answers: dict[str, dict], state: StudyState, before: StudyState) -> None:
    """What is shown of each is what was recorded of it."""
    trials = state.trials
    for (stage, number, arm), value in answers["Epoch of each running trial"].items():
        trial, known = trials[int(number)], before.trials.get(int(number))
        assert (trial.stage, trial.arm) == (stage, arm)
        least = len(known.epochs) if known and trial.state == TrialStatus.RUNNING else 0
        assert least <= value <= len(trial.epochs)
    images = state.header["dataset"]["counts"]["train"]
    readings = {
        "Accuracy of each running trial": lambda row: row["validation_accuracy"],
        "Loss of each running trial": lambda row: row["validation_loss"],
        "Training speed of each running trial, images/s": lambda row: images / row["train_seconds"],
    }
    for title, reading in readings.items():
        for (_, number, _), value in answers[title].items():
            read = [reading(row) for row in trials[int(number)].epochs]
            assert any(value == pytest.approx(each) for each in read), title


def check_study(answers: dict[str, dict], state: StudyState, before: StudyState) -> None:
    """What only grows lies between what was recorded shortly before and what is now."""
    for status in TrialStatus:
        shown = answers["Trials by stage and state"]["search", status]
        if status.has_ended:
            assert len(before.in_state(status)) <= shown <= len(state.in_state(status))
    assert answers["Running trials"][()] in (1, 2)
    best = answers["Best validation accuracy"][()]
    assert before.winner.rank[0] <= best + 1e-9 and best <= state.winner.rank[0] + 1e-9
    spent = [one.seconds()["search"]["core"] for one in (before, state)]
    assert spent[0] <= answers["Core-seconds spent"]["search",] <= spent[1]
    assert answers["GPU-seconds spent"] == {("search",): 0}
    # 60 trials of 30 epochs, two at a time; a busy machine may be some times as slow as it was.
    each = spent[1] / len(state.ended_trials())
    assert each < answers["Time left in the stage"]["search",] < 60 * each * 4
    assert 0 <= answers["Last result"][()] < 30


@pytest.mark.skipif(not PROMETHEUS, reason="no prometheus on this machine")
def test_the_series_of_a_trial_go_some_time_after_its_end(watched, prometheus):
    query = panels()["Epoch of each running trial"]
    wait_for(lambda: ask(prometheus, query), 60, every=1)
    seen = {int(number) for _, number, _ in ask(prometheus, query)}

    def gone() -> bool:
        left = {int(number) for _, number, _ in ask(prometheus, query)}
        assert left, "those of the trials that run now stay"
        return not left & seen

    wait_for(gone, 60, every=1)
    assert seen & {trial.trial for trial in watched.state().ended_trials()}


@pytest.mark.skipif(not PROMETHEUS, reason="no prometheus on this machine")
def test_every_query_of_the_grafana_dashboard_has_a_true_answer(watched, prometheus):
    queries = panels()
    wait_for(lambda: all(ask(prometheus, query) for query in queries.values()), 60, every=1)
    wait_for(lambda: watched.state(datetime.now(UTC) - LATE).ended_trials(), 60, every=1)
    before = watched.state(datetime.now(UTC) - LATE)
    answers = {title: ask(prometheus, query) for title, query in queries.items()}
    state = watched.state()
    check_running_trials(answers, state, before)
    check_study(answers, state, before)
    with urllib.request.urlopen(f"{prometheus}/api/v1/label/study/values") as answer:
        assert json.load(answer)["data"] == ["watched"]
