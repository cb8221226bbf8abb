"""When things happen on a rank: a clock of the host, or events on the stream of its GPU.

The interpreter asks for a stamp at each turn and hands the stamps of an action over to be written
into the trace. The host knows the time at once. A GPU works behind the host, which only queues:
there a stamp is an event, and an action is written when its last event has come to pass. All times
are seconds on the host's clock.
"""

import math
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from .board import STATUS, TRACE, Board

BASE_LASTS = 8.0
"""Seconds for which events count from one base: CUDA gives the time between two in 32 bits, after 8
s to half a microsecond.
"""
STEPS_APART = 8
"""More than ranks are apart: what the steps before counted from is forgotten."""
AHEAD = 8
"""Actions that a host may be ahead of its GPU. Further ahead it gains nothing, and memory that
another rank has read is not given out again before the GPU has come there.
"""
AT_ONCE = 30e-6
"""Seconds within which an event comes to pass whose GPU has nothing else to do."""
_ROW = struct.Struct(f"<{len(TRACE)}d")
_ACTION, _SINCE, _DONE = (STATUS.index(name) for name in ("action", "since", "done"))


class HostClock:
    """Stamps are the host's own time.

    settle: waits for work that the host has only queued; None where there is none. has_passed: is
    told of an action that a GPU has done, before its row is written. first_atom: where the rows of
    this rank's pipeline begin.
    """

    behind: ClassVar[bool] = False
    """Whether what is queued may still have to be computed when an action is written."""

    def __init__(self, board: Board, rank: int, settle: Any = None):
        self._memory, self._status, self._rank = board.memory, board.status, rank
        self._trace_at = (
            board.trace.ctypes.data - np.frombuffer(board.memory, np.uint8, 1).ctypes.data
        )
        self.first_atom = 0
        self._step_bytes, self.settle = board.trace.shape[1] * _ROW.size, settle
        self.stamp: Callable[[], Any] = time.perf_counter
        self.later: Callable[..., Any] = max
        self.has_passed: Callable[[int], None] = lambda _: None
        self.done = 0

    def begin(self, step: int) -> None:
        """A training step begins; its number says where its trace stands."""
        self._at = self._trace_at + step * self._step_bytes + self.first_atom * _ROW.size

    def write(
        self,
        atom: int,
        asked: Any,
        sent: Any,
        started: Any,
        ended: Any,
        worked: float,
        *rest: float,
    ) -> None:
        """Write one row of the trace.

        Stamps, seconds of work, and whatever else there is to say of the action.
        """
        at, arrived = self._at + atom * _ROW.size, started
        row = asked, sent, arrived, started, ended, worked
        _ROW.pack_into(self._memory, at, *row, *rest)
        self.done += 1
        self._status[self._rank, _DONE] = self.done

    def finish(self) -> None:
        """The step has ended: all of its rows are written."""

    def waited_for_host(self) -> float | None:
        """None: what is queued on a GPU, if anything, is waited for."""
        return None


def queued() -> float:
    """Seconds that this thread could have run, but no processor was free; nan where nobody counts.

    Linux counts them: Documentation/scheduler/sched-stats.
    """
    try:
        with open("/proc/thread-self/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return math.nan


class Stamp(NamedTuple):
    """An event on a GPU, and the one from which it counts, with its time on the host.

    queued: when the host had queued it.
    """

    event: Any
    base: Any
    origin: float
    queued: float

    def seconds(self) -> float:
        """The time of the event on the host's clock, once it has come to pass."""
        return self.origin + self.base.elapsed_time(self.event) / 1e3


def _seconds(stamp: Any) -> float:
    """Of an event that has come to pass, of the host's time, or of the latest of several."""
    if isinstance(stamp, list):
        return max(map(_seconds, stamp))
    return stamp.seconds() if isinstance(stamp, Stamp) else stamp


def _all_of(*stamps: Any) -> list:
    """Which of several stamps is the latest is seen when all have come to pass."""
    return list(stamps)


class EventClock(HostClock):
    """Stamps are events on the stream of a GPU.

    What came from another process brings a time of the host. bases: from what events count, by
    (GPU, step), shared by the clocks of ranks in one process. cuda: torch.cuda.
    """

    behind = True
    _lock = threading.Lock()

    def __init__(
        self, board: Board, rank: int, device: torch.device, bases: dict, cuda: Any = torch.cuda
    ):
        super().__init__(board, rank)
        self._cuda, self._device, self._bases = cuda, device, bases
        self._waiting: deque[tuple] = deque()
        self.stamp, self.later = self._event, _all_of
        self._base: tuple[Any, float]
        self._computed = self._starved = 0.0

    def begin(self, step: int) -> None:
        """A training step begins: all ranks on one GPU count from a base that is not too old."""
        super().begin(step)
        if step == 1:  # the first one loads kernels, which takes the host long
            self._computed = self._starved = 0.0
        with self._lock:
            base = self._bases.get((self._device, step))
            if base is None:
                base = self._bases.get((self._device, step - 1))
                if base is None or time.perf_counter() - base[1] > BASE_LASTS:
                    base = self._new_base()
                self._bases[self._device, step] = base
                self._bases.pop((self._device, step - STEPS_APART), None)
            self._base = base

    def _new_base(self) -> tuple[Any, float]:
        """An event that comes to pass at once, and its time on the host."""
        event = self._new_event()
        self._cuda.current_stream(self._device).synchronize()
        base = event, time.perf_counter()
        event.record()
        event.synchronize()
        return base

    def _new_event(self) -> Any:
        """An event whose time counts. Who waits for it sleeps: others may need the core."""
        return self._cuda.Event(enable_timing=True, blocking=True)

    def _event(self) -> Stamp:
        event = self._new_event()
        event.record()
        return Stamp(event, *self._base, time.perf_counter())

    def write(
        self,
        atom: int,
        asked: Any,
        sent: Any,
        started: Any,
        ended: Any,
        worked: float,
        *rest: float,
    ) -> None:
        """Write the rows whose last event has come to pass; wait where there are many others."""
        self._waiting.append((atom, (asked, sent, started, ended), worked, rest))
        while len(self._waiting) > AHEAD:
            self._wait_for_first()
        while self._waiting and self._waiting[0][1][-1].event.query():
            self._write_first()

    def finish(self) -> None:
        """Write what is left, each row when its time comes: somebody may be watching."""
        while self._waiting:
            self._wait_for_first()

    def _wait_for_first(self) -> None:
        """Wait until the GPU has done its oldest action. That is where the rank stands then."""
        atom, stamps, *_ = self._waiting[0]
        self._status[self._rank, _ACTION] = self.first_atom + atom
        stamps[-1].event.synchronize()
        self._write_first()
        self._status[self._rank, _SINCE] = time.perf_counter()

    def _write_first(self) -> None:
        atom, stamps, worked, rest = self._waiting.popleft()
        asked, sent, started, ended = map(_seconds, stamps)
        worked = ended - started if worked else 0.0
        self._computed += worked
        if ended - stamps[-1].queued < AT_ONCE:
            self._starved += worked
        self.has_passed(atom)
        super().write(atom, asked, sent, started, ended, worked, *rest)

    def waited_for_host(self) -> float:
        """The share of its time that the GPU computed things as soon as the host queued them."""
        return self._starved / self._computed if self._computed else 0.0
