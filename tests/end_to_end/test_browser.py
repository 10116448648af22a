"""The page in a real browser, from file://: nothing is asked for, nothing goes wrong, and what
moves works."""

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from synthetic import FACTORS, search_like, write_study

from analysis import load_study
from analysis.report.page import write_report

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine"),
]
SWITCHES = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)
MADE = search_like()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "study"
    design = {"name": "search", "factors": [FACTORS[0], FACTORS[3]], "fixed": {}, "baselines": {}}
    return write_report(load_study(write_study(folder, MADE, design=design)))


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES.split())
        yield running
        running.close()


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
        "Array.from(document.querySelectorAll('.panel'), (svg) => ["
        "svg.getBoundingClientRect().width, svg.querySelectorAll('text').length,"
        " Math.min(...Array.from(svg.querySelectorAll('text'),"
        " (text) => text.getBoundingClientRect().height))])"
    )
    assert len(panels) > 10
    assert all(350 < width <= 620 and texts > 3 and least >= 11 for width, texts, least in panels)
    assert shown(page) == list(range(20))


def test_headings_sort_the_table_up_and_down_and_what_is_missing_stays_last(page) -> None:
    heading = page.get_by_role("button", name="validation loss")
    losses = {i: trial.readings[-1][2] for i, trial in enumerate(MADE)}
    for direction, sign in (("descending", -1), ("ascending", 1)):
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
    assert arms == sorted(arms, reverse=True)


def test_typing_filters_the_table(page) -> None:
    page.get_by_label("Show rows with").fill("Stopped")
    stopped = [i for i, trial in enumerate(MADE) if trial.state == "stopped"]
    assert shown(page) == stopped
    assert page.get_by_role("status").inner_text() == f"{len(stopped)} of 20 trials"
    page.get_by_label("Show rows with").fill("")
    assert len(shown(page)) == 20


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
