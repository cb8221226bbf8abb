"""Runs the tests of one exercise on a student's file, whatever the file does.

    supervisor ── a process in a session of its own, with limits ──▶ pytest ▶ plugin
        ▲                                                                       │
        └──────── a line of JSON, with a nonce, as each test starts and ends ◀──┘

The supervisor never imports the student's code and trusts no exit code. A process that dies or
passes a deadline costs the test that ran its points, with the cause named, and the rest runs in a
new one. At the end everything that was started is ended: the supervisor is the parent of whatever
lost its own.
"""

import ctypes
import io
import json
import os
import re
import secrets
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from ..errors import UsageError
from .exercise import Exercise
from .plugin import ENVIRONMENT
from .results import Grade, Result

SECONDS = 60.0
"""That one test may take."""
START_SECONDS = 120.0
"""That a process may take until its first test, torch's import included."""
MEMORY = 4 << 30
FILE = 256 << 20
LOOK = 0.1
"""Seconds between two looks whether the process still lives."""
KEPT = 20_000
"""Characters of output that are kept: the last ones."""
_PARAMETERS = re.compile(r"\[.*\]$", re.DOTALL)


@dataclass
class Limits:
    """What a test may take.

    Its seconds, the bytes of memory of its process, and the bytes of a file that it writes.
    """

    seconds: float = SECONDS
    memory: int = MEMORY
    file: int = FILE


def supervise(
    exercise: Exercise,
    *,
    submission: Path | None = None,
    student: str | None = None,
    limits: Limits | None = None,
) -> Grade:
    """Grade one exercise.

    Args:
        exercise: what is graded, with its tests.
        submission: the folder of the student's file; without it, the exercise's own.
        student: an id that sizes and data may depend on.
        limits: of one test.

    Returns:
        The grade, whatever the student's file does.

    Raises:
        UsageError: this system has no fork.
    """
    if not hasattr(os, "fork"):
        raise UsageError(
            "Supervised grading needs Linux or macOS; plain `pytest exercises` works everywhere."
        )
    begin = time.monotonic()
    grading = _Grading(exercise, submission, student, limits or Limits(), _become_reaper())
    grading.run()
    return grading.grade(time.monotonic() - begin)


