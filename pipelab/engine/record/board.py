"""The shared memory of one run.

    status   per rank      step, action, phase, since
    trace    per step      per atom: asked … version
    losses   per step      per micro-batch
    queued   per step      per rank
    slots    per message   sequence, consumed, offset, bytes, dtype, shape, planned, sent
    groups   per worker    of its data and its tensor group: posted, released, two posts
    arenas   per rank      the tensors it sends

One sparse file that only the run's processes hold: pages appear when they are touched, and all of
it is gone when the last process ends. Nothing to clean up, and no limit of /dev/shm to meet.
"""

import mmap
import os
import tempfile

import numpy as np

TRACE = (
    "asked",
    "sent",
    "arrived",
    "started",
    "ended",
    "worked",
    "bytes_held",
    "bytes_after",
    "bytes_sent",
    "version",
    "collective",
    "collective_bytes",
)
STATUS = ("step", "action", "phase", "since", "done")
COMPUTING, WAITING, BETWEEN = 1.0, 2.0, 0.0
TOGETHER = 3.0
"""A phase: inside an action, waiting for those who compute it together."""
DATA, TENSOR = range(2)
"""The groups of a worker."""
SLOT_BYTES = 128
ARENA_BYTES = 4 << 30
"""Per rank, where files may be that large; they are sparse."""
_PAGE = 1 << 16


def create_file(size: int) -> int:
    """Make a sparse, nameless file. Returns its descriptor.

    A memfd where there is one, else an unlinked temporary file.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("pipelab")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


class Board:
    """Views of the shared file; every process of the run makes its own from the same five sizes.

    messages: how many different tensors cross between ranks in one step.
    """

    def __init__(
        self,
        descriptor: int | None,
        *,
        ranks: int,
        steps: int,
        atoms: int,
        microbatches: int,
        messages: int,
    ):
        shapes = {
            "status": (ranks, len(STATUS)),
            "trace": (steps, atoms, len(TRACE)),
            "losses": (steps, microbatches),
            "queued": (steps, ranks),
        }
        offsets, end = {}, 0
        for name, shape in shapes.items():
            offsets[name] = end
            end += _round_up(8 * int(np.prod(shape)))
        self._slots = end
        self._groups = end + _round_up(SLOT_BYTES * messages)
        self._arenas = self._groups + _round_up(SLOT_BYTES * len((DATA, TENSOR)) * ranks)
        arena = min(
            ARENA_BYTES, max(_PAGE, (_largest_file() - self._arenas) // ranks // _PAGE * _PAGE)
        )
        self.descriptor = (
            create_file(self._arenas + ranks * arena) if descriptor is None else descriptor
        )
        self.size = os.fstat(self.descriptor).st_size
        self.arena_bytes = (self.size - self._arenas) // ranks
        self.memory = mmap.mmap(self.descriptor, self.size)
        for name, shape in shapes.items():
            count = int(np.prod(shape))
            array = np.frombuffer(self.memory, np.float64, count, offsets[name]).reshape(shape)
            setattr(self, name, array)
        self.status: np.ndarray
        self.trace: np.ndarray
        self.losses: np.ndarray
        self.queued: np.ndarray

    def slot(self, message: int) -> int:
        """Offset of a message's header."""
        return self._slots + SLOT_BYTES * message

    def group_head(self, rank: int, kind: int) -> int:
        """Offset of what a rank says to its group."""
        return self._groups + SLOT_BYTES * (len((DATA, TENSOR)) * rank + kind)

    def arena(self, rank: int) -> int:
        """Offset of the memory in which a rank puts what it sends."""
        return self._arenas + rank * self.arena_bytes

    def close(self) -> None:
        """Let go of the file. Views taken before must not be used any more."""
        del self.status, self.trace, self.losses, self.queued
        try:
            self.memory.close()
        except BufferError:  # somebody still holds a view: the memory goes with it
            pass
        os.close(self.descriptor)


def _largest_file() -> int:
    """Bytes that a file of this process may have: graded code, for one, runs under a limit."""
    import resource  # Windows lacks it, where importing the engine must still work

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return 1 << 62 if limit == resource.RLIM_INFINITY else limit


def _round_up(size: int) -> int:
    return -(-max(size, 1) // _PAGE) * _PAGE
