"""A question of the course in a notebook: guess, then see.

In: a slug of ``pipelab.course``, and the lab that stays veiled meanwhile. Out: what was locked, in
the file beside the notebook, and a picture of guess and truth.
"""

from html import escape
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import traitlets
from ipywidgets import widget_serialization

from ..course import store
from ..course.kinds import Question
from ..errors import UsageError
from ..plots.bundle import FRONTEND, bundle
from .requests import listen

_HERE = Path(__file__).parent
FIRST = "First lock a guess: the answer teaches more to somebody who has guessed."


class Asked(anywidget.AnyWidget):
    """A question; make one with ``pipelab.guess("02-bubble")``.

    ``state`` is "open", "again" after a first guess that was not right, or "seen" once the answer
    is shown; what lies ``beneath`` is veiled until then. ``value`` is the first guess, which is
    kept, and ``second`` that of the second try. From Python, ``lock(27)`` does what Enter does,
    ``reveal`` ends a second try, and ``show_me`` asks for the answer without a guess.
    """

    _esm = bundle(_HERE / "guess.js")
    _css = "".join(
        path.read_text(encoding="utf-8") for path in (FRONTEND / "picture.css", _HERE / "guess.css")
    )

    asked = traitlets.Dict().tag(sync=True)
    state = traitlets.Enum(("open", "again", "seen"), "open").tag(sync=True)
    value: Any = traitlets.Any(None, allow_none=True).tag(sync=True)
    second: Any = traitlets.Any(None, allow_none=True).tag(sync=True)
    said = traitlets.Dict().tag(sync=True)
    beneath = traitlets.Instance(ipywidgets.Widget, allow_none=True).tag(
        sync=True, **widget_serialization
    )

    def __init__(
        self, slug: str, question: Question, beneath: ipywidgets.Widget | None, place: Path
    ):
        self.slug, self._question, self._place = slug, question, place
        about = {"slug": slug, "kind": question.kind, "text": question.text}
        super().__init__(asked=about | question.asked(), beneath=beneath)
        listen(self, self._told)
        self._recall()

    @property
    def answer(self) -> Any:
        """The right answer. Raises UsageError while the question is open."""
        if self.state == "open":
            raise UsageError(FIRST)
        return self._question.truth()

    def lock(self, value: Any) -> None:
        """Lock a guess: the first is kept, a second try is kept beside it; later ones do not count.

        Raises UsageError for what cannot be an answer to this question.
        """
        if self.state == "seen":
            return
        guess = self._question.read(value)
        if self.state == "open":
            self.value = guess
            self._keep({"first": guess})
            if not self._question.right(guess):
                self.said = {"words": self._question.hint(guess)}
                self.state = "again"
                return
        else:
            self.second = guess
            self._keep({"first": self.value, "second": guess})
        self._show()

    def reveal(self) -> None:
        """Show the answer; before a guess is locked, as ``show_me`` does."""
        if self.state == "open":
            self._keep({"shown": True})
        self._show()

    show_me = reveal

    def picture(self, machine: Any = None) -> str:
        """Guesses, truth and what a machine measured, as SVG.

        Raises UsageError while the question is open.
        """
        if self.state == "open":
            raise UsageError(FIRST)
        return self._question.picture(self._tries, machine)

    @property
    def _tries(self) -> list[Any]:
        return [value for value in (self.value, self.second) if value is not None]

    def _keep(self, value: dict[str, Any]) -> None:
        store.keep(self._place, self.slug, value)

    def _recall(self) -> None:
        """Show again what was locked earlier, if it still is an answer to the question."""
        kept = store.entry(store.read(self._place), self.slug)
        try:
            tries = [
                self._question.read(kept[name]) for name in ("first", "second") if name in kept
            ]
        except UsageError:
            return
        if not tries and not kept.get("shown"):
            return
        self.value, self.second = (*tries, None, None)[:2]
        self._show()

    def _show(self) -> None:
        tries, question = self._tries, self._question
        words = question.words(tries[-1]) if tries else "Shown without a guess."
        self.said = {
            "words": words,
            "right": bool(tries) and question.right(tries[-1]),
            "svg": question.picture(tries),
            "why": question.why,
            "what_if": question.what_if,
        }
        self.state = "seen"
        for name, value in question.light.items():
            if self.beneath is not None and self.beneath.has_trait(name):
                setattr(self.beneath, name, value)

    def _told(self, action: str, arguments: dict[str, Any]) -> None:
        """Do what the front end asks for; what cannot be a guess is said there."""
        try:
            if action == "lock":
                self.lock(arguments["value"])
            else:
                self.reveal()
        except UsageError as error:
            self.said = {"words": str(error)}

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The live view; for viewers without a kernel, the question and what was said to it."""
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        parts = [f"<p><b>{escape(self.asked['text'])}</b></p>"]
        if self.state == "seen":
            said = (self.said[name] for name in ("words", "why"))
            parts += [f"<p>{escape(' '.join(said))}</p>", self.said["svg"]]
        if self.beneath is not None:
            below: dict[str, Any] = (self.beneath._repr_mimebundle_(**kwargs) or ({},))[0]
            if "image/svg+xml" in below:
                data["image/svg+xml"] = below["image/svg+xml"]
                parts.append(below["image/svg+xml"])
        data["text/html"] = "\n".join(parts)
        return data, metadata
