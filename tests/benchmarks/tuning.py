"""How each confirm arm gets its learning rate: by replay of the table that `record_table` trained.

`python -m tests.benchmarks.tuning`.

The arms are the full two-level factorial of stem kernel (every pair), stride and pool: eight. Any
of them at its best rate is the winner of a search; every arm then has trials at the winner's rate
and at the rates a factor √10 below and above, one seed, and a rule chooses its rate by validation
images alone. The factorial's effects on test accuracy at the chosen rates are compared with those
at the rates that are best by test accuracy, which no study can know.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tests.benchmarks.choices import STEM, TEST_IMAGES, VALIDATION_IMAGES
from tests.benchmarks.record_table import EPOCHS, TABLE, USUAL_RATES

SIGNS_8x3 = np.array(list(itertools.product((1, -1), repeat=3)))
"""The arms' levels of kernel, stride and pool."""


@dataclass(frozen=True)
class Tried:
    """What is known of eight arms A at three rates R, the winner's in the middle; NaN where a trial
    diverged."""

    loss_AxR: np.ndarray
    accuracy_AxR: np.ndarray
    test_AxR: np.ndarray


def shared_rate(tried: Tried) -> np.ndarray:
    """The winner's rate for every arm."""
    return np.ones(len(tried.loss_AxR), dtype=int)


def lowest_loss(tried: Tried) -> np.ndarray:
    """Each arm's best of three by validation loss."""
    return np.nanargmin(tried.loss_AxR, axis=1)


def highest_accuracy(tried: Tried) -> np.ndarray:
    """Each arm's best of three by validation accuracy, ties by lower loss."""
    # A loss below 1,000 changes no order of accuracies, which are a few hundredths of a percent
    # apart or equal.
    return np.nanargmax(tried.accuracy_AxR - 1e-6 * np.minimum(tried.loss_AxR, 1000), axis=1)


def response_surface(
    tried: Tried, transform: Callable[[np.ndarray], np.ndarray] = np.log
) -> np.ndarray:
    """Least squares through all arms: a quadratic in the logarithm of the rate, its optimum
    additive in the factors.

    Box & Wilson 1951, On the experimental attainment of optimum conditions. Every arm has a level
    of its own; the curvature is shared, and the slope is additive. The rate is the tried one of the
    lowest fitted value.
    """
    arms, rates = tried.loss_AxR.shape
    arm, step = (each.ravel() for each in np.indices((arms, rates)))
    step = step - 1
    terms = [np.eye(arms)[arm], step[:, None], step[:, None] ** 2, SIGNS_8x3[arm] * step[:, None]]
    design = np.concatenate(terms, axis=1)
    values = transform(tried.loss_AxR.ravel())
    known = np.isfinite(values)
    fitted = design @ np.linalg.lstsq(design[known], values[known], rcond=None)[0]
    return np.nanargmin(np.where(known, fitted, np.nan).reshape(arms, rates), axis=1)


def loss_surface(tried: Tried) -> np.ndarray:
    """The same fitted to the loss itself."""
    return response_surface(tried, lambda loss: loss)


RULES: Mapping[str, Callable[[Tried], np.ndarray]] = {
    "the winner's rate": shared_rate,
    "best of three by loss": lowest_loss,
    "best of three by accuracy": highest_accuracy,
    "response surface, log of loss": response_surface,
    "response surface, loss": loss_surface,
}


def effects(test_A: np.ndarray) -> np.ndarray:
    """The three main effects of the factorial: mean over one level less mean over the other."""
    return SIGNS_8x3.T @ test_A / (len(test_A) / 2)


def replays(table: pd.DataFrame) -> list[tuple[Tried, np.ndarray]]:
    """For every pair of kernels and every winner: what is tried with the first seed, and by arm and
    rate the test accuracy to score with, of the other seed where there is one."""
    last = table[table["epoch"] == EPOCHS].set_index(["seed", *STEM, "learning_rate"])
    columns = ("loss precise", "accuracy precise", "test precise")
    wide = {name: last[name].unstack("learning_rate").sort_index(axis=1) for name in columns}
    recorded = (
        table.groupby(["seed", *STEM, "learning_rate"]).size().unstack("learning_rate").notna()
    )
    seeds = table["seed"].unique()
    results = []
    for kernels in itertools.combinations(sorted(table["stem_kernel"].unique()), 2):
        arms = list(itertools.product(kernels, (1, 2), (True, False)))
        loss, accuracy, test = (
            wide[name].reindex([(0, *arm) for arm in arms]).to_numpy() for name in columns
        )
        there = (
            recorded.reindex([(0, *arm) for arm in arms], fill_value=False).to_numpy().all(axis=0)
        )
        if not there.any():
            continue
        other = wide["test precise"].reindex([(seeds.max(), *arm) for arm in arms]).to_numpy()
        accuracy = np.where(there, accuracy, np.nan)
        best = np.nanargmax(accuracy - 1e-4 * np.minimum(loss, 1000), axis=1)
        for rate in best:
            near = slice(rate - 1, rate + 2)
            if 0 < rate < loss.shape[1] - 1 and there[near].all():
                oracle = (test + other)[:, near] / 2
                tried = Tried(
                    loss[:, near], accuracy[:, near] / VALIDATION_IMAGES, oracle / TEST_IMAGES
                )
                results.append((tried, other[:, near] / TEST_IMAGES))
    return results


