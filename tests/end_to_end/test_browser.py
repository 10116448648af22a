"""The page in a real browser, from file://: nothing is asked for, nothing goes wrong, and what
moves works."""

import itertools
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from browsers import NEEDS_CHROMIUM, chromium
from pages import design
from synthetic import FACTORS, MadeTrial, falling, manifest, search_like, write_study

from analysis import load_studies, load_study
from analysis.report.comparison import write_comparison
from analysis.report.page import write_report
from trainables.config import TrialConfig

pytestmark = [pytest.mark.slow, NEEDS_CHROMIUM]
MADE = search_like()
EXAMPLE = Path(__file__).parents[2] / "analysis" / "notebooks" / "example" / "seed0"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "study"
    factors = {**design(FACTORS[0], FACTORS[3]), "baselines": {}}
    return write_report(load_study(write_study(folder, MADE, design=factors)))


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture
def page(browser, report: Path, request: pytest.FixtureRequest) -> Iterator:
    """The page at the width asked for; at the end nothing has been asked for but the page, and
    nothing was wrong."""
    opened = browser.new_page(viewport={"width": getattr(request, "param", 1400), "height": 900})
    asked, wrong = [], []
    opened.on("request", lambda each: asked.append(each.url))
    opened.on("console", lambda each: wrong.append(each.text))
    opened.on("pageerror", lambda each: wrong.append(str(each)))
    opened.goto(report.as_uri())
    yield opened
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    assert wrong == []
    opened.close()


def shown(page) -> list[int]:
    """The numbers of the trials whose rows are seen, from above."""
    return [
        int(row)
        for row in page.locator("#trials tbody tr:visible td:first-child").all_inner_texts()
    ]


@pytest.mark.parametrize("page", [1400, 400], indirect=True)
def test_the_page_fits_and_its_panels_are_readable(page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") == page.viewport_size["width"]
    panels = page.evaluate(
        "[...document.querySelectorAll('.panel')].filter((svg) => svg.checkVisibility())"
        ".map((svg) => ["
        "svg.getBoundingClientRect().width, svg.querySelectorAll('text').length,"
        " Math.min(...Array.from(svg.querySelectorAll('text'),"
        " (text) => text.getBoundingClientRect().height))])"
    )
    assert len(panels) > 10
    assert all(350 < width <= 620 and texts > 3 and least >= 11 for width, texts, least in panels)
    assert shown(page) == list(range(20))


def test_headings_sort_the_table_best_first_and_what_is_missing_stays_last(page) -> None:
    heading = page.get_by_role("button", name="validation loss")
    losses = {i: trial.readings[-1][2] for i, trial in enumerate(MADE)}
    for direction, sign in (("ascending", 1), ("descending", -1)):
        heading.focus()
        page.keyboard.press("Enter")
        assert page.locator("#trials th[aria-sort]").get_attribute("aria-sort") == direction
        read = [losses[trial] for trial in shown(page)]
        assert math.isnan(read[-1])
        assert [round(loss, 2) for loss in read[:-1]] == sorted(
            (round(loss, 2) for loss in read[:-1]), key=lambda v: sign * v
        )
    page.get_by_role("button", name="arm", exact=True).click()
    arms = page.locator("#trials tbody td:nth-child(3)").all_inner_texts()
    assert arms == sorted(arms)
    page.get_by_role("button", name="validation accuracy", exact=True).click()
    assert shown(page)[0] == max(range(20), key=lambda i: MADE[i].readings[-1][3])


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("Stopped", lambda arm, state: state == "stopped"),
        ("stopped k7", lambda arm, state: state == "stopped" and "k7" in arm),
        ("34", lambda arm, state: False),
        ("pool", lambda arm, state: " pool" in arm),
    ],
    ids=["a state", "words in any order", "not within a number", "not within a word"],
)
def test_typing_filters_the_table_and_dims_the_other_trials_in_the_figures(
    page, words: str, kept: Callable[[str, str], bool]
) -> None:
    expected = [
        i for i, t in enumerate(MADE) if kept(TrialConfig.from_dict(dict(t.config)).arm, t.state)
    ]
    page.get_by_label("Show trials with").fill(words)
    assert shown(page) == expected
    assert page.locator("#count").inner_text() == f"{len(expected)} of 20 trials"
    bright = "[...nodes].filter(([, drawn]) => !drawn[0].classList.contains('off'))"
    assert sorted(page.evaluate(f"{bright}.map(([trial]) => trial)")) == expected
    page.get_by_label("Show trials with").fill("")
    assert len(shown(page)) == 20
    assert page.locator(".panel .off").count() == 0


