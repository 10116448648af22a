"""The command line: every wrong use gets one line, every option of the contract is there."""

import pytest

from study.designs import DESIGNS
from study.settings import StudySettings, continued, decided, parse_settings
from trainables.config import UsageError


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--samples", "0"], "--samples: received 0, allowed: an integer from 1"),
        (["--samples", "x"], "--samples: received 'x', allowed: an integer from 1"),
        (["--samples", "-3"], "--samples: received -3, allowed: an integer from 1"),
        (["--samples", "2.5"], "--samples: received '2.5', allowed: an integer from 1"),
        (["--epochs", "0"], "--epochs: received 0, allowed: an integer from 1 to 1048576"),
        (["--train-images", "0"], "--train-images: received 0, allowed: an integer from 1"),
        (["--seed", "-1"], "--seed: received -1, allowed: an integer from 0 to 2147483647"),
        (
            ["--design", "sarch"],
            "--design: received 'sarch', "
            "allowed: search, course, stem, degradation, recipe, or a file that ends in .toml",
        ),
        (["--confirm-seeds", "-1"], "--confirm-seeds: received -1, allowed: an integer from 0"),
        (["--confirm-seeds", "1.5"], "--confirm-seeds: received '1.5', allowed: an integer from 0"),
        (["--sampler", "grid"], "--sampler: received 'grid', allowed: tpe, gp, random, qmc"),
        (["--scheduler", "pbt"], "--scheduler: received 'pbt', allowed: asha, fifo"),
        (["--precision", "fp16"], "--precision: received 'fp16', allowed: auto, float32, bf16"),
        (
            ["--gpus-per-trial", "1.5"],
            "--gpus-per-trial: received 1.5, allowed: a number from 0, whole above 1",
        ),
        (
            ["--gpus-per-trial", "nan"],
            "--gpus-per-trial: received nan, allowed: a number from 0, whole above 1",
        ),
        (
            ["--gpus-per-trial", "inf"],
            "--gpus-per-trial: received inf, allowed: a number from 0, whole above 1",
        ),
        (
            ["--gpus-per-trial", "-1"],
            "--gpus-per-trial: received -1.0, allowed: a number from 0, whole above 1",
        ),
        (["--cpus-per-trial", "0"], "--cpus-per-trial: received 0, allowed: an integer from 1"),
        (["--max-concurrent", "0"], "--max-concurrent: received 0, allowed: an integer from 1"),
        (["--image-size", "7"], "--image-size: received 7, allowed: an integer from 8 to 1024"),
        (
            ["--checkpoint-seconds", "-1"],
            "--checkpoint-seconds: received -1.0, allowed: a finite number from 0",
        ),
        (
            ["--checkpoint-seconds", "inf"],
            "--checkpoint-seconds: received inf, allowed: a finite number from 0",
        ),
        (
            ["--epochs", "2000000"],
            "--epochs: received 2000000, allowed: an integer from 1 to 1048576",
        ),
        (
            ["--confirm-until-width", "0"],
            "--confirm-until-width: received 0.0, allowed: a number above 0 (percentage points)",
        ),
        (
            ["--confirm-until-width", "nan"],
            "--confirm-until-width: received nan, allowed: a number above 0 (percentage points)",
        ),
        (["--sample", "3"], "unrecognized arguments: --sample 3"),
        (["digits"], "unrecognized arguments: digits"),
        (["--samples"], "--samples: expected one argument"),
        (["--smaples", "3"], "unrecognized arguments: --smaples 3"),
    ],
)
def test_wrong_use_is_one_line(arguments, said):
    with pytest.raises(UsageError) as caught:
        parse_settings(arguments)
    assert str(caught.value) == said


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "-x", "", "a b", "a\n", "x" * 201])
def test_a_name_must_be_one_of_a_directory(name, tmp_path):
    with pytest.raises(UsageError, match="--name: received"):
        parse_settings([f"--name={name}"])


