"""The pytest plugin of the exercises: points, partial credit, the student's file, and reports.

    @pytest.mark.points(2, "F and B alternate in the steady state")
    def test_steady_state(student, credit): ...

``student`` is the module of the file that the student edits: beside the tests, or in the folder
that PIPELAB_SUBMISSION names. ``credit(0.5, "right order, wrong warm-up")`` gives a part of the
points when the test fails after it. A test that meets NotImplementedError counts as not started.
With PIPELAB_REPORT, the number of an open pipe, each test is told to the supervisor as it starts
and ends.
"""

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from . import checks

ENVIRONMENT = {
    "report": "PIPELAB_REPORT",
    "nonce": "PIPELAB_NONCE",
    "submission": "PIPELAB_SUBMISSION",
    "id": "PIPELAB_STUDENT",
}
NOT_STARTED = "not started"
CREDIT = pytest.StashKey[tuple[float, str]]()
"""The part of a test's points that it has granted, and why."""
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


def load(path: Path) -> ModuleType:
    """Import a student's file by its path."""
    spec = importlib.util.spec_from_file_location(f"student_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def student(request: pytest.FixtureRequest) -> ModuleType:
    """The student's file as a module."""
    path = file_of(request.path)
    if not path.exists():
        pytest.fail(
            f"{path.name} is missing: put it beside the tests, under that name", pytrace=False
        )
    try:
        return load(path)
    except NotImplementedError:
        raise
    except BaseException as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        pytest.fail(
            f"{path.name} cannot be imported{where}: {type(error).__name__}: {error}", pytrace=False
        )


@pytest.fixture
def student_file(request: pytest.FixtureRequest) -> Path:
    """The student's file as a path, for exercises whose answer is not a program."""
    return file_of(request.path)


@pytest.fixture
def student_seed() -> int:
    """A number that belongs to the student (``--student ID``), else 0.

    Sizes and data may follow from it.
    """
    return int.from_bytes(os.environ.get(ENVIRONMENT["id"], "").encode()[:6] or b"\0", "big")


@pytest.fixture
def credit(request: pytest.FixtureRequest) -> Callable[[float, str], None]:
    """A function that grants a part of the points: ``credit(0.5, "right order")``.

    The share, from 0 to 1, stays when the test fails later on.
    """

    def credit(share: float, reason: str) -> None:
        request.node.stash[CREDIT] = max(0.0, min(1.0, float(share))), reason

    return credit


class Reporter:
    """Tells the supervisor, if there is one, what starts and how it ends.

    Lines that do not carry the nonce do not count.
    """

    def __init__(self) -> None:
        self._pipe = os.environ.pop(ENVIRONMENT["report"], None)
        self._nonce = os.environ.pop(ENVIRONMENT["nonce"], "")
        self._guarded = _guarded()
        self._seconds: dict[str, float] = {}

    def _tell(self, **what: object) -> None:
        if self._pipe is not None:
            os.write(int(self._pipe), (json.dumps({"nonce": self._nonce} | what) + "\n").encode())

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
        if isinstance(raised, NotImplementedError):
            report.pipelab = NOT_STARTED, "not started yet", 0.0
        elif isinstance(raised, SystemExit):
            report.outcome = "failed"
            report.pipelab = "failed", f"your code ended Python: SystemExit({raised.code})", 0.0
        elif report.failed:
            share, reason = item.stash.get(CREDIT, (0.0, ""))
            text = "\n".join(filter(None, (reason, _message(call))))
            report.pipelab = ("partial" if share else "failed"), text[-LONGEST:], share
        elif _guarded() != self._guarded:
            report.outcome = "failed"
            report.pipelab = "failed", "your file changes pytest itself, so no result counts", 0.0
        else:
            report.pipelab = "passed", "", 1.0
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Tell how a test ended."""
        status, message, share = getattr(report, "pipelab", ("passed", "", 1.0))
        if report.when == "call" or (report.when == "setup" and status != "passed"):
            seconds = time.monotonic() - self._seconds.get(report.nodeid, time.monotonic())
            schedule = checks.seen[-1] if checks.seen and status != "passed" else ""
            self._tell(
                end=report.nodeid,
                status=status,
                message=message,
                share=share,
                seconds=seconds,
                schedule=schedule[:LARGEST],
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
    places = [
        entry for entry in call.excinfo.traceback if Path(str(entry.path)).stem in _student_files()
    ]
    text = f"{type(error).__name__}: {error}"
    if places:
        text += f" (line {places[-1].lineno + 1} of {Path(str(places[-1].path)).name})"
    return text


def _student_files() -> set[str]:
    return {name.removeprefix("student_") for name in sys.modules if name.startswith("student_")}


def _guarded() -> tuple[object, ...]:
    """What decides over results; a student's file that replaces any of it gets none."""
    from _pytest import outcomes, runner

    return (
        pytest.raises,
        pytest.fail,
        pytest.skip,
        outcomes.fail,
        runner.call_and_report,
        runner.pytest_runtest_makereport,
        runner.CallInfo.__dict__["from_call"],
        Reporter.pytest_runtest_makereport,
        Reporter._tell,
        json.dumps,
        os.write,
    )
