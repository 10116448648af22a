"""The command line: every wrong use gets one line, every option of the contract is there."""

import pytest

from study.command_line import parse_command
from study.designs import DESIGNS
from study.settings import StudySettings, continued, decided
from trainables.config import UsageError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--samples", "0"], "--samples: invalid value 0: expected an integer from 1"),
        (["--samples", "x"], "--samples: invalid value 'x': expected an integer from 1"),
        (["--samples", "-3"], "--samples: invalid value -3: expected an integer from 1"),
        (["--samples", "2.5"], "--samples: invalid value '2.5': expected an integer from 1"),
        (["--epochs", "0"], "--epochs: invalid value 0: expected an integer from 1 to 1048576"),
        (["--train-images", "0"], "--train-images: invalid value 0: expected an integer from 1"),
        (["--seed", "-1"], "--seed: invalid value -1: expected an integer from 0 to 2147483647"),
        (
            ["--design", "sarch"],
            "--design: invalid value 'sarch': "
            "expected search, course, stem, degradation, recipe, or a file that ends in .toml",
        ),
        (
            ["--confirm-seeds", "-1"],
            "--confirm-seeds: invalid value -1: expected an integer from 0",
        ),
        (
            ["--confirm-seeds", "1.5"],
            "--confirm-seeds: invalid value '1.5': expected an integer from 0",
        ),
        (["--sampler", "grid"], "--sampler: invalid value 'grid': expected tpe, gp, random, qmc"),
        (["--scheduler", "pbt"], "--scheduler: invalid value 'pbt': expected asha, fifo"),
        (
            ["--precision", "fp16"],
            "--precision: invalid value 'fp16': expected auto, float32, bf16",
        ),
        (
            ["--gpus-per-trial", "1.5"],
            "--gpus-per-trial: invalid value 1.5: expected 0 to 1 or an integer",
        ),
        (
            ["--gpus-per-trial", "nan"],
            "--gpus-per-trial: invalid value nan: expected 0 to 1 or an integer",
        ),
        (
            ["--gpus-per-trial", "inf"],
            "--gpus-per-trial: invalid value inf: expected 0 to 1 or an integer",
        ),
        (
            ["--gpus-per-trial", "-1"],
            "--gpus-per-trial: invalid value -1.0: expected 0 to 1 or an integer",
        ),
        (
            ["--cpus-per-trial", "0"],
            "--cpus-per-trial: invalid value 0: expected an integer from 1",
        ),
        (
            ["--max-concurrent", "0"],
            "--max-concurrent: invalid value 0: expected an integer from 1",
        ),
        (
            ["--image-size", "7"],
            "--image-size: invalid value 7: expected an integer from 8 to 1024",
        ),
        (
            ["--checkpoint-seconds", "-1"],
            "--checkpoint-seconds: invalid value -1.0: expected a finite number from 0",
        ),
        (
            ["--checkpoint-seconds", "inf"],
            "--checkpoint-seconds: invalid value inf: expected a finite number from 0",
        ),
        (
            ["--epochs", "2000000"],
            "--epochs: invalid value 2000000: expected an integer from 1 to 1048576",
        ),
        (
            ["--confirm-until-width", "0"],
            "--confirm-until-width: invalid value 0.0: expected a number above 0 (percentage "
            "points)",
        ),
        (
            ["--confirm-until-width", "nan"],
            "--confirm-until-width: invalid value nan: expected a number above 0 (percentage "
            "points)",
        ),
        (["--sample", "3"], "unknown option: --sample. Did you mean --samples?"),
        (["digits"], "unexpected argument 'digits'"),
        (["--verbose=maybe"], "--verbose: invalid value 'maybe': expected a flag without a value"),
        (["--samples"], "parameter --samples requires an argument"),
        (["--smaples", "3"], "unknown option: --smaples. Did you mean --samples?"),
    ],
)
def test_wrong_use_is_one_line(arguments, message):
    with pytest.raises(UsageError) as caught:
        parse_command(arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "-x", "", "a b", "a\n", "x" * 201])
def test_a_name_must_be_one_of_a_directory(name, tmp_path):
    with pytest.raises(UsageError, match="--name: invalid value"):
        parse_command([f"--name={name}"])


