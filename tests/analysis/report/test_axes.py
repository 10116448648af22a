"""Limits of axes hold what is to be seen, and levels have colours of their own."""

import pandas as pd
import pytest

from analysis.report.axes import axis_limits, level_palette


@pytest.mark.parametrize(
    ("values", "quantity", "within"),
    [
        ([0.5, 2.0], "loss", (0.5, 2.0)),
        ([50.0, 60.0], "loss", (50.0, 60.0)),
        ([0.0, 0.1], "loss", (0.1, 0.1)),
        ([0.1, 1.0], "accuracy", (0.1, 1.0)),
    ],
    ids=["loss", "all worse than guessing", "loss of zero", "accuracy"],
)
def test_limits_hold_what_is_to_be_seen(
    values: list[float], quantity: str, within: tuple[float, float]
) -> None:
    low, high = axis_limits(pd.Series(values, dtype=float), quantity, classes=10)
    assert low <= within[0]
    assert within[1] <= high
    assert low < high
    assert quantity == "accuracy" or low > 0


def test_a_colour_for_every_level() -> None:
    for count in (1, 2, 3, 9):
        palette = level_palette([str(level) for level in range(count)])
        assert len(set(palette.values())) == count
