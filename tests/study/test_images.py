"""Which images a study is about, why them, and what is refused."""

import pytest

from study.images import resolve_images
from study.settings import StudySettings
from trainables.config import UsageError


def test_the_default_data_set_is_digits_without_a_gpu_and_says_why(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    caplog.set_level("INFO", "study")
    images = resolve_images(StudySettings(results_dir=str(tmp_path), data_dir=str(tmp_path)))
    assert images.data.name == "digits"
    assert "no GPU" in images.chosen
    assert caplog.messages[0] == f"data set: digits ({images.chosen})"
    # 1,797 digits: a fifth for testing, a tenth of the rest for validation.
    assert [
        len(part.labels)
        for part in (images.split.train, images.split.validation, images.split.test)
    ] == [*(1294, 144, 359)]


def test_a_directory_that_holds_something_else_is_refused_before_images_are_read(tmp_path):
    (tmp_path / "search-cifar10").mkdir()
    (tmp_path / "search-cifar10" / "mine.txt").write_text("")
    with pytest.raises(UsageError, match="--name: invalid value 'search-cifar10'"):
        resolve_images(
            StudySettings(dataset="cifar10", results_dir=str(tmp_path), data_dir=str(tmp_path))
        )


def test_other_images_than_recorded_are_refused(tmp_path):
    settings = StudySettings(dataset="digits", results_dir=str(tmp_path))
    fingerprint = resolve_images(settings).data.fingerprint
    assert resolve_images(settings, fingerprint).data.fingerprint == fingerprint
    with pytest.raises(
        UsageError,
        match=f"--dataset: invalid value 'digits' with fingerprint {fingerprint}, the study has x",
    ):
        resolve_images(settings, "x")
