"""The page, its files, the closing lines and the command."""

import base64
import json
import subprocess
import sys
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from synthetic import BASELINES, FACTORS, MadeTrial, falling, manifest, search_like, write_study

from analysis import load_studies, load_study
from analysis.__main__ import main
from analysis.report.page import (
    TRIALS_SHOWN,
    level_finding,
    role_labels,
    shown_trials,
    small_curves,
    write_comparison,
    write_report,
)
from analysis.report.summary import answer, chosen_scope, closing_lines, headline, scope
from analysis.statistics.curves import factor_levels, learning_curves, level_curves, results
from trainables.config import UsageError

DIVERGED = MadeTrial("diverged", [(float("nan"), 0.1, float("nan"), 0.1)])
SHOWN = [FACTORS[0], FACTORS[3]]  # a figure takes a while to draw


def design(*factors: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": "search", "factors": list(factors), "fixed": {}, "baselines": dict(BASELINES)}


class Page(HTMLParser):
    """Collects tags, addresses, alternative texts, cells and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.alts: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = dict(attrs)
        self.addresses += [named[name] or "" for name in ("src", "srcset", "href") if name in named]
        if tag == "img":
            self.alts.append(named.get("alt") or "")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


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
    names = ["curves", "isolation", "learning-rate", "pareto", "best-so-far", "by-arm"]
    names += [f"by-{factor['name']}" for factor in SHOWN]
    for name in names:
        assert (made_report.parent / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "</svg>" in (made_report.parent / "figures" / f"{name}.svg").read_text()
    assert {path.name for path in (made_report.parent / "figures").iterdir()} == {
        f"{name}.{kind}" for name in names for kind in ("png", "svg")
    }


def test_the_page_needs_nothing_else(made_report: Path) -> None:
    page = Page(made_report.read_text())
    prefix = "data:image/svg+xml;base64,"
    assert len(page.addresses) == 2 * (6 + len(SHOWN))
    assert all(address.startswith(prefix) for address in page.addresses)
    svg = base64.b64decode(page.addresses[0].removeprefix(prefix)).decode()
    assert 'href="http' not in svg
    assert "<image" not in svg
    assert not {"link", "iframe"} & set(page.tags)
    assert "http" not in "".join(page.words).replace("http://www.w3.org/2000/svg", "")
    assert len(page.alts) == 6 + len(SHOWN)
    assert all(len(alt) > 50 for alt in page.alts)
    assert made_report.stat().st_size < 3_000_000


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
    assert all(sentence in text for sentence in answer(study))
    assert headline(study) in text
    assert "Least accurate on class cat, 62.5%" in text
    assert "<td>cat</td><td>62.5%</td><td>5</td><td>3</td>" in made_report.read_text()
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


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ([], "No complete trial yet (0 trials)"),
        ([DIVERGED, DIVERGED], "No complete trial yet (2 trials: 2 diverged)"),
        (
            [MadeTrial("complete", falling(1))],
            "is best so far: 50.0% validation accuracy after 1 epoch",
        ),
        (
            [MadeTrial("running", falling(1)), MadeTrial("running", [])],
            "No complete trial yet (2 trials: 2 running)",
        ),
        ([MadeTrial("failed", [])], "No complete trial yet (1 trial: 1 failed)"),
    ],
    ids=["none", "all diverged", "one", "running", "failed"],
)
def test_odd_studies_get_a_report(tmp_path: Path, made: list[MadeTrial], said: str) -> None:
    study = load_study(write_study(tmp_path, made, ended=None, design=design()))
    assert said in write_report(study).read_text()
    assert any(said in line for line in closing_lines(study))
    assert "the study is not finished" in scope(study)


def test_closing_lines_hold_the_best_the_baselines_the_warnings_and_the_cost(
    tmp_path: Path,
) -> None:
    made = [*search_like(), MadeTrial("failed", [])]
    study = load_study(write_study(tmp_path, made))
    lines = closing_lines(study)
    text = "\n".join(lines)
    complete = [i for i, trial in enumerate(made) if trial.state == "complete"]
    best = sorted(complete, key=lambda i: -made[i].readings[-1][3])[:5]
    start = next(i for i, line in enumerate(lines) if line.startswith("Best complete trials")) + 2
    assert [int(line.split()[0]) for line in lines[start : start + 5]] == best
    for name, trial in zip(BASELINES, made, strict=False):
        (row,) = [line for line in lines if line.split()[:1] == [f"baseline:{name}"]]
        assert f"{100 * trial.readings[-1][3]:.1f}%" in row
        assert "complete" in row
    assert "Warning: 1 diverged: trial 7" in lines
    assert "Warning: 1 failed: trial 20" in lines
    spent = 2.5 * sum(len(trial.readings) for trial in made)
    assert f"It cost {spent:,.0f} core-seconds in 21 trials and 300 s of wall time" in text
    assert "search-stage validation scores" in text


def test_headline_names_the_winner_and_the_best_baseline(tmp_path: Path) -> None:
    made = [
        MadeTrial("complete", falling(2, accuracy=0.9), "baseline:imagenet-stem"),
        MadeTrial("complete", falling(2, accuracy=0.92), "baseline:small-stem"),
        MadeTrial("complete", falling(2, accuracy=0.96), config={"depth": 34}),
    ]
    study = load_study(write_study(tmp_path, made))
    assert headline(study) == (
        "Trial 2 (k7 s2 pool d34, learning rate 0.01) is best: 98.0% validation accuracy after 2 epochs, "
        "best baseline small-stem 96.0%"
    )
    assert list(role_labels(study)) == [
        "winner",
        "baseline:imagenet-stem",
        "baseline:small-stem",
    ]
    study = load_study(write_study(tmp_path, made[:2]))
    assert headline(study) == (
        "Baseline small-stem (k7 s2 pool d18, learning rate 0.01) is best: 96.0% validation accuracy after 2 epochs"
    )
    assert role_labels(study)["baseline:small-stem"] == "best: baseline small-stem, lr 0.01: 96.0%"


def test_scope_says_what_was_chosen_by_default_and_what_part_was_used(tmp_path: Path) -> None:
    whole = load_study(write_study(tmp_path, [], dataset=manifest()["dataset"] | {"chosen": None}))
    assert "by default" not in scope(whole)
    assert "only" not in scope(whole)
    part = load_study(
        write_study(tmp_path, [], dataset=manifest()["dataset"] | {"available": 50_000})
    )
    assert "chosen by default: no GPU on this machine" in scope(part)
    assert "only 1,437 of the 50,000 there are" in scope(part)


def test_a_factor_without_a_shared_epoch_gets_no_finding(tmp_path: Path) -> None:
    made = [
        MadeTrial("complete", falling(3, accuracy=0.4), config={"depth": 10}),
        MadeTrial("complete", falling(3, accuracy=0.7), config={"depth": 34}),
        MadeTrial("stopped", falling(2, accuracy=0.5), config={"depth": 34}),
    ]
    study = load_study(write_study(tmp_path, made))
    table = results(study.trials, study.epochs)
    curves, levels = (learning_curves(table, study.epochs), factor_levels(table, FACTORS[4]))
    assert level_finding(level_curves(curves, levels), "depth") == (
        "After epoch 2, the last that all trials reached, median validation accuracy by depth "
        "runs from 70.0% (10) to 80.0% (34)"
    )
    waiting = load_study(
        write_study(tmp_path, [*made, MadeTrial("running", [], config={"depth": 10})])
    )
    levels = factor_levels(results(waiting.trials, waiting.epochs), FACTORS[4])
    assert level_finding(level_curves(curves, levels), "depth") == "Learning curves by depth"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = (
        str(write_study(tmp_path / name, search_like(4 + i, 2), name=name, design=design()))
        for i, name in enumerate(("one", "two"))
    )
    assert main([one, "--out", str(tmp_path / "page")]) == 0
    assert (tmp_path / "page" / "index.html").exists()
    assert f"Report: {tmp_path / 'page' / 'index.html'}" in capsys.readouterr().out
    assert main([one, two, "--out", str(tmp_path / "pages")]) == 0
    said = capsys.readouterr().out
    assert f"Report: {tmp_path / 'pages' / 'index.html'}" in said
    text = "".join(Page((tmp_path / "pages" / "index.html").read_text()).words)
    for name in ("one", "two"):
        sentence = f"{name}: {answer(load_study(tmp_path / name))[0]}"
        assert sentence in said
        assert sentence in text
    assert "The five best trials of each" in text
    figures = {path.stem for path in (tmp_path / "pages" / "figures").iterdir()}
    assert figures == {"curves", "best-so-far"}
    assert main([two, one]) == 0
    assert (tmp_path / "comparison" / "index.html").exists()


def test_wrong_use_of_the_command_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = str(write_study(tmp_path / "one", [], design=design()))
    (tmp_path / "file").write_text("")
    for arguments in (
        [str(tmp_path / "nowhere")],
        [study, "--out", str(tmp_path / "file")],
        [study, study, "--out", "x"],
        [study, str(tmp_path / "nowhere")],
    ):
        assert main(arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("error: ")
        assert captured.err.count("\n") == 1
    done = subprocess.run(
        [sys.executable, "-m", "analysis", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


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


@pytest.mark.parametrize(
    ("confirmed", "said"),
    [
        (False, "The best search trial, on validation images."),
        (True, "The winner's first confirm seed, on test images."),
    ],
)
def test_the_confusion_matrix_says_whose_it_is(tmp_path: Path, confirmed: bool, said: str) -> None:
    config = {"learning_rate": 0.02}
    seeds = (
        [MadeTrial("complete", falling(1), "confirm", {**config, "seed": 1}, stage="confirm")]
        if confirmed
        else []
    )
    folder = write_study(tmp_path, [MadeTrial("complete", falling(1), config=config), *seeds])
    assert chosen_scope(load_study(folder)).startswith(said)


def test_a_damaged_confusion_matrix_costs_its_own_section(tmp_path: Path) -> None:
    folder = write_study(tmp_path, [last(0.9, depth=10), last(0.8, depth=18)])
    (folder / "best").mkdir()
    (folder / "best" / "confusion_matrix.csv").write_text("true class,cat,dog\ncat,5\n")
    words = " ".join(Page(write_report(load_study(folder)).read_text()).words)
    assert "No confusion matrix" in words
    assert "confusion_matrix.csv: damaged" in words


def test_the_manifest_on_the_page_is_json(made_report: Path) -> None:
    (shown, _) = [text for text in Page(made_report.read_text()).words if text.startswith("{")]
    assert json.loads(shown) == manifest(design=design(*SHOWN))


def last(accuracy: float, **config: Any) -> MadeTrial:
    return MadeTrial("complete", [(1.0, 0.5, 1.0, accuracy)], config=config)


def test_the_answer_says_what_the_data_cannot_tell(tmp_path: Path) -> None:
    made = [last(0.9, depth=10), last(0.88, depth=18), last(0.5, depth=34)]
    best, factor, cost = answer(load_study(write_study(tmp_path, made, design=design(*FACTORS))))
    # Wilson's interval for 130 of 144 right starts at 84.3%: one other arm is above.
    assert best.endswith(
        "a maximum over 3 complete search trials, 144 validation images and one seed is optimistic, "
        "and on these images it is not significantly above 1 other arm with 84.3% or more."
    )
    assert (
        factor == "Which factor matters is not known yet: 3 complete trials beside the baselines."
    )
    assert (
        cost
        == "It cost 8 core-seconds in 3 trials and 300 s of wall time. Next: more trials (--samples 20)."
    )


def test_the_answer_names_the_factor_that_matters_and_the_next_step(tmp_path: Path) -> None:
    made = [
        last(0.5 + 0.1 * (depth == 34) + 0.001 * kernel, depth=depth, stem_kernel=kernel, learning_rate=rate)
        for depth in (10, 18, 34) for kernel in (2, 3, 5, 7) for rate in (0.001, 0.01, 0.05)
    ]  # fmt: skip
    study = load_study(
        write_study(tmp_path / "a", made, design=design(FACTORS[0], FACTORS[1], FACTORS[4]))
    )
    assert "over 36 complete trials (fANOVA) is the depth, " in answer(study)[1]
    assert answer(study)[2].endswith(
        "Next: the best arms again with several seeds (--confirm-seeds 3)."
    )
    edge = load_study(
        write_study(tmp_path / "b", [*made, last(0.9, learning_rate=0.29)], design=design(*FACTORS))
    )
    assert (
        "Next: learning rates from 0.029 to 2.9, for the best of k7 s2 pool d18 lies at the high end"
        in answer(edge)[2]
    )
    wild = load_study(write_study(tmp_path / "c", [DIVERGED], design=design(*FACTORS)))
    assert answer(wild)[2].endswith("Next: lower learning rates, as trials diverged.")


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
