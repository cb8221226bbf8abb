"""The pytest plugin of the exercises: points, partial credit, the student's file, and a report to
the supervisor.

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
from pathlib import Path
from types import ModuleType

import pytest

from . import checks

ENVIRONMENT = {
    "report": "PIPELAB_REPORT",
    "nonce": "PIPELAB_NONCE",
    "submission": "PIPELAB_SUBMISSION",
    "id": "PIPELAB_STUDENT",
}
NOT_STARTED = "not started"
LONGEST, LARGEST = 4000, 20_000
"""Characters of a message, and of a schedule in CSV, that are passed on."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "points(points, title): what the test is worth, and what it asks for"
    )
    config.pluginmanager.register(Reporter(), "pipelab-reporter")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("points") is None and "student" in getattr(
            item, "fixturenames", ()
        ):
            raise pytest.UsageError(
                f"{item.nodeid} says no points: @pytest.mark.points(2, 'what it asks for')"
            )


def file_of(test: Path) -> Path:
    """The file that the student edits for these tests."""
    stem = test.stem.removeprefix("test_")
    folder = Path(os.environ.get(ENVIRONMENT["submission"]) or test.parent)
    return next(
        (path for path in sorted(folder.glob(f"{stem}.*")) if path.suffix in (".py", ".csv")),
        folder / f"{stem}.py",
    )


def load(path: Path) -> ModuleType:
    """Imports a student's file by its path."""
    spec = importlib.util.spec_from_file_location(f"student_{path.stem}", path)
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
    """The student's file as a path, for exercises whose answer is no program."""
    return file_of(request.path)


@pytest.fixture
def student_seed() -> int:
    """A number of the student (``--student ID``): sizes and data may follow from it.

    Without one, 0.
    """
    return int.from_bytes(os.environ.get(ENVIRONMENT["id"], "").encode()[:6] or b"\0", "big")


@pytest.fixture
def credit(request: pytest.FixtureRequest):
    """credit(share, reason): a part of the points, 0 to 1, that stays when the test fails later
    on.
    """

    def credit(share: float, reason: str) -> None:
        request.node.pipelab_credit = max(0.0, min(1.0, float(share))), reason

    return credit


class Reporter:
    """Tells the supervisor, if there is one, what starts and how it ends.

    Lines that do not carry the nonce do not count.
    """

    def __init__(self):
        self._pipe = os.environ.pop(ENVIRONMENT["report"], None)
        self._nonce = os.environ.pop(ENVIRONMENT["nonce"], "")
        self._guarded = _guarded()
        self._seconds: dict[str, float] = {}

    def _tell(self, **what) -> None:
        if self._pipe is not None:
            os.write(int(self._pipe), (json.dumps({"nonce": self._nonce} | what) + "\n").encode())

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._tell(collected=[_about(item) for item in session.items])

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._tell(broken=str(report.longrepr)[-LONGEST:])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        checks.seen.clear()
        self._seconds[nodeid] = time.monotonic()
        self._tell(start=nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo):
        report = yield
        raised = call.excinfo.value if call.excinfo else None
        if isinstance(raised, NotImplementedError):
            report.pipelab = NOT_STARTED, "not started yet", 0.0
        elif isinstance(raised, SystemExit):
            report.outcome, report.pipelab = (
                "failed",
                ("failed", f"your code ended Python: SystemExit({raised.code})", 0.0),
            )
        elif report.failed:
            share, reason = getattr(item, "pipelab_credit", (0.0, ""))
            text = "\n".join(filter(None, (reason, _message(call, report))))
            report.pipelab = ("partial" if share else "failed"), text[-LONGEST:], share
        elif _guarded() != self._guarded:
            report.outcome, report.pipelab = (
                "failed",
                ("failed", "your file changes pytest itself, so no result counts", 0.0),
            )
        else:
            report.pipelab = "passed", "", 1.0
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
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


def _about(item: pytest.Item) -> dict:
    marker = item.get_closest_marker("points")
    points, title = (*marker.args, "")[:2] if marker else (0, "")
    return {"id": item.nodeid, "points": points, "title": title or item.name}


def _message(call: pytest.CallInfo, report: pytest.TestReport) -> str:
    """What the check said; of anything else, the error with the place in the student's file."""
    error = call.excinfo.value
    if isinstance(error, (AssertionError, pytest.fail.Exception)) and str(error):
        return str(error).split("\nassert ")[0]
    places = [
        entry for entry in call.excinfo.traceback if Path(str(entry.path)).stem in _student_files()
    ]
    where = (
        f" (line {places[-1].lineno + 1} of {Path(str(places[-1].path)).name})" if places else ""
    )
    return f"{type(error).__name__}: {error}{where}"


def _student_files() -> set[str]:
    return {name.removeprefix("student_") for name in sys.modules if name.startswith("student_")}


def _guarded() -> tuple:
    """What decides over results; a student's file that replaces any of it gets none."""
    from _pytest import outcomes, runner

    return (
        pytest.raises,
        pytest.fail,
        pytest.skip,
        outcomes.fail,
        runner.call_and_report,
        runner.pytest_runtest_makereport,
        runner.CallInfo.from_call.__func__,
        Reporter.pytest_runtest_makereport,
        Reporter._tell,
        json.dumps,
        os.write,
    )
