"""A cluster of several nodes, each of its own `ray start`: nodes join a study and are lost."""

from collections.abc import Iterator
from pathlib import Path

import commands
import pytest
from buckets import bucket
from chaos import USUAL, Chaos
from clusters import Cluster, environment, lose
from commands import check_same, wait_for
from drivers import TOKEN, Broken, Held, Place

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(home) -> Iterator[Cluster]:
    # Of an earlier test, for all have one home; without it no trial of `Held` passes.
    (home / "go").unlink(missing_ok=True)
    started = Cluster(home)
    yield started
    started.close()


@pytest.fixture
def python(tmp_path) -> Path:
    """A Python with the packages, but without the checkout, as a node has it."""
    return environment(tmp_path / "node")


@pytest.fixture
def other_python(tmp_path) -> Path:
    """A Python that says that it has another numpy."""
    made = environment(tmp_path / "other")
    (site,) = made.parent.parent.glob("lib/*/site-packages")
    (site / "numpy-0.0.1.dist-info").mkdir()
    (site / "numpy-0.0.1.dist-info" / "METADATA").write_text("Name: numpy\nVersion: 0.0.1\n")
    return made


def test_a_study_waits_for_nodes_uses_those_that_join_and_outlives_those_that_are_lost(
    cluster, python, other_python, tmp_path, home
):
    place = Place(tmp_path, cluster.address, home)
    options = "--samples 3 --epochs 4 --scheduler fifo --max-concurrent 2 --checkpoint-seconds 0"
    driver = place.start("grown", options, trainable=Held)
    wait_for(lambda: "waiting for the cluster" in place.output("grown"))
    assert "max_concurrent" not in place.output("grown"), "training is not timed yet"
    first = cluster.join(python)
    note = "max_concurrent: 2, 1 fit now, the others wait for nodes"
    wait_for(lambda: note in place.output("grown"))
    cluster.join(other_python)
    wait_for(lambda: "numpy 0.0.1 is installed, the driver has" in place.output("grown"))
    cluster.join(python)
    wait_for(lambda: two_trials_at_their_second_epoch(place))
    nodes = {trial.node for trial in place.state("grown").trials.values()}
    assert len(nodes) == 2, "the node that joined is used"
    lose(first)
    (home / "go").touch()
    assert place.end(driver) == 0, place.output("grown")
    trials, epochs = place.tables("grown")
    assert trials["state"].tolist() == ["complete"] * 3
    for _, rows in epochs.groupby("trial"):
        assert rows["epoch"].tolist() == [1, 2, 3, 4], "each epoch once"
    (failed,) = [line for line in place.output("grown").splitlines() if "tried again" in line]
    assert failed.endswith("its node was lost or does not answer (all of it: study.log)")


def two_trials_at_their_second_epoch(place: Place) -> bool:
    return [len(trial.epochs) for trial in place.state("grown").trials.values()] == [2, 2]


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({}, "RAY_AUTH_MODE=token is not set"),
        ({"RAY_AUTH_MODE": "token"}, "there is no ~/.ray/auth_token or RAY_AUTH_TOKEN"),
        ({**TOKEN, "RAY_AUTH_TOKEN": "another"}, "the token is another one"),
    ],
    ids=["no mode", "no token", "another token"],
)
def test_a_cluster_that_asks_for_its_token(head, tmp_path, squares, environment, reason):
    place = commands.Place(tmp_path, squares)
    for name in TOKEN:
        place.environment.pop(name, None)
    place.environment |= environment
    expected = f"expected a running cluster (it asks for its token, {reason})"
    line = place.refused("--address", head[0])
    assert line == f"resnet-study: --address: invalid value '{head[0]}': {expected}"


def test_a_trial_is_tried_again_on_another_node_also_while_that_serves_another_study(
    cluster, tmp_path, home
):
    cluster.join()
    place = Place(tmp_path, cluster.address, home)
    options = "--samples 2 --epochs 3 --scheduler fifo --max-concurrent 1"
    other = place.start("other", options, trainable=Held)
    wait_for(lambda: place.events("other") >= 4)
    cluster.join(BROKEN="yes")
    driver = place.start("tried", options, trainable=Broken)
    wait_for(lambda: "tried again" in place.output("tried"))
    (home / "go").touch()
    for name, process in (("other", other), ("tried", driver)):
        assert place.end(process) == 0, place.output(name)
        trials, epochs = place.tables(name)
        assert trials["state"].tolist() == ["complete"] * 2
        assert epochs["epoch"].tolist() == [1, 2, 3] * 2
        assert trials["node"].nunique() == 1
    lines = place.output("tried").splitlines()
    failed = [line for line in lines if "tried again" in line]
    assert 1 <= len(failed) <= 2, "one try of each trial at most"
    assert all("RuntimeError: no disk here" in line for line in failed)
    avoided = [line for line in lines if "no trial runs on node" in line]
    assert len(avoided) == (len(failed) == 2)


def test_whatever_is_killed_a_study_ends_as_if_nothing_had_happened(tmp_path, home, head, python):
    """Nodes without the checkout, no folder that they share with the driver, S3 for storage.

    (`python -m tests.benchmarks.chaos` kills twenty times, heads among them.)
    """
    straight = Place(tmp_path, head[0], home)
    assert straight.run("straight", USUAL) == 0, straight.output("straight")
    with bucket() as s3:
        chaos = Chaos(tmp_path, home, python, s3, seed=0)
        try:
            for kind in ("worker", "machine"):
                chaos.kill(kind)
            assert chaos.end() == 0, chaos.printed
        finally:
            chaos.close()
    assert "tried again" in chaos.printed, "the process that trained was killed"
    assert "fetched from" in chaos.printed
    assert "(raylet)" not in chaos.printed
    check_same(straight, "straight", chaos.place, "chaos", "node")
