"""Guesses and goals in a grading: reported, without points unless they are asked for."""

import json

import pytest

from pipelab.course.lab_goals import all_goals
from pipelab.course.questions import QUESTIONS
from pipelab.grading import answers
from pipelab.grading.archive import Entry
from pipelab.grading.submissions import Student

STORED = {
    "00-four-devices": {"first": 25.0, "second": 34.0},
    "01-more-devices": {"first": 0},
    "01-crossing": {"first": 2},
    "02-bubble": {"shown": True},
    "03-order": {"first": ["F0", "F1", "B0", "F2", "B1", "F3", "B2", "B3"]},
    "00-cut": {"reached": [0, 2], "of": 3},
}


def handed(text):
    return Student("anna", "anna", found=(Entry(("notebooks", "guesses.json"), lambda: text),))


def test_what_was_guessed_and_reached():
    data = answers.as_data(STORED)
    assert data["guesses"] == {
        "00-four-devices": {"first": 25.0, "right": False},
        "01-more-devices": {"first": 0.0, "right": True},
        "01-crossing": {"first": 2, "right": False},
        "02-bubble": {"shown": True},
        "03-order": {"first": STORED["03-order"]["first"], "right": True},
    }
    assert data["goals"]["00-cut"] == {"reached": 2, "of": 3}
    assert data["goals"]["02-fill"]["reached"] == 0
    line = answers.as_line(STORED)
    assert line.startswith(f"guesses: 4 of {len(QUESTIONS)} locked, 2 right the first time; goals:")


def test_points_are_for_guessing_and_not_for_being_right():
    grade = answers.as_grade(STORED)
    assert grade.score == 4 + 2 and grade.status == "partial"
    assert grade.points == len(QUESTIONS) + sum(map(len, all_goals().values()))
    assert answers.as_grade({}).status == "not started"


@pytest.mark.parametrize(
    "text", [b"", b"[1]", b"\xff", b"[" * 100_000, b'{"03-time": {"first": "<b>"}, "00-cut": 7}']
)
def test_what_a_student_writes_into_the_file_costs_nothing(text):
    stored = answers.handed_in(handed(text))
    assert answers.as_grade(stored).score == 0
    assert "<b>" not in "".join(answers.class_part([stored]))


def test_the_file_is_found_in_what_was_handed_in():
    assert answers.handed_in(handed(json.dumps(STORED).encode())) == STORED


@pytest.mark.parametrize("slug", QUESTIONS)
def test_every_guess_has_its_place_in_the_histogram(slug):
    asked = QUESTIONS[slug]
    assert answers._group(asked, asked.truth()) in answers._groups(asked)
    assert sum(answers._counted(asked, [asked.truth()] * 3).values()) == 3


def test_the_class_sees_a_histogram():
    page = "".join(answers.class_part([STORED, {"00-four-devices": {"first": 300}}, {}]))
    assert "2 guesses, 0 right" in page
    assert "more 1" in page and "18.3 to 36.7 1" in page
    assert "1 asked to be shown" in page
    assert answers.class_part([{}, {}]) == []
