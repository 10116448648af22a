"""Makes a study directory with known numbers, by pandas and json alone."""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trainables.config import TrialConfig

BASELINES: Mapping[str, Mapping[str, Any]] = {
    "imagenet-stem": {"stem_kernel": 7, "stem_stride": 2, "stem_maxpool": True},
    "small-stem": {"stem_kernel": 2, "stem_stride": 1, "stem_maxpool": True},
    "small-stem-no-pool": {"stem_kernel": 2, "stem_stride": 1, "stem_maxpool": False},
}
FACTORS: Sequence[Mapping[str, Any]] = (
    {"name": "learning_rate", "role": "nuisance", "low": 0.0003, "high": 0.3, "scale": "log"},
    {"name": "stem_kernel", "role": "scientific", "levels": [2, 3, 5, 7]},
    {"name": "stem_stride", "role": "scientific", "levels": [1, 2]},
    {"name": "stem_maxpool", "role": "scientific", "levels": [True, False]},
    {"name": "depth", "role": "scientific", "levels": [10, 18, 34]},
)
READINGS = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")


@dataclass(frozen=True)
class MadeTrial:
    """One trial: its state, its readings by epoch (rows of `READINGS`, NaN where not finite; of
    test images in place of validation images in the confirm stage), its config, and which test
    images it is right about."""

    state: str
    readings: Sequence[Sequence[float]]
    origin: str = "random"
    config: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    stage: str = "search"
    correct: Sequence[int] = ()


def manifest(name: str = "search-digits", **changes: Any) -> dict[str, Any]:
    """A study.json as the driver writes it; `changes` replace top-level entries."""
    classes = [str(digit) for digit in range(10)]
    counts = {"train": 1293, "validation": 144, "test": 360}
    return {
        "name": name,
        "version": 1,
        "design": {
            "name": "search",
            "factors": list(FACTORS),
            "fixed": {"width": 64},
            "baselines": dict(BASELINES),
        },
        "dataset": {
            "name": "digits",
            "chosen": "no GPU on this machine",
            "fingerprint": "sha256:ab",
            "counts": counts,
        }
        | {"available": 1437, "image_shape": [1, 16, 16], "classes": classes, "skipped": 0},
        "settings": {
            "samples": 20,
            "epochs": 6,
            "seed": 0,
            "scheduler": "asha",
            "precision": "bf16",
        },
        "notes": ["precision: asked auto, took bf16 (1.8 times as fast)"],
        "command": "python study/run.py --samples 20",
        "git": "abc123",
        "packages": {"torch": "2.14.1"},
        "machine": {"host": "laptop", "cpu": "some cpu", "cores": 2, "gpus": []},
        "created": "2026-11-24T04:00:00+00:00",
        "ended": "2026-11-24T04:05:00+00:00",
        "seconds": {"search": {"core": 512.0, "accelerator": 0.0}, "wall": 300.0},
        **changes,
    }


def write_study(folder: Path, trials: Sequence[MadeTrial], **changes: Any) -> Path:
    """The study directory `folder` with these trials, numbered in their order, and
    `manifest(**changes)`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(manifest(**changes)), encoding="utf-8")
    trial_rows, epoch_rows, image_rows = [], [], []
    for number, made in enumerate(trials):
        config = TrialConfig.from_dict(dict(made.config))
        seconds = 2.0 * len(made.readings)
        trial_rows.append(
            {
                "trial": number,
                "stage": made.stage,
                "origin": made.origin,
                "arm": config.arm,
                "state": made.state,
            }
            | {"error": made.error, "epochs": len(made.readings), **config.to_dict()}
            | {
                "parameters": 4_900_000,
                "forward_flops": 36_000_000,
                "precision": "bf16",
                "node": "laptop",
            }
            | {"train_seconds": seconds}
        )
        if len(made.correct):
            image_rows.append(
                {"trial": number, "correct": "".join(str(int(bit)) for bit in made.correct)}
            )
        names = [
            name.replace("validation", "test") if made.stage == "confirm" else name
            for name in READINGS
        ]
        for epoch, reading in enumerate(made.readings, 1):
            epoch_rows.append(
                {"trial": number, "epoch": epoch, "learning_rate": config.learning_rate}
                | dict(zip(names, reading, strict=True))
                | {"train_seconds": 2.0, "eval_seconds": 0.5}
            )
    names = [
        *["trial", "stage", "origin", "arm", "state", "error", "epochs"],
        *TrialConfig().to_dict(),
    ]
    names += ["parameters", "forward_flops", "precision", "node", "train_seconds"]
    pd.DataFrame(trial_rows, columns=names).to_csv(folder / "trials.csv", index=False)
    names = [
        "trial",
        "epoch",
        "learning_rate",
        *READINGS,
        "test_loss",
        "test_accuracy",
        "train_seconds",
        "eval_seconds",
    ]
    pd.DataFrame(epoch_rows, columns=names).to_csv(folder / "epochs.csv", index=False)
    if image_rows:
        pd.DataFrame(image_rows).to_csv(folder / "test_images.csv", index=False)
    return folder


def falling(epochs: int, loss: float = 1.0, accuracy: float = 0.5) -> list[tuple[float, ...]]:
    """Readings that improve: validation loss `loss / epoch`, error `(1 - accuracy) / epoch`."""
    return [
        (
            0.8 * loss / epoch,
            1 - 0.8 * (1 - accuracy) / epoch,
            loss / epoch,
            1 - (1 - accuracy) / epoch,
        )
        for epoch in range(1, epochs + 1)
    ]


def search_like(samples: int = 20, epochs: int = 6, seed: int = 1) -> list[MadeTrial]:
    """Trials as a search with ASHA leaves them: three baselines with all epochs, rungs at 1 and 3,
    one diverged."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(samples):
        name = list(BASELINES)[number] if number < 3 else None
        config: dict[str, Any] = {"max_epochs": epochs, "learning_rate": 0.01}
        if name:
            config |= BASELINES[name]
        else:
            config["learning_rate"] = float(10 ** rng.uniform(math.log10(0.0003), math.log10(0.3)))
            for factor in FACTORS[1:]:
                config[factor["name"]] = factor["levels"][rng.integers(len(factor["levels"]))]
        shrink = config["stem_stride"] * (1 + config["stem_maxpool"])
        speed = 2.2 * math.exp(-((math.log10(config["learning_rate"]) + 1.6) ** 2)) / shrink**0.4
        readings = []
        for epoch in range(1, epochs + 1):
            loss = 0.03 + 2.4 * math.exp(-speed * epoch**0.8) * math.exp(rng.normal(0, 0.06))
            error = min(0.9, 0.42 * loss)
            noise = abs(rng.normal(0, 0.01))
            readings.append(
                (loss, 1 - error, 1.1 * loss + noise, 1 - min(0.9, 1.05 * error + noise))
            )
        state = "complete"
        if number == 7:
            state, nan = "diverged", math.nan
            readings = [(40.0, 0.1, 90.0, 0.1), (nan, 0.1, nan, 0.1)]
        elif not name and readings[0][3] < 0.5:
            state, readings = "stopped", readings[:1]
        elif not name and readings[:3][-1][3] < 0.86:
            state, readings = "stopped", readings[:3]
        origin = f"baseline:{name}" if name else "random" if number < 10 else "model"
        made.append(MadeTrial(state, readings, origin, config))
    return made


