"""The reader of the course's table, and the names under which an exercise is found."""

import shutil

import pytest

from pipelab.course import table as course
from pipelab.errors import UnknownName, UsageError
from pipelab.grading import exercises, handout, lessons
from pipelab.grading.exercise import nearest


def test_a_handout_and_an_installed_wheel_have_the_course_too(tmp_path, monkeypatch):
    here = lessons()
    assert here[3].file == "03-1f1b-and-the-memory-wall.ipynb"
    assert here[3].exercises[0].folder == "06_one_f_one_b"
    assert lessons(handout(tmp_path / "students")) == here

    installed = tmp_path / "environment"
    shutil.copytree(course.find_home() / "notebooks", installed / "share/pipelab/notebooks")
    monkeypatch.setattr(course, "__file__", str(installed / "lib/site/pipelab/course/table.py"))
    monkeypatch.setattr(course.sysconfig, "get_path", lambda _: str(installed))
    monkeypatch.chdir(tmp_path)
    assert course.find_home() == installed / "share" / "pipelab"
    assert lessons() == here


def test_a_handout_leaves_the_teachers_guesses_at_home(tmp_path):
    """With them, each student's notebook showed the answers at once."""
    shutil.copytree(course.find_home() / "notebooks", tmp_path / "notebooks")
    (tmp_path / "exercises").mkdir()
    (tmp_path / "notebooks" / "guesses.json").write_text('{"1f1b-makespan": 33}')
    copy = handout(tmp_path / "students", tmp_path / "exercises") / "notebooks"
    assert (copy / "course.toml").exists() and not (copy / "guesses.json").exists()


@pytest.mark.parametrize("text", ["[[notebook]]\nnumber = 3", "no table", "[notebook]\nnumber = 3"])
def test_a_table_that_cannot_be_read_is_named(tmp_path, text):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "course.toml").write_text(text)
    with pytest.raises(UsageError, match=r"notebooks.course\.toml is not a table of the course"):
        lessons(tmp_path)


@pytest.mark.parametrize("name", ["06", "6", "one_f_one_b", "one-f-one-b", "06_one_f_one_b"])
def test_an_exercise_has_a_number_and_a_name(name):
    assert [one.name for one in exercises(nearest(), [name])] == ["06_one_f_one_b"]


def test_several_exercises_come_in_the_order_in_which_they_are_named():
    assert [one.number for one in exercises(nearest(), ["gpipe_order", "01"])] == ["04", "01"]


@pytest.mark.parametrize(
    "name, near",
    [("one_f_one", "06_one_f_one_b"), ("hand_bilt", "08_hand_built"), ("makespam", "01_makespan")],
)
def test_an_unknown_exercise_lists_the_others_and_the_nearest(name, near):
    with pytest.raises(UnknownName) as caught:
        exercises(nearest(), [name])
    assert f"There is no exercise {name!r}. Did you mean {near!r}?" in str(caught.value)
    assert "Valid names: 01_makespan, 02_split_a_model, " in str(caught.value)
