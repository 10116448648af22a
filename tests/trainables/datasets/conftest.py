"""Loads folders with a data directory of the test's own, and reads their refusals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from image_files import colour_folder

from trainables.config import UsageError
from trainables.datasets import load_images
from trainables.parts import ImageData


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., ImageData]:
    """Loads a folder or named data set; options are those of `load_images`."""

    def load_with_own_data_dir(dataset: Path | str, **options: Any) -> ImageData:
        return load_images(str(dataset), tmp_path / "data", **options)

    return load_with_own_data_dir


@pytest.fixture
def refusal(load: Callable[..., ImageData]) -> Callable[..., str]:
    """The one-line error with which a data set is refused."""

    def message_of(dataset: Path | str, kind: type[Exception] = UsageError, **options: Any) -> str:
        with pytest.raises(kind) as caught:
            load(dataset, **options)
        message = str(caught.value)
        assert "\n" not in message
        return message

    return message_of


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """A folder of three classes with five images each."""
    return colour_folder(tmp_path / "set")
