"""The README is the way in: short, and what it quotes is what the example study says."""

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from analysis import load_study
from analysis.report.findings import study_findings
from analysis.report.wording.confirm_text import effect_lines, sentences
from trainables.config import TrialConfig
from trainables.resnet import build_resnet, save_resnet

ROOT = Path(__file__).resolve().parent.parent
READMES = [ROOT / "README.md", *sorted(ROOT.glob("[a-z]*/**/README.md"))]


def test_it_has_at_most_a_thousand_words():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 1000


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A directory with the example study, a network that it might have left, and a photo."""
    example = ROOT / "analysis/notebooks/example/seed0"
    shutil.copytree(example, tmp_path / "results" / "search-digits")
    config, classes = TrialConfig(width=4, depth=10), tuple("0123456789")
    best = tmp_path / "results" / "search-digits" / "best"
    weights = build_resnet(config, (1, 16, 16), 10).state_dict()
    save_resnet(best, config, (1, 16, 16), classes, [0.5], [0.5], weights)
    Image.new("RGB", (40, 30), "green").save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)


def test_its_python_example_runs_as_it_stands(finished, capsys):
    (example,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S
    )
    exec(compile(example, "README.md", "exec"), {})
    assert re.fullmatch(r"photo\.png: \d \d+\.\d%", capsys.readouterr().out.splitlines()[-1])


def test_it_quotes_what_the_example_study_says_and_every_effect():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    study = load_study(ROOT / "analysis/notebooks/example/seed0")
    quoted = re.findall(r"^> (.+)$", text, re.M)
    first, *others = sentences(study)
    assert quoted == [first, *(each for each in others if each.startswith("Effects depend"))]
    rows = re.findall(r"^\| [^|]+\? \| (.+?) \| (.+?) \| (.+?) \|$", text, re.M)
    confirmed = study_findings(study).confirmed
    lines = effect_lines(confirmed)
    assert len(rows) == len(lines) == 4
    for (change, effect, answer), line in zip(rows, lines, strict=True):
        # A line has the interval on these test images, too.
        assert line.startswith(f"{change}: {effect.removesuffix(')')};")
        assert line.endswith(f": {answer}")


@pytest.mark.parametrize("path", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_readme_links_to_is_there(path):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8"))
    for link in links:
        assert (path.parent / link).exists(), link


@pytest.mark.parametrize("folder", ["study", "trainables", "analysis"])
def test_every_module_is_named_in_the_readme_of_its_folder(folder):
    text = (ROOT / folder / "README.md").read_text(encoding="utf-8")
    modules = [path.name for path in (ROOT / folder).rglob("*.py") if path.name != "__init__.py"]
    assert not [name for name in modules if name not in text]
