"""The command line: every wrong use gets one line, every option of the contract is there."""

import pytest

from study.settings import StudySettings, parse_settings
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
    settings = parse_settings(
        (
            "--samples 6 --design search --dataset mnist --data-dir d --train-images 4000 --epochs 2 --seed 7 "
            "--name n --results-dir r --max-concurrent 3 --cpus-per-trial 2 --gpus-per-trial 0.5 --address auto "
            "--scheduler fifo --sampler gp --precision bf16 --image-size 64 --skip-bad-images --no-dashboard "
            "--verbose"
        ).split()
    )
    assert settings == StudySettings(
        **{"samples": 6, "design": "search", "dataset": "mnist", "data_dir": "d", "train_images": 4000, "epochs": 2},
        **{"seed": 7, "name": "n", "results_dir": "r", "max_concurrent": 3, "cpus_per_trial": 2},
        **{"gpus_per_trial": 0.5, "address": "auto", "scheduler": "fifo", "sampler": "gp", "precision": "bf16"},
        **{"image_size": 64, "skip_bad_images": True, "dashboard": False, "verbose": True},
    )


def test_defaults():
    settings = parse_settings([])
    assert settings == StudySettings()
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
