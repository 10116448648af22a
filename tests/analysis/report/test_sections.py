"""Which sections a page has, and what is listed in them."""

from pathlib import Path

import pandas as pd
from pages import Page, design
from synthetic import MadeTrial, falling, write_study

from analysis import load_study
from analysis.report.page import write_report


def test_a_damaged_confusion_matrix_costs_its_own_section(tmp_path: Path) -> None:
    folder = write_study(tmp_path, [MadeTrial("complete", falling(1))])
    (folder / "best").mkdir()
    (folder / "best" / "confusion_matrix.csv").write_text("true class,cat,dog\ncat,5\n")
    words = " ".join(Page(write_report(load_study(folder)).read_text()).words)
    assert "No confusion matrix" in words
    assert "confusion_matrix.csv: damaged" in words


def test_the_most_confident_mistakes_are_listed_first(tmp_path: Path) -> None:
    folder = write_study(tmp_path, [MadeTrial("complete", falling(1))])
    (folder / "best").mkdir()
    classes = '"true class","cat","<dog>"\n"cat",1,2\n"<dog>",1,0\n'
    (folder / "best" / "confusion_matrix.csv").write_text(classes)
    rows = [
        '0,"cat","cat",0.99',
        '1,"cat","<dog>",0.6',
        '2,"<dog>","cat",0.8',
        '3,"cat","<dog>",0.7',
    ]
    head = '"image","true class","predicted class","probability"'
    (folder / "best" / "predictions.csv").write_text("\n".join([head, *rows]) + "\n")
    words = Page(write_report(load_study(folder)).read_text()).words
    words = [text for text in words if text.strip()]
    start = next(i for i, text in enumerate(words) if text.startswith("Most confident mistakes"))
    assert words[start + 1 : start + 17] == [
        *("image", "true class", "predicted class", "probability"),
        *("2", "<dog>", "cat", "80.0%"),
        *("3", "cat", "<dog>", "70.0%"),
        *("1", "cat", "<dog>", "60.0%"),
    ]


def test_a_study_so_short_that_its_clock_did_not_move_has_no_timeline(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "s", [MadeTrial("complete", falling(2))], design=design())
    epochs = pd.read_csv(folder / "epochs.csv").assign(wall_seconds=0.0)
    epochs.to_csv(folder / "epochs.csv", index=False)
    page = write_report(load_study(folder))
    assert not (page.parent / "figures" / "cost.svg").exists()
