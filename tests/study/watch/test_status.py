"""What `resnet-study list` and `resnet-study status` say of records, beside what was put there."""

import io
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from records import HEADER, SETTINGS, end, epoch, start
from rich.console import Console

from study.command_line import parse_command
from study.record import Record
from study.run import main
from study.watch.status import Look, show

HOST = platform.node()
DATASET = {"name": "digits", "counts": {"train": 1294, "validation": 144, "test": 11}}
ABOUT = {"samples": 3, "confirm_seeds": 5}


def header(name: str) -> dict:
    about = {"name": name, "design": {"name": "search"}, "dataset": DATASET}
    return HEADER | about | {"settings": SETTINGS | ABOUT}


def made(folder: Path, name: str, pid: int, host: str = HOST, ended: bool = False) -> Record:
    """Three search trials: 60% and 90% complete, one that runs and has read 70%."""
    record = Record(folder / name, header(name))
    record.append("driver_started", pid=pid, host=host)
    for number, scores in enumerate(([0.5, 0.6], [0.8, 0.9], [0.7])):
        start(record, number, max_epochs=2)
        for count, score in enumerate(scores, start=1):
            epoch(record, number, count, score)
        if len(scores) == 2:
            end(record, number, "complete")
    if ended:
        epoch(record, 2, 2, 0.4)
        end(record, 2, "complete")
        record.append("driver_ended", seconds=60.0, missing=0)
    record.close()
    return record


def printed(look: Look) -> str:
    text = io.StringIO()
    show(look, Console(file=text, width=160))
    return text.getvalue()


@pytest.fixture
def gone() -> int:
    """The process id of a process that has ended."""
    return int(subprocess.check_output([sys.executable, "-c", "import os; print(os.getpid())"]))


def row_of(text: str, name: str) -> str:
    (line,) = [line for line in text.splitlines() if line.startswith(name)]
    return " ".join(line.split())


def test_every_study_is_listed_with_its_state_progress_best_and_cost(tmp_path, gone):
    made(tmp_path, "whole", gone, ended=True)
    made(tmp_path, "alive", os.getpid())
    made(tmp_path, "killed", gone)
    made(tmp_path, "far", 7, host="elsewhere")
    made(tmp_path, "torn", gone)
    (tmp_path / "torn" / "record.jsonl").write_text('{"event": "study"}\n')
    (tmp_path / "no-study").mkdir()
    text = printed(Look(str(tmp_path)))
    # Six epochs of 2.5 seconds on two threads; of the others five.
    assert row_of(text, "whole").startswith("whole complete search 3/3 90.0% (k7 s2 pool d18) 30 s")
    alive = f"alive running, process {os.getpid()} search 2/3 90.0% (k7 s2 pool d18) 25 s"
    assert row_of(text, "alive").startswith(alive)
    assert "interrupted (its process is gone) search 2/3" in row_of(text, "killed")
    assert "running on elsewhere, by its record" in row_of(text, "far")
    assert "damaged" in row_of(text, "torn")
    assert "no-study" not in text


@pytest.mark.parametrize("views", ["older than the record", "of an older version"])
def test_where_the_views_lack_something_the_record_is_read(tmp_path, gone, views):
    record = made(tmp_path, "one", gone)
    manifest = tmp_path / "one" / "study.json"
    if views == "of an older version":
        content = json.loads(manifest.read_text())
        del content["summary"]
        manifest.write_text(json.dumps(content))
    else:
        before = manifest.read_bytes()
        record = Record(tmp_path / "one")
        epoch(record, 2, 2, 0.95)
        end(record, 2, "complete")
        record.close()
        manifest.write_bytes(before)
    ended, best = ("3/3", "95.0%") if views == "older than the record" else ("2/3", "90.0%")
    assert f"search {ended} {best}" in row_of(printed(Look(str(tmp_path))), "one")


def test_one_study_is_shown_with_its_running_and_best_trials(tmp_path, gone):
    made(tmp_path, "older", gone, ended=True)
    record = made(tmp_path, "newer", os.getpid())
    record = Record(tmp_path / "newer")
    record.append("confirm_planned", factors=[], arms=[{"config": {}}, {"config": {}}])
    start(record, 3, "confirm", "confirm", learning_rate=0.5, max_epochs=4)
    readings = {
        "learning_rate": 0.5,
        "train_loss": 1.0,
        "train_accuracy": 0.5,
        "test_accuracy": 0.99,
    }
    times = {"train_seconds": 4.0, "eval_seconds": 1.0}
    record.append("epoch", trial=3, node="here", epoch=1, **readings, **times)
    record.close()
    text = printed(Look(str(tmp_path), ""))
    assert text == printed(Look(str(tmp_path), "newer")), "the one that changed last"
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == f"newer: running, process {os.getpid()}"
    assert lines[1] == "design search, data set digits, 1,294 training images"
    assert lines[2].startswith("search 2/3 · confirm 0/10; last event ")
    running = lines.index("running")
    assert lines[running + 2] == "2 search k7 s2 pool d18 0.03 1/2 70.0% (validation) 2.5"
    assert lines[running + 3] == "3 confirm k7 s2 pool d18 0.5 1/4 99.0% (test) 5"
    best = lines.index("best in the search")
    assert [line.split()[0] for line in lines[best + 2 : best + 4]] == ["1", "0"]


@pytest.mark.parametrize("asked", [["status", "nothing"], ["list"], ["status"]])
def test_what_is_not_there_is_one_line_and_status_2(tmp_path, capsys, asked, gone):
    if "nothing" in asked:
        made(tmp_path, "something", gone)
    assert main([*asked, "--results-dir", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    expected = "a study of" if "nothing" in asked else "expected a directory with studies"
    assert expected in line


def test_the_commands_are_read():
    assert parse_command(["list"]) == Look("results", None)
    assert parse_command(["status"]) == Look("results", "")
    assert parse_command(["status", "a", "--results-dir", "b"]) == Look("b", "a")
    assert parse_command(["--name", "list"]) == {"name": "list"}


def test_neither_ray_nor_torch_is_needed(tmp_path, gone):
    made(tmp_path, "whole", gone, ended=True)
    code = "import sys; from study.run import main; main(sys.argv[1:]); "
    code += "print({'ray', 'torch', 'pandas', 'numpy'} & set(sys.modules))"
    command = [sys.executable, "-c", code, "list", "--results-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
