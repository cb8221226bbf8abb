"""The course's one table, and every text that repeats what stands in it."""

import json
import re
from pathlib import Path

import pytest

from pipelab.grading import exercises, lessons

ROOT = Path(__file__).parents[2]
COURSE = lessons(ROOT)
TASKS = [(lesson, task) for lesson in COURSE for task in lesson.exercises]
every_lesson = pytest.mark.parametrize("lesson", COURSE, ids=lambda lesson: lesson.number)
every_task = pytest.mark.parametrize("lesson, task", TASKS, ids=lambda one: one.number)


def page(name):
    return (ROOT / name).read_text(encoding="utf-8")


def cells(lesson):
    return ["".join(c["source"]) for c in json.loads(page(f"notebooks/{lesson.file}"))["cells"]]


def rows(text, first):
    """The rows of a Markdown table whose first cell looks like this."""
    return [line for line in text.splitlines() if re.match(rf"\| {first}", line)]


def test_the_table_is_whole():
    assert [lesson.number for lesson in COURSE] == [f"{i:02}" for i in range(len(COURSE))]
    assert [task.number for _, task in TASKS] == [f"{i:02}" for i in range(1, len(TASKS) + 1)]
    files = {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert {lesson.file for lesson in COURSE} == files
    assert [task.folder for _, task in TASKS] == [e.name for e in exercises(ROOT / "exercises")]
    guesses = [guess for lesson in COURSE for guess in lesson.guesses]
    assert len(set(guesses)) == len(guesses)
    for lesson in COURSE:
        assert lesson.difficulty in (1, 2, 3)
        assert all(number < lesson.number for number in lesson.needs)


@every_lesson
def test_the_first_cell_of_a_notebook(lesson):
    first = cells(lesson)[0]
    assert first.startswith(f"# {lesson.title}\n")
    assert f"| **Takes** | {lesson.minutes} minutes |" in first
    stars = "★" * lesson.difficulty + "☆" * (3 - lesson.difficulty)
    assert f"| **Difficulty** | {stars}" in first
    for number in lesson.needs:
        needed = COURSE[int(number)]
        assert f"notebook [{number} {needed.title}]({needed.file})" in first
    links = ", ".join(
        f"{task.number} [{task.title}](../exercises/{task.folder}/README.md)"
        for task in lesson.exercises
    )
    found = re.search(r"\| \*\*Exercises?\*\* \| (.*) \|\n", first)
    assert (found[1] if found else "") == links


@every_lesson
def test_the_exercises_of_a_notebook(lesson):
    text = "\n".join(cells(lesson))
    for task in lesson.exercises:
        folder = f"../exercises/{task.folder}"
        assert f"- **{task.number}** [{task.title}]({folder}/README.md): complete [" in text
        assert re.search(rf"(?i)\*\*exercise {task.number}\*\*", text), "where it belongs, too"
    numbers = ", ".join(f'"{task.number}"' for task in lesson.exercises)
    assert not numbers or f"pipelab.grade({numbers})" in text


@every_lesson
def test_the_guesses_of_a_notebook(lesson):
    asked = re.findall(r'guess\(\s*"([^"]+)"', "\n".join(cells(lesson)))
    assert tuple(asked) == lesson.guesses
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in asked)


@every_lesson
def test_a_notebook_leads_to_the_next(lesson):
    following = COURSE[COURSE.index(lesson) + 1 :][:1]
    for after in following:
        assert f"→ [{after.number} {after.title}]({after.file})" in cells(lesson)[-1]


@every_task
def test_the_page_and_the_hints_of_an_exercise(lesson, task):
    readme = page(f"exercises/{task.folder}/README.md")
    assert readme.startswith(f"# {task.title}\n")
    where = f"[{lesson.number} {lesson.title}](../../notebooks/{lesson.file})"
    assert f'After notebook {where}, section "{task.section}".' in readme
    assert f"`pipelab grade {task.number}`" in readme
    tests = page(f"exercises/{task.folder}/test_{task.slug}.py")
    again = f"Read again: notebook {lesson.number} ({lesson.title}), section “{task.section}”."
    assert again in tests
    points = map(int, re.findall(r"@pytest\.mark\.points\((\d+), ", tests))
    assert sum(points) == task.points
    assert re.search(rf"^#+ {re.escape(task.section)}$", "\n".join(cells(lesson)), re.MULTILINE)


def test_the_readme():
    listed = rows(page("README.md"), r"\[\d\d ")
    assert len(listed) == len(COURSE)
    for row, lesson in zip(listed, COURSE, strict=True):
        link = f"[{lesson.number} {lesson.title}](notebooks/{lesson.file})"
        assert row.startswith(f"| {link} | {lesson.minutes} |")


def test_the_page_for_teachers():
    assert rows(page("notebooks/TEACHING.md"), r"\d\d ") == [
        f"| {lesson.number} {lesson.title} | {lesson.minutes} | "
        f"{', '.join(task.number for task in lesson.exercises)} |"
        for lesson in COURSE
    ]


def test_the_page_of_the_exercises():
    assert rows(page("exercises/README.md"), r"\d\d ") == [
        f"| {task.number} | [{task.title}]({task.folder}/README.md) | {task.points} | "
        f"{lesson.number} |"
        for lesson, task in TASKS
    ]
