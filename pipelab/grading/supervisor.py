"""Lets a judge run the tests of an exercise on a student's file, whatever the file does.

    supervisor ── which tests, which file ──▶ judge: pytest ──▶ room: the student's file
        ▲                                       │
        └─ a line of JSON as each test starts and ends

The judge is trusted. It never imports the student's file, which runs in a room of its own
(room.py), with limits. A judge that gives no sign of life is ended, and the next exercise gets a
new one.
"""

import atexit
import contextlib
import io
import json
import os
import re
import select
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .exercise import Exercise
from .nursery import PYTHON, with_package
from .remote import cause
from .results import Grade, Result
from .room import Limits
from .wire import clean

JUDGE_SECONDS = 180.0
"""That a judge may be silent beyond what the student's code may take."""
LOOK = 0.2
"""Seconds between two looks whether the judge still lives."""
KEPT = 20_000
"""Bytes of output that are kept: the last ones."""
_PARAMETERS = re.compile(r"\[.*\]$", re.DOTALL)


def supervise(
    exercise: Exercise,
    *,
    submission: Path | None = None,
    student: str | None = None,
    limits: Limits | None = None,
    judge: "Judge | None" = None,
) -> Grade:
    """Grade one exercise.

    Args:
        exercise: what is graded, with its tests.
        submission: the folder of the student's file; without it, the exercise's own.
        student: an id that sizes and data may depend on.
        limits: of one test.
        judge: runs the tests; without it, the one that this process keeps.

    Returns:
        The grade, whatever the student's file does. Its status is "error" where the grading did not
        take place.

    Raises:
        UsageError: this system has no fork.
    """
    if not hasattr(os, "fork"):
        raise UsageError(
            "Supervised grading needs Linux or macOS; plain `pytest exercises` works everywhere."
        )
    begin = time.monotonic()
    limits = limits or Limits()
    judge, grading = judge or _judge(), _Grading(exercise)
    request = {
        "tests": str(exercise.tests.resolve()),
        "submission": None if submission is None else str(submission.resolve()),
        "id": student,
        "limits": json.dumps(astuple(limits)),
    }
    tests = exercise.tests.read_bytes()
    for event in judge.run(request, 2 * limits.seconds + JUDGE_SECONDS):
        grading.take(event)
    if exercise.tests.read_bytes() != tests:  # only without a sandbox
        exercise.tests.write_bytes(tests)
        grading.tamper()
    grading.output = judge.output()
    if len(grading.ended) < len(grading.tests) or not grading.tests:
        grading.note = grading.note or f"the tests did not run to their end: {judge.why()}"
    return grading.grade(time.monotonic() - begin)


