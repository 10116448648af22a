"""The command `python -m analysis`."""

import subprocess
import sys
from pathlib import Path

import pytest
from pages import Page, design
from synthetic import search_like, write_study

from analysis import load_study
from analysis.__main__ import main
from analysis.report.wording.study_text import answer


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = (
        str(write_study(tmp_path / name, search_like(4 + i, 2), name=name, design=design()))
        for i, name in enumerate(("one", "two"))
    )
    assert main([one, "--out", str(tmp_path / "page")]) == 0
    assert (tmp_path / "page" / "index.html").exists()
    assert f"Report: {tmp_path / 'page' / 'index.html'}" in capsys.readouterr().out
    assert main([one, two, "--out", str(tmp_path / "pages")]) == 0
    output = capsys.readouterr().out
    assert f"Report: {tmp_path / 'pages' / 'index.html'}" in output
    text = "".join(Page((tmp_path / "pages" / "index.html").read_text()).words)
    for name in ("one", "two"):
        sentence = f"{name}: {answer(load_study(tmp_path / name))[0]}"
        assert sentence in output
        assert sentence in text
    assert "The five best trials of each" in text
    figures = {path.stem for path in (tmp_path / "pages" / "figures").iterdir()}
    assert figures == {"curves", "best-so-far"}
    assert main([two, one]) == 0
    assert (tmp_path / "comparison" / "index.html").exists()


def test_wrong_use_of_the_command_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = str(write_study(tmp_path / "one", [], design=design()))
    (tmp_path / "file").write_text("")
    for arguments in (
        [str(tmp_path / "nowhere")],
        [study, "--out", str(tmp_path / "file")],
        [study, study, "--out", "x"],
        [study, str(tmp_path / "nowhere")],
    ):
        assert main(arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("error: ")
        assert captured.err.count("\n") == 1
    done = subprocess.run(
        [sys.executable, "-m", "analysis", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
