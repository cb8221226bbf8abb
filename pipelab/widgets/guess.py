"""A question whose answer is shown once the learner's guess is locked."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import ipywidgets

from ..errors import UsageError

STORE = "guesses.json"
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
        before = _read(store).get(name)
        if before is not None:
            self._show(before)

    @property
    def answer(self) -> float:
        """The right number. Raises UsageError before a guess is locked."""
        if self.value is None:
            raise UsageError(
                "First lock a guess: the answer teaches more to somebody who has guessed."
            )
        return float(self._answer() if callable(self._answer) else self._answer)

    def lock(self, value: float) -> None:
        """Keep the guess, in ``guesses.json`` beside the notebook, and show the answer.

        Later guesses do not count.
        """
        if self.value is not None:
            return
        known = _read(self._store) | {self.name: float(value)}
        draft = self._store.with_name(f".{self._store.name}.{os.getpid()}")
        draft.write_text(json.dumps(known, indent=1), encoding="utf-8")
        draft.replace(self._store)
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
    question: str,
    answer: float | Callable[[], float],
    *,
    unit: str = "",
    why: str = "",
    store: str | Path | None = None,
) -> Guess:
    """Ask a question and show its answer once a guess is locked; put it last in a cell.

    Args:
        name: under which the guess is stored, such as "1f1b-makespan".
        question: what is asked.
        answer: the number, or a function that computes it.
        unit: of the number, such as "%".
        why: a sentence shown with the answer.
        store: the file of guesses; without it, guesses.json in the current folder.

    Returns:
        The widget. A guess that was locked earlier is shown again.
    """
    place = Path(store) if store else Path.cwd() / STORE
    return Guess(name, question, answer, unit=unit, why=why, store=place)


def _read(store: Path) -> dict[str, float]:
    try:
        return dict(json.loads(store.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
