"""Right solutions get all points, untouched stubs none, and each typical mistake loses points with
the reason.
"""

import contextlib
import importlib.util
import io
import os
import re
from pathlib import Path

import pytest

from pipelab.grading import exercises
from pipelab.grading.plugin import ENVIRONMENT
from pipelab.grading.supervisor import supervise

ROOT = Path(__file__).parents[2] / "exercises"
SOLUTIONS = Path(__file__).parent / "solutions"
EXERCISES = exercises(ROOT)


class Outcomes:
    """Collects what the plugin says of each test."""

    def __init__(self):
        self.ends, self.points = {}, {}

    def pytest_collection_finish(self, session):
        for item in session.items:
            name = re.sub(r"\[.*", "", item.nodeid.rpartition("::")[2])
            self.points[name] = item.get_closest_marker("points").args[0]

    def pytest_runtest_logreport(self, report):
        status, message, share = getattr(report, "pipelab", ("passed", "", 1.0))
        if report.when == "call" or (report.when == "setup" and status != "passed"):
            name = re.sub(r"\[.*", "", report.nodeid.rpartition("::")[2])
            self.ends.setdefault(name, []).append((status, message, share))

    @property
    def score(self):
        shares = {
            name: sum(share for _, _, share in ends) / len(ends) for name, ends in self.ends.items()
        }
        return sum(self.points[name] * share for name, share in shares.items()), sum(
            self.points.values()
        )


def grade(exercise, source, folder, monkeypatch):
    """Runs the exercise's tests in this process on a file with this source (None: the stub)."""
    if source is None:
        monkeypatch.delenv(ENVIRONMENT["submission"], raising=False)
    else:
        (folder / exercise.file.name).write_text(source, encoding="utf-8")
        monkeypatch.setenv(ENVIRONMENT["submission"], str(folder))
    outcomes, printed = Outcomes(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        pytest.main(
            [
                "-q",
                "-p",
                "no:cacheprovider",
                "-c",
                str(ROOT / "pytest.ini"),
                "--rootdir",
                str(ROOT),
                str(exercise.tests),
            ],
            plugins=[outcomes],
        )
    assert outcomes.ends, printed.getvalue()
    return outcomes


def folder_of(exercise):
    return SOLUTIONS / exercise.number


def mistakes_of(exercise):
    spec = importlib.util.spec_from_file_location(
        f"mistakes_{exercise.number}", folder_of(exercise) / "mistakes.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MISTAKES


def solution_of(exercise):
    return (folder_of(exercise) / f"solution{exercise.file.suffix}").read_text(encoding="utf-8")


every_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)


@every_exercise
def test_the_solution_and_unusual_ones_get_all_points(exercise, tmp_path, monkeypatch):
    unusual = sorted(folder_of(exercise).glob(f"unusual_*{exercise.file.suffix}"))
    assert len(unusual) >= 2
    for path in (folder_of(exercise) / f"solution{exercise.file.suffix}", *unusual):
        outcomes = grade(exercise, path.read_text(encoding="utf-8"), tmp_path, monkeypatch)
        score, points = outcomes.score
        assert score == points > 0, (path.name, outcomes.ends)


@every_exercise
def test_the_stub_is_not_started_and_no_error(exercise, tmp_path, monkeypatch):
    outcomes = grade(exercise, None, tmp_path, monkeypatch)
    assert outcomes.score[0] == 0
    assert {status for ends in outcomes.ends.values() for status, _, _ in ends} == {
        "not started"
    }, outcomes.ends


@every_exercise
def test_each_mistake_loses_points_with_its_reason(exercise, tmp_path, monkeypatch):
    mistakes = mistakes_of(exercise)
    assert len(mistakes) >= 4
    for name, replacements, test, phrase in mistakes:
        source = solution_of(exercise)
        for old, new in replacements:
            assert old in source, (name, old)
            source = source.replace(old, new)
        outcomes = grade(exercise, source, tmp_path, monkeypatch)
        assert outcomes.score[0] < outcomes.score[1], name
        messages = [message for status, message, _ in outcomes.ends[test] if status != "passed"]
        assert messages and any(phrase in message for message in messages), (name, outcomes.ends)


def test_a_real_run_fits_into_the_limits_of_a_supervised_grading(tmp_path):
    """The engine's shared file is sparse and huge where it may be. Under the limit of file size it
    could not be made, and every right order lost its points.
    """
    exercise = next(one for one in EXERCISES if one.number == "04")
    (tmp_path / exercise.file.name).write_text(solution_of(exercise), encoding="utf-8")
    grade = supervise(exercise, submission=tmp_path)
    assert grade.score == grade.points > 0, grade


def test_no_two_exercises_ask_for_a_file_of_the_same_name():
    stems = [exercise.file.stem for exercise in EXERCISES]
    assert len(set(stems)) == len(stems)


def test_no_solution_lies_in_the_students_tree():
    for path in ROOT.rglob("*"):
        assert "solution" not in path.name.lower() and "mistake" not in path.name.lower()
    assert os.path.commonpath([ROOT, SOLUTIONS]) != str(ROOT)
