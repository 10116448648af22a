"""The page and its files."""

import json
import re
from pathlib import Path

import pytest
from pages import Page, design
from synthetic import BASELINES, FACTORS, manifest, search_like, write_study

from analysis import load_study
from analysis.report.page import write_report
from analysis.report.wording.scope_text import scope
from analysis.report.wording.search_text import headline
from analysis.report.wording.study_text import tiles

SHOWN = [FACTORS[0], FACTORS[3]]  # a figure takes a while to draw


@pytest.fixture(scope="module")
def made_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_study(
        tmp_path_factory.mktemp("results") / "search-digits", search_like(), design=design(*SHOWN)
    )
    (folder / "best").mkdir()
    (folder / "best" / "confusion_matrix.csv").write_text("true class,cat,dog\ncat,5,3\ndog,0,9\n")
    return write_report(load_study(folder))


def test_every_figure_is_there_as_png_and_svg(made_report: Path) -> None:
    assert made_report.name == "index.html"
    assert made_report.parent.name == "report"
    names = ["curves", "learning-rate", "pareto", "best-so-far", "by-arm"]
    names += [f"by-{factor['name']}" for factor in SHOWN]
    for name in names:
        assert (made_report.parent / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "</svg>" in (made_report.parent / "figures" / f"{name}.svg").read_text()
    assert {path.name for path in (made_report.parent / "figures").iterdir()} == {
        f"{name}.{kind}" for name in names for kind in ("png", "svg")
    }


def test_the_page_needs_nothing_else(made_report: Path) -> None:
    text = made_report.read_text()
    page = Page(text)
    assert all(address.startswith(("#", "data:", "figures/")) for address in page.addresses)
    # Curves, learning rate, Pareto, best so far, and the views by factor and by arm.
    assert text.count('class="panel"') == 5 + 1 + 3 + 2 + 6 * (len(SHOWN) + 1)
    assert not {"link", "iframe", "img", "image"} & set(page.tags)
    assert "http" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert made_report.stat().st_size < 3_000_000


def test_ids_on_the_page_are_unique_and_what_refers_to_one_finds_it(made_report: Path) -> None:
    text = re.sub(r"<script.*?</script>", "", made_report.read_text(), flags=re.DOTALL)
    ids = re.findall(r"\sid=\"([^\"]*)\"", text)
    assert len(ids) == len(set(ids)) > 50
    references = re.findall(r"(?:url\(|href=\")#([^\")]+)", text)
    assert len(references) > 100
    assert set(references) <= set(ids)


def test_every_colour_of_a_panel_is_a_variable_with_a_value_for_light_and_dark(
    made_report: Path,
) -> None:
    text = made_report.read_text()
    panels = re.findall(r'<svg class="panel".*?</svg>', text, re.DOTALL)
    colours = set(re.findall(r"var\((--c\w+)\)", "".join(panels)))
    assert {"--c000000", "--cffffff", "--c0072b2"} <= colours
    assert not re.search(r"(fill|stroke): #", "".join(panels))
    for colour in colours:
        assert len(re.findall(rf"{colour}: #\w{{6}};", text)) == 2


def test_numbers_in_the_text_of_a_figure_keep_their_digits(made_report: Path) -> None:
    points, curves = (
        Page((made_report.parent / "figures" / f"{name}.svg").read_text()).words
        for name in ("learning-rate", "by-learning_rate")
    )
    assert {"0.001", "0.01", "0.1"} <= set(points)
    for label in ("0.0003–0.003", "0.003–0.03", "0.03–0.3"):
        assert any(text.startswith(f"{label}: n = ") for text in curves)


def test_the_page_says_what_was_found_and_how(made_report: Path) -> None:
    text = "".join(Page(made_report.read_text()).words)
    study = load_study(made_report.parent.parent)
    assert all(tile.text in text and tile.value in text for tile in tiles(study))
    assert headline(study) in text
    assert "Least accurate on class cat, 62.5%" in text
    cells = 'cat</th><td style="--share: 0.625">5</td><td style="--share: 0.375">3</td>'
    assert cells in made_report.read_text()
    assert scope(study) in text
    assert "optimistic" in text
    assert "one seed" in text
    assert "asked auto, took bf16" in text
    assert '"git": "abc123"' in text
    assert all(name in text for name in BASELINES)


def test_the_manifest_on_the_page_is_json(made_report: Path) -> None:
    (shown, _) = [text for text in Page(made_report.read_text()).words if text.startswith("{")]
    assert json.loads(shown) == manifest(design=design(*SHOWN))
