"""A trial as an actor of Ray Tune: a thin adapter around `Trainer`, the only file here that imports
ray."""

import sys
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import numpy as np
import ray
from ray import tune
from ray._private.ray_constants import LOG_PREFIX_ACTOR_NAME

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

    label = "before its first trial"  # Ray asks for it also where `setup` fails

    def setup(self, config: dict[str, Any]) -> None:
        self.place = Workplace.from_tune(config)
        prepare_process(self.place.cpus)
        # Shared memory: the images are on a machine once, however many trials read them.
        self.data: TrialData = ray.get(self.place.data)
        order = TrialOrder.from_tune(config)
        self.label = f"{self.place.study} slot {order.slot}"
        self.node_id = ray.get_runtime_context().get_node_id()
        self._start(order)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._start(TrialOrder.from_tune(new_config))
        return True

    def _start(self, order: TrialOrder) -> None:
        self.trial = order.trial
        self._mark_lines("starts")
        # Its network and images go from the device before the next ones come.
        vars(self).pop("trainer", None)
        device = "cuda" if self.place.gpus else "cpu"
        self.trainer = Trainer(order.config, self.data, device, self.place.precision)
        if order.checkpoint is not None:
            self.trainer.load_state_dict(unpack(ray.get(order.checkpoint))["trainer"])
        self.checkpointed_at = time.monotonic()

    def _mark_lines(self, when: str) -> None:
        """Have Ray mark each line of this process from here on with the trial; the actor's name, by
        which it marks them else, it takes once."""
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # a full disk of Ray's logs is no fault of the trial
                marker = f"{LOG_PREFIX_ACTOR_NAME}{self.place.study} trial {self.trial} {when}"
                print(marker, file=stream, flush=True)

    def step(self) -> dict[str, Any]:
        self._mark_lines(f"epoch {self.trainer.epoch + 1}")
        metrics = self.trainer.run_epoch()
        last = metrics.epoch == self.trainer.config.max_epochs
        result = asdict(metrics) | {"diverged": metrics.diverged, "done": metrics.diverged or last}
        result["node_id"] = self.node_id
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
        needs = {"CPU": config["cpus"], "GPU": config["gpus"]}
        avoided = ",".join(config["avoided"])
        elsewhere = [{"ray.io/node-id": f"!in({avoided})"}] if avoided else None
        return tune.PlacementGroupFactory([needs], bundle_label_selector=elsewhere)

    def __repr__(self) -> str:
        """The actor's *Repr* in the dashboard; an actor serves many trials, so none is named."""
        return self.label
