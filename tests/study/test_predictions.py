"""`best/predictions.csv` holds what the weights in `best/` predict of the test images."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from analysis.load import read_predictions
from analysis.report.findings import mistakes
from study.predictions import lacks_predictions, sheet, write_predictions
from study.state import StudyState, TrialRecord
from trainables.config import TrialConfig, UsageError
from trainables.parts import ImageData, Part
from trainables.resnet import build_resnet, save_resnet

CLASSES = ("NA", "01", 'a "b", c', "né\r", "two\nlines")
CONFIG = TrialConfig(width=4, depth=10, stem_kernel=3)


@pytest.fixture
def data():
    draw = np.random.default_rng(0)
    # Images of their own brightness and contrast, so that predictions differ.
    scale = draw.uniform(0, 1, (600, 3, 1, 1))
    images = (draw.integers(0, 256, (600, 3, 8, 8)) * scale).astype(np.uint8)
    part = Part(images, draw.integers(0, len(CLASSES), 600))
    return ImageData("noise", CLASSES, part, part, flip=True)


@pytest.fixture
def study(tmp_path, data):
    """Makes a study directory whose `best/` is of a trial of that stage; gives its network and
    record."""

    def make(stage: str, precision: str = "float32"):
        model = build_resnet(CONFIG, (3, 8, 8), len(CLASSES))
        model.train()(torch.from_numpy(data.train.images[:256] / 255).float())
        with torch.no_grad():
            model.head.weight *= 20  # else all images are of one class
        weights = model.state_dict()
        save_resnet(tmp_path / "best", CONFIG, (3, 8, 8), CLASSES, [0.1] * 3, [0.9] * 3, weights)
        (tmp_path / "best" / "trial.txt").write_text("0\n")
        state = StudyState(header={"settings": {"precision": precision, "gpus_per_trial": 0.0}})
        state.trials[0] = TrialRecord(0, stage, "random", "arm", CONFIG.to_dict(), 1, 1)
        return model.eval(), state

    return make


@pytest.mark.parametrize(("precision", "apart"), [("float32", 1e-5), ("bf16", 0.1)])
def test_each_test_image_has_its_row(tmp_path, study, data, precision, apart):
    model, state = study("confirm", precision)
    assert read_predictions(tmp_path) is None
    assert lacks_predictions(tmp_path, state)
    write_predictions(tmp_path, state, data)
    assert not lacks_predictions(tmp_path, state)
    table = read_predictions(tmp_path)
    assert table.index.tolist() == list(range(600))
    assert table["true class"].tolist() == [CLASSES[label] for label in data.test.labels]
    with torch.no_grad():
        logits = model((torch.from_numpy(data.test.images / 255).float() - 0.1) / 0.9)
    expected = logits.softmax(1).numpy()
    assert len(set(expected.argmax(1))) > 2
    assert table["probability"].to_numpy() == pytest.approx(expected.max(1), abs=apart)
    same = table["predicted class"] == [CLASSES[place] for place in expected.argmax(1)]
    assert same.mean() > (0.95 if precision == "bf16" else 0.999)
    differs = np.abs(table["probability"] - expected.max(1)).max() > 1e-4
    assert differs == (precision == "bf16")


def test_the_sheet_shows_the_most_confident_mistakes_in_order(tmp_path, study, data):
    _, state = study("confirm")
    write_predictions(tmp_path, state, data)
    table = mistakes(read_predictions(tmp_path))
    with Image.open(tmp_path / "best" / "mistakes.png") as file:
        strip = np.asarray(file)
    assert strip.shape == (64, 640, 3)
    for place, number in enumerate(table.index[:10]):
        # 8 pixels are enlarged to 60: the middles of their squares.
        middles = (2 + 60 * (np.arange(8) + 0.5) / 8).astype(int)
        shown = strip[:, 64 * place : 64 * place + 64][np.ix_(middles, middles)]
        assert (shown == data.test.images[number].transpose(1, 2, 0)).all()


@pytest.mark.parametrize(
    ("shape", "box"), [((1, 8, 16), (30, 60)), ((3, 200, 100), (60, 30))], ids=["wide", "tall"]
)
def test_images_of_the_sheet_keep_their_proportions(shape, box):
    with Image.open(io.BytesIO(sheet(np.zeros((2, *shape), np.uint8)))) as file:
        dark = np.asarray(file)[:, :64].max(2) == 0
    assert (dark.any(1).sum(), dark.any(0).sum()) == box


def test_the_weights_of_a_search_trial_read_no_test_images(tmp_path, study):
    _, state = study("search")
    assert not lacks_predictions(tmp_path, state)


def test_a_study_without_best_lacks_none(tmp_path):
    assert not lacks_predictions(tmp_path, StudyState())


@pytest.mark.parametrize(
    "text", ["", "image\n", "image,true class,predicted class,probability\nx,"]
)
def test_damage_is_refused_by_name(tmp_path, text):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "predictions.csv").write_text(text)
    with pytest.raises(
        UsageError, match=r"best/predictions\.csv: damaged .*one row per test image"
    ):
        read_predictions(tmp_path)
