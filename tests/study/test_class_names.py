"""What is written about classes is read back, whatever their names."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings, strategies

from analysis.load import read_confusion
from study.checkpoints import write_class_tables

ANY_NAME = strategies.text(
    strategies.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1
)


@settings(max_examples=300, deadline=None)
@given(strategies.lists(ANY_NAME, min_size=2, max_size=5, unique=True))
@example(["cat\r", "dog\r"])
@example(["true class", "false class"])
@example(["class", "images"])
@example(["01", "1"])
@example(["NA", "nan"])
@example(["a", "a.1"])
@example(['"', '""'])
@example(["a,b", "a\nb"])
@example(["\ufeff", "\u2028"])
@example([" a", "a "])
@example(["Unnamed: 0", "1.0"])
def test_tables_of_classes_are_read_back(classes):
    confusion = np.arange(len(classes) ** 2).reshape(len(classes), -1) + 1
    with tempfile.TemporaryDirectory() as place:
        best = Path(place, "best")
        best.mkdir()
        write_class_tables(best, classes, confusion, "test")
        table = read_confusion(Path(place))
        by_class = pd.read_csv(
            best / "accuracy_by_class.csv", dtype={"class": str}, keep_default_na=False
        )
    assert list(table.index) == list(table.columns) == classes
    assert (table.to_numpy() == confusion).all()
    assert by_class["class"].tolist() == classes
    assert by_class["images"].tolist() == confusion.sum(1).tolist()
    expected = confusion.diagonal() / confusion.sum(1)
    assert by_class["test_accuracy"].tolist() == pytest.approx(expected)
