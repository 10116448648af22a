"""A page is made again where it would be another."""

import shutil
from pathlib import Path

import pytest
from pages import design
from synthetic import MadeTrial, falling, write_study

from analysis import load_study
from analysis.report import fingerprint
from analysis.report.page import write_report


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> Path:
    made = [MadeTrial("complete", falling(1))]
    folder = write_study(tmp_path_factory.mktemp("made") / "s", made, design=design())
    write_report(load_study(folder))
    return folder


def test_the_page_of_a_study_as_it_is_is_current(reported):
    assert fingerprint.is_current(reported)


@pytest.mark.parametrize("changed", ["epochs.csv", "study.json", "best/predictions.csv", "page"])
def test_it_is_not_where_something_that_it_shows_has_changed(reported, tmp_path, changed):
    folder = shutil.copytree(reported, tmp_path / "s")
    if changed == "page":
        (folder / "report" / "index.html").unlink()
    else:
        (folder / changed).parent.mkdir(exist_ok=True)
        with (folder / changed).open("a") as file:
            file.write("\n")
    assert not fingerprint.is_current(folder)


def test_it_is_not_where_the_code_has_changed(reported, tmp_path, monkeypatch):
    sources = Path(fingerprint.__file__).parents[1]
    copied = shutil.copytree(sources, tmp_path / "analysis")
    monkeypatch.setattr(fingerprint, "__file__", str(copied / "report" / "fingerprint.py"))
    assert fingerprint.is_current(reported)
    with (copied / "report" / "script.js").open("a") as file:
        file.write("\n")
    assert not fingerprint.is_current(reported)