def test_options_of_the_contract():
    settings = StudySettings(
        **parse_command(
            (
                "--samples 6 --design search --dataset mnist --data-dir d --train-images 4000 "
                "--epochs 2 --seed 7 "
                "--name n --results-dir r --max-concurrent 3 --cpus-per-trial 2 --gpus-per-trial "
                "0.5 --address auto "
                "--scheduler fifo --sampler gp --precision bf16 --image-size 64 "
                "--skip-bad-images --no-dashboard "
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


def test_of_an_option_given_twice_the_last_counts():
    assert parse_command(["--samples", "3", "--no-dashboard", "--samples", "4"]) == {
        "samples": 4,
        "dashboard": False,
    }


def test_defaults():
    assert parse_command([]) == {}
    settings = StudySettings()
    assert (settings.design, settings.results_dir, settings.seed) == ("search", "results", 0)
    assert (settings.precision, settings.show_design) == ("auto", False)
    assert settings.dataset is settings.epochs is settings.confirm_seeds is settings.name is None
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
    assert (settings.design, settings.seed, settings.confirm_seeds) == (design, 5, None)


def test_what_is_given_goes_before_the_design():
    given = StudySettings(samples=32, sampler="tpe", scheduler="fifo")
    settings = decided(given, DESIGNS["stem"])
    assert (settings.samples, settings.scheduler, settings.sampler) == (32, "fifo", "tpe")
    settings = decided(StudySettings(samples=1, sampler="gp", scheduler="fifo"), DESIGNS["search"])
    assert (settings.samples, settings.scheduler, settings.sampler) == (1, "fifo", "gp")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"design": "stem", "samples": 20},
            "--samples: invalid value 20: expected a multiple of the 16 arms (design stem)",
        ),
        (
            {"design": "recipe", "samples": 6},
            "--samples: invalid value 6: expected a multiple of the 4 arms (design recipe)",
        ),
        (
            {"design": "course", "samples": 3},
            "--samples: invalid value 3: expected none, for there is no search stage (design "
            "course)",
        ),
        (
            {"design": "stem", "scheduler": "asha"},
            "--scheduler: invalid value 'asha': expected fifo (design stem)",
        ),
        (
            {"design": "course", "confirm_seeds": 0},
            "--confirm-seeds: invalid value 0: expected an integer from 1 (design course)",
        ),
    ],
)
def test_what_a_design_cannot_have_is_refused(given, message):
    with pytest.raises(UsageError) as caught:
        decided(StudySettings(**given), DESIGNS[given["design"]])
    assert str(caught.value) == message


def test_the_directory_is_named_by_design_and_data_set(tmp_path):
    settings = StudySettings(results_dir=str(tmp_path))
    assert settings.folder("cifar10") == tmp_path / "search-cifar10"
    assert settings.folder("../images/../flowers/") == tmp_path / "search-flowers"
    assert settings.folder(str(tmp_path / "Bäume\n")) == tmp_path / "search-B-ume-"
    assert settings.folder(str(tmp_path / "my images (2)")) == tmp_path / "search-my-images-2-"
    assert StudySettings(results_dir=str(tmp_path), name="n").folder("cifar10") == tmp_path / "n"


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as caught:
        parse_command(["--help"])
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
    recorded = RECORDED | {"confirm_until_width": 2.0, "address": "10.0.0.1:6379"}
    settings = continued({"samples": 12}, recorded, "flowers")
    assert settings.confirm_until_width is None
    assert (settings.samples, settings.address, settings.name) == (12, None, "flowers")
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
    ("given", "message"),
    [
        (
            {"epochs": 7},
            "--epochs: invalid value 7, the study has 6: expected the same, or another --name",
        ),
        (
            {"seed": 0, "sampler": "gp"},
            "--seed: invalid value 0, the study has 4; --sampler: invalid value 'gp', the study "
            "has 'tpe'",
        ),
        ({"precision": "float32"}, "--precision: invalid value 'float32', the study has 'bf16'"),
        ({"train_images": 10}, "--train-images: invalid value 10, the study has None"),
    ],
)
def test_another_question_is_refused_with_the_difference(given, message):
    with pytest.raises(UsageError) as caught:
        continued(given, RECORDED, "n")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("design", "name"), [("über.toml", "ber-digits"), (".mine.toml", "mine-digits")]
)
def test_the_name_made_of_a_designs_is_one_that_may_be_given(design, name, tmp_path):
    settings = StudySettings(design=design, results_dir=str(tmp_path))
    assert settings.folder("digits") == tmp_path / name
    parse_command(["--name", name])
