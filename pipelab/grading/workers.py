"""Students graded side by side: a judge for each job, with one exercise at a time.

A judge that dies costs one grading, which then did not take place; the next gets a new one.
"""

import contextlib
import os
import queue
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from .exercise import Exercise
from .results import NOT_GRADED, Grade, ungraded, with_points
from .room import Limits
from .supervisor import Judge, supervise


class Stopped(Exception):
    """The grading was ended from outside."""


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """Let SIGTERM be what Ctrl-C is, so that whatever was started is ended."""

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        signal.signal(number, signal.SIG_IGN)  # once is enough: the rest is cleaning up
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass
class Workers:
    """A number of judges, started when they are first needed."""

    limits: Limits
    _idle: queue.SimpleQueue[Judge] = field(default_factory=queue.SimpleQueue)
    _all: list[Judge] = field(default_factory=list)
    _closed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def grade(self, exercise: Exercise, submission: Path, student: str | None) -> Grade:
        """Grade with a judge that is idle, whatever happens there.

        Raises:
            Stopped: all of it was ended meanwhile.
        """
        judge = self._judge()
        try:
            grade = supervise(
                exercise, submission=submission, student=student, limits=self.limits, judge=judge
            )
        except Exception as error:  # the next student's turn comes
            note = f"{type(error).__name__}: {error}"
            grade = ungraded(exercise, "error", NOT_GRADED, note=note)
        if self._closed:
            raise Stopped
        if judge.lives:
            self._idle.put(judge)
        return with_points(grade, exercise)

    def _judge(self) -> Judge:
        with contextlib.suppress(queue.Empty):
            return self._idle.get_nowait()
        with self._lock:
            if self._closed:
                raise Stopped
            self._all.append(Judge(ready=True))
            return self._all[-1]

    def close(self) -> None:
        """End them, and all that they have started."""
        with self._lock:
            self._closed = True
        for judge in self._all:
            judge.stop()
        for judge in self._all:
            judge.close()
