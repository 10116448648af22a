"""Which Ray a study joins."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from study.cluster.start import JOB, check_kept, cluster_address
from trainables.config import UsageError


@pytest.fixture
def listening():
    """Addresses where something listens that speaks as Ray's head does."""
    servers = [grpc.server(ThreadPoolExecutor(1)) for _ in range(2)]
    addresses = [f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}" for server in servers]
    for server in servers:
        server.start()
    yield addresses
    for server in servers:
        server.stop(None)


def test_an_address_is_asked_for_or_inherited_or_none(listening, monkeypatch, tmp_path):
    one, other = listening
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # no `ray start` on this machine
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert cluster_address(None) is None
    assert cluster_address("local") is None
    assert cluster_address(one) == one
    with pytest.raises(UsageError, match="--address: invalid value 'auto': expected RAY_ADDRESS"):
        cluster_address("auto")
    monkeypatch.setenv("RAY_ADDRESS", other)
    assert cluster_address(None) == cluster_address("auto") == other
    assert cluster_address("local") is None
    assert cluster_address(one) == one
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")  # as for `ray job submit`
    with pytest.raises(UsageError, match=r"RAY_ADDRESS: invalid value 'http://127\."):
        cluster_address(None)


def test_auto_is_the_cluster_that_ray_start_made_current(listening, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("study.cluster.start.read_ray_address", lambda: listening[0])
    assert cluster_address("auto") == listening[0]
    assert cluster_address(None) is None


def test_in_a_job_results_must_lie_outside_its_package(monkeypatch, tmp_path):
    check_kept("results")
    monkeypatch.setenv(JOB, "{}")
    check_kept(str(tmp_path))
    check_kept("~/results")
    with pytest.raises(UsageError, match="--results-dir: invalid value 'results': expected an abs"):
        check_kept("results")
