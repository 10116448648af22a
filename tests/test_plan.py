"""What was left open is decided and said; here without Ray, which whole studies cover."""

from pathlib import Path

import numpy as np
import pytest

from study.plan import _estimate, find_study, git_commit, machine, resolve_images, time_training
from study.settings import StudySettings
from trainables.config import TrialConfig, UsageError
from trainables.datasets import Part, TrialData

CONFIG = TrialConfig(stem_kernel=3, depth=10, width=4)


def test_the_default_data_set_is_digits_without_a_gpu_and_says_why(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    caplog.set_level("INFO", "study")
    images = resolve_images(StudySettings(results_dir=str(tmp_path), data_dir=str(tmp_path)))
    assert images.data.name == "digits"
    assert "no GPU" in images.chosen
    assert caplog.messages[0] == f"data set: digits ({images.chosen})"
    # 1,797 digits: a fifth for testing, a tenth of the rest for validation.
    assert [len(part.labels) for part in (images.split.train, images.split.validation, images.split.test)] == [
        *(1294, 144, 359)
    ]


def test_a_directory_that_holds_something_else_is_refused_before_images_are_read(tmp_path):
    (tmp_path / "search-cifar10").mkdir()
    (tmp_path / "search-cifar10" / "mine.txt").write_text("")
    with pytest.raises(UsageError, match="--name: received 'search-cifar10'"):
        resolve_images(StudySettings(dataset="cifar10", results_dir=str(tmp_path), data_dir=str(tmp_path)))


def test_a_study_is_found_once_it_is_begun(tmp_path):
    settings = StudySettings(dataset="digits", results_dir=str(tmp_path))
    assert find_study(settings) is None
    (tmp_path / "search-digits").mkdir()
    (tmp_path / "search-digits" / "record.jsonl").write_text('{"event": "stu')
    assert find_study(settings) is None, "a driver was killed in its first line"
    (tmp_path / "search-digits" / "record.jsonl").write_text("{}\n")
    assert find_study(settings) == tmp_path / "search-digits"


def test_other_images_than_recorded_are_refused(tmp_path):
    settings = StudySettings(dataset="digits", results_dir=str(tmp_path))
    fingerprint = resolve_images(settings).data.fingerprint
    assert resolve_images(settings, fingerprint).data.fingerprint == fingerprint
    with pytest.raises(
        UsageError, match=f"--dataset: received 'digits' with fingerprint {fingerprint}, the study has x"
    ):
        resolve_images(settings, "x")


def test_timing_gives_seconds_an_image_for_each_precision():
    draw = np.random.default_rng(0)
    part = Part(draw.integers(0, 256, (16, 1, 16, 16), dtype=np.uint8), draw.integers(0, 2, 16))
    data = TrialData(part, None, None, 2, False)
    timings = time_training(CONFIG, data, ("float32", "bf16"), 1, False)
    has_bf16 = "bf16" in Path("/proc/cpuinfo").read_text()
    assert set(timings) == ({"float32", "bf16"} if has_bf16 else {"float32"})
    assert set(time_training(CONFIG, data, ("bf16",), 1, False)) == {"bf16"}, "what is asked for alone is taken"
    assert all(0 < seconds < 1 for seconds in timings.values())


def test_estimate_by_hand(tmp_path):
    images = resolve_images(StudySettings(dataset="digits", results_dir=str(tmp_path)))
    # Two arms of which one costs a third: on average two thirds of the dearest, an image and a half a second.
    settings = StudySettings(samples=10, scheduler="fifo")
    expected = 10 * 6 * (1294 + 144 / 3) * 1.5 * (2 / 3)
    assert _estimate(settings, images, [100, 300], 6, 1.5) == pytest.approx(expected)
    halved = StudySettings(samples=10, scheduler="asha")
    assert _estimate(halved, images, [100, 300], 6, 1.5) == pytest.approx(expected / 2)


def test_machine_and_commit():
    about = machine()
    assert about["cores"] >= 1
    assert about["cpu"]
    assert git_commit() is None or len(git_commit().split("+")[0]) == 40
