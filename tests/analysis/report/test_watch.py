"""The command `python -m analysis STUDY --watch`, on studies that change on disk."""

import shutil
import signal
from pathlib import Path

import pytest
from live import PATIENCE, replace_study, wait_until, watching
from pages import design
from synthetic import BASELINES, MadeTrial, falling

from analysis import load_study
from analysis.__main__ import main
from analysis.report import watch
from analysis.report.fingerprint import is_current
from analysis.report.page import write_report

DESIGN = design()
ONE, TWO = (f"baseline:{name}" for name in list(BASELINES)[:2])  # of which few figures are drawn
FIRST = [MadeTrial("complete", falling(1), ONE), MadeTrial("running", [], TWO)]
MORE = [FIRST[0], MadeTrial("complete", falling(2, accuracy=0.8), TWO)]


def test_the_page_follows_a_study_from_before_it_begins_to_its_end(tmp_path: Path) -> None:
    folder, out = tmp_path / "s", tmp_path / "page"
    page, helper = out / "index.html", out / "newest.js"
    with watching(folder, "--out", str(out)) as process:
        assert process.stdout.readline().startswith(f"Waiting for the study in {folder} to begin")
        replace_study(folder, [], design=DESIGN, ended=None)
        assert process.stdout.readline().startswith(f"Live report: {page}")
        text = page.read_text()
        assert 'id="live"' in text and "the study is not finished" in text
        made = text.split('data-made="')[1].split('"')[0]
        assert helper.read_text() == f"newest({made});\n"
        replace_study(folder, FIRST, design=DESIGN, ended=None)
        wait_until(lambda: "50.0%" in page.read_text(), process)
        wait_until(lambda: helper.read_text() > f"newest({made});\n", process)
        replace_study(folder, MORE, design=DESIGN)
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
    assert output.startswith(f"Report: {page}\n") and "90.0%" in output
    assert {path.name for path in out.iterdir()} == {"index.html", "effects.csv", "figures"}
    # Apart from how it was made, it is the page that is made without watching.
    assert write_report(load_study(folder), tmp_path / "page 2").read_text() == page.read_text()


@pytest.mark.parametrize(
    ("number", "status", "line"),
    [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, 143, "")],
    ids=["ctrl+c", "kill"],
)
def test_an_interrupted_watch_leaves_a_page_that_is_one_file(
    tmp_path: Path, number: int, status: int, line: str
) -> None:
    replace_study(tmp_path / "s", FIRST, design=DESIGN, ended=None)
    with watching(tmp_path / "s") as process:
        assert process.stdout.readline().startswith("Live report: ")
        process.send_signal(number)
        assert process.communicate(timeout=PATIENCE) == ("", line)
    assert process.returncode == status
    assert 'id="live"' not in (tmp_path / "s" / "report" / "index.html").read_text()
    assert not (tmp_path / "s" / "report" / "newest.js").exists()
    assert is_current(tmp_path / "s")


def test_a_study_that_disappears_ends_the_watch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, page = tmp_path / "s", tmp_path / "page"
    replace_study(study, FIRST, design=DESIGN, ended=None)
    monkeypatch.setattr(watch.signal, "signal", lambda *_: None)
    monkeypatch.setattr(watch.os, "nice", lambda _: 0)
    monkeypatch.setattr(watch.time, "sleep", lambda _: shutil.rmtree(study))
    assert main([str(study), "--watch", "--out", str(page)]) == 1
    assert capsys.readouterr().err == f"error: {study}: the study is no longer there\n"
    assert 'id="live"' not in (page / "index.html").read_text()


def test_several_studies_cannot_be_watched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), str(tmp_path), "--watch"]) == 2
    error = "error: --watch: invalid value '2 studies': expected one study\n"
    assert capsys.readouterr().err == error
