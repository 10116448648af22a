"""Training is timed by precision."""

from pathlib import Path

import numpy as np

from trainables.config import TrialConfig
from trainables.parts import Part, TrialData
from trainables.timing import time_training

CONFIG = TrialConfig(stem_kernel=3, depth=10, width=4)


def test_timing_gives_seconds_an_image_for_each_precision():
    draw = np.random.default_rng(0)
    part = Part(draw.integers(0, 256, (16, 1, 16, 16), dtype=np.uint8), draw.integers(0, 2, 16))
    data = TrialData(part, None, None, 2, False)
    timings = time_training(CONFIG, data, ("float32", "bf16"), 1, False)
    has_bf16 = "bf16" in Path("/proc/cpuinfo").read_text()
    assert set(timings) == ({"float32", "bf16"} if has_bf16 else {"float32"})
    assert set(time_training(CONFIG, data, ("bf16",), 1, False)) == {"bf16"}, (
        "what is asked for alone is taken"
    )
    assert all(0 < seconds < 1 for seconds in timings.values())
