"""The pytest plugin of the exercises: points, partial credit, the student's file, and reports.

    @pytest.mark.points(2, "F and B alternate in the steady state")
    def test_steady_state(student, credit): ...

``student`` gives the functions of the file that the student edits: beside the tests, or in the
folder that PIPELAB_SUBMISSION names. They run in a process of their own (room.py), and give plain
data. A module of tests may say what that file may not use: ``WITHOUT = {"pipelab.catalogue": "write
it yourself"}``, or ``{"pipelab.layout:plan": "search yourself"}`` for one function. ``credit(0.5,
"right order, wrong warm-up")`` gives a part of the points when the test fails after it. With
PIPELAB_REPORT, the number of an open pipe, each test is told to the supervisor as it starts and
ends.
"""

import json
import os
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from . import checks
from .cases import Cases
from .nursery import Nursery
from .remote import Guest, NoResult, NotStarted, Student
from .results import seed_of
from .room import Limits
from .wire import shortened

ENVIRONMENT = {
    "report": "PIPELAB_REPORT",
    "submission": "PIPELAB_SUBMISSION",
    "id": "PIPELAB_STUDENT",
    "limits": "PIPELAB_LIMITS",
}
NOT_STARTED = "not started"
CREDIT = pytest.StashKey[tuple[float, str]]()
"""The part of a test's points that it has granted, and why."""
NURSERY: list[Nursery] = []
"""The one that a judge keeps from exercise to exercise."""
LONGEST, LARGEST = 4000, 20_000
"""Characters of a message, and of a schedule in CSV, that are passed on."""


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, and report to the supervisor if there is one."""
    config.addinivalue_line(
        "markers", "points(points, title): what the test is worth, and what it asks for"
    )
    config.pluginmanager.register(Reporter(), "pipelab-reporter")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse tests of a student's file that say no points."""
    for item in items:
        of_student = "student" in getattr(item, "fixturenames", ())
        if of_student and item.get_closest_marker("points") is None:
            raise pytest.UsageError(
                f"{item.nodeid} says no points: @pytest.mark.points(2, 'what it asks for')"
            )


def file_of(test: Path) -> Path:
    """Find the file that the student edits for these tests; it may not be there."""
    stem = test.stem.removeprefix("test_")
    folder = Path(os.environ.get(ENVIRONMENT["submission"]) or test.parent)
    there = [path for path in sorted(folder.glob(f"{stem}.*")) if path.suffix in (".py", ".csv")]
    return there[0] if there else folder / f"{stem}.py"


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Where rooms come from: a process of this session, if there is none that stays."""
    if NURSERY:
        yield NURSERY[0]
        return
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture(scope="module")
def guest(request: pytest.FixtureRequest, nursery: Nursery) -> Iterator[Guest]:
    """The student's file in its process, which the tests of a module share."""
    limits = Limits(*json.loads(os.environ.get(ENVIRONMENT["limits"], "[]")))
    without = getattr(request.module, "WITHOUT", {})
    guest = Guest(nursery, file_of(request.path), without, limits)
    yield guest
    guest.close()


@pytest.fixture
def student(guest: Guest) -> Student:
    """The functions of the student's file."""
    guest.begin()
    return Student(guest)


@pytest.fixture
def student_file(request: pytest.FixtureRequest) -> Path:
    """The student's file as a path, for exercises whose answer is not a program."""
    return file_of(request.path)


@pytest.fixture
def student_seed() -> int:
    """A number that belongs to the student (``--student ID``), else 0.

    Sizes and data may follow from it.
    """
    return seed_of(os.environ.get(ENVIRONMENT["id"], ""))


@pytest.fixture
def credit(request: pytest.FixtureRequest) -> Callable[[float, str], None]:
    """A function that grants a part of the points: ``credit(0.5, "right order")``.

    The share, from 0 to 1, stays when the test fails later on.
    """

    def credit(share: float, reason: str) -> None:
        request.node.stash[CREDIT] = max(0.0, min(1.0, float(share))), reason

    return credit


@pytest.fixture
def case() -> Cases:
    """The cases of a test, of which one that fails costs only itself."""
    return Cases()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Let a test fail whose cases did."""
    result = yield
    if isinstance(cases := pyfuncitem.funcargs.get("case"), Cases):
        cases.close()
    return result


class Reporter:
    """Tells the supervisor, if there is one, what starts and how it ends."""

    def __init__(self) -> None:
        self._pipe = os.environ.get(ENVIRONMENT["report"])
        self._seconds: dict[str, float] = {}

    def _tell(self, **what: object) -> None:
        if self._pipe is not None:
            data = (json.dumps(what) + "\n").encode()
            while data:
                data = data[os.write(int(self._pipe), data) :]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Tell which tests there are."""
        self._tell(collected=[_about(item) for item in session.items])

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Tell why a file of tests cannot be read."""
        if report.failed:
            self._tell(broken=str(report.longrepr)[-LONGEST:])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Tell which test starts."""
        checks.seen.clear()
        self._seconds[nodeid] = time.monotonic()
        self._tell(start=nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, Any, Any]:
        """Add the outcome to pytest's report: a status, a message, and a share of the points."""
        report = yield
        raised = call.excinfo.value if call.excinfo else None
        report.shown = getattr(raised, "shown", checks.seen[-1:])
        if isinstance(raised, NotStarted):
            report.pipelab = NOT_STARTED, "not started yet", 0.0
        elif isinstance(raised, NoResult):
            report.pipelab = raised.status, str(raised)[:LONGEST], 0.0
        elif report.skipped:  # only what passes has points
            report.pipelab = "failed", f"the test did not run: {raised}"[:LONGEST], 0.0
        elif report.failed:
            share, reason = item.stash.get(CREDIT, (0.0, ""))
            text = "\n".join(filter(None, (reason, _message(call))))
            if isinstance(cases := getattr(item, "funcargs", {}).get("case"), Cases):
                share, text = max(share, cases.share), f"{text}\n{cases}".strip()
            report.pipelab = ("partial" if share else "failed"), shortened(text, LONGEST), share
        else:
            report.pipelab = "passed", "", 1.0
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Tell how a test ended."""
        status, message, share = getattr(report, "pipelab", ("passed", "", 1.0))
        if report.when == "call" or (report.when == "setup" and status != "passed"):
            seconds = time.monotonic() - self._seconds.get(report.nodeid, time.monotonic())
            shown = getattr(report, "shown", ()) if status != "passed" else ()
            self._tell(
                end=report.nodeid,
                status=status,
                message=message,
                share=share,
                seconds=seconds,
                schedules=[csv if len(csv) <= LARGEST else "" for csv in (shown or [("", "")])[0]],
            )


def _about(item: pytest.Item) -> dict[str, Any]:
    marker = item.get_closest_marker("points")
    worth = marker.args if marker else (0,)
    points, title = (*worth, "")[:2]
    return {"id": item.nodeid, "points": points, "title": title or item.name}


def _message(call: pytest.CallInfo[None]) -> str:
    """What the check said; of any other error, its text with the place in the student's file."""
    if call.excinfo is None:
        return "it failed without an error"
    error = call.excinfo.value
    if isinstance(error, (AssertionError, pytest.fail.Exception)) and str(error):
        return str(error).split("\nassert ")[0]
    return f"{type(error).__name__}: {error}"
