"""The judge's side of a room: calls of the student's functions, with a deadline.

    student.makespan(rows)              what it returns, as plain data
    student.split.keep(layers, 2)       the same, but it stays in the room: a Handle

A student's process that dies or passes the deadline costs the test that ran. The next one gets a
new room.
"""

import json
import os
import pickle
import select
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import room, wire
from .nursery import Nursery
from .room import Limits
from .wire import clean

AGAIN = 0.2
"""The part of a test's time that a function still gets which once did not end."""
START_SECONDS = 120.0
"""That a process may take until it is there, torch's import included."""


class StudentError(AssertionError):
    """The student's code raised. line: of their file, where it is known."""

    def __init__(self, text: str, line: int | None = None):
        super().__init__(text)
        self.line = line


class NotStarted(Exception):
    """The student's function is still the stub's."""


class NoResult(Exception):
    """The student's code gave no result.

    status: "timed out", "ended the process", "cannot be read" or "missing".
    """

    def __init__(self, status: str, text: str):
        super().__init__(text)
        self.status = status


@dataclass(eq=False)
class Handle:
    """Something that stays in the room: a model, or what a function keeps.

    type: what kind of thing, in the student's own words.
    """

    number: int
    type: str
    guest: "Guest" = field(repr=False)

    def __reduce__(self) -> tuple:
        return room.thing, (self.number,)

    def __eq__(self, other: object) -> bool:
        """Whether both are the very same thing."""
        return isinstance(other, Handle) and self.number == other.number

    __hash__ = None  # type: ignore[assignment]

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method."""
        return self.guest.ask("call", self, method, arguments)

    def value(self) -> Any:
        """The thing as plain data."""
        return self.guest.ask("value", self)

    def parts(self) -> "list[Handle]":
        """What one gets by iterating over it."""
        return self.guest.ask("parts", self)

    def gradients(self) -> dict[str, Any]:
        """Of a module's parameters, by name: tensors, or None."""
        return self.guest.ask("gradients", self)

    def forget(self) -> None:
        """Let the room hold it no longer."""
        self.guest.ask("forget", self.number)

    def is_alive(self) -> bool:
        """Whether the student's code holds it, after ``forget``."""
        return self.guest.ask("is_alive", self.number)


@dataclass(frozen=True)
class Function:
    """A function of the student's file."""

    name: str
    guest: "Guest"

    def __call__(self, *arguments: Any) -> Any:
        """Call it. What it returns comes as plain data, with handles for what is not."""
        return self.guest.ask("call", None, self.name, arguments)

    def keep(self, *arguments: Any) -> Handle:
        """Call it. What it returns stays in the room."""
        return self.guest.ask("keep", None, self.name, arguments)


class Student:
    """The student's file: its functions and classes as attributes."""

    def __init__(self, guest: "Guest"):
        self._guest = guest

    def __getattr__(self, name: str) -> Function:
        if name.startswith("_"):
            raise AttributeError(name)
        return Function(name, self._guest)