def smooth(values_SxR: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least squares: for every stem a quadratic in the logarithm of the rate, of its own level and
    optimum, with one curvature for all. Returns the fitted values and the residuals, widened to
    what the noise must have been."""
    stems, rates = values_SxR.shape
    stem, step = (each.ravel() for each in np.indices((stems, rates)))
    own = np.eye(stems)[stem]
    design = np.concatenate([own, own * step[:, None], step[:, None] ** 2], axis=1)
    fitted = (design @ np.linalg.lstsq(design, values_SxR.ravel(), rcond=None)[0]).reshape(
        stems, rates
    )
    widening = np.sqrt(values_SxR.size / (values_SxR.size - design.shape[1]))
    return fitted, (values_SxR - fitted) * widening


def simulated(table: pd.DataFrame, count: int = 2000) -> list[tuple[Tried, np.ndarray]]:
    """Replays with a known truth: the smoothed table, and its residuals drawn anew as the noise of
    one trial.

    Loss and accuracy of a trial keep their common noise; the optima of the stems are not additive
    in the factors.
    """
    last = table[
        (table["epoch"] == EPOCHS) & (table["seed"] == 0) & table["learning_rate"].isin(USUAL_RATES)
    ]
    wide = last.set_index([*STEM, "learning_rate"])
    loss, accuracy, test = (
        wide[name].unstack("learning_rate")
        for name in ("loss precise", "accuracy precise", "test precise")
    )
    (loss_fit, loss_noise), (accuracy_fit, accuracy_noise), (error_fit, _) = (
        smooth(each.to_numpy())
        for each in (
            np.log(loss),
            accuracy / VALIDATION_IMAGES,
            np.log(1 - (test - 0.5) / TEST_IMAGES),
        )
    )
    truth = 1 - np.exp(error_fit)
    stems, draw, results = list(loss.index), np.random.default_rng(0), []
    pairs = list(itertools.combinations(sorted({kernel for kernel, _, _ in stems}), 2))
    for number in range(count):
        kernels = pairs[number % len(pairs)]
        places = [stems.index(arm) for arm in itertools.product(kernels, (1, 2), (True, False))]
        rate = int(np.clip(loss_fit[draw.choice(places)].argmin(), 1, len(USUAL_RATES) - 2))
        near = np.ix_(places, range(rate - 1, rate + 2))
        noise = draw.integers(loss_noise.size, size=(len(places), 3))
        tried = Tried(
            np.exp(loss_fit[near] + loss_noise.ravel()[noise]),
            accuracy_fit[near] + accuracy_noise.ravel()[noise],
            truth[near],
        )
        results.append((tried, truth[near]))
    return results


def compare(cases: list[tuple[Tried, np.ndarray]]) -> pd.DataFrame:
    """One row a rule, in points: `error`, the root mean square over replays and effects of the
    difference from the effects at the best rates; `95%`, its 95% quantile; `test`, the arms' mean
    test accuracy."""
    rules = {**RULES, "best by test": lambda tried: np.nanargmax(tried.test_AxR, axis=1)}
    rows = []
    for name, rule in rules.items():
        errors, means = [], []
        for tried, scored_AxR in cases:
            places, best = rule(tried), rules["best by test"](tried)
            arms = np.arange(len(places))
            errors.append(effects(scored_AxR[arms, places]) - effects(scored_AxR[arms, best]))
            means.append(scored_AxR[arms, places].mean())
        error = 100 * np.sqrt(np.mean(np.square(errors)))
        row = {
            "rule": name,
            "replays": len(cases),
            "error": error,
            "95%": 100 * np.quantile(np.abs(errors), 0.95),
        }
        rows.append(row | {"test": 100 * np.mean(means)})
    return pd.DataFrame(rows)


def main() -> None:
    """Print the table of the replays, and that of the simulated ones."""
    table = pd.read_csv(TABLE)
    for cases in (replays(table), simulated(table)):
        print(compare(cases).round(2).to_string(index=False))


if __name__ == "__main__":
    main()
