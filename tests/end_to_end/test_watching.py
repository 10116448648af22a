"""TensorBoard and optuna-dashboard as a user starts them, asked over HTTP about a study that runs,
was killed and is resumed: they say what the record says."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
from commands import wait_for
from records import HEADER, confirmed, end, epoch, start

from study.designs import SEARCH
from study.record import Record
from study.watch.optuna import OptunaView
from study.watch.surfaces import Surface, Surfaces
from study.watch.tensorboard import TensorBoard

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
DESIGN = {"name": SEARCH.name, **SEARCH.to_dict()}


class Driver:
    """Writes a record and shows it, as the driver of a study does, without training."""

    def __init__(self, folder: Path, surface: type[Surface]) -> None:
        header = None if (folder / "record.jsonl").exists() else HEADER | {"design": DESIGN}
        self.record = Record(folder, header)
        self.record.append("driver_started", pid=1, host="here")
        Surfaces(self.record, [surface(folder)])

    def begin(self) -> None:
        """Trial 0 complete, 1 stopped, 2 diverged, 3 failed, 4 running."""
        for number in range(5):
            start(self.record, number, stem_kernel=3)
        for number, scores in enumerate(([0.5, 0.75], [0.25], [0.5, None], [], [0.125])):
            for count, score in enumerate(scores, start=1):
                epoch(self.record, number, count, score, None if score is None else 2.0)
        for number, state in enumerate(("complete", "stopped", "diverged", "failed")):
            end(self.record, number, state, "OSError: gone" if state == "failed" else "")

    def proceed(self) -> None:
        """Trial 4 has another epoch."""
        epoch(self.record, 4, 2, 0.375)

    def finish(self) -> None:
        """Trial 4 is complete, and the winner confirmed."""
        epoch(self.record, 4, 3, 0.625)
        end(self.record, 4, "complete")
        confirmed(self.record, 5)

    def kill(self) -> None:
        """What a kill leaves: nothing is closed but what the system closes."""
        self.record._file.close()


class Server:
    """Answers at a port of this machine."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"

    def ask(self, path: str, content: Any = None, **query: str) -> Any:
        data = None if content is None else json.dumps(content).encode()
        address = f"{self.address}{path}?{urlencode(query)}"
        request = Request(address, data, {"Content-Type": "application/json"})
        with urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def answers(self, path: str) -> bool:
        try:
            self.ask(path)
        except (URLError, ConnectionError):
            return False
        return True


