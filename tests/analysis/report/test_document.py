"""How a page is written."""

from pathlib import Path

import pytest
from pages import design
from synthetic import MadeTrial, falling, manifest, search_like, write_study

from analysis import load_study
from analysis.report.page import write_report
from trainables.config import UsageError


def test_the_same_study_gives_the_same_page_and_replaces_it(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "s", search_like(5, 2), design=design()))
    page = write_report(study, tmp_path / "out" / "deep")
    first = page.read_bytes()
    page.write_text("old")
    assert write_report(study, tmp_path / "out" / "deep").read_bytes() == first
    assert [path.name for path in page.parent.iterdir() if path.name.startswith(".")] == []
    assert page == tmp_path / "out" / "deep" / "index.html"


def test_names_are_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    data = manifest()["dataset"] | {"name": evil, "classes": [evil, "$\\frac{$"]}
    evil_design = design() | {"baselines": {evil: {}}}
    made = [
        MadeTrial("complete", falling(2), f"baseline:{evil}"),
        MadeTrial("failed", [], error=evil),
    ]
    study = load_study(
        write_study(
            tmp_path, made, name=evil, dataset=data, design=evil_design, notes=[evil, "$x_{$"]
        )
    )
    text = write_report(study).read_text()
    assert text.count("<script") == 2  # the page's own
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text
    assert "<script" not in (tmp_path / "report" / "figures" / "curves.svg").read_text()


def test_a_report_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, [], design=design()))
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"out: invalid value .*file"):
        write_report(study, tmp_path / "file")
