"""``memory``: will it fit? What each rank holds, by part, against the size of a GPU.

In: a Profile, or the name of a large model, and switches. Out: a picture that the kernel draws at
every change, and what it says in a sentence.
"""

from collections.abc import Iterable
from dataclasses import fields
from html import escape
from pathlib import Path
from typing import Any

import traitlets

from ..errors import UnknownName, UsageError
from ..layout import Profile
from ..layout.planner import DEVICES
from ..plots.bundle import bundle
from .memory_picture import memory_svg
from .rank_memory import GB, Choice, amount, sentence
from .styles import styles
from .switches import SwitchesWidget

_HERE = Path(__file__).parent
SWITCHES = tuple(field.name for field in fields(Choice) if field.name not in ("profile", "limit"))
"""What can be switched, in order."""
LABELS = {
    "microbatches": "micro-batches m",
    "microbatch": "samples of one",
    "recompute": "recomputation",
    "ranks": "ranks p",
}
WORDS = {
    "fp32": "32 bits",
    "bf16": "bf16 + 32 bits",
    "sgd": "SGD",
    "momentum": "SGD + momentum",
    "adam": "Adam",
    "gpipe": "GPipe",
    "1f1b": "1F1B",
    "interleaved-1f1b": "interleaved 1F1B, v = 2",
    "zb-h1": "ZB-H1",
    "selective": "attention only",
    "full": "whole layers",
}
"""Values as a person reads them."""
RANGES = ("ranks", "microbatches", "microbatch")
"""Switches that are sliders over their values."""


