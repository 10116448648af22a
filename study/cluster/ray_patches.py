"""Changes of Ray's private parts, all of them, one function each: Ray's version, the symptom, and
when it may be deleted. `tests/study/cluster/test_ray_patches.py` shows each symptom without it."""

import logging
import re
from typing import Any

from ray._private import worker
from ray._private.state import state
from ray.air.execution._internal import actor_manager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.execution import class_cache, tune_controller

log = logging.getLogger("study")


def share_worker_environment() -> None:
    """Ray 2.60.0: Tune asks for worker processes with an environment variable that only another
    library reads.

    Symptom: the first trials cannot take over the processes that Ray starts and preloads, and wait
    seconds for their own. May be deleted when `DEFAULT_ENV_VARS` of
    `ray.tune.execution.class_cache` is empty.
    """
    class_cache.DEFAULT_ENV_VARS.clear()


def memory_kill_fails_trial() -> None:
    """Ray 2.60.0: Tune knows two ways for a trial to fail, and that Ray ended its process for lack
    of memory is neither.

    Symptom: one such trial ends the complete experiment with `RuntimeError`. May be deleted when
    `OutOfMemoryError` is a `RayActorError`, or Tune catches it.
    """
    for module in (actor_manager, tune_controller):
        module.RayActorError = (RayActorError, OutOfMemoryError)  # type: ignore[attr-defined]


def node_of_actor(text: str) -> str | None:
    """The id of the node of the actor that an error of Ray is about; None where none is named.

    Ray 2.60.0: the errors name the actor, and the public way from it to its node asks the
    dashboard, which need not run.
    """
    named = re.search(r"actor_id[=:] ?([0-9a-f]{32})", text)
    actor = state.actor_table(named[1]) if named else {}
    return actor.get("Address", {}).get("NodeID") or None


def log_what_ray_prints() -> None:
    """Ray 2.60.0: what it says of a process of its own that ended is printed whatever `ray.init`
    is asked for.

    Symptom: where a node is lost, twenty lines of its raylet's log come on the terminal. May be
    deleted when `log_to_driver=False` or `logging_level` silences `listen_error_messages`.
    """

    def to_log(data: dict[str, Any], ignore_prefix: bool = False) -> None:
        for line in data["lines"]:
            log.debug("Ray: %s", line)

    worker.print_to_stdstream = to_log


def raylet_socket() -> str:
    """The socket of this machine's raylet, the part of Ray that starts processes here.

    Ray 2.60.0 names it nowhere in public.
    """
    node: Any = worker.global_worker.node
    return str(node.raylet_socket_name)


def apply_patches() -> None:
    """Apply those that every study needs; once or more often."""
    share_worker_environment()
    memory_kill_fails_trial()
