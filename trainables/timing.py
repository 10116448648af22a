"""How long training takes, by precision."""

import math
import time
from collections.abc import Sequence

import torch

from trainables.config import TrialConfig
from trainables.parts import TrialData
from trainables.training import Trainer, prepare_process

PRECISIONS = ("float32", "bf16")
ENOUGH_SECONDS = 5.0
"""Where the first round of a timing takes so long, there is no second one."""


def time_training(
    config: TrialConfig,
    data: TrialData,
    precisions: Sequence[str],
    threads: int,
    gpu: bool,
    scale: float = 1.0,
) -> dict[str, float]:
    """Seconds per image of training a network `scale` times as expensive as that of `config`, by
    precision: the least of two rounds of an epoch of `data`, or of one where that is enough.

    The precisions take turns, for the machine may be busy starting Ray while this runs. Of several,
    bf16 is skipped on a processor without instructions for it, where it takes up to a hundred
    times as long.
    """
    prepare_process(threads)
    if len(precisions) > 1 and not (gpu or has_bf16()):
        precisions = [precision for precision in precisions if precision != "bf16"]
    device = "cuda" if gpu else "cpu"
    trainers = {precision: Trainer(config, data, device, precision) for precision in precisions}
    seconds = dict.fromkeys(precisions, math.inf)
    started = time.monotonic()
    for _ in range(2):
        for precision, trainer in trainers.items():
            seconds[precision] = min(seconds[precision], trainer.run_epoch().train_seconds)
        if time.monotonic() - started > ENOUGH_SECONDS:
            break
    return {precision: scale * least / len(data.train) for precision, least in seconds.items()}


def has_bf16() -> bool:
    """Whether this processor has instructions for bf16."""
    capabilities = torch.cpu.get_capabilities()
    return any(present for name, present in capabilities.items() if "bf16" in name)