CHANGES: Sequence[tuple[str, Any, Any]] = (
    ("stem_kernel", 3, 5),
    ("stem_stride", 1, 2),
    ("stem_maxpool", False, True),
    ("depth", 18, 10),
)
"""Of the studies that `confirm_like` makes: each factor's level of the winner, and the other one.
"""


def half_fraction(changes: Sequence[tuple[str, Any, Any]] = CHANGES) -> list[dict[str, Any]]:
    """The configs, but for what is usual, of the arms in which the product of all signs is +1, the
    winner first."""
    signs = [
        signs for signs in itertools.product((1, -1), repeat=len(changes)) if math.prod(signs) == 1
    ]
    return [
        {
            name: one if sign == 1 else other
            for (name, one, other), sign in zip(changes, row, strict=True)
        }
        for row in signs
    ]


def confirm_like(
    effects: Mapping[str, float], seeds: int = 3, images: int = 360, epochs: int = 3, seed: int = 0
) -> tuple[list[MadeTrial], dict[str, Any]]:
    """Trials of a study with search, tune and confirm stage, and the plan in its study.json: the
    half fraction around the winner and the first baseline. An image is right with a probability by
    its difficulty, the seed and `effects`, which are in logits for the change of a factor to its
    other level."""
    rng = np.random.default_rng(seed)
    usual = {
        key: value
        for key, value in TrialConfig(max_epochs=epochs).to_dict().items()
        if key != "seed"
    }
    arms = [
        {**usual, **levels, "learning_rate": 0.03 if place % 3 == 1 else 0.01}
        for place, levels in enumerate(half_fraction())
    ]
    plan = [
        {"role": "fraction" if place else "winner", "config": arm} for place, arm in enumerate(arms)
    ]
    plan[1]["rate_at_end"] = "high"
    baseline = {**usual, **BASELINES["imagenet-stem"]}
    plan.append({"role": "baseline", "baseline": "imagenet-stem", "config": baseline})
    made = [
        MadeTrial("complete", falling(epochs, accuracy=0.5), "baseline:imagenet-stem", baseline)
    ]
    made.append(MadeTrial("complete", falling(epochs, accuracy=0.97), "random", arms[0]))
    for arm in arms:
        for rate in (0.01 / 3, 0.01, 0.03):
            if {**arm, "learning_rate": rate} != arms[0]:
                loss = 0.3 if rate == arm["learning_rate"] else 0.5
                made.append(
                    MadeTrial(
                        "complete",
                        falling(epochs, loss),
                        "tune",
                        {**arm, "learning_rate": rate},
                        stage="tune",
                    )
                )
    ease = rng.normal(3.5, 1.5, images)
    for number in range(1, seeds + 1):
        for arm in (each["config"] for each in plan):
            logit = sum(
                effects.get(name, 0.0) * (arm[name] == other) for name, _, other in CHANGES
            ) + rng.normal(0, 0.2)
            correct = (rng.random(images) < 1 / (1 + np.exp(-ease - logit))).astype(int)
            rows = [
                (0.1, 0.99, 0.3, correct.mean() - 0.1 * (epochs - epoch))
                for epoch in range(1, epochs + 1)
            ]
            config = {**arm, "seed": number}
            made.append(
                MadeTrial("complete", rows, "confirm", config, stage="confirm", correct=correct)
            )
    factors = [{"factor": name, "from": one, "to": other} for name, one, other in CHANGES]
    return made, {"factors": factors, "arms": plan}
