"""Work on several cores: the figures of a page are drawn side by side."""

import os
import signal
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_on_cores(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """`work` done on every item, as many at a time as there are cores; what one raises is raised
    here. Work, items and results are pickled."""
    tasks = list(items)
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    # A forked process has matplotlib already; to import it takes as long as drawing three figures.
    context = get_context("fork" if sys.platform == "linux" else None)
    workers = max(1, min(cores, len(tasks)))
    with ProcessPoolExecutor(workers, context, initializer=_follow_parent) as pool:
        return list(pool.map(work, tasks))


def _follow_parent() -> None:
    """Leave signals to the parent, and end when it has ended, be it by SIGKILL."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent:
        parent.join()
    os._exit(1)
