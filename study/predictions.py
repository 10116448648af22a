"""`best/predictions.csv`: what the chosen network predicts of each test image."""

import csv
from pathlib import Path

import pandas as pd

from study.record import replace_file, writing
from study.resources import has_gpu
from study.state import StudyState
from trainables.parts import ImageData
from trainables.vocabulary import Stage


def lacks_predictions(folder: Path, state: StudyState) -> bool:
    """Whether `best/` has weights of a confirm trial, and no predictions by them.

    The weights of a search trial read no test images.
    """
    best = folder / "best"
    if not (best / "trial.txt").exists() or (best / "predictions.csv").exists():
        return False
    return state.trials[int((best / "trial.txt").read_text())].stage == Stage.CONFIRM


def write_predictions(folder: Path, state: StudyState, data: ImageData) -> None:
    """Write true class, predicted class and its probability of each test image, by the weights in
    `best/`, in the precision of the study."""
    import torch  # seconds that a complete study does not need

    from trainables.resnet import load_resnet

    settings = state.header["settings"]
    device = "cuda" if settings["gpus_per_trial"] and has_gpu() else "cpu"
    bf16 = settings["precision"] == "bf16"
    with torch.autocast(device, torch.bfloat16, enabled=bf16):
        probabilities_NxK = load_resnet(folder / "best").to(device).probabilities(data.test.images)
    names = pd.Series(data.classes)
    table = {
        "true class": names[data.test.labels].array,
        "predicted class": names[probabilities_NxK.argmax(1)].array,
        "probability": probabilities_NxK.max(1).round(6),
    }
    # Classes in quotation marks, as in `study.checkpoints.write_class_tables`.
    text = pd.DataFrame(table).to_csv(index_label="image", quoting=csv.QUOTE_NONNUMERIC)
    with writing(folder / "best"):
        replace_file(folder / "best" / "predictions.csv", text.encode())
