"""Designs as TOML files: `--design FILE.toml` reads one, `--design NAME --show-design` prints one.

Whatever is wrong in a file is one line that names its key, before anything starts.
"""

import itertools
import math
import os
import tomllib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomli_w

from study.designs import DESIGNS, KINDS, Design, Factor
from trainables.config import TrialConfig, UsageError, invalid
from trainables.vocabulary import Outcome, SearchMode

VARIED = [name for name in KINDS if name not in ("max_epochs", "seed")]
"""The fields of a trial that a design may vary or fix."""
FACTOR_KEYS = {
    "name": str,
    "role": str,
    "levels": list,
    "low": float,
    "high": float,
    "scale": str,
    "when": dict,
}
DESIGN_KEYS = {"search": str, "outcome": str, "samples": int, "margin": float}
DESIGN_KEYS |= {"fixed": dict, "factors": list, "baselines": dict}
WORDS = {str: "text", list: "a list", float: "a number", int: "a whole number", dict: "a table"}
KNOWN = f"{', '.join(DESIGNS)}, or a file that ends in .toml"


def read_design(name: str) -> Design:
    """The built-in design of this name, or the one in this TOML file, which is called as the file.

    Raises:
        UsageError: there is none, or something in it cannot be used.
    """
    if name in DESIGNS:
        return DESIGNS[name]
    path = Path(os.path.expanduser(name))
    try:
        with _at("--design", str(path)):
            return design_from(path.stem, tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(
            f"--design: invalid value {name!r} ({error.strerror}): expected {KNOWN}"
        ) from error
    except UsageError:
        raise
    except ValueError as error:  # of TOML, or of UTF-8
        raise UsageError(f"--design: {path}: no TOML ({error})") from error


def show_design(design: Design) -> str:
    """The design as the text of a file."""
    return tomli_w.dumps(design.to_dict())


def design_from(name: str, values: Mapping[str, Any]) -> Design:
    """The design of a table such as `Design.to_dict` makes.

    Raises:
        UsageError: something in it cannot be used, named with its key.
    """
    values = _table(values, DESIGN_KEYS)
    _choice("search", values.get("search", "sampled"), tuple(SearchMode))
    _choice("outcome", values.get("outcome", Outcome.TEST_ACCURACY), tuple(Outcome))
    if not 0 < (margin := values.get("margin", Design.margin)) < 1:
        raise invalid("margin", margin, "a number above 0 and below 1 (0.01 is 1 point)")
    factors: list[Factor] = []
    for number, table in enumerate(values.get("factors", [])):
        with _at(f"factors[{number}]"):
            factors.append(_factor(table, factors))
    varied = [factor.name for factor in factors]
    fixed, baselines = values.get("fixed", {}), values.get("baselines", {})
    with _at("fixed"):
        for key in fixed:
            _choice("key", key, [name for name in VARIED if name not in varied])
        TrialConfig.from_dict(fixed)
    for key, table in baselines.items():
        with _at(f"baselines.{key}"):
            if "seed" in _table(table, {}):
                raise UsageError("seed: invalid: expected none, for the study's is taken")
            TrialConfig.from_dict(table)
    enums = {
        "search": SearchMode(values.get("search", SearchMode.SAMPLED)),
        "outcome": Outcome(values.get("outcome", Outcome.TEST_ACCURACY)),
    }
    design = Design(name, **{**values, **enums, "factors": tuple(factors)})
    _check_search(design)
    _check_levels(design)
    if "samples" not in values:
        design = replace(design, samples=_default_samples(design))
    check_samples(design, design.samples)
    return design


def _default_samples(design: Design) -> int:
    if design.search == SearchMode.FACTORIAL:
        return 4 * len(design.arms())
    return 20 if design.search == SearchMode.SAMPLED else 0


def _factor(value: Any, earlier: list[Factor]) -> Factor:
    """The factor of a table; the `earlier` ones are before it in the file."""
    table = _table(value, FACTOR_KEYS, ("name", "role"))
    known = {factor.name: factor for factor in earlier}
    _choice("name", table["name"], [name for name in VARIED if name not in known])
    _choice("role", table["role"], ("scientific", "nuisance"))
    _choice("scale", table.get("scale", "linear"), ("linear", "log"))
    # An arm is made of scientific levels alone, and they decide whether a scientific factor exists.
    decides = {"scientific"} if table["role"] == "scientific" else {"scientific", "nuisance"}
    for name, level in table.get("when", {}).items():
        _choice(
            "when",
            name,
            [other for other in known if known[other].levels and known[other].role in decides],
        )
        _choice(f"when.{name}", level, known[name].levels)
    ends = [key for key in ("low", "high", "scale") if key in table]
    if "levels" in table:
        levels = table["levels"]
        if ends or len(levels) < 2 or len(set(map(repr, levels))) < len(levels):
            raise invalid(
                "levels", levels, "two or more different ones, and then no low, high, scale"
            )
        for level in levels:
            TrialConfig.from_dict({table["name"]: level})
        return Factor(**table | {"levels": tuple(levels)})
    factor = Factor(**table)
    if KINDS[factor.name] not in (int, float) or factor.role == "scientific":
        raise UsageError("levels: missing: expected a range only for a number that is a nuisance")
    for key in ("low", "high"):
        if math.isnan(getattr(factor, key)):
            raise UsageError(f"{key}: missing: expected low and high, or levels")
        with _at(key):
            TrialConfig.from_dict({factor.name: getattr(factor, key)})
    if not factor.low < factor.high or (factor.scale == "log" and factor.low <= 0):
        raise invalid("low", factor.low, f"below high, {factor.high!r}; above 0 where log")
    return factor


def _check_search(design: Design) -> None:
    """Raise `UsageError` where the way of searching does not go with what there is."""
    right, expected = {
        SearchMode.SAMPLED: (bool(design.factors), "with factors"),
        SearchMode.FACTORIAL: (
            bool(design.scientific) and not design.baselines,
            "with scientific factors and without baselines",
        ),
        SearchMode.NONE: (
            bool(design.baselines) and not design.factors,
            "with baselines and without factors",
        ),
    }[design.search]
    if not right:
        raise invalid("search", str(design.search), expected)


def _check_levels(design: Design) -> None:
    """Raise `UsageError` where levels do not go together; what a trial refuses, it refuses of two
    at most."""
    leveled = [factor for factor in design.factors if factor.levels]
    for one, other in itertools.combinations_with_replacement(leveled, 2):
        for levels in itertools.product(one.levels, other.levels):
            pair = dict(zip((one.name, other.name), levels, strict=True))
            values = design.existing({**one.when, **other.when, **pair})
            with _at(
                "factors",
                "with " + ", ".join(f"{name} {level!r}" for name, level in values.items()),
            ):
                design.config(values, 1, 0)
    # A baseline may win, and is then confirmed with each of these levels in turn.
    for (key, table), factor in itertools.product(design.baselines.items(), design.scientific):
        for level in factor.levels:
            with _at(f"baselines.{key}", f"with {factor.name} {level!r}"):
                values = TrialConfig.from_dict(table).to_dict() | {factor.name: level}
                TrialConfig.from_dict(design.existing(values))


def check_samples(design: Design, samples: int) -> None:
    """Raise `UsageError` where a design cannot have so many search trials."""
    arms = len(design.arms())
    right, expected = {
        SearchMode.SAMPLED: (samples >= 1, "an integer from 1"),
        SearchMode.FACTORIAL: (
            samples >= 1 and samples % arms == 0,
            f"a multiple of the {arms} arms",
        ),
        SearchMode.NONE: (samples == 0, "none, for there is no search stage"),
    }[design.search]
    if not right:
        raise invalid("samples", samples, f"{expected} (design {design.name})")


@contextmanager
def _at(*keys: str) -> Iterator[None]:
    """While it lasts, the message of an error begins with these keys."""
    try:
        yield
    except UsageError as error:
        raise UsageError(": ".join((*keys, str(error)))) from error


def _choice(key: str, value: Any, expected: Collection[Any]) -> None:
    if value not in expected:
        raise invalid(key, value, ", ".join(map(str, expected)) or "none")


def _table(values: Any, kinds: Mapping[str, Any], needed: Collection[str] = ()) -> dict[str, Any]:
    """The table, if it is one and its keys and the types of their values are these (any, where none
    are given)."""
    if not isinstance(values, dict):
        raise UsageError(f"invalid value {values!r}: expected a table")
    for key, value in values.items() if kinds else ():
        _choice("key", key, kinds)
        kind = (int, float) if kinds[key] is float else kinds[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise invalid(key, value, WORDS[kinds[key]])
    for key in needed:
        if key not in values:
            raise UsageError(f"{key}: missing: expected {WORDS[kinds[key]]}")
    return values
