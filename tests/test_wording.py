"""The words that a person reads: none that are never right here, and each sentence of the report in
its one place."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ("study", "trainables", "analysis")
NEVER = (
    "told at",
    "cannot be told",
    "dearest",
    "passed over",
    "cannot be had",
    "for want of",
    "goes on",
    "to go on",
    "seeds that could",
    "taken away",
    "not all got there",
)
MODULES = sorted(path for name in PRODUCT for path in (ROOT / name).rglob("*.py"))
TEXTS = sorted(
    path
    for name in PRODUCT
    for kind in ("md", "jinja", "js", "ipynb")
    for path in (ROOT / name).rglob(f"*.{kind}")
)
TEXTS += [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "tests/benchmarks/README.md"]
WORDING = ROOT / "analysis/report/wording"
FACTS = sorted(
    path
    for room in ("report", "statistics")
    for path in (ROOT / "analysis" / room).rglob("*.py")
    if WORDING not in path.parents
)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def strings(tree: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    """Every string of a module, docstrings included; of an f-string its parts with {} between."""
    inside = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in node.values}
            parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
            yield node, "".join(map(str, parts))
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in inside
        ):
            yield node, node.value


def unexpected(text: str) -> list[str]:
    """The words in a text that are never right, however its lines are wrapped."""
    plain = " ".join(text.lower().split())
    return [words for words in NEVER if re.search(rf"\b{words}\b", plain)]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_string_or_docstring_has_words_that_are_never_right(path: Path) -> None:
    texts = strings(ast.parse(path.read_text(encoding="utf-8")))
    assert [text for _, text in texts if unexpected(text)] == []


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_no_readme_template_or_notebook_has_words_that_are_never_right(path: Path) -> None:
    assert unexpected(path.read_text(encoding="utf-8")) == []


def sentences(tree: ast.AST) -> list[str]:
    """Strings of three words or more, but docstrings, errors, values of enums, and lists of names
    that are split at their spaces."""
    skipped = set()
    for node in ast.walk(tree):
        alone = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        bases = node.bases if isinstance(node, ast.ClassDef) else []
        enum = any(isinstance(base, ast.Name) and base.id.endswith("Enum") for base in bases)
        call = node.func if isinstance(node, ast.Call) else None
        names = isinstance(call, ast.Attribute) and call.attr == "split"
        if alone or enum or names or isinstance(node, ast.Raise):
            skipped |= {id(part) for part in ast.walk(node)}
    texts = [text for node, text in strings(tree) if id(node) not in skipped]
    return [text for text in texts if len(re.findall(r"(?:^|(?<=\s))[^\W\d_]{2,}", text)) >= 3]


@pytest.mark.parametrize("path", FACTS, ids=name_of)
def test_no_module_but_wording_has_a_sentence_of_the_report(path: Path) -> None:
    assert sentences(ast.parse(path.read_text(encoding="utf-8"))) == []


def test_the_search_for_sentences_sees_them() -> None:
    tree = ast.parse(
        '"""A docstring is none."""\n'
        'COLUMNS = "factor from to difference".split()\n'
        "def f(x):\n"
        '    if x: raise ValueError(f"{x} is not a sentence of the report")\n'
        '    return f"{x} is the best arm"\n'
    )
    assert sentences(tree) == ["{} is the best arm"]
    texts = [path.read_text(encoding="utf-8") for path in WORDING.glob("*.py")]
    assert sum(len(sentences(ast.parse(text))) for text in texts) > 50
    assert unexpected("It can be told\nat   a glance, and he goes on.") == ["told at", "goes on"]