class Guest:
    """A student's file in a room of its own.

    Args:
        nursery: where its room comes from.
        file: the student's.
        without: packages that it may not use -> what to tell who does.
        limits: of a test.
    """

    def __init__(self, nursery: Nursery, file: Path, without: dict[str, str], limits: Limits):
        self._nursery = nursery
        self._file, self._without, self._limits = file, without, limits
        self._line: socket.socket | None = None
        self._left = 0.0
        """Seconds that the running test may still take: those of the student's process alone."""
        self._broken: Exception | None = None
        """Why the file cannot be imported: the tests after it need not try again."""
        self._home = ""
        self._late: set[str] = set()
        """Functions that did not end within a test's time."""

    def begin(self) -> None:
        """A test begins: its time runs from now on."""
        if self._broken is not None:
            raise self._broken
        if not self._file.exists():
            raise NoResult("missing", _missing(self._file))
        if self._line is None:
            self._start()
            self._left = self._limits.seconds
            try:
                self.ask("load", str(self._file), self._without)
            except NotStarted:
                self.close()
                raise
            except Exception as error:
                self._broken = self._unreadable(error)
                self.close()
                raise self._broken from None
        self._left = self._limits.seconds

    def ask(self, verb: str, *arguments: Any) -> Any:
        """Ask the room for something.

        Raises NotStarted, StudentError and NoResult.
        """
        if self._line is None:
            raise NoResult("ended the process", "the student's process is over")
        function = str(arguments[1]) if verb in ("call", "keep") else ""
        if function in self._late:
            self._left = min(self._left, AGAIN * self._limits.seconds)
        try:
            wire.send(self._line, pickle.dumps((verb, *arguments)))
        except OSError:
            raise self._over() from None
        return self._decoded(self._answer(function))

    def put(self, value: Any) -> Handle:
        """Bring a thing of the test's, such as a model, into the room."""
        return self.ask("put", value)

    def do(self, function: Callable, *arguments: Any) -> Handle:
        """Call a function of torch or Python on things in the room; its result stays there."""
        return self.ask("do", function, *arguments)

    def close(self) -> int:
        """End the room, and all that it has started. Returns its exit status."""
        if self._line is None:
            return 0
        self._line.close()
        self._line = None
        status = self._nursery.end()
        shutil.rmtree(self._home, ignore_errors=True)
        return status

    def _start(self) -> None:
        self._home = tempfile.mkdtemp(prefix="pipelab-")
        self._line = self._nursery.open(self._limits, self._home, str(self._file.parent))
        self._left = START_SECONDS
        self._nursery.confined = self._decoded(self._answer())

    def _answer(self, function: str = "") -> dict[str, Any]:
        """The next message of the room, which runs a function of the student's."""
        until = time.monotonic() + self._left
        data, wanted = bytearray(), wire.LENGTH.size
        while len(data) < wanted:
            left = until - time.monotonic()
            if self._line is None or left <= 0 or not select.select([self._line], [], [], left)[0]:
                self.close()
                raise NoResult("timed out", self._too_long(function))
            try:
                more = self._line.recv(min(wanted - len(data), 1 << 20))
            except OSError:
                more = b""
            if not more:
                raise self._over()
            data += more
            if len(data) == wire.LENGTH.size == wanted:
                (length,) = wire.LENGTH.unpack(data)
                if not 0 < length <= wire.LARGEST:
                    raise self._garbled()
                wanted += length
        self._left = until - time.monotonic()
        try:
            answer = json.loads(data[wire.LENGTH.size :])
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise self._garbled()
        return answer

    def _too_long(self, function: str) -> str:
        """What to tell of a function that does not end, or of the file, if it is none."""
        seconds, again = self._limits.seconds, AGAIN * self._limits.seconds
        if function in self._late:
            return f"{function} does not end here either: in this test it had {again:g} s"
        text = f"it did not end within {seconds:g} s: an endless loop, or a wait for something "
        text += "that never comes"
        if function:
            self._late.add(function)
            text = f"{function}(…): {text}. Tests that call it again give it {again:g} s"
        return text

    def _garbled(self) -> NoResult:
        """What came is not an answer: the student's code has written there itself."""
        self.close()
        return NoResult("ended the process", "it wrote into the line to its tests")

    def _over(self) -> NoResult:
        """Why the process is over."""
        return NoResult("ended the process", cause(os.waitstatus_to_exitcode(self.close())))

    def _decoded(self, answer: dict[str, Any]) -> Any:
        try:
            if "error" in answer:
                raise self._error(answer["error"])
            return wire.decode(answer["value"], self._handle)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError):
            raise self._garbled() from None

    def _handle(self, number: int, kind: str) -> Handle:
        return Handle(number, clean(kind)[:100], self)

    def _error(self, error: dict[str, Any]) -> Exception:
        kind, text = clean(str(error["kind"]))[:100], clean(str(error["text"]))
        if kind == "NotImplementedError" and text.startswith("exercise "):
            return NotStarted(text)
        if kind == "SystemExit":
            return StudentError(f"your code ended Python: SystemExit({text})")
        if kind == "AttributeError" and text.startswith("module 'student_"):
            text = text.replace(f"module 'student_{self._file.stem}'", self._file.name)
            return StudentError(text)
        line = error["line"] if isinstance(error["line"], int) else None
        place = ""
        if line is not None and error["file"]:
            place = f" (line {line} of {clean(str(error['file']))[:100]})"
        return StudentError(f"{kind}: {text}{place}", line)

    def _unreadable(self, error: Exception) -> Exception:
        """Why the file cannot be imported, for this test and those after it."""
        if isinstance(error, NoResult):
            return NoResult(error.status, f"while {self._file.name} was imported: {error}")
        text = str(error)
        line = getattr(error, "line", None)
        where = f", line {line}" if text.startswith("SyntaxError") and line else ""
        return NoResult("cannot be read", f"{self._file.name} cannot be imported{where}: {text}")


def _missing(file: Path) -> str:
    there = sorted(path.name for path in file.parent.iterdir()) if file.parent.is_dir() else []
    lies = f"; there is {clean(', '.join(there))[:500]}" if there else ""
    return f"{file.name} is missing{lies}: hand it in under that name"


def cause(code: int) -> str:
    """Why a process has ended, from its exit code: negative for a signal."""
    if code == -signal.SIGXFSZ:
        return "your code wrote a file larger than it may"
    if code == -signal.SIGKILL:
        return "the process was killed: it used more memory than there is"
    if code < 0:
        return f"your code crashed Python itself: {signal.Signals(-code).name}"
    return f"your code ended Python by itself, with exit code {code}, before the test was done"
