"""Imports go one way, and each half does without what it does not need."""

import ast
import importlib
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "tests" / "benchmarks"
OURS = ("analysis", "study", "tests", "trainables")


def imports(path: Path) -> set[str]:
    """The dotted names of the modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names if node.module in OURS}
    return found


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def modules(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


def test_trainables_know_nothing_of_studies():
    for path in modules("trainables"):
        assert not tops(path) & {"study", "analysis", "optuna"}, path
        if path.name != "trainable.py":
            assert "ray" not in tops(path), path


def test_the_config_needs_the_standard_library_only():
    assert tops(ROOT / "trainables/config.py") <= sys.stdlib_module_names


def test_analysis_needs_neither_torch_nor_ray_and_of_the_project_only_the_config():
    for path in modules("analysis"):
        assert not tops(path) & {"torch", "torchvision", "ray", "study"}, path
        ours = {module for module in imports(path) if module.split(".")[0] == "trainables"}
        assert ours <= {"trainables.config", "trainables.vocabulary"}, path


def test_only_the_command_calls_the_analysis():
    for path in modules("study"):
        if "analysis" in tops(path):
            assert path.name == "run.py"


def test_no_module_of_study_shadows_a_library():
    """`python study/run.py` puts the folder `study` first on the path."""
    libraries = set(importlib.metadata.packages_distributions()) - set(OURS)
    for path in Path(ROOT, "study").iterdir():
        if path.is_dir() or (path.suffix == ".py" and path.name != "__init__.py"):
            assert path.stem not in libraries | sys.stdlib_module_names, path


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("analysis", "torch ray optuna sklearn matplotlib"),
        ("study.settings", "torch ray optuna pandas"),
    ],
)
def test_importing_loads_little(module, unwanted):
    script = f"import sys, {module}; print(*(set('{unwanted}'.split()) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("name", sorted(path.stem for path in BENCHMARKS.glob("*.py")))
def test_a_benchmark_can_be_started(name):
    """They are not run by the tests, but what they import may move."""
    module = "tests.benchmarks" if name == "__init__" else f"tests.benchmarks.{name}"
    assert importlib.import_module(module).__doc__, "it says what it measures"
