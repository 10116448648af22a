"""The command line: every wrong use gets one line, every option of the contract is there."""

import pytest

from study.settings import StudySettings, continued, parse_settings
from trainables.config import UsageError


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--samples", "0"], "--samples: received 0, allowed: an integer from 1"),
        (["--samples", "x"], "--samples: received 'x', allowed: an integer from 1"),
        (["--samples", "-3"], "--samples: received -3, allowed: an integer from 1"),
        (["--samples", "2.5"], "--samples: received '2.5', allowed: an integer from 1"),
        (["--epochs", "0"], "--epochs: received 0, allowed: an integer from 1"),
        (["--train-images", "0"], "--train-images: received 0, allowed: an integer from 1"),
        (["--seed", "-1"], "--seed: received -1, allowed: an integer from 0 to 2147483647"),
        (["--design", "sarch"], "--design: received 'sarch', allowed: search"),
        (["--sampler", "grid"], "--sampler: received 'grid', allowed: tpe, gp, random, qmc"),
        (["--scheduler", "pbt"], "--scheduler: received 'pbt', allowed: asha, fifo"),
        (["--precision", "fp16"], "--precision: received 'fp16', allowed: auto, float32, bf16"),
        (["--gpus-per-trial", "1.5"], "--gpus-per-trial: received 1.5, allowed: a number from 0, whole above 1"),
        (["--gpus-per-trial", "nan"], "--gpus-per-trial: received nan, allowed: a number from 0, whole above 1"),
        (["--gpus-per-trial", "inf"], "--gpus-per-trial: received inf, allowed: a number from 0, whole above 1"),
        (["--gpus-per-trial", "-1"], "--gpus-per-trial: received -1.0, allowed: a number from 0, whole above 1"),
        (["--cpus-per-trial", "0"], "--cpus-per-trial: received 0, allowed: an integer from 1"),
        (["--max-concurrent", "0"], "--max-concurrent: received 0, allowed: an integer from 1"),
        (["--image-size", "7"], "--image-size: received 7, allowed: an integer from 8 to 1024"),
        (["--checkpoint-seconds", "-1"], "--checkpoint-seconds: received -1.0, allowed: a number from 0"),
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


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "-x", "", "a b", "a\n"])
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
                "--verbose --checkpoint-seconds 5 --retry-failed"
            ).split()
        )
    )
    assert settings == StudySettings(
        **{"samples": 6, "design": "search", "dataset": "mnist", "data_dir": "d", "train_images": 4000, "epochs": 2},
        **{"seed": 7, "name": "n", "results_dir": "r", "max_concurrent": 3, "cpus_per_trial": 2},
        **{"gpus_per_trial": 0.5, "address": "auto", "scheduler": "fifo", "sampler": "gp", "precision": "bf16"},
        **{"image_size": 64, "skip_bad_images": True, "dashboard": False, "verbose": True},
        **{"checkpoint_seconds": 5.0, "retry_failed": True},
    )


def test_defaults():
    assert parse_settings([]) == {}
    settings = StudySettings()
    assert (settings.samples, settings.design, settings.results_dir, settings.seed) == (20, "search", "results", 0)
    assert (settings.scheduler, settings.sampler, settings.precision) == ("asha", "tpe", "auto")
    assert settings.dataset is settings.epochs is settings.name is None


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


RECORDED = StudySettings(
    **{"samples": 9, "dataset": "pictures/flowers", "epochs": 6, "precision": "bf16", "max_concurrent": 2, "seed": 4},
    **{"name": "old-name", "results_dir": "elsewhere", "retry_failed": True, "gpus_per_trial": 0.0},
).to_dict()


def test_what_is_left_out_is_as_recorded_but_for_where_it_lies_and_what_was_asked_for_once():
    settings = continued({"samples": 12, "address": "auto"}, RECORDED, "flowers")
    assert (settings.samples, settings.address, settings.name) == (12, "auto", "flowers")
    assert (settings.epochs, settings.precision, settings.max_concurrent, settings.seed) == (6, "bf16", 2, 4)
    assert (settings.results_dir, settings.retry_failed, settings.dataset) == ("results", False, "pictures/flowers")


@pytest.mark.parametrize(
    "given", [{"precision": "auto"}, {"epochs": 6, "seed": 4}, {"dataset": "/moved/flowers"}, {"max_concurrent": 1}]
)
def test_what_asks_the_same_question_is_taken(given):
    assert continued(given, RECORDED, "n").to_dict().items() >= (given | {"precision": "bf16"}).items() - {
        ("precision", "auto")
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"epochs": 7}, "--epochs: received 7, the study has 6; allowed: the same, or another --name"),
        ({"dataset": "mnist"}, "--dataset: received 'mnist', the study has 'pictures/flowers'; allowed"),
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
