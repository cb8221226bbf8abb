"""Questions of the course: guess, lock, a second try, then see; kept beside the notebook."""

import json

import pytest

import pipelab
from pipelab.course import store
from pipelab.course.questions import QUESTIONS, question
from pipelab.errors import UnknownName, UsageError


def wrong_answer(asked):
    """An answer of the right kind that is far off."""
    if asked.kind == "number":
        return asked.truth() + 10 * (asked.high - asked.low)
    if asked.kind == "choice":
        return (asked.truth() + 1) % len(asked.options)
    if asked.kind == "curve":
        return [
            asked.high if y < (asked.low + asked.high) / 2 else asked.low for y in asked.truth()
        ]
    return list(reversed(asked.truth()))


@pytest.fixture
def kept(tmp_path):
    return tmp_path / "guesses.json"


@pytest.mark.parametrize("slug", QUESTIONS)
def test_a_right_guess_opens_the_answer(slug, kept):
    asked = question(slug)
    widget = pipelab.guess(slug, store=kept)
    assert widget.state == "open" and widget.said == {}
    assert str(asked.why) not in json.dumps(widget.asked), "nothing tells the answer before"
    with pytest.raises(UsageError, match="First lock a guess"):
        _ = widget.answer
    widget.lock(asked.truth())
    assert widget.state == "seen" and widget.said["right"]
    assert widget.said["words"].startswith("That is it")
    assert widget.said["svg"].startswith("<svg") and widget.answer == asked.truth()
    assert json.loads(kept.read_text()) == {slug: {"first": widget.value}}


@pytest.mark.parametrize("slug", QUESTIONS)
def test_a_wrong_guess_gets_a_second_try_and_the_first_is_kept(slug, kept):
    asked = question(slug)
    far = wrong_answer(asked)
    widget = pipelab.guess(slug, store=kept)
    widget.lock(far)
    assert widget.state == "again" and set(widget.said) == {"words"}, "a hint, no answer"
    widget.lock(asked.truth())
    assert widget.state == "seen" and widget.value == far and widget.second == asked.truth()
    assert json.loads(kept.read_text())[slug]["first"] == far
    widget.lock(far)
    assert widget.second == asked.truth(), "later ones do not count"

    again = pipelab.guess(slug, store=kept)
    assert (again.state, again.value, again.second) == ("seen", far, asked.truth())
    assert again.said == widget.said


def test_show_me_is_stored_as_no_guess(kept):
    widget = pipelab.guess("03-time", store=kept)
    widget._handle_custom_msg({"action": "reveal"}, [])
    assert widget.state == "seen" and widget.value is None
    assert json.loads(kept.read_text()) == {"03-time": {"shown": True}}
    assert "your guess" not in widget.said["svg"]


def test_the_second_try_can_be_left_out(kept):
    widget = pipelab.guess("05-holes", store=kept)
    widget.lock(30)
    assert widget.said["words"] == "Far too high."
    widget.reveal()
    assert widget.said["words"] == "You said 30 %, 18.9 % too high. It is 11.1 %."
    assert json.loads(kept.read_text())["05-holes"] == {"first": 30}


@pytest.mark.parametrize(
    "slug, nonsense",
    [("03-time", "many"), ("03-time", float("nan")), ("01-crossing", 3), ("02-bubble", [1, 2]),
     ("03-order", ["F0"])],
)  # fmt: skip
def test_what_cannot_be_a_guess_is_refused_and_not_stored(slug, nonsense, kept):
    widget = pipelab.guess(slug, store=kept)
    with pytest.raises(UsageError):
        widget.lock(nonsense)
    widget._handle_custom_msg({"action": "lock", "value": nonsense}, [])
    assert widget.state == "open" and widget.said["words"] and not kept.exists()


def test_the_lab_beneath_opens_with_what_the_question_lights(kept):
    lab = pipelab.lab("gpipe")
    widget = pipelab.guess("00-four-devices", lab, store=kept)
    assert lab.panels == []
    widget.lock(25)
    assert lab.panels == []
    widget.reveal()
    assert lab.panels == ["causes"] and lab.causes["totals"]
    data, _ = widget._repr_mimebundle_()
    assert "34.4" in data["text/html"] and data["image/svg+xml"].startswith("<svg")
    lab.close()


def test_a_file_that_holds_something_else_is_no_guess(kept):
    kept.write_text('{"02-bubble": 27, "03-time": {"first": "much"}}')
    assert pipelab.guess("02-bubble", store=kept).state == "open", "a number is not a curve"
    assert pipelab.guess("03-time", store=kept).state == "open"
    assert store.entry({"old": 3}, "old") == {"first": 3}


def test_unknown_questions_are_named():
    with pytest.raises(UnknownName, match="02-bubble"):
        pipelab.guess("02-buble")
    with pytest.raises(UsageError, match="needs its answer"):
        pipelab.guess("mine", "How many?")


def test_every_wrong_answer_of_a_choice_is_a_misconception():
    for asked in QUESTIONS.values():
        if asked.kind == "choice":
            right = [option for option in asked.options if not option.misconception]
            assert len(right) == 1 and len(asked.options) == 3