class Judge:
    """The supervisor's side of a judge.

    ready: where the tests import torch, its rooms find imported what torch itself imports later,
    too. That takes seconds once.
    """

    def __init__(self, *, ready: bool = False) -> None:
        read, write = os.pipe()
        self._tail = deque[bytes](maxlen=KEPT)
        self._late = self._busy = self._over = False
        command = [*PYTHON, "pipelab.grading.judge", str(write)]
        with os.fdopen(write):
            self._process = subprocess.Popen(
                [*command, "ready"] if ready else command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=with_package(os.environ)
                | {
                    "CUDA_VISIBLE_DEVICES": "",
                    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                    "PYTHONDONTWRITEBYTECODE": "1",
                },
                pass_fds=[write],
                start_new_session=True,
            )
        self._events = open(read, "rb", buffering=0)
        self._reader = threading.Thread(
            target=_drain, args=(self._process.stdout, self._tail), daemon=True
        )
        self._reader.start()

    @property
    def lives(self) -> bool:
        """Whether it can take another request."""
        return self._process.poll() is None and not self._late and not self._over

    def run(self, request: dict[str, Any], silence: float) -> Iterator[dict[str, Any]]:
        """What it tells about one exercise; the last event is that it is done.

        silence: seconds that it may tell nothing; then it is ended.
        """
        self._tail.clear()
        self._busy = self._over = True  # what comes of this request must not be taken for the next
        try:
            self._send(request)
            for event in self._told(silence):
                self._over = "done" not in event
                yield event
        except BrokenPipeError:  # it has ended before it could be asked
            pass
        finally:
            if not self.lives:
                self.close()
            self._busy = False

    def _send(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()

    def _told(self, silence: float) -> Iterator[dict[str, Any]]:
        rest, until = b"", time.monotonic() + silence
        while True:
            ended = self._process.poll() is not None
            if not select.select([self._events], [], [], 0.0 if ended else LOOK)[0]:
                self._late = time.monotonic() > until
                if ended or self._late:
                    return
                continue
            data = self._events.read(1 << 16)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for event in map(json.loads, lines):
                until = time.monotonic() + silence
                yield event
                if "done" in event:
                    return

    def output(self) -> str:
        """The end of what was printed."""
        return clean(b"".join(self._tail).decode(errors="replace"))

    def why(self) -> str:
        """Why it did not run all tests."""
        if self._late:
            return "they took too long"
        code = self._process.poll()
        return "see what they printed" if code is None else cause(code).replace("your code", "they")

    def stop(self) -> None:
        """Ask it to end, and to end what it has started."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        if self._busy and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """End it, at once where it was silent for too long. Safe to call twice."""
        self.stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0 if self._late else 5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(1)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._events.close()


_JUDGES: list[Judge] = []
"""The one of this process, if there is one."""


def _judge() -> Judge:
    """The judge of this process, a new one if there is none that lives."""
    if not _JUDGES or not _JUDGES[0].lives:
        _JUDGES[:] = [Judge()]
        atexit.register(_JUDGES[0].close)
    return _JUDGES[0]


@dataclass
class _Grading:
    """What is known of the tests of one exercise."""

    exercise: Exercise
    tests: list[dict[str, Any]] = field(default_factory=list)
    """As collected: id, points, title."""
    ended: dict[str, dict[str, Any]] = field(default_factory=dict)
    test: str | None = None
    """That runs now."""
    note: str = ""
    output: str = ""
    confined: bool = True

    def take(self, event: dict[str, Any]) -> None:
        """Take in what the judge tells: each test starts once, and ends once after it."""
        if "collected" in event:
            self.tests = event["collected"]
        elif "broken" in event:
            self.note = event["broken"]
        elif "done" in event:
            self.confined = event["confined"] is not False
        elif "start" in event:
            self.test = event["start"]
        elif "end" in event and event["end"] == self.test and self.test not in self.ended:
            self.ended[event["end"]] = event
            self.test = None

    def tamper(self) -> None:
        """The student's code has changed the tests: no result counts."""
        text = "your code changed the tests, so no result counts"
        for end in self.ended.values():
            end |= {"status": "tampered", "message": text, "share": 0.0}

    def grade(self, seconds: float) -> Grade:
        """Sum up: a result per test function; several cases of one share its points."""
        groups: dict[str, list[dict[str, Any]]] = {}
        for test in self.tests:
            groups.setdefault(_PARAMETERS.sub("", test["id"]), []).append(test)
        return Grade(
            self.exercise.name,
            self.exercise.title,
            [self._result(name, cases) for name, cases in groups.items()],
            seconds=seconds,
            note=self.note,
            output=self.output,
            confined=self.confined,
        )

    def _result(self, name: str, cases: list[dict[str, Any]]) -> Result:
        never = {
            "status": "error",
            "message": "it never got its turn",
            "share": 0.0,
            "seconds": 0.0,
        }
        ends = [self.ended.get(case["id"], never) for case in cases]
        share = sum(end["share"] for end in ends) / len(ends)
        points = cases[0]["points"]
        result = Result(name.rpartition("::")[2], cases[0]["title"], points, status="passed")
        result.score = round(points * share, 6)
        result.seconds = sum(end["seconds"] for end in ends)
        bad = next((end for end in ends if end["status"] != "passed"), None)
        if bad is not None:
            result.status = "partial" if share else bad["status"]
            result.message = bad["message"]
            result.schedule, result.expected = bad.get("schedules", ("", ""))
        return result


def _drain(stream: io.BufferedReader, tail: deque[bytes]) -> None:
    """Read whatever is printed, so that nobody waits, and keep the end of it."""
    while chunk := stream.read1(1 << 16):
        tail.extend(chunk[i : i + 1] for i in range(max(0, len(chunk) - KEPT), len(chunk)))
