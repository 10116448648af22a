"""What a network recognises of a part: loss, accuracy, confusion matrix, balanced accuracy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from trial_data import SMALL, device_part, random_part, trial_data

from trainables.evaluation import evaluate
from trainables.parts import Part
from trainables.training import Trainer


def test_evaluation_is_a_plain_forward_pass_over_all_images():
    trainer = Trainer(SMALL, trial_data(), "cpu", "float32")
    trainer.run_epoch()
    part = random_part(600, seed=3)
    readings = evaluate(trainer.model, device_part(part), trainer.pixels, "float32")
    with torch.no_grad():
        logits = trainer.model.eval()(trainer.pixels.normalize(torch.from_numpy(part.images)))
    labels = torch.from_numpy(part.labels)
    assert readings.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-4)
    assert readings.accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert torch.equal(readings.predictions_N, logits.argmax(1))


def test_confusion_matrix_counts_the_validation_images():
    data = trial_data()
    trainer = Trainer(SMALL, data, "cpu", "float32")
    metrics = trainer.run_epoch()
    confusion = trainer.confusion_KxK.numpy()
    assert confusion.sum(1).tolist() == np.bincount(data.validation.labels, minlength=4).tolist()
    assert np.trace(confusion) / 30 == pytest.approx(metrics.validation_accuracy)


def test_balanced_accuracy_is_the_mean_over_the_classes_that_are_there():
    from sklearn.metrics import balanced_accuracy_score

    data = trial_data()
    images, labels = data.validation.images, data.validation.labels
    uneven = np.where(np.arange(len(labels)) % 10 == 0, labels, 3)
    uneven[uneven == 1] = 0  # no image of class 1
    data = replace(data, validation=Part(images, uneven))
    trainer = Trainer(SMALL, data)
    metrics = trainer.run_epoch()
    readings = evaluate(trainer.model, trainer.validation, trainer.pixels, "float32")
    with pytest.warns(UserWarning, match="classes not in y_true"):
        expected = balanced_accuracy_score(uneven, readings.predictions_N)
    assert metrics.validation_balanced_accuracy == pytest.approx(expected)
    assert metrics.validation_balanced_accuracy != pytest.approx(metrics.validation_accuracy)
    assert metrics.test_balanced_accuracy is None
