"""A study of the real MNIST: its four original files, where torchvision keeps them."""

import os
from pathlib import Path

import pytest
from commands import Place

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "RESNET_STUDY_MNIST" not in os.environ,
        reason="RESNET_STUDY_MNIST names no folder of MNIST/raw",
    ),
]


def test_after_two_epochs_of_mnist_the_baselines_are_read_as_what_they_have_learnt(tmp_path):
    """By running statistics that of stride 1 reads 11% of these 1,500 images, and the other one
    wins by that. (The third baseline, without a pool, read 13%; it takes minutes.)"""
    data = Path(os.environ["RESNET_STUDY_MNIST"])
    place = Place(tmp_path, tmp_path)
    options = "--dataset mnist --train-images 1500 --samples 2 --epochs 2 --name mnist".split()
    done = place.run(*options, "--data-dir", str(data))
    assert done.returncode == 0, done.stdout + done.stderr
    trials, epochs = place.tables("mnist")
    assert trials["origin"].tolist() == [
        *("baseline:imagenet-stem", "baseline:small-stem"),
    ]
    accuracy = epochs[epochs["epoch"] == 2].set_index("trial")["validation_accuracy"]
    assert (accuracy > 0.7).all(), "guessing is 0.1"
