"""The page and its files."""

import json
import re
from pathlib import Path

import pytest
from pages import Page, design
from synthetic import BASELINES, FACTORS, MadeTrial, falling, manifest, search_like, write_study

from analysis import load_studies, load_study
from analysis.report.page import (
    TRIALS_SHOWN,
    shown_trials,
    small_curves,
    write_comparison,
    write_report,
)
from analysis.report.wording import headline, scope, tiles
from analysis.statistics.curves import results
from trainables.config import UsageError

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


def test_studies_may_be_called_what_a_role_is(tmp_path: Path) -> None:
    for name in ("other", "winner"):
        write_study(tmp_path / name, search_like(), name=name)
    studies = load_studies([tmp_path / "other", tmp_path / "winner"])
    assert "other – winner" in write_comparison(studies, tmp_path / "out").read_text()


def test_what_makes_studies_not_comparable_comes_first(tmp_path: Path) -> None:
    made = [MadeTrial("complete", falling(1))]
    for name, epochs, cpu in (("one", 1, "Zen 3"), ("two", 2, "Zen 5")):
        settings = {**manifest()["settings"], "epochs": epochs, "precision": "bf16"}
        machine = {"cpu": cpu, "gpus": [], "cores": 2}
        write_study(tmp_path / name, made, name=name, settings=settings, machine=machine)
    studies = load_studies([tmp_path / "one", tmp_path / "two"])
    text = write_comparison(studies, tmp_path / "out").read_text()
    first, second = re.findall(r"<main id=\"main\">\s*<p>(.*?)</p>\s*<p>(.*?)</p>", text)[0]
    assert first == "Accuracies are not comparable, for these differ: epochs (one: 1, two: 2)."
    assert second == (
        "Times and costs are not comparable, for these differ: "
        "epochs (one: 1, two: 2); cpu (one: Zen 3, two: Zen 5)."
    )
    assert "<figure" not in text, "one point beside one point"


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


def test_the_manifest_on_the_page_is_json(made_report: Path) -> None:
    (shown, _) = [text for text in Page(made_report.read_text()).words if text.startswith("{")]
    assert json.loads(shown) == manifest(design=design(*SHOWN))


def test_the_page_shows_at_most_300_trials_the_best_and_the_baselines_among_them(
    tmp_path: Path,
) -> None:
    study = load_study(write_study(tmp_path, search_like(500, 2), design=design()))
    table = results(study.trials, study.epochs)
    shown = shown_trials(table)
    assert len(shown) == TRIALS_SHOWN
    assert shown["trial"].is_monotonic_increasing
    complete = table[table["state"] == "complete"].sort_values(
        "validation_accuracy", ascending=False, kind="stable"
    )
    assert set(complete["trial"].head(100)) | {0, 1, 2} <= set(shown["trial"])
    assert shown["trial"].tolist() == shown_trials(table)["trial"].tolist()
    assert len(shown_trials(table.head(7))) == 7


def test_small_curves_are_points_in_a_box(tmp_path: Path) -> None:
    study = load_study(
        write_study(tmp_path, [MadeTrial("complete", falling(3)), MadeTrial("failed", [])])
    )
    assert small_curves(study.epochs, study.trials["trial"]) == ["0,50.0 50,25.0 100,16.7", ""]
    long = load_study(write_study(tmp_path / "long", [MadeTrial("complete", falling(120))]))
    (line,) = small_curves(long.epochs, long.trials["trial"])
    assert len(line.split()) == 40
