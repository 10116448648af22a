"""The page that compares studies."""

import re
from pathlib import Path

from synthetic import MadeTrial, falling, manifest, search_like, write_study

from analysis import load_studies
from analysis.report.comparison import write_comparison


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
