"""The nodes of a joined cluster: whether trials can run on them, and which ones are avoided."""

import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.cluster.ray_patches import node_of_actor
from study.errors import CannotStart, error_line, error_text
from study.watch.surfaces import DriverCallback
from trainables.equipment import Equipment, equipment, versions

log = logging.getLogger("study")

ANSWER_SECONDS = 60.0
"""To wait for the first nodes, on which a process starts and imports torch."""
ASK_SECONDS = 1.0
"""Between two looks at which nodes have joined."""
FAILED_TRIALS = 2
"""On a node that is avoided from then on."""


def unfit(answer: Equipment, expected: Mapping[str, str]) -> str:
    """Why trials cannot run on a node with these packages, in one line; empty where they can."""
    for package, version in expected.items():
        installed = answer.versions.get(package)
        if installed is None:
            return f"{package} is not installed, the driver has {version}"
        if installed != version:
            return f"{package} {installed} is installed, the driver has {version}"
    return answer.error


def on_node(node_id: str, soft: bool = False) -> NodeAffinitySchedulingStrategy:
    """Where a task runs that is meant for one node."""
    return NodeAffinitySchedulingStrategy(node_id, soft=soft)


class Nodes(DriverCallback):
    """Asks every node once, as it joins, whether trials can run there.

    Avoided are those that cannot, and while there are others with the cores and GPUs of a trial,
    those on which tries of two trials failed with no epoch in between. A trial that waits for a
    node may start on one that has just joined before that has answered.
    """

    def __init__(self) -> None:
        self._cpus, self._gpus = 0, 0.0
        self._asked: dict[str, Any] = {}
        self._asked_at = 0.0
        self._answers: dict[str, Equipment] = {}
        self._unfit: dict[str, str] = {}
        self._failing: set[str] = set()
        self._failed: defaultdict[str, set[int]] = defaultdict(set)

    def avoided(self, trial: int) -> tuple[str, ...]:
        """The ids of the nodes on which a trial shall not run: those on which none can, and where
        there are others, those on which trials fail, and on which its own tries failed."""
        own = {node_id for node_id, trials in self._failed.items() if trial in trials}
        usable = self._usable()
        for failing in (self._failing | own, self._failing):
            if usable - failing:
                return (*self._unfit, *failing)
        return tuple(self._unfit)

    def _usable(self) -> set[str]:
        """The nodes that have what a trial needs."""
        nodes = _nodes_with_cores()
        large = {
            node_id
            for node_id, node in nodes.items()
            if node["Resources"]["CPU"] >= self._cpus
            and node["Resources"].get("GPU", 0.0) >= self._gpus
        }
        return large - self._unfit.keys()

    def notes(self) -> list[str]:
        """What is recorded of the nodes on which no trial can run."""
        return [f"nodes: no trial runs on {reason}" for reason in self._unfit.values()]

    def wait(self, cpus: int) -> None:
        """Ask those that there are, and wait for their answers; where there is none, ask for one
        with so many cores, which an autoscaler may start for that, and wait for it before.

        Raises:
            CannotStart: the first node cannot be used.
        """
        if not _nodes_with_cores():
            log.info("waiting for the cluster: it has no node with a core yet")
            try:
                ray.get(ray.remote(equipment).options(num_cpus=cpus).remote())
            except ray.exceptions.RayError as error:
                raise CannotStart(error_line(str(error) or type(error).__name__)) from error
        self.ask(ANSWER_SECONDS)

    def need(self, cpus: int, gpus: float) -> None:
        """Say what a trial needs.

        Raises:
            CannotStart: all nodes that have it cannot train.
        """
        self._cpus, self._gpus = cpus, gpus
        if self._unfit and not self._usable():
            raise CannotStart(f"no node of the cluster can train: {'; '.join(self.notes())}")

    def ask(self, seconds: float = 0.0) -> None:
        """Ask the nodes that have joined since; take the answers that come in so many seconds."""
        self._asked_at = time.monotonic()
        for node_id in _nodes_with_cores().keys() - self._asked.keys():
            task = ray.remote(equipment).options(num_cpus=0, scheduling_strategy=on_node(node_id))
            self._asked[node_id] = task.remote()
        open_ = {ref: node_id for node_id, ref in self._asked.items() if ref is not None}
        ready = ray.wait(list(open_), num_returns=len(open_), timeout=seconds)[0] if open_ else []
        for ref in ready:
            self._asked[open_[ref]] = None
            self._take(open_[ref], ref)

    def _take(self, node_id: str, ref: Any) -> None:
        try:
            answer: Equipment = ray.get(ref)
        except ray.exceptions.RayError as error:
            reason = error_line(str(error) or type(error).__name__)
        else:
            self._answers[node_id] = answer
            reason = unfit(answer, versions())
        node = _nodes_with_cores().get(node_id)
        if reason and node is not None:  # it is not gone by now
            self._unfit[node_id] = f"{_name(node)}: {reason}"
            log.warning("no trial runs on node %s", self._unfit[node_id])

    def kinds(self, with_gpu: bool) -> dict[str, str]:
        """One node of every kind that trials may run on: its GPU or processor, and its id."""
        kinds = {}
        for node_id, node in _nodes_with_cores().items():
            if node_id in self._unfit or (with_gpu and not node["Resources"].get("GPU")):
                continue
            if with_gpu:
                kinds[node["Labels"].get("ray.io/accelerator-type", "GPU")] = node_id
            elif node_id in self._answers:
                kinds[self._answers[node_id].cpu] = node_id
        return kinds

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        if time.monotonic() - self._asked_at >= ASK_SECONDS:
            self.ask()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        self._failed.pop(result["node_id"], None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        text = error_text(trial)
        # Not `trial.last_result`, which may ask the process that is gone.
        node_id: str = trial.run_metadata.last_result.get("node_id") or node_of_actor(text) or ""
        node = _nodes_with_cores().get(node_id)
        if node is None:
            return
        self._failed[node_id].add(trial.config["trial"])
        others = self._usable() - self._failing - {node_id}
        if len(self._failed[node_id]) >= FAILED_TRIALS and others:
            self._failing.add(node_id)
            reason = f"{_name(node)}: trials fail there, the last one: {error_line(text)}"
            log.warning("no trial runs on node %s", reason)


def _name(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} {node['NodeID'][:6]}"


def _nodes_with_cores() -> dict[str, dict[str, Any]]:
    return {
        node["NodeID"]: node
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU")
    }