class MemoryView(SwitchesWidget):
    """What ranks hold; make one with ``pipelab.memory``.

    Every switch is a trait: ``model``, ``device``, ``ranks``, ``microbatches``, ``microbatch``,
    ``schedule``, ``recompute``, ``attention``, ``precision``, ``optimizer``. ``choice`` is all of
    them as one value, with the bytes of every rank; ``problem`` says why there is none.
    """

    names = SWITCHES

    _esm = bundle(_HERE / "memory.js")
    _css = styles() + (_HERE / "memory.css").read_text(encoding="utf-8")

    model = traitlets.Unicode("llama-7b").tag(sync=True)
    device = traitlets.Unicode("h100").tag(sync=True)
    ranks = traitlets.Int(1, min=1).tag(sync=True)
    microbatches = traitlets.Int(8, min=1).tag(sync=True)
    microbatch = traitlets.Int(1, min=1).tag(sync=True)
    schedule = traitlets.Unicode("1f1b").tag(sync=True)
    recompute = traitlets.Unicode("none").tag(sync=True)
    attention = traitlets.Unicode("flash").tag(sync=True)
    precision = traitlets.Unicode("bf16").tag(sync=True)
    optimizer = traitlets.Unicode("adam").tag(sync=True)

    switches = traitlets.List(traitlets.Dict()).tag(sync=True)
    show = traitlets.List(traitlets.Enum(SWITCHES)).tag(sync=True)
    picture = traitlets.Unicode("").tag(sync=True)
    said = traitlets.Unicode("").tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)
    fits = traitlets.Unicode("").tag(sync=True)

    def __init__(self, start: Choice, **traits: Any):
        self._start = start
        self._before: tuple[float, ...] = ()
        super().__init__(**{name: getattr(start, name) for name in SWITCHES}, **traits)

    @traitlets.validate(*SWITCHES)
    def _known(self, proposal: dict[str, Any]) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        known = self._start.options().get(name)
        if isinstance(value, str) and known is not None and value not in known:
            raise UnknownName(name, value, known)
        return value

    @property
    def choice(self) -> Choice:
        """All switches as one value."""
        values = {name: getattr(self, name) for name in SWITCHES}
        return Choice(**values, profile=self._start.profile, limit=self._start.limit)

    @property
    def facts(self) -> dict[str, Any]:
        """What goals can be about.

        The switches; fits ("yes", "tight", "no"); fullest, the GB of the fullest rank, and of it
        weights, gradients, optimizer, activations.
        """
        choice = self.choice
        known = {name: getattr(choice, name) for name in SWITCHES}
        if choice.problem():
            return known
        one = {name: value / GB for name, value in choice.bytes[choice.fullest].items()}
        return known | one | {"fits": choice.fits, "fullest": choice.total / GB}

    def _settle(self) -> None:
        """Draw what the switches say, with what it was before."""
        with self._lock, self.hold_sync():
            if self._quiet:
                return
            choice = self.choice
            self._fit_ranks(choice)
            choice = self.choice
            self.switches = [
                _described(name, choice) for name in SWITCHES if name in choice.options()
            ]
            self.problem = choice.problem()
            self.said = sentence(choice)
            if self.problem:
                self.fits = ""
                return
            totals = tuple(one["total"] for one in choice.bytes)
            same = len(self._before) == len(totals) and self._before != totals
            self.picture = memory_svg(choice, self._before if same else ())
            self.fits, self._before = choice.fits, totals
            self._tick()

    def _fit_ranks(self, choice: Choice) -> None:
        """With another model another number of ranks divides its layers: the nearest."""
        possible = choice.options()["ranks"]
        if self.ranks not in possible:
            with self._quietly():
                self.ranks = min(possible, key=lambda n: abs(n - self.ranks))

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The live view; a still picture and its sentence for viewers without a kernel."""
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        if self.picture:
            data["image/svg+xml"] = self.picture
        choice = self.choice
        about = [WORDS.get(value, value) for value in (choice.schedule, choice.optimizer)]
        name = "The profiled model" if choice.profile else f"{choice.model}, {choice.precision}"
        line = (
            f"{name}, {choice.ranks} ranks, {', '.join(about)}, recomputation {choice.recompute}."
        )
        data["text/html"] = f"<p>{escape(line)} {escape(self.said)}</p>{self.picture}"
        return data, metadata


def _described(name: str, choice: Choice) -> dict[str, Any]:
    """A switch for the front end: what it is called, and its values as a person reads them."""
    values = choice.options()[name]
    words = [WORDS.get(value, str(value)) for value in values]
    if name == "device":
        words = [f"{value}: {amount(DEVICES[value].memory * GB)}" for value in values]
    kind = "range" if name in RANGES else "select"
    return {
        "name": name,
        "label": LABELS.get(name, name),
        "kind": kind,
        "values": values,
        "words": words,
    }


def memory(
    of: str | Profile = "llama-7b",
    *,
    limit: float | None = None,
    show: Iterable[str] | None = None,
    goals: Any = (),
    **switches: Any,
) -> MemoryView:
    """Show what each rank of a pipeline holds, against the size of a GPU; put it last in a cell.

    Args:
        of: a Profile, or the name of a model that the planner knows, such as "llama-7b",
            "llama-70b" or "gpt-3".
        limit: bytes of the GPU, for a profile; without one there is no line.
        show: the switches that can be moved, by name; without it all of them.
        goals: a list of ``pipelab.widgets.Goal``, or a slug of the course.
        switches: where they stand: device, ranks, microbatches, microbatch (samples of one),
            schedule, recompute, attention, precision, optimizer.

    Returns:
        The widget. Large models count as the planner does: ``pipelab.estimate`` has the same bytes.

    Raises:
        UnknownName: there is no such model, device, switch or value.
        UsageError: a configuration that cannot be, or a limit for a model by name, which its device
            has.

    >>> memory("llama-7b", ranks=1).said.split(":")[0]
    'One GPU holds 140 GB. A GPU (h100) has 80 GB'
    """
    unknown = [name for name in switches if name not in SWITCHES[1:]]
    if unknown:
        raise UnknownName("switch", unknown[0], SWITCHES[1:])
    if isinstance(of, Profile):
        start = Choice("profile", profile=of, limit=limit or 0.0, **switches)
    else:
        if limit is not None:
            raise UsageError("The limit of a model by name is its device's: give device=...")
        start = Choice(of, **switches)
    for name, values in start.options().items():
        if isinstance(values[0], str) and getattr(start, name) not in values:
            raise UnknownName(name, getattr(start, name), values)
    if start.problem():
        raise UsageError(start.problem())
    shown = list(start.options()) if show is None else list(show)
    strange = [name for name in shown if name not in SWITCHES]
    if strange:
        raise UnknownName("switch", strange[0], SWITCHES)
    return MemoryView(start, show=shown, goals=goals if isinstance(goals, str) else list(goals))
