"""`best/predictions.csv`: what the chosen network predicts of each test image; and
`best/mistakes.png`: a sheet of those that it is most confidently wrong about."""

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from study.record import replace_file, writing
from study.resources import has_gpu
from study.state import StudyState
from trainables.parts import ImageData
from trainables.vocabulary import Stage

MOST_MISTAKES, TILE = 10, 64  # images of the sheet, and their side in pixels


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
    wrong = np.flatnonzero(probabilities_NxK.argmax(1) != data.test.labels)
    # As `analysis.report.findings.mistakes` sorts them.
    wrong = wrong[np.argsort(-table["probability"][wrong], kind="stable")][:MOST_MISTAKES]
    with writing(folder / "best"):
        if len(wrong):
            replace_file(folder / "best" / "mistakes.png", sheet(data.test.images[wrong]))
        replace_file(folder / "best" / "predictions.csv", text.encode())


def sheet(images_NxCxHxW: np.ndarray) -> bytes:
    """Images (uint8, grey or RGB) side by side, each as large as fits into a square, as a PNG."""
    strip = Image.new("RGB", (TILE * len(images_NxCxHxW), TILE), "white")
    for place, image_CxHxW in enumerate(images_NxCxHxW):
        height, width = image_CxHxW.shape[1:]
        pixels_HxWxC = np.broadcast_to(image_CxHxW, (3, height, width)).transpose(1, 2, 0)
        scale = (TILE - 4) / max(height, width)
        # Enlarged pixels stay squares: nothing is shown that the network has not seen.
        how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR
        size = max(1, round(scale * width)), max(1, round(scale * height))
        tile = Image.fromarray(np.ascontiguousarray(pixels_HxWxC)).resize(size, how)
        strip.paste(tile, (TILE * place + (TILE - size[0]) // 2, (TILE - size[1]) // 2))
    content = io.BytesIO()
    strip.save(content, "PNG")
    return content.getvalue()
