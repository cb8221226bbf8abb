"""A prediction is locked before the answer is shown, and is there again the next time."""

import json

import pytest

from pipelab.errors import UsageError
from pipelab.widgets import predict


def test_the_answer_comes_after_the_prediction(tmp_path):
    store = tmp_path / "predictions.json"
    asked = predict(
        "bubble", "How much?", lambda: 75, unit="%", why="One of four works.", store=store
    )
    with pytest.raises(UsageError, match="First lock a prediction"):
        _ = asked.answer
    asked._number.value = 25
    asked._button.click()
    assert (asked.value, asked.answer) == (25, 75)
    assert asked._said.value == "You said 25 %. It is <b>75 %</b>. One of four works."
    assert asked._button.disabled and json.loads(store.read_text()) == {"bubble": 25}
    asked.lock(75)
    assert asked.value == 25, "a later one does not count"


def test_it_is_kept_and_others_stay(tmp_path):
    store = tmp_path / "predictions.json"
    predict("one", "?", 1, store=store).lock(1.01)
    predict("two", "?", 2, store=store).lock(5)
    again = predict("one", "?", 1, store=store)
    assert again.value == 1.01 and again._said.value.startswith("That is it.")
    assert json.loads(store.read_text()) == {"one": 1.01, "two": 5}
    store.write_text("not JSON")
    assert predict("one", "?", 1, store=store).value is None
