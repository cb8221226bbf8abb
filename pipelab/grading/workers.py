"""Students graded side by side: each worker is a process that supervises one exercise at a time.

    grade_class ── a line of JSON: an exercise, a copy of the student's files ──▶ worker
                ◀── a line of JSON: the grade ──

The supervisor ends every process that was started while it graded; so it needs a process of its
own. A worker that dies costs one grading, which then did not take place; the next gets a new one.

python -m pipelab.grading.workers
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import astuple, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from .exercise import Exercise
from .results import NOT_GRADED, Grade, ungraded, with_points
from .supervisor import Limits, supervise

GOODBYE_SECONDS = 5.0
"""That a worker has to end by itself what it has started."""


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
    """A number of workers, started when they are first needed."""

    limits: Limits
    _idle: queue.SimpleQueue["_Worker"] = field(default_factory=queue.SimpleQueue)
    _all: list["_Worker"] = field(default_factory=list)
    _closed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def grade(self, exercise: Exercise, submission: Path, student: str) -> Grade:
        """Grade in a worker that is idle, whatever happens there.

        Raises:
            Stopped: all of it was ended meanwhile.
        """
        try:
            worker = self._idle.get_nowait()
        except queue.Empty:
            worker = self._new()
        task = {
            "exercise": [exercise.number, exercise.name, str(exercise.tests), str(exercise.file)],
            "submission": str(submission),
            "student": student,
            "limits": astuple(self.limits),
        }
        answer = worker.ask(task)
        if self._closed:
            raise Stopped
        if "grade" in answer:
            self._idle.put(worker)
            return Grade.from_dict(answer["grade"])
        if worker.process.poll() is None and "error" in answer:
            self._idle.put(worker)
        why = answer.get("error", "the process that graded ended by itself")
        return ungraded(exercise, "error", NOT_GRADED, note=why)

    def _new(self) -> "_Worker":
        with self._lock:
            if self._closed:
                raise Stopped
            worker = _Worker()
            self._all.append(worker)
            return worker

    def close(self) -> None:
        """End them, and all that they have started."""
        with self._lock:
            self._closed = True
        for worker in self._all:
            with contextlib.suppress(ProcessLookupError):
                worker.process.terminate()
        for worker in self._all:
            worker.end()


class _Worker:
    """The teacher's side of a worker."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipelab.grading.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in a terminal is for its parent alone
        )

    def ask(self, task: dict[str, Any]) -> dict[str, Any]:
        """Give a task; the answer is empty if the worker has ended."""
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps(task).encode() + b"\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline() or b"{}")
        except (OSError, ValueError):
            return {}

    def end(self) -> None:
        """Wait for its end, and bring it about if need be."""
        try:
            self.process.wait(GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in psutil.Process(self.process.pid).children(recursive=True):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.kill()
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()


def work() -> None:
    """Grade what comes in, one line after the other, until the input ends."""
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever is printed here is no answer
    for line in _tasks():
        task = json.loads(line)
        number, name, tests, file = task["exercise"]
        exercise = Exercise(number, name, Path(tests), Path(file))
        limits = Limits(*task["limits"])
        submission, student = Path(task["submission"]), task["student"]
        try:
            grade = supervise(exercise, submission=submission, student=student, limits=limits)
            answer: dict[str, Any] = {"grade": with_points(grade, exercise).to_dict()}
        except Exception as error:  # the next student's turn comes
            answer = {"error": f"{type(error).__name__}: {error}"}
        data = json.dumps(answer).encode() + b"\n"
        while data:
            data = data[os.write(answers, data) :]


def _tasks() -> Iterator[str]:
    """The lines of the input. When it ends, the parent is gone, and this process stops at once."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield lines.get()


if __name__ == "__main__":
    with stopping(), contextlib.suppress(KeyboardInterrupt):
        work()