def test_options_of_the_contract():
    settings = StudySettings(
        **parse_settings(
            (
                "--samples 6 --design search --dataset mnist --data-dir d --train-images 4000 --epochs 2 --seed 7 "
                "--name n --results-dir r --max-concurrent 3 --cpus-per-trial 2 --gpus-per-trial 0.5 --address auto "
                "--scheduler fifo --sampler gp --precision bf16 --image-size 64 --skip-bad-images --no-dashboard "
                "--verbose --checkpoint-seconds 5 --retry-failed --confirm-seeds 10 --show-design"
            ).split()
        )
    )
    assert settings == StudySettings(
        **{
            "samples": 6,
            "design": "search",
            "dataset": "mnist",
            "data_dir": "d",
            "train_images": 4000,
            "epochs": 2,
        },
        **{"seed": 7, "name": "n", "results_dir": "r", "max_concurrent": 3, "cpus_per_trial": 2},
        **{
            "gpus_per_trial": 0.5,
            "address": "auto",
            "scheduler": "fifo",
            "sampler": "gp",
            "precision": "bf16",
        },
        **{"image_size": 64, "skip_bad_images": True, "dashboard": False, "verbose": True},
        **{
            "checkpoint_seconds": 5.0,
            "retry_failed": True,
            "confirm_seeds": 10,
            "show_design": True,
        },
    )


def test_defaults():
    assert parse_settings([]) == {}
    settings = StudySettings()
    assert (settings.design, settings.results_dir, settings.seed) == ("search", "results", 0)
    assert (settings.precision, settings.confirm_seeds, settings.show_design) == ("auto", 5, False)
    assert settings.dataset is settings.epochs is settings.name is None
    assert settings.samples is settings.scheduler is settings.sampler is None


@pytest.mark.parametrize(
    ("design", "samples", "scheduler", "sampler"),
    [
        ("search", 20, "asha", "tpe"),
        ("course", 0, "asha", "tpe"),
        ("stem", 64, "fifo", "qmc"),
        ("degradation", 24, "fifo", "qmc"),
        ("recipe", 24, "fifo", "qmc"),
    ],
)
def test_what_is_left_open_the_design_decides(design, samples, scheduler, sampler):
    settings = decided(StudySettings(design=design, seed=5), DESIGNS[design])
    assert (settings.samples, settings.scheduler, settings.sampler) == (samples, scheduler, sampler)
    assert (settings.design, settings.seed, settings.confirm_seeds) == (design, 5, 5)


def test_what_is_given_goes_before_the_design():
    given = StudySettings(samples=32, sampler="tpe", scheduler="fifo")
    settings = decided(given, DESIGNS["stem"])
    assert (settings.samples, settings.scheduler, settings.sampler) == (32, "fifo", "tpe")
    settings = decided(StudySettings(samples=1, sampler="gp", scheduler="fifo"), DESIGNS["search"])
    assert (settings.samples, settings.scheduler, settings.sampler) == (1, "fifo", "gp")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"design": "stem", "samples": 20},
            "--samples: received 20, allowed with design stem: a multiple of the 16 arms",
        ),
        (
            {"design": "recipe", "samples": 6},
            "--samples: received 6, allowed with design recipe: a multiple of the 4 arms",
        ),
        (
            {"design": "course", "samples": 3},
            "--samples: received 3, allowed with design course: none, for there is no search stage",
        ),
        (
            {"design": "stem", "scheduler": "asha"},
            "--scheduler: received 'asha', allowed with design stem: fifo",
        ),
        (
            {"design": "course", "confirm_seeds": 0},
            "--confirm-seeds: received 0, allowed with design course: an integer from 1",
        ),
    ],
)
def test_what_a_design_cannot_have_is_refused(given, said):
    with pytest.raises(UsageError) as caught:
        decided(StudySettings(**given), DESIGNS[given["design"]])
    assert str(caught.value) == said


