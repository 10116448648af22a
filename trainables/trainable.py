"""A trial as an actor of Ray Tune: a thin adapter around `Trainer`, the only file here that imports ray."""

from dataclasses import asdict
from typing import Any

import ray
import torch
from ray import tune

from trainables.config import TrialConfig
from trainables.datasets import TrialData
from trainables.training import Trainer


class ResNetTrainable(tune.Trainable):
    """Trains one trial at a time, an epoch a step.

    Tune's config is `{"study", "trial", "slot", "cpus", "gpus", "precision", "data", "config"}`: `data` is a
    reference to a `TrialData`, `config` holds the fields of `TrialConfig`. A result holds those of
    `EpochMetrics` and `diverged`; the last one of a trial that trained all its epochs also `export`, a
    reference to what `export()` returns.
    """

    def setup(self, config: dict[str, Any]) -> None:
        # An unset OMP_NUM_THREADS, or one that a reused worker kept, would decide otherwise.
        torch.set_num_threads(config["cpus"])
        # Shared memory: the images are on a machine once, however many trials read them.
        self.data: TrialData = ray.get(config["data"])
        self.label = f"{config['study']} slot {config['slot']}"
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._start(new_config)
        return True

    def _start(self, config: dict[str, Any]) -> None:
        device = "cuda" if config["gpus"] else "cpu"
        self.trainer = Trainer(TrialConfig.from_dict(config["config"]), self.data, device, config["precision"])

    def step(self) -> dict[str, Any]:
        metrics = self.trainer.run_epoch()
        result = asdict(metrics) | {"diverged": metrics.diverged, "done": metrics.diverged}
        if metrics.epoch == self.trainer.config.max_epochs and not metrics.diverged:
            result |= {"done": True, "export": ray.put(self.export())}
        return result

    def export(self) -> dict[str, Any]:
        """The trained network and how it did: weights, pixel statistics and confusion matrix, on the CPU."""
        trainer = self.trainer
        return {
            "weights": {name: tensor.cpu() for name, tensor in trainer.deciding_model.state_dict().items()},
            "pixel_mean": trainer.pixels.mean_C.tolist(),
            "pixel_std": trainer.pixels.std_C.tolist(),
            "confusion": trainer.confusion_KxK.tolist(),
        }

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory([{"CPU": config["cpus"], "GPU": config["gpus"]}])

    def __repr__(self) -> str:
        """What the dashboard shows as the actor's *Repr*; an actor serves many trials, so none is named."""
        return self.label
