"""Changes of Ray's private parts, all of them, one function each: Ray's version, the symptom, and
when it may be deleted. `tests/study/cluster/test_ray_patches.py` shows each symptom without it."""

from ray.air.execution._internal import actor_manager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.execution import class_cache, tune_controller


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


def apply_patches() -> None:
    """Apply all of them; once or more often."""
    share_worker_environment()
    memory_kill_fails_trial()
