"""`ray job submit` as study/cluster/README.md has it: code is sent, a study outlives its job."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from clusters import RAY, Cluster, free_port
from commands import epochs_recorded, wait_for
from drivers import DESIGN_FILE

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


class Jobs:
    """The command line of Ray's jobs, used as on a machine that is not of the cluster."""

    def __init__(self, home: Path, checkout: Path, results: Path) -> None:
        port = free_port()
        dashboard = ["--num-cpus", "2", "--dashboard-port", str(port)]
        for option in ("--dashboard-agent-listen-port", "--ray-client-server-port"):
            dashboard += [option, str(free_port())]
        self.cluster = Cluster(home, *dashboard)
        self.address = ["--address", f"http://127.0.0.1:{port}"]
        self.checkout = checkout
        self.results = results

    def run(self, *arguments: str) -> str:
        """What a command of `ray job` prints."""
        return self._start("command", *arguments).wait() or self.output("command")

    def submit(self, job: str, name: str, options: str) -> subprocess.Popen[bytes]:
        """It prints the job's log, and its exit status is that of the job, 0 if it is stopped."""
        study = f"python study/run.py --name {name} --results-dir {self.results} {options}"
        sent = ["--working-dir", str(self.checkout), "--submission-id", job]
        return self._start(job, "submit", *sent, "--", *study.split())

    def output(self, name: str) -> str:
        return (self.checkout.parent / f"{name}.txt").read_text()

    def _start(self, name: str, action: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.checkout.parent / f"{name}.txt").open("w") as file:
            return subprocess.Popen(
                [RAY, "job", action, *self.address, *arguments],
                env=self.cluster.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )


@pytest.fixture
def jobs(home, tmp_path) -> Iterator[Jobs]:
    checkout = tmp_path / "checkout"
    for folder in ("study", "trainables", "analysis"):
        skipped = shutil.ignore_patterns("__pycache__", "notebooks")
        shutil.copytree(ROOT / folder, checkout / folder, ignore=skipped)
    shutil.copy(ROOT / "pyproject.toml", checkout)
    # It is in the job's working directory and nowhere else.
    (checkout / "small.toml").write_text(DESIGN_FILE)
    started = Jobs(home, checkout, tmp_path / "results")
    yield started
    started.cluster.close()


def test_two_jobs_share_a_cluster_and_one_that_is_stopped_is_continued_by_another(jobs):
    usual = "--dataset digits --design small.toml --samples 2 --confirm-seeds 0 --train-images 200"
    usual += " --scheduler fifo --precision float32 --max-concurrent 1 --checkpoint-seconds 0"
    first = jobs.submit("first", "long", f"{usual} --epochs 40")
    other = jobs.submit("other", "short", f"{usual} --epochs 1")
    wait_for(lambda: first.poll() is not None or epochs_recorded(jobs.results / "long") > 2)
    assert first.poll() is None, jobs.output("first")
    assert "was stopped" in jobs.run("stop", "first")
    first.wait()
    assert epochs_recorded(jobs.results / "long") < 80, "stopped before its end"

    wait_for(lambda: other.poll() is not None or epochs_recorded(jobs.results / "short") == 2)
    # Its report takes longer than its training.
    jobs.run("stop", "other")
    again = jobs.submit("again", "long", "--design small.toml --dataset digits")
    assert again.wait() == 0, jobs.output("again")
    assert "[search 2/2]" in jobs.output("again")
    for name, epochs in (("long", 40), ("short", 1)):
        rows = pd.read_csv(jobs.results / name / "epochs.csv")
        trained = {trial: each["epoch"].tolist() for trial, each in rows.groupby("trial")}
        every = list(range(1, epochs + 1))
        assert trained == {0: every, 1: every}, "each epoch once"
    other.wait()
