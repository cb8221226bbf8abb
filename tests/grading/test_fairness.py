"""Right solutions get all points, untouched stubs none, and each typical mistake loses points with
the reason.
"""

import importlib.util
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelab.grading import exercises
from pipelab.grading.room import Limits
from pipelab.grading.supervisor import supervise
from pipelab.grading.workers import Workers, cores

ROOT = Path(__file__).parents[2] / "exercises"
SOLUTIONS = Path(__file__).parent / "solutions"
EXERCISES = exercises(ROOT)


IDS = [f"student-{i}" for i in range(int(os.environ.get("PIPELAB_IDS", "1")))]
"""Whose grade of each mistake is compared: by hand, with 20."""


@pytest.fixture(scope="module")
def grades():
    """Grade texts of a file for students (None: nobody's), side by side; in their order."""
    workers = Workers(Limits())

    def grade(exercise, texts, students, folder):
        def one(case):
            number, text, student = case
            place = folder / str(number)
            place.mkdir()
            (place / exercise.file.name).write_text(text, encoding="utf-8")
            return workers.grade(exercise, place, student)

        cases = [(text, student) for text in texts for student in students]
        return list(pool.map(one, [(i, *case) for i, case in enumerate(cases)]))

    with ThreadPoolExecutor(cores()) as pool:  # a judge ends with the thread that has started it
        yield grade
        workers.close()


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
def test_the_solution_and_unusual_ones_get_all_points(exercise, grades, tmp_path):
    unusual = sorted(folder_of(exercise).glob(f"unusual_*{exercise.file.suffix}"))
    assert len(unusual) >= 2
    paths = [folder_of(exercise) / f"solution{exercise.file.suffix}", *unusual]
    texts = [path.read_text(encoding="utf-8") for path in paths]
    for path, found in zip(paths, grades(exercise, texts, [None], tmp_path), strict=True):
        assert found.score == found.points > 0, (path.name, found)
        assert found.status == "passed"


@every_exercise
def test_the_stub_is_not_started_and_no_error(exercise):
    found = supervise(exercise)
    assert found.score == 0 < found.points
    assert {result.status for result in found.results} == {"not started"}, found
    assert found.status == "not started"


@every_exercise
@pytest.mark.timeout(120 + 60 * len(IDS))
def test_each_mistake_loses_points_with_its_reason(exercise, grades, tmp_path):
    """The same ones, whoever hands it in: what shows a mistake is among the fixed cases."""
    mistakes = mistakes_of(exercise)
    assert len(mistakes) >= 4
    texts = []
    for name, replacements, _, _ in mistakes:
        source = solution_of(exercise)
        for old, new in replacements:
            assert old in source, (name, old)
            source = source.replace(old, new)
        texts.append(source)
    found = iter(grades(exercise, texts, [None, *IDS], tmp_path))
    for name, _, test, phrase in mistakes:
        grade, *others = (next(found) for _ in [None, *IDS])
        assert grade.score < grade.points, name
        messages = [result.message for result in grade.results if result.test == test]
        assert messages and phrase in messages[0], (name, grade)
        assert [other.score for other in others] == [grade.score] * len(others), (name, others)


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