@contextmanager
def served(ready: str, log: Path, *command: str | Path) -> Iterator[Server]:
    """A server while it lasts; it is ready once it answers at this path."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--host", "127.0.0.1", "--port", str(port)]
    with log.open("ab") as output:
        process = subprocess.Popen([*command, *options], stdout=output, stderr=output)
        try:
            server = Server(port)
            wait_for(lambda: server.answers(ready))
            yield server
        finally:
            process.terminate()
            process.wait()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "results" / "s"


@pytest.fixture
def driver(folder: Path) -> Iterator[Callable[[type[Surface]], Driver]]:
    """Starts a driver, after a kill of the one before it."""
    drivers: list[Driver] = []

    def begin(surface: type[Surface]) -> Driver:
        for each in drivers:
            each.kill()
        drivers.append(Driver(folder, surface))
        return drivers[-1]

    yield begin
    drivers[-1].kill()


def scalars(server: Server, trial: int, tag: str = "validation_accuracy") -> dict[int, float]:
    run = f"s/tensorboard/trial-{trial}"
    found = server.ask("/data/plugin/scalars/scalars", run=run, tag=tag)
    assert len({step for _, step, _ in found}) == len(found), "an epoch is there twice"
    return {step: value for _, step, value in found}


def compared(server: Server) -> dict[int, tuple[str, str, float, dict[str, float]]]:
    """State, status, learning rate and metrics on the HParams page, by trial."""
    status = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
    asked = {"startIndex": 0, "sliceSize": 100, "allowedStatuses": status}
    rows = {}
    for group in server.ask("/data/plugin/hparams/session_groups", asked)["sessionGroups"]:
        about, (session,) = group["hparams"], group["sessions"]
        metrics = {each["name"]["tag"]: each["value"] for each in group.get("metricValues", [])}
        number = int(group["name"].removeprefix("s/tensorboard/trial-"))
        rows[number] = about["state"], session["status"], about["learning_rate"], metrics
    return rows


ENDED = {
    0: ("complete", "STATUS_SUCCESS", 0.01, {"validation_accuracy": 0.75}),
    1: ("stopped", "STATUS_SUCCESS", 0.02, {"validation_accuracy": 0.25}),
    2: ("diverged", "STATUS_FAILURE", 0.03, {"validation_accuracy": 0.5}),
    3: ("failed", "STATUS_FAILURE", 0.04, {}),
}


def test_tensorboard(folder, driver):
    study = driver(TensorBoard)
    study.begin()
    command = [BIN / "tensorboard", "--logdir", folder.parent, "--reload_interval", "1"]
    with served("/data/runs", folder.parent / "log", *command) as server:
        wait_for(lambda: len(server.ask("/data/runs")) == 5 and len(compared(server)) == 4)
        assert scalars(server, 0) == {1: 0.5, 2: 0.75}
        assert scalars(server, 4) == {1: 0.125}
        assert scalars(server, 2, "train_accuracy") == {1: 0.5, 2: 0.5}
        assert compared(server) == ENDED
        study.proceed()
        wait_for(lambda: len(scalars(server, 4)) == 2)
        study = driver(TensorBoard)
        study.finish()
        wait_for(lambda: len(compared(server)) == 6)
        after = compared(server)
    # Open since before the kill, and newly started: they show the same.
    with served("/data/runs", folder.parent / "log", *command) as server:
        wait_for(lambda: len(compared(server)) == 6)
        assert scalars(server, 4) == {1: 0.125, 2: 0.375, 3: 0.625}
        assert scalars(server, 5, "test_accuracy") == {1: pytest.approx(0.99)}
        assert compared(server) == after
    assert {number: row for number, row in after.items() if number < 4} == ENDED
    assert after[4][::3] == ("complete", {"validation_accuracy": 0.625})
    assert after[5][::3] == ("complete", {"test_accuracy": pytest.approx(0.99)})


def trials(server: Server, study: str) -> list[tuple[str, list[float] | None, dict[int, float]]]:
    """State, value and readings of the trials of an Optuna study."""
    studies = server.ask("/api/studies")["study_summaries"]
    ids = {each["study_name"]: each["study_id"] for each in studies}
    return [
        (
            trial["state"],
            trial.get("values"),
            {each["step"]: each["value"] for each in trial["intermediate_values"]},
        )
        for trial in server.ask(f"/api/studies/{ids[study]}")["trials"]
    ]


def test_optuna_dashboard(folder, driver):
    study = driver(OptunaView)
    study.begin()
    command = [BIN / "optuna-dashboard", folder / "optuna.log"]
    ended = [
        ("Complete", [0.75], {1: 0.5, 2: 0.75}),
        ("Pruned", [0.25], {1: 0.25}),
        ("Pruned", None, {1: 0.5}),
        ("Fail", None, {}),
    ]
    with served("/api/studies", folder.parent / "log", *command) as server:
        assert trials(server, "s") == [*ended, ("Running", None, {1: 0.125})]
        study.proceed()
        # It asks its storage anew every other second.
        wait_for(lambda: trials(server, "s") == [*ended, ("Running", None, {1: 0.125, 2: 0.375})])
    study = driver(OptunaView)
    with served("/api/studies", folder.parent / "log", *command) as server:
        assert trials(server, "s") == [*ended, ("Running", None, {1: 0.125, 2: 0.375})]
        study.finish()
        last = ("Complete", [0.625], {1: 0.125, 2: 0.375, 3: 0.625})
        wait_for(lambda: trials(server, "s") == [*ended, last])
        assert trials(server, "s confirm") == [("Complete", [0.99], {1: 0.99})]
        shown = server.ask("/api/studies/0")
        assert shown["objective_names"] == ["validation accuracy"]
        assert [each["number"] for each in shown["best_trials"]] == [0]
        space = {each["name"] for each in shown["intersection_search_space"]}
        assert space == {"learning_rate", "stem_kernel", "stem_stride", "stem_maxpool", "depth"}