def point_of(page, trial: int, panel: int) -> tuple[float, float]:
    """Where on the screen the last point of a trial's line is in a panel of the first figure."""
    group = page.locator(".panel").nth(panel)
    group.scroll_into_view_if_needed()
    return tuple(
        page.evaluate(
            """([trial, index]) => {
              const panel = document.querySelectorAll(".panel")[index];
              const line = nodes.get(trial).find((each) => panel.contains(each));
              const numbers = line.getAttribute("d").match(/-?[\\d.]+/g).map(Number).slice(-2);
              const point = new DOMPoint(...numbers).matrixTransform(panel.getScreenCTM());
              return [point.x, point.y];
            }""",
            [trial, panel],
        )
    )


@pytest.mark.parametrize("page", [1400, 400], indirect=True)
def test_a_point_under_the_pointer_is_named_with_trial_epoch_and_value(page) -> None:
    best = max(range(20), key=lambda i: MADE[i].readings[-1][3])
    page.mouse.move(*point_of(page, best, 3))
    text = page.locator("#tip").inner_text()
    arm = TrialConfig.from_dict(dict(MADE[best].config)).arm
    assert f"trial {best} · {arm} · learning rate" in text
    assert "epoch 6" in text
    assert f"Validation accuracy (%): {100 * MADE[best].readings[-1][3]:.1f}" in text
    page.mouse.move(5, 5)
    assert page.locator("#tip").is_hidden()


def test_a_click_marks_a_trial_in_every_figure_the_coordinates_and_the_table(page) -> None:
    best = max(range(20), key=lambda i: MADE[i].readings[-1][3])
    page.mouse.click(*point_of(page, best, 3))
    assert page.locator("#trials tr.pin").count() == 1
    button = page.get_by_role("button", name=f"Mark trial {best}", exact=True)
    assert button.get_attribute("aria-pressed") == "true"
    assert page.locator("#plane path.pin").count() == 1
    figures = (
        "new Set([...document.querySelectorAll('.panel .pin')].map((e) => e.closest('figure')))"
    )
    assert page.evaluate(f"{figures}.size") >= 2
    button.focus()
    page.keyboard.press("Enter")
    assert page.locator(".pin").count() == 0


def test_an_entry_of_a_legend_dims_the_others(page) -> None:
    key = page.locator("figure").first.locator(".keys button").nth(1)
    key.click()
    series = key.get_attribute("data-series")
    groups = page.locator("figure").first.locator("g[data-kind]")
    for each in groups.all():
        faded = "faded" in (each.get_attribute("class") or "")
        assert faded == (each.get_attribute("data-series") != series)
    assert page.locator("figure").nth(1).locator(".faded").count() == 0
    key.click()
    assert page.locator(".faded").count() == 0


def test_one_view_by_factor_is_seen_and_arrow_keys_choose_it(page) -> None:
    choices = page.get_by_role("radio")
    names = ["by-learning_rate", "by-stem_maxpool", "by-arm"]
    assert [each.get_attribute("value") for each in choices.all()] == names
    choices.first.focus()
    for name in (*names[1:], names[0]):
        page.keyboard.press("ArrowRight")
        visible = page.locator(".tab:visible")
        assert [each.get_attribute("id") for each in visible.all()] == [name]


def test_the_next_command_is_copied(page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    command = page.locator("#command").inner_text()
    assert command.startswith("python study/run.py --samples ")
    page.get_by_role("button", name="Copy").click()
    assert page.evaluate("navigator.clipboard.readText()") == command
    assert page.locator("#copy").inner_text() == "Copied"


def test_headings_are_in_order_and_everything_that_is_used_has_a_name(page) -> None:
    levels = page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4')].map((each) => Number(each.tagName[1]))"
    )
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert page.locator("main").count() == 1
    nameless = (
        "[...document.querySelectorAll('button, a, summary')].filter((e) => !e.innerText.trim()"
    )
    assert page.evaluate(f"{nameless} && !e.ariaLabel && e.checkVisibility()).length") == 0


