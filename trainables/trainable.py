"""A trial as an actor of Ray Tune: a thin adapter around `Trainer`, the only file here that imports
ray."""

import time
from dataclasses import asdict
from typing import Any

import numpy as np
import ray
from ray import tune

from trainables.config import TrialConfig
from trainables.parts import TrialData
from trainables.resnet import pack, unpack
from trainables.training import Trainer, prepare_process


class ResNetTrainable(tune.Trainable):
    """Trains one trial at a time, an epoch a step.

    Tune's config is `{"study", "trial", "slot", "cpus", "gpus", "precision", "checkpoint_seconds",
    "data", "checkpoint", "config"}`: `data` is a reference to a `TrialData`, `checkpoint` one to
    the bytes of a checkpoint to resume from, or None; `config` holds the fields of `TrialConfig`. A
    result holds those of `EpochMetrics`, `diverged` and, after the last epoch and where
    `checkpoint_seconds` have passed since the start or the last one, a `checkpoint` (uint8): of the
    caller, so that it outlives this process. Where it reads the test part, the last epoch's also
    holds whether each test image is recognised, `correct` (packed bits, uint8).
    """

    def setup(self, config: dict[str, Any]) -> None:
        prepare_process(config["cpus"])
        # Shared memory: the images are on a machine once, however many trials read them.
        self.data: TrialData = ray.get(config["data"])
        self.label = f"{config['study']} slot {config['slot']}"
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._start(new_config)
        return True

    def _start(self, config: dict[str, Any]) -> None:
        # The old network and images leave the device before the next ones come.
        vars(self).pop("trainer", None)
        device = "cuda" if config["gpus"] else "cpu"
        self.trainer = Trainer(
            TrialConfig.from_dict(config["config"]), self.data, device, config["precision"]
        )
        if config["checkpoint"] is not None:
            self.trainer.load_state_dict(unpack(ray.get(config["checkpoint"]))["trainer"])
        self.checkpoint_seconds = config["checkpoint_seconds"]
        self.checkpointed_at = time.monotonic()

    def step(self) -> dict[str, Any]:
        metrics = self.trainer.run_epoch()
        last = metrics.epoch == self.trainer.config.max_epochs
        result = asdict(metrics) | {"diverged": metrics.diverged, "done": metrics.diverged or last}
        due = time.monotonic() - self.checkpointed_at >= self.checkpoint_seconds
        if not metrics.diverged and (last or due):
            # All that continuing needs, and what reading images by these weights needs.
            mean, std = self.trainer.pixels.mean_C.tolist(), self.trainer.pixels.std_C.tolist()
            content = pack(
                {"pixel_mean": mean, "pixel_std": std, "trainer": self.trainer.state_dict()}
            )
            result["checkpoint"] = np.frombuffer(content, dtype=np.uint8)
            self.checkpointed_at = time.monotonic()
        if last and self.trainer.correct_N is not None and not metrics.diverged:
            result["correct"] = np.packbits(self.trainer.correct_N)
        return result

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory([{"CPU": config["cpus"], "GPU": config["gpus"]}])

    def __repr__(self) -> str:
        """What the dashboard shows as the actor's *Repr*; an actor serves many trials, so none is
        named."""
        return self.label