def test_the_directory_is_named_by_design_and_data_set(tmp_path):
    settings = StudySettings(results_dir=str(tmp_path))
    assert settings.folder("cifar10") == tmp_path / "search-cifar10"
    assert settings.folder("../images/../flowers/") == tmp_path / "search-flowers"
    assert settings.folder(str(tmp_path / "Bäume\n")) == tmp_path / "search-B-ume-"
    assert settings.folder(str(tmp_path / "my images (2)")) == tmp_path / "search-my-images-2-"
    assert StudySettings(results_dir=str(tmp_path), name="n").folder("cifar10") == tmp_path / "n"


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as caught:
        parse_settings(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for option in StudySettings().to_dict():
        assert f"--{option.replace('_', '-')}" in text


RECORDED = decided(
    StudySettings(
        **{
            "samples": 9,
            "dataset": "pictures/flowers",
            "epochs": 6,
            "precision": "bf16",
            "max_concurrent": 2,
        },
        **{
            "name": "old-name",
            "results_dir": "elsewhere",
            "retry_failed": True,
            "gpus_per_trial": 0.0,
            "seed": 4,
        },
        **{"confirm_seeds": 2},
    ),
    DESIGNS["search"],
).to_dict()


def test_what_is_left_out_is_as_recorded_but_for_where_it_lies_and_what_was_asked_for_once():
    settings = continued(
        {"samples": 12, "address": "auto"}, RECORDED | {"confirm_until_width": 2.0}, "flowers"
    )
    assert settings.confirm_until_width is None
    assert (settings.samples, settings.address, settings.name) == (12, "auto", "flowers")
    assert (settings.epochs, settings.precision, settings.max_concurrent, settings.seed) == (
        6,
        "bf16",
        2,
        4,
    )
    assert (settings.results_dir, settings.retry_failed, settings.dataset) == (
        "results",
        False,
        "pictures/flowers",
    )
    assert (settings.scheduler, settings.sampler, settings.confirm_seeds) == ("asha", "tpe", 2)
    assert continued({"confirm_seeds": 5}, RECORDED, "flowers").confirm_seeds == 5


def test_a_study_without_a_search_stage_is_continued():
    recorded = decided(StudySettings(design="course", epochs=50), DESIGNS["course"]).to_dict()
    assert recorded["samples"] == 0
    again = decided(continued({"confirm_seeds": 4}, recorded, "course-digits"), DESIGNS["course"])
    assert (again.samples, again.confirm_seeds, again.epochs) == (0, 4, 50)


@pytest.mark.parametrize(
    "given",
    [
        {"precision": "auto"},
        {"epochs": 6, "seed": 4},
        {"dataset": "/moved/flowers"},
        {"max_concurrent": 1},
    ],
)
def test_what_asks_the_same_question_is_taken(given):
    assert continued(given, RECORDED, "n").to_dict().items() >= (
        given | {"precision": "bf16"}
    ).items() - {("precision", "auto")}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"epochs": 7},
            "--epochs: received 7, the study has 6; allowed: the same, or another --name",
        ),
        (
            {"dataset": "mnist"},
            "--dataset: received 'mnist', the study has 'pictures/flowers'; allowed",
        ),
        (
            {"seed": 0, "sampler": "gp"},
            "--seed: received 0, the study has 4; --sampler: received 'gp', the study has 'tpe'",
        ),
        ({"precision": "float32"}, "--precision: received 'float32', the study has 'bf16'"),
        ({"train_images": 10}, "--train-images: received 10, the study has None"),
    ],
)
def test_another_question_is_refused_with_the_difference(given, said):
    with pytest.raises(UsageError) as caught:
        continued(given, RECORDED, "n")
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("design", "name"), [("über.toml", "ber-digits"), (".mine.toml", "mine-digits")]
)
def test_the_name_made_of_a_designs_is_one_that_may_be_given(design, name, tmp_path):
    settings = StudySettings(design=design, results_dir=str(tmp_path))
    assert settings.folder("digits") == tmp_path / name
    parse_settings(["--name", name])
