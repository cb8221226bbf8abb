"""The look-out over the rank of a torchrun process, which may be stuck inside CUDA.

A host that waits for its GPU does not see that another rank is gone: the GPU waits in a kernel of
NCCL, for half an hour. Aborting NCCL ends the kernel, and the host comes back.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ...errors import WorkerStalled
from .watch import Watch

POLL = 0.2
"""Seconds between two looks."""


@contextmanager
def lookout(watch: Watch, rank: int, release: Callable[[], None]) -> Iterator[None]:
    """While it lasts, a rank that computes for too long is released.

    Args:
        watch: over the run.
        rank: of this process.
        release: ends what its GPU waits for.

    Raises:
        WorkerStalled: it was released; says where it stood.
    """
    over = threading.Event()
    stood: list[str] = []

    def look() -> None:
        while not over.wait(POLL):
            if watch.has_stuck(rank):
                stood.append(watch.where(rank))
                release()
                return

    thread = threading.Thread(target=look, name="pipelab look-out", daemon=True)
    thread.start()
    failure: BaseException | None = None
    try:
        yield
    except BaseException as error:
        failure = error
    over.set()
    thread.join()
    if stood:
        raise WorkerStalled(
            f"The run stalled. {stood[0]}\nIts GPU may have waited for a rank that is gone. If an "
            "action really takes that long, allow more with timeout=… (seconds)."
        ) from failure
    if failure is not None:
        raise failure
