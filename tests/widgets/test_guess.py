"""A guess is locked before the answer is shown, and is there again the next time."""

import json

import pytest

import pipelab
from pipelab import widgets
from pipelab.errors import UsageError
from pipelab.widgets import guess

mine = pytest.mark.filterwarnings("ignore:a question in the cell:DeprecationWarning")


@mine
def test_the_answer_comes_after_the_guess(tmp_path):
    store = tmp_path / "guesses.json"
    asked = guess(
        "bubble", "How much?", lambda: 75, unit="%", why="One of four works.", store=store
    )
    with pytest.raises(UsageError, match="First lock a guess"):
        _ = asked.answer
    asked._number.value = 25
    asked._button.click()
    assert (asked.value, asked.answer) == (25, 75)
    assert asked._said.value == "You said 25 %. It is <b>75 %</b>. One of four works."
    assert asked._button.disabled and json.loads(store.read_text()) == {"bubble": 25}
    asked.lock(75)
    assert asked.value == 25, "a later one does not count"


@mine
def test_it_is_kept_and_others_stay(tmp_path):
    store = tmp_path / "guesses.json"
    guess("one", "?", 1, store=store).lock(1.01)
    guess("two", "?", 2, store=store).lock(5)
    again = guess("one", "?", 1, store=store)
    assert again.value == 1.01 and again._said.value.startswith("That is it.")
    assert json.loads(store.read_text()) == {"one": 1.01, "two": 5}
    store.write_text("not JSON")
    assert guess("one", "?", 1, store=store).value is None


@mine
def test_guesses_lie_beside_the_notebook(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    guess("one", "?", 1).lock(3)
    assert json.loads((tmp_path / "guesses.json").read_text()) == {"one": 3}


def test_the_former_names_work_and_say_the_new_ones():
    assert pipelab.guess is guess
    with pytest.warns(DeprecationWarning, match="widgets.predict is called pipelab.widgets.guess"):
        assert widgets.predict is guess
    with pytest.warns(DeprecationWarning, match="Prediction is called pipelab.widgets.Guess"):
        assert widgets.Prediction is widgets.Guess
    with pytest.raises(AttributeError, match="no attribute 'wager'"):
        _ = widgets.wager
