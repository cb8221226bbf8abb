"""``guess``: a question whose answer is shown once the learner's guess is locked.

Questions of the course are asked by slug; `Guess` is the form of version 0.1, whose question and
answer stand in the cell.
"""

import warnings
from collections.abc import Callable
from pathlib import Path

import ipywidgets

from ..course import store as kept
from ..course.questions import question as course_question
from ..errors import UsageError
from .asked import FIRST, Asked

NEAR = 0.05
"""A guess counts as right within this share of the answer."""


class Guess(ipywidgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """A number to guess; make one with `guess`.

    ``value`` is what was locked, None before; ``answer`` is there once it is. From Python,
    ``lock(27)`` does what the button does.
    """

    def __init__(
        self,
        name: str,
        question: str,
        answer: float | Callable[[], float],
        *,
        unit: str,
        why: str,
        store: Path,
    ):
        self.name = name
        self.value: float | None = None
        self._answer, self._store = answer, store
        self._unit, self._why = unit, why
        self._number = ipywidgets.FloatText(
            value=0, layout={"width": "110px"}, tooltip="your guess"
        )
        self._button = ipywidgets.Button(description="Lock it in", button_style="primary")
        self._button.on_click(lambda _: self.lock(self._number.value))
        self._said = ipywidgets.HTML()
        row = ipywidgets.HBox([self._number, ipywidgets.Label(unit), self._button])
        super().__init__([ipywidgets.HTML(f"<b>{question}</b>"), row, self._said])
        before = kept.entry(kept.read(store), name)
        if "first" in before:
            self._show(before["first"])

    @property
    def answer(self) -> float:
        """The right number. Raises UsageError before a guess is locked."""
        if self.value is None:
            raise UsageError(FIRST)
        return float(self._answer() if callable(self._answer) else self._answer)

    def lock(self, value: float) -> None:
        """Keep the guess, in ``guesses.json`` beside the notebook, and show the answer.

        Later guesses do not count.
        """
        if self.value is not None:
            return
        kept.keep(self._store, self.name, float(value))
        self._show(float(value))

    def _show(self, value: float) -> None:
        self.value = value
        self._number.value = value
        self._number.disabled = self._button.disabled = True
        near = abs(value - self.answer) <= NEAR * max(1.0, abs(self.answer))
        said = "That is it." if near else f"You said {value:g} {self._unit}."
        self._said.value = f"{said} It is <b>{self.answer:.4g} {self._unit}</b>. {self._why}"


def guess(
    name: str,
    question: str | ipywidgets.Widget | None = None,
    answer: float | Callable[[], float] | None = None,
    *,
    unit: str = "",
    why: str = "",
    store: str | Path | None = None,
) -> Asked | Guess:
    """Ask a question, and show its answer once a guess is locked; put it last in a cell.

    ``guess("02-bubble", lab)`` asks one of the course's questions, above a lab that opens with the
    answer. With ``question`` as text and ``answer``, as in version 0.1, the cell brings its own.

    Args:
        name: the slug of a question of the course, or of one's own.
        question: a widget that stays veiled until the answer is shown; or the text of a question.
        answer: of one's own question: the number, or a function that computes it.
        unit: of that number, such as "%".
        why: a sentence shown with that number.
        store: the file of guesses; without it, guesses.json in the current folder.

    Returns:
        The widget. A guess that was locked earlier is shown again.

    Raises:
        UnknownName: the course has no such question.
        UsageError: a question of one's own without an answer.

    >>> asked = guess("03-time", store="/dev/null")
    >>> asked.asked["kind"], asked.state
    ('number', 'open')
    """
    place = kept.place(store)
    if not isinstance(question, str):
        return Asked(name, course_question(name), question, place)
    if answer is None:
        raise UsageError("A question of your own needs its answer: guess(name, question, answer).")
    warnings.warn(
        "a question in the cell shows its answer; questions of the course are asked by slug: "
        'pipelab.guess("02-bubble")',
        DeprecationWarning,
        stacklevel=2,
    )
    return Guess(name, question, answer, unit=unit, why=why, store=place)
