"""A question with a prediction that the reader locks before the answer is shown."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import ipywidgets

from ..errors import UsageError

STORE = "predictions.json"


class Prediction(ipywidgets.VBox):
    """A number to predict; make one with `predict`.

    value: what was locked, None before. answer: shown once it is. From Python, ``lock(27)`` does
    what the button does.
    """

    def __init__(
        self,
        key: str,
        question: str,
        answer: float | Callable[[], float],
        unit: str,
        why: str,
        store: Path,
    ):
        self.key, self.value, self._store, self._unit, self._why = key, None, store, unit, why
        self._answer = answer
        self._number = ipywidgets.FloatText(
            value=0, layout={"width": "110px"}, tooltip="your prediction"
        )
        self._button = ipywidgets.Button(description="Lock it in", button_style="primary")
        self._button.on_click(lambda _: self.lock(self._number.value))
        self._said = ipywidgets.HTML()
        row = ipywidgets.HBox([self._number, ipywidgets.Label(unit), self._button])
        super().__init__([ipywidgets.HTML(f"<b>{question}</b>"), row, self._said])
        before = _read(store).get(key)
        if before is not None:
            self._show(before)

    @property
    def answer(self) -> float:
        """What is right. Raises UsageError before a prediction is locked."""
        if self.value is None:
            raise UsageError(
                "First lock a prediction: the answer teaches more to somebody who has guessed."
            )
        return float(self._answer() if callable(self._answer) else self._answer)

    def lock(self, value: float) -> None:
        """Keeps the prediction, in ``predictions.json`` beside the notebook, and shows the answer.

        Later ones do not count.
        """
        if self.value is None:
            known = _read(self._store) | {self.key: float(value)}
            draft = self._store.with_name(f".{self._store.name}.{os.getpid()}")
            draft.write_text(json.dumps(known, indent=1), encoding="utf-8")
            draft.replace(self._store)
            self._show(float(value))

    def _show(self, value: float) -> None:
        self.value = value
        self._number.value, self._number.disabled, self._button.disabled = value, True, True
        near = abs(value - self.answer) <= 0.05 * max(1.0, abs(self.answer))
        said = "That is it." if near else f"You said {value:g} {self._unit}."
        self._said.value = f"{said} It is <b>{self.answer:.4g} {self._unit}</b>. {self._why}"


def predict(
    key: str,
    question: str,
    answer: float | Callable[[], float],
    *,
    unit: str = "",
    why: str = "",
    store: str | Path | None = None,
) -> Prediction:
    """A question whose prediction is locked before the reveal; put it last in a cell.

    key: under which it is kept. answer: the number, or a function that computes it. why: a sentence
    shown with the answer. store: the file of predictions (default: predictions.json in the current
    folder).
    """
    return Prediction(
        key, question, answer, unit, why, Path(store) if store else Path.cwd() / STORE
    )


def _read(store: Path) -> dict[str, float]:
    try:
        return json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