def test_hostile_names_are_text(browser, tmp_path: Path) -> None:
    evil = "<img src=x onerror=window.hit=1>\"'|&lt;"
    data = manifest()["dataset"] | {"name": evil, "classes": [evil, "b"]}
    folder = write_study(
        tmp_path / "s",
        [
            MadeTrial("complete", falling(3), f"baseline:{evil}"),
            *search_like(6, 3)[3:],
        ],
        name=evil,
        dataset=data,
        design=design(FACTORS[3]) | {"baselines": {evil: {}}},
    )
    (folder / "best").mkdir()
    table = pd.DataFrame([[1, 2], [3, 4]], index=[evil, "b"], columns=[evil, "b"])
    table.to_csv(folder / "best" / "confusion_matrix.csv")
    opened = browser.new_page()
    opened.goto(write_report(load_study(folder)).as_uri())
    assert opened.evaluate("[window.hit, document.images.length]") == [None, 0]
    assert opened.locator("h1").inner_text() == evil
    keys = opened.evaluate(
        "[...document.querySelectorAll('.keys button')].map((k) => k.dataset.series)"
    )
    drawn = opened.evaluate(
        "[...document.querySelectorAll('g[data-kind]')].map((g) => g.dataset.series)"
    )
    assert f"baseline:{evil}" in keys and f"baseline:{evil}" in drawn
    opened.close()


def test_dragging_along_an_axis_keeps_what_lies_there(page) -> None:
    axis = page.get_by_role("slider", name="stem maxpool")
    line = axis.locator("line")
    line.scroll_into_view_if_needed()
    box = line.bounding_box()
    middle, top = box["x"] + box["width"] / 2, box["y"]
    page.mouse.move(middle, top + 2)
    page.mouse.down()
    page.mouse.move(middle, top + 0.4 * box["height"], steps=4)
    page.mouse.up()
    assert shown(page) == [i for i, trial in enumerate(MADE) if not trial.config["stem_maxpool"]]
    assert page.locator("#plane path.out").count() == 20 - len(shown(page))
    page.mouse.click(middle, top + 5)
    assert len(shown(page)) == 20


def test_an_axis_is_brushed_by_the_keyboard_and_escape_gives_all_back(page) -> None:
    axis = page.get_by_role("slider", name="validation accuracy")
    axis.focus()
    scores = [trial.readings[-1][3] for trial in MADE]
    for _ in range(19):
        page.keyboard.press("ArrowUp")
    floor = min(scores) + 0.95 * (max(scores) - min(scores))
    assert shown(page) == [i for i, score in enumerate(scores) if score >= floor]
    assert axis.get_attribute("aria-valuetext") == "from 95% to 100% of the axis"
    page.keyboard.press("Escape")
    assert len(shown(page)) == 20
    page.keyboard.press("Shift+ArrowDown")
    assert shown(page) == [
        i
        for i, score in enumerate(scores)
        if score <= min(scores) + 0.95 * (max(scores) - min(scores))
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_at_levels_a_and_aa(browser, tmp_path: Path, scheme) -> None:
    """Of the pages of a confirmed study and of two beside each other, with what they fold open."""
    from axe_playwright_python.sync_playwright import Axe

    shutil.copytree(EXAMPLE, tmp_path / "other")
    manifest_path = tmp_path / "other" / "study.json"
    manifest_path.write_text(manifest_path.read_text().replace('"name": "', '"name": "other ', 1))
    studies = load_studies([EXAMPLE, tmp_path / "other"])
    addresses = [
        write_report(studies[0], tmp_path / "report"),
        write_comparison(studies, tmp_path / "comparison"),
    ]
    for address in addresses:
        opened = browser.new_page(viewport={"width": 1400, "height": 900}, color_scheme=scheme)
        opened.goto(address.as_uri())
        opened.evaluate("document.querySelectorAll('details').forEach((each) => each.open = true)")
        rules = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
        found = Axe().run(opened, options={"runOnly": rules})
        assert found.violations_count == 0, found.generate_report()
        assert found.response["passes"], "axe looked at something"
        opened.close()
