"""`best/` is the winner's, whatever became of the checkpoints that it could be made from."""

import json

import numpy as np

from study.checkpoints import keep_best, save_checkpoint
from study.state import StudyState, TrialRecord
from trainables.config import TrialConfig
from trainables.parts import Part, TrialData
from trainables.resnet import pack
from trainables.training import Trainer

CLASSES = ["a", "b"]


def test_an_arm_that_wins_after_its_confirm_seeds_is_kept_by_its_search_trial(tmp_path):
    """Its confirm seed's checkpoint went when that trial ended; `best/` stayed the last one's."""
    draw = np.random.default_rng(0)
    part = Part(draw.integers(0, 256, (8, 1, 8, 8), dtype=np.uint8), np.arange(8) % 2)
    state = StudyState(header={"dataset": {"classes": CLASSES, "image_shape": [1, 8, 8]}})

    def complete(stage: str, accuracy: float | None, **values: int) -> int:
        config = TrialConfig(depth=10, width=4, max_epochs=1, **values)
        reading = {"epoch": 1, "validation_accuracy": accuracy, "validation_loss": 1.0}
        number = len(state.trials)
        known = {"state": "complete", "epochs": [reading]}
        state.trials[number] = TrialRecord(
            number, stage, "random", "arm", config.to_dict(), 1, 1, **known
        )
        trainer = Trainer(config, TrialData(part, part, None, 2, False))
        trainer.run_epoch()
        content = pack({"pixel_mean": [0.5], "pixel_std": [0.5], "trainer": trainer.state_dict()})
        save_checkpoint(tmp_path, number, 1, memoryview(content))
        return number

    state.winner = state.trials[complete("search", 0.5, stem_kernel=3)]
    keep_best(tmp_path, state)
    confirmed = complete("confirm", None, stem_kernel=5, seed=1)
    for path in (tmp_path / "checkpoints" / str(confirmed)).iterdir():
        path.unlink()
    assert (tmp_path / "best" / "trial.txt").read_text() == "0\n"
    winner = complete("search", 0.9, stem_kernel=5)
    state.winner = state.trials[winner]
    assert state.chosen().trial == confirmed
    keep_best(tmp_path, state)
    assert (tmp_path / "best" / "trial.txt").read_text() == f"{winner}\n"
    assert json.loads((tmp_path / "best" / "config.json").read_text())["config"]["stem_kernel"] == 5
