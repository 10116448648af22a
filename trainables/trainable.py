"""A trial as an actor of Ray Tune: a thin adapter around `Trainer`, the only file here that imports
ray."""

import time
from dataclasses import asdict
from typing import Any

import numpy as np
import ray
from ray import tune

from trainables.orders import TrialOrder, Workplace
from trainables.parts import TrialData
from trainables.resnet import pack, unpack
from trainables.training import Trainer, prepare_process


class ResNetTrainable(tune.Trainable):
    """Trains one trial at a time, an epoch a step.

    Tune's config holds the entries of a `Workplace` and a `TrialOrder`. A result holds those of
    `EpochMetrics`, `diverged` and, after the last epoch and where `checkpoint_seconds` have passed
    since the start or the last one, a `checkpoint` (uint8): the caller keeps it, so that it
    outlives this process. Where the trial reads the test part, the last epoch's also holds whether
    each test image is recognised, `correct` (packed bits, uint8).
    """

    def setup(self, config: dict[str, Any]) -> None:
        self.place = Workplace.from_tune(config)
        prepare_process(self.place.cpus)
        # Shared memory: the images are on a machine once, however many trials read them.
        self.data: TrialData = ray.get(self.place.data)
        order = TrialOrder.from_tune(config)
        self.label = f"{self.place.study} slot {order.slot}"
        self._start(order)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._start(TrialOrder.from_tune(new_config))
        return True

    def _start(self, order: TrialOrder) -> None:
        # Its network and images go from the device before the next ones come.
        vars(self).pop("trainer", None)
        device = "cuda" if self.place.gpus else "cpu"
        self.trainer = Trainer(order.config, self.data, device, self.place.precision)
        if order.checkpoint is not None:
            self.trainer.load_state_dict(unpack(ray.get(order.checkpoint))["trainer"])
        self.checkpointed_at = time.monotonic()

    def step(self) -> dict[str, Any]:
        metrics = self.trainer.run_epoch()
        last = metrics.epoch == self.trainer.config.max_epochs
        result = asdict(metrics) | {"diverged": metrics.diverged, "done": metrics.diverged or last}
        due = time.monotonic() - self.checkpointed_at >= self.place.checkpoint_seconds
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
        """The actor's *Repr* in the dashboard; an actor serves many trials, so none is named."""
        return self.label
