"""A complete study is shown only for its own images, whatever the spelling of their folder."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from image_files import colour_folder, write_image
from records import end, epoch, start
from rich.console import Console

from study.images import resolve_images
from study.opening import Outcome, begin_study, run_study
from study.plan import make_plan
from study.record import Record
from study.resources import Node, Resources
from trainables.config import UsageError


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home directory with the folder `a/images`, which is also the working directory."""
    colour_folder(tmp_path / "a" / "images")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def show(home):
    """Asks for a study that is complete: one search trial on `a/images`."""
    usual = {"samples": 1, "confirm_seeds": 0, "image_size": 8}
    given = {**usual, "dataset": "a/images", "results_dir": "results"}
    settings, design = begin_study(given)
    images = resolve_images(settings)
    plan = make_plan(settings, design, images, Resources((Node(2),)), {"float32": 1.0})
    record = Record(plan.folder, plan.header())
    record.append("driver_started", pid=1, host="here")
    start(record, 0, "baseline:imagenet-stem")
    epoch(record, 0, 1, 0.5)
    end(record, 0, "complete")
    record.append("driver_ended", seconds=1.0)
    record.close()

    def ask(**asked) -> Outcome:
        asked = {"results_dir": str(home / "results"), **asked}
        return run_study(asked, Console(quiet=True), lambda folder, width: None)

    return ask


REPORT = """
import sys
from study.run import main
slow = {"ray", "torch", "torchvision", "optuna", "sklearn"}
print(main(sys.argv[1:]), *sorted(slow & {*sys.modules}))
"""


def test_the_report_of_a_complete_study_is_written_without_ray_and_torch(home, show):
    command = [sys.executable, "-c", REPORT, "--name", "search-images"]
    command += ["--notify", "echo $STUDY_NAME $STUDY_STATUS $STUDY_HEADLINE > told"]
    report = home / "results" / "search-images" / "report" / "index.html"
    assert not report.exists()
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.stderr == ""
    assert "nothing to run: all 1 trials have ended" in done.stdout
    assert done.stdout.splitlines()[-1] == "0"
    assert report.exists()
    told = (home / "told").read_text()
    assert told.startswith("search-images complete ")
    assert told.split(maxsplit=2)[2].strip() in " ".join(done.stdout.split())


def test_the_record_holds_absolute_paths(home, show):
    settings = show(dataset="a/images").state.header["settings"]
    assert settings["dataset"] == str(home / "a" / "images")
    assert settings["data_dir"] == str(home / "data")


@pytest.mark.parametrize(
    ("directory", "spelling"),
    [
        (".", "a/images"),
        (".", "./a/../a/images/"),
        (".", "~/a/images"),
        ("a/images", "."),
        ("a/images/red", ".."),
        (".", "link"),
        (".", "/absolute"),
    ],
)
def test_another_spelling_of_the_folder_is_the_same_study(
    home, show, monkeypatch, caplog, directory, spelling
):
    caplog.set_level("INFO", "study")
    (home / "link").symlink_to(home / "a" / "images")
    monkeypatch.chdir(home / directory)
    outcome = show(dataset=spelling.replace("/absolute", str(home / "a" / "images")))
    assert outcome.folder == home / "results" / "search-images"
    assert caplog.messages == ["nothing to run: all 1 trials have ended"]


def test_a_study_is_found_by_name_from_another_directory(home, show, monkeypatch, caplog):
    caplog.set_level("INFO", "study")
    (home / "elsewhere").mkdir()
    monkeypatch.chdir(home / "elsewhere")
    assert show(name="search-images").folder == home / "results" / "search-images"
    assert caplog.messages == ["nothing to run: all 1 trials have ended"]
    assert not list((home / "elsewhere").iterdir()), "a data directory was made"


def test_a_folder_that_was_moved_and_renamed_is_the_same_study(home, show):
    (home / "a" / "images").rename(home / "pictures")
    assert len(show(name="search-images", dataset="pictures").state.trials) == 1


def other_pixels(home: Path) -> str:
    colour_folder(home / "b" / "images")
    write_image(home / "b" / "images" / "red" / "0.png", (9, 9, 9))
    return "b/images"


def other_classes(home: Path) -> str:
    (colour_folder(home / "b" / "images") / "red").rename(home / "b" / "images" / "rot")
    return "b/images"


def one_more_image(home: Path) -> str:
    write_image(home / "a" / "images" / "red" / "new.png", (255, 0, 0))
    return "a/images"


def one_image_less(home: Path) -> str:
    (home / "a" / "images" / "red" / "0.png").unlink()
    return "a/images"


CHANGES = [other_pixels, other_classes, one_more_image, one_image_less]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_other_images_are_refused(home, show, change):
    dataset = change(home)
    problem = f"^--dataset: invalid value '{dataset}': its images are not those of the study"
    with pytest.raises(UsageError, match=problem):
        show(dataset=dataset)


def test_images_that_were_added_are_noticed_by_name_alone(home, show):
    one_more_image(home)
    with pytest.raises(UsageError, match="expected the same, or another --name"):
        show(name="search-images")


def test_a_named_data_set_is_not_a_folder(show):
    problem = "^--dataset: invalid value 'mnist', the study has '.*/a/images': expected the same"
    with pytest.raises(UsageError, match=problem):
        show(name="search-images", dataset="mnist")


@pytest.mark.parametrize("asked", [{"dataset": "a/images"}, {"name": "search-images"}])
def test_without_the_folder_the_study_is_shown_with_a_remark(home, show, caplog, asked):
    shutil.rmtree(home / "a" / "images")
    assert len(show(**asked).state.trials) == 1
    (warning,) = [line.getMessage() for line in caplog.records if line.levelname == "WARNING"]
    assert warning.startswith("the images could not be compared with those of the study: ")
    assert "a/images is not there any more" in warning


def test_without_a_data_directory_the_study_is_shown_with_a_remark(home, show, caplog):
    shutil.rmtree(home / "data")
    (home / "data").touch()
    assert len(show(dataset="a/images").state.trials) == 1
    assert "the images could not be compared" in caplog.text


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "before it was recorded"])
def test_other_augmentation_is_refused(home, show, recorded):
    record = home / "results" / "search-images" / "record.jsonl"
    text = record.read_text()
    assert '"flip":true' in text.replace(": ", ":")
    if not recorded:
        record.write_text(text.replace('"flip": true,', "").replace('"flip":true,', ""))
        assert '"flip"' not in record.read_text()
    assert len(show(dataset="a/images", flip=True).state.trials) == 1
    with pytest.raises(
        UsageError, match=r"^--flip: invalid value False, the study has True: expected"
    ):
        show(dataset="a/images", flip=False)
