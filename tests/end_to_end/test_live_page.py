"""The page of a running study in a real browser, from file://: it loads itself again when there is
a newer one, and what its reader has set stays."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from live import PATIENCE, replace_study, watching
from pages import design
from synthetic import FACTORS, search_like

from analysis import load_study
from analysis.report.page import write_report
from analysis.report.wording.captions import LIVE_COPY

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine"),
]
MADE = search_like(20, 3)
DESIGN = {**design(FACTORS[3]), "baselines": {}}
RULES = {"runOnly": {"type": "tag", "values": "wcag2a wcag2aa wcag21a wcag21aa wcag22aa".split()}}
STATE = """() => ({
  pinned: [...document.querySelectorAll("#trials tr.pin td:first-child")].map((e) => e.innerText),
  figures: document.querySelectorAll(".panel .pin").length > 0,
  filter: document.getElementById("filter").value,
  sort: [...document.querySelectorAll("#trials th[aria-sort]")].map((e) => e.ariaSort),
  tab: [...document.querySelectorAll(".tab")].filter((e) => e.checkVisibility()).map((e) => e.id),
  open: [...document.querySelectorAll("details[open]")].map((e) => e.innerText.split(" (")[0]),
  kept: document.querySelector("[role=slider]").getAttribute("aria-valuetext"),
  pressed: [...document.querySelectorAll(".keys [aria-pressed=true]")].map((e) => e.dataset.series),
  focus: document.activeElement.id,
  caret: document.getElementById("filter").selectionStart,
})"""


@pytest.fixture(scope="module")
def browser() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def opened(browser) -> Iterator:
    """A browser's page, in which no script fails."""
    page, wrong = browser.new_page(viewport={"width": 1400, "height": 900}), []
    page.set_default_timeout(1000 * PATIENCE)
    page.on("pageerror", lambda each: wrong.append(str(each)))
    yield page
    assert wrong == []
    page.close()


def asked_later(page) -> list[str]:
    """What a page asks for in the time of two looks for a newer one."""
    asked: list[str] = []
    page.on("request", lambda each: asked.append(each.url))
    page.wait_for_timeout(4500)
    return asked


def place(page) -> float:
    """Where on the screen something is that the reader looks at, pixels."""
    return page.locator("#filter").bounding_box()["y"]


def rows(page) -> list[str]:
    return page.locator("#trials tbody tr:visible td:first-child").all_inner_texts()


def set_everything(page) -> None:
    """As a reader may: fold open, mark, dim, keep a range, sort, filter, scroll."""
    page.locator("summary", has_text="Cost by state").click()
    page.get_by_role("radio").first.focus()
    page.keyboard.press("ArrowRight")
    page.locator(".keys button").first.click()
    page.get_by_role("button", name="Mark trial 3", exact=True).click()
    page.get_by_role("slider").first.focus()
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Shift+ArrowUp")
    page.get_by_role("button", name="validation loss").click()
    page.get_by_role("button", name="validation loss").click()
    page.get_by_label("Show trials with").press_sequentially("k")
    page.keyboard.press("ArrowLeft")
    page.mouse.wheel(0, -150)
    page.wait_for_timeout(500)


def test_what_the_reader_has_set_outlives_newer_pages_and_the_end(opened, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    address = folder / "report" / "index.html"
    replace_study(folder, MADE[:12], design=DESIGN, ended=None)
    with watching(folder) as process:
        assert process.stdout.readline().startswith("Live report: ")
        opened.goto(address.as_uri())
        assert "this page is" in opened.locator("#live").inner_text()
        assert Axe().run(opened, options=RULES).violations_count == 0
        set_everything(opened)
        before, top, first = opened.evaluate(STATE), place(opened), rows(opened)
        assert before["pinned"] == ["3"] and before["filter"] == "k"
        assert before["sort"] == ["descending"] and before["tab"] == ["by-arm"]
        assert before["open"] == ["Cost by state"] and before["focus"] == "filter"
        assert len(before["pressed"]) == 1 and before["figures"]
        assert 0 < top < 900 and opened.evaluate("scrollY") > 1000
        replace_study(folder, MADE, design=DESIGN, ended=None)
        opened.wait_for_function("document.querySelectorAll('#trials tbody tr').length === 20")
        opened.wait_for_load_state()
        assert opened.evaluate(STATE) == before
        assert place(opened) == pytest.approx(top, abs=2)
        assert len(rows(opened)) > len(first)
        assert opened.locator("#live").count() == 1
        replace_study(folder, MADE, design=DESIGN)
        opened.wait_for_function("!document.getElementById('live')")
        opened.wait_for_load_state()
        assert opened.evaluate(STATE) == before
        assert place(opened) == pytest.approx(top, abs=2)
        process.communicate(timeout=PATIENCE)
    assert asked_later(opened) == []


def test_a_newer_page_waits_for_a_reader_who_is_busy_and_a_copy_says_what_it_is(
    opened, tmp_path: Path
) -> None:
    replace_study(tmp_path / "s", MADE[:1], design=DESIGN, ended=None)
    made = round(1000 * time.time())
    page = write_report(load_study(tmp_path / "s"), live=made)
    helper = page.parent / "newest.js"
    helper.write_text(f"newest({made});")
    opened.goto(page.as_uri())
    opened.evaluate("window.first = true")
    helper.write_text(f"newest({made + 1});")
    opened.evaluate("window.busy = setInterval(() => dispatchEvent(new Event('keydown')), 200)")
    opened.wait_for_timeout(5000)
    assert opened.evaluate("window.first"), "it has been loaded again"
    opened.evaluate("clearInterval(window.busy)")
    helper.unlink()
    opened.wait_for_function("!window.first")
    text = opened.locator("#live")
    opened.wait_for_function("document.getElementById('live').textContent.includes('copy')")
    assert text.inner_text() == LIVE_COPY
    assert asked_later(opened) == []