@dataclass
class _Grading:
    exercise: Exercise
    submission: Path | None
    student: str | None
    limits: Limits
    before: set[int]
    """The processes that were there before, and stay."""
    tests: list[dict[str, Any]] | None = None
    """As collected: id, points, title."""
    ended: dict[str, dict[str, Any]] = field(default_factory=dict)
    note: str = ""
    output: str = ""

    def run(self) -> None:
        """Start processes, one after the other, until every test has its result."""
        while self.tests is None or len(self.ended) < len(self.tests):
            known = len(self.ended)
            left = [test["id"] for test in self.tests or () if test["id"] not in self.ended]
            lost = self._process(left)
            if lost is not None:
                self.ended[lost["id"]] = lost
            if self.tests is None or len(self.ended) == known:
                break  # nothing new: it would go on like this for ever

    def grade(self, seconds: float) -> Grade:
        """Sum up: a result per test function; several cases of one share its points."""
        groups: dict[str, list[dict[str, Any]]] = {}
        for test in self.tests or ():
            groups.setdefault(_PARAMETERS.sub("", test["id"]), []).append(test)
        return Grade(
            self.exercise.name,
            self.exercise.title,
            [self._result(name, cases) for name, cases in groups.items()],
            seconds=seconds,
            note=self.note,
            output=self.output,
        )

    def _result(self, name: str, cases: list[dict[str, Any]]) -> Result:
        never = _lost("error", "it never got its turn")
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
            result.schedule = bad.get("schedule", "")
        return result

    def _process(self, tests: list[str]) -> dict[str, Any] | None:
        """Run these tests in one process.

        Returns the result of the test during which it ended too early; None when all went well.
        """
        read, write = os.pipe()
        nonce, tail = secrets.token_hex(16), deque[str](maxlen=KEPT)
        process = self._start(tests, write, nonce)
        os.close(write)
        drain = threading.Thread(target=_drain, args=(process.stdout, tail), daemon=True)
        drain.start()
        at = _Progress()
        try:
            late = self._follow(_events(read, nonce, process, lambda: self._left(at)), at)
        finally:
            os.close(read)
            code = _end(process)
            _sweep(self.before)
            drain.join(5)
            if process.stdout:
                process.stdout.close()
            self.output = "".join(tail)
        if at.test is not None:
            lost = _lost("timeout", self._too_long()) if late else _lost("crashed", _cause(code))
            return lost | {"id": at.test}
        if self.tests is None and not self.note:
            why = f"the tests could not be collected: {_cause(code)}"
            self.note = "collecting took too long" if late else why
        return None

    def _follow(self, events: Iterator[dict[str, Any] | None], at: "_Progress") -> bool:
        """Take in what the plugin tells; returns whether the process took too long."""
        for event in events:
            if event is None:
                return True
            at.since = time.monotonic()
            if "collected" in event and self.tests is None:
                self.tests = event["collected"]
            elif "broken" in event:
                self.note = event["broken"]
            elif "start" in event:
                at.test = event["start"]
            elif "end" in event:
                self.ended.setdefault(event["end"], event)
                at.test = None
        return False

    def _left(self, at: "_Progress") -> float:
        """Seconds until the process has taken too long."""
        return at.since + (self.limits.seconds if at.test else START_SECONDS) - time.monotonic()

    def _too_long(self) -> str:
        return (
            f"it did not end within {self.limits.seconds:g} s: an endless loop, or a wait for "
            "something that never comes"
        )

    def _start(self, tests: list[str], pipe: int, nonce: str) -> subprocess.Popen[bytes]:
        root = self.exercise.tests.parents[1]
        settings = root / "pytest.ini"
        arguments = ["-q", "-p", "pipelab.grading.plugin", "-p", "no:cacheprovider"]
        arguments += ["--rootdir", str(root)]
        arguments += ["-c", str(settings)] if settings.exists() else []
        arguments += [str(root / test) for test in tests] or [str(self.exercise.tests)]
        limits = [str(self.limits.memory), str(self.limits.file)]
        environment = os.environ | {
            ENVIRONMENT["report"]: str(pipe),
            ENVIRONMENT["nonce"]: nonce,
            "CUDA_VISIBLE_DEVICES": "",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        if self.submission is not None:
            environment[ENVIRONMENT["submission"]] = str(self.submission)
        if self.student is not None:
            environment[ENVIRONMENT["id"]] = self.student
        return subprocess.Popen(
            [sys.executable, "-m", "pipelab.grading.child", *limits, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=[pipe],
            start_new_session=True,
            cwd=root,
        )


@dataclass
class _Progress:
    """Where a process is: in which test, if in any, and since when nothing came of it."""

    test: str | None = None
    since: float = field(default_factory=time.monotonic)


def _lost(status: str, message: str) -> dict[str, Any]:
    """The end of a test that could not tell its own."""
    return {"status": status, "message": message, "share": 0.0, "seconds": 0.0}


def _events(
    pipe: int, nonce: str, process: subprocess.Popen[bytes], left: Callable[[], float]
) -> Iterator[dict[str, Any] | None]:
    """The lines of the pipe that carry the nonce, until the process has ended.

    When ``left()`` is used up, the last is None. The pipe's end is not enough: a child that the
    process leaves behind may hold it open.
    """
    rest = b""
    while True:
        ended = process.poll() is not None
        if not select.select([pipe], [], [], 0.0 if ended else max(0.0, min(left(), LOOK)))[0]:
            if ended:
                return
            if left() <= 0:
                yield None
                return
            continue
        data = os.read(pipe, 1 << 16)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and event.pop("nonce", None) == nonce:
                yield event


def _drain(stream: io.BufferedReader, tail: deque[str]) -> None:
    """Read whatever is printed, so that nobody waits, and keep the end of it."""
    while chunk := stream.read1(1 << 16):
        tail.extend(chunk.decode(errors="replace"))


def _end(process: subprocess.Popen[bytes]) -> int:
    """End the process and its group, unless it has ended.

    Returns its exit code, negative for a signal.
    """
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    return process.wait()


def _cause(code: int) -> str:
    if code == -signal.SIGXFSZ:
        return "your code wrote a file larger than it may"
    if code == -signal.SIGKILL:
        return "the process was killed: it used more memory than there is"
    if code < 0:
        return f"your code crashed Python itself: {signal.Signals(-code).name}"
    return f"your code ended Python by itself, with exit code {code}, before the test was done"


def _become_reaper() -> set[int]:
    """Make this process the parent of orphans among its descendants (Linux).

    Returns the children that it has now.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
    return {child.pid for child in psutil.Process().children(recursive=True)}


def _sweep(before: set[int]) -> None:
    """End every descendant that was not there before."""
    for _ in range(20):
        new = [
            child for child in psutil.Process().children(recursive=True) if child.pid not in before
        ]
        if not new:
            return
        for child in new:
            try:
                child.kill()
            except psutil.NoSuchProcess:
                pass
        psutil.wait_procs(new, timeout=1)
