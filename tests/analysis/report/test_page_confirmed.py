"""The page of a study with a confirm stage."""

import re

import pandas as pd
from confirmed import findings_of

from analysis import conclude
from analysis.report import wording
from analysis.report.wording import answer, closing_lines


def test_the_page_and_the_terminal_lead_with_it(study, page):
    text = page.read_text(encoding="utf-8")
    answers = re.findall(r'<p class="answer">(.*?)</p>', text)
    assert answers == [line.replace("'", "&#39;") for line in answer(study)]
    assert answers[:5] == wording.sentences(study)[:5]
    lines = closing_lines(study)
    assert lines[0] == answers[0]
    assert lines[-4:] == wording.effect_lines(findings_of(study))
    assert len(set(lines) & set(wording.effect_lines(findings_of(study)))) == 4
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert headings[:4] == [
        "Confirmed",
        "What matters",
        "Does it hold for longer training?",
        "Curves of the confirmed arms",
    ]
    for name in ("confirmed", "effects", "effects-by-epoch", "confirmed-curves"):
        assert (page.parent / "figures" / f"{name}.png").stat().st_size > 5000
    assert (
        "Thin: interval for new seeds and new test images; thick: for new seeds on these images."
        in text
    )
    assert "search-stage validation scores" in text  # named for what they are


def test_the_effects_are_a_file_for_other_programs(study, page):
    pd.testing.assert_frame_equal(
        pd.read_csv(page.parent / "effects.csv").astype({"from": "str", "to": "str"}),
        conclude(study).astype({"from": "str", "to": "str"}),
        check_dtype=False,
    )


def test_tune_trials_are_in_the_cost_and_in_no_table_of_the_search(study, page):
    text = page.read_text(encoding="utf-8")
    tune = study.trials.loc[study.trials["stage"] == "tune", "trial"].tolist()
    assert len(tune) == 23
    listed = text.partition("<h2>Trials</h2>")[2]
    assert re.findall(r'<tr(?: class="best")?><td>(\d+)</td>', listed) == ["0", "1"]
    cost = text.partition("<caption>Cost by stage</caption>")[2].partition("</table>")[0]
    assert re.search(r"<td>tune</td><td>23</td><td>172\.5</td>", cost)  # three epochs of 2.5 s each
