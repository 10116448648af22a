"""The page of a study with a confirm stage."""

import html
import re
import tomllib
from urllib.parse import unquote

import pandas as pd
from confirmed import findings_of

from analysis import conclude
from analysis.report.wording import confirm_text, scope_text, values
from analysis.report.wording.study_text import closing_lines
from study.design_files import design_from
from trainables.config import TrialConfig


def test_the_page_leads_with_four_answers_and_the_terminal_with_the_same(study, page):
    text = page.read_text(encoding="utf-8")
    top = text.partition("<nav")[0]
    assert re.findall(r"<h2>(.*?)</h2>", top) == [
        "Best network",
        "Against the baseline",
        "What matters",
        "Cost and next step",
    ]
    confirmed = findings_of(study)
    standing = confirmed.standing
    assert f'<p class="value">{standing.accuracy.mean:.1%}</p>' in top
    assert "3×3 stem, stride 1, no max-pool, 18 layers (k3 s1 no-pool d18), learning rate" in top
    assert f"{100 * standing.above_baseline.difference:+.1f} points</p>" in top
    rows = re.findall(r"<tr><td>(.*?)</td>.*?<td class=\"verdict\">(.*?)</td></tr>", top)
    assert rows == [
        (values.change_text(effect.change), str(effect.verdict)) for effect in confirmed.effects
    ]
    assert '<code id="command">python study/run.py --samples 20' in top
    lines = closing_lines(study)
    assert lines[0] == confirm_text.sentences(study)[0]
    assert lines[-4:] == confirm_text.effect_lines(findings_of(study))
    assert len(set(lines) & set(confirm_text.effect_lines(findings_of(study)))) == 4
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", text)
    assert headings[4:11] == [
        "Comparative curves",
        "Contents",
        "Scope and caveats",
        "What matters",
        "Confirmed",
        "Does it hold for longer training?",
        "Curves of the confirmed arms",
    ]


def test_scope_and_caveats_are_on_the_page_once(study, page):
    text = html.unescape(page.read_text(encoding="utf-8"))
    for line in scope_text.scope_lines(study):
        assert text.count(line) == 1
    assert text.count("Data set digits") == 1
    assert text.count('href="#scope"') > 5
    assert "Data set digits" in (page.parent / "figures" / "effects.svg").read_text()


def test_the_winner_is_a_design_that_the_study_takes(study, page):
    address = re.search(r'href="data:[^,]*,([^"]*)" download="winner.toml"', page.read_text())
    values = tomllib.loads(unquote(address[1]))
    design = design_from("winner", values)
    config = TrialConfig.from_dict(design.baselines["winner"])
    assert (config.arm, config.max_epochs) == ("k3 s1 no-pool d18", 3)
    assert config.learning_rate == findings_of(study).standing.winner["learning_rate"]


def test_every_figure_of_the_confirm_stage_is_a_file(study, page):
    text = page.read_text(encoding="utf-8")
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
    listed = text.partition('<table id="trials">')[2]
    assert re.findall(r'aria-label="Mark trial (\d+)"', listed) == ["0", "1"]
    cost = text.partition('aria-label="Cost by stage"')[2].partition("</table>")[0]
    # Three epochs of 2.5 s each.
    assert re.search(r"<td>tune</td><td.*?>23</td><td.*?>172\.5</td>", cost)
