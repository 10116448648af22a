"""Temporary folders are gone at the end, whoever writes in them."""

import os
from pathlib import Path

from study.signals import interruptible


def test_a_folder_that_a_late_thread_makes_again_is_removed_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with interruptible() as interrupted:
        for _ in range(2):  # stages
            with interrupted.scratch_folder() as folder:
                (Path(folder) / "snapshot").mkdir()
            assert not os.path.exists(folder)
            (Path(folder) / "snapshot").mkdir(parents=True)
    assert list(tmp_path.iterdir()) == []
