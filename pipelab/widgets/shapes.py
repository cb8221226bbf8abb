"""``shapes``: a fixed number of workers, and which shape of a mesh they should have.

In: how many workers, and switches. Out: a picture that the kernel draws at every change, three
numbers, and what decides in a sentence.
"""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import traitlets

from ..errors import UnknownName, UsageError
from ..layout.planner import DEVICES, MODELS
from ..plots.bundle import bundle
from .memory import WORDS as MORE_WORDS
from .rank_memory import GB
from .shape import MOST, Shape, factorizations
from .shape_picture import shape_svg
from .shape_words import held_alike, numbers, sentence
from .styles import styles
from .switches import SwitchesWidget

_HERE = Path(__file__).parent
SWITCHES = ("shape", "zero", "schedule", "microbatches", "node", "fast", "slow")
"""What can be switched, in order."""
WORDS = MORE_WORDS | {"interleaved-1f1b": "interleaved"}
LABELS = {
    "shape": "data × ranks × tensor",
    "zero": "ZeRO",
    "microbatches": "micro-batches m",
    "node": "workers of a node",
    "fast": "inside a node",
    "slow": "between nodes",
}


class ShapesView(SwitchesWidget):
    """Workers in one shape; make one with ``pipelab.shapes``.

    Every switch is a trait: ``shape`` ("4x2x1": data, ranks, tensor), ``zero``, ``schedule``,
    ``microbatches``, ``node``, ``fast``, ``slow`` (GB/s). ``worker`` is the chosen one. ``choice``
    is all of them as one value, with its simulated timeline; ``problem`` says why there is none.
    """

    names = SWITCHES
    picks = ("worker",)

    _esm = bundle(_HERE / "shapes.js")
    _css = styles() + "".join(
        (_HERE / name).read_text(encoding="utf-8") for name in ("memory.css", "shapes.css")
    )

    shape = traitlets.Unicode("8x1x1").tag(sync=True)
    zero = traitlets.Int(0).tag(sync=True)
    schedule = traitlets.Unicode("1f1b").tag(sync=True)
    microbatches = traitlets.Int(8, min=1).tag(sync=True)
    node = traitlets.Int(8, min=1).tag(sync=True)
    fast = traitlets.Float(300.0).tag(sync=True)
    slow = traitlets.Float(25.0).tag(sync=True)
    worker = traitlets.Int(0, min=0).tag(sync=True)

    switches = traitlets.List(traitlets.Dict()).tag(sync=True)
    show = traitlets.List(traitlets.Enum(SWITCHES)).tag(sync=True)
    columns = traitlets.Int(1).tag(sync=True)
    workers = traitlets.Int(8).tag(sync=True)
    picture = traitlets.Unicode("").tag(sync=True)
    numbers = traitlets.List(traitlets.Dict()).tag(sync=True)
    said = traitlets.Unicode("").tag(sync=True)
    about = traitlets.Unicode("").tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)
    fits = traitlets.Unicode("").tag(sync=True)

    def __init__(self, start: Shape, **traits: Any):
        self._start = start
        super().__init__(
            shape=_name(start),
            workers=start.workers,
            **{name: getattr(start, name) for name in SWITCHES[1:]},
            **traits,
        )
        self.observe(lambda _: self._settle(), names=["worker"])

    @traitlets.validate("shape", "zero", "schedule")
    def _known(self, proposal: dict[str, Any]) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        known = self._start.options()[name]
        if value not in known:
            raise UnknownName(name, str(value), list(map(str, known)))
        return value

    @traitlets.validate("worker")
    def _of_the_mesh(self, proposal: dict[str, Any]) -> int:
        worker: int = proposal["value"]
        if worker >= self._start.workers:
            raise UsageError(f"There are {self._start.workers} workers, 0 to {self.workers - 1}.")
        return worker

    @property
    def choice(self) -> Shape:
        """All switches as one value."""
        data, ranks, tensor = map(int, self.shape.split("x"))
        values = {name: getattr(self, name) for name in SWITCHES[1:]}
        same = {name: getattr(self._start, name) for name in ("model", "device", "batch")}
        return Shape(data, ranks, tensor, **values, **same)

    @property
    def facts(self) -> dict[str, Any]:
        """What goals can be about.

        The switches; data, ranks and tensor; time per batch, bubble_fraction; fits ("yes", "tight",
        "no"); fullest, the GB of the fullest worker; sent_data, sent_pipeline and sent_tensor, the
        GB that the busiest worker sends.
        """
        choice = self.choice
        known = {name: getattr(self, name) for name in (*SWITCHES, "worker")}
        known |= {name: getattr(choice, name) for name in ("data", "ranks", "tensor")}
        if choice.problem():
            return known
        known |= {f"sent_{name}": size / GB for name, size in choice.sent.items()}
        return known | {
            "time": choice.time["total"],
            "bubble_fraction": choice.bubble,
            "fits": choice.fits,
            "fullest": choice.held["total"] / GB,
        }

    def _settle(self) -> None:
        """Draw what the switches say."""
        with self._lock, self.hold_sync():
            if self._quiet:
                return
            self._fit_microbatches()
            choice = self.choice
            self.switches = [_described(name, values) for name, values in choice.options().items()]
            self.problem = choice.problem()
            self.said = sentence(choice)
            self.about = held_alike(choice)
            if self.problem:
                self.fits = ""
                return
            self.columns = choice.ranks * choice.tensor
            self.picture = shape_svg(choice, self.worker)
            self.numbers = numbers(choice)
            self.fits = choice.fits
            self._tick()

    def _fit_microbatches(self) -> None:
        """With fewer samples of a copy another number of micro-batches divides them: the next."""
        possible = self.choice.options()["microbatches"]
        if self.microbatches not in possible:
            with self._quietly():
                self.microbatches = min(possible, key=lambda m: abs(m - self.microbatches))

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The live view; a still picture, its numbers and its sentence without a kernel."""
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        data["image/svg+xml"] = self.picture
        choice = self.choice
        sizes = f"data {choice.data} × ranks {choice.ranks} × tensor {choice.tensor}"
        line = (
            f"{choice.workers} workers: {sizes}, ZeRO {choice.zero}, {WORDS[choice.schedule]}, "
            f"{choice.microbatches} micro-batches a copy."
        )
        told = " ".join(
            f"{one['label']}: {one['value']} ({one['caption']})." for one in self.numbers
        )
        words = (line, self.said, told, self.about)
        data["text/html"] = "".join(f"<p>{escape(one)}</p>" for one in words) + self.picture
        return data, metadata


def _name(shape: Shape) -> str:
    return f"{shape.data}x{shape.ranks}x{shape.tensor}"


def _described(name: str, values: list[Any]) -> dict[str, Any]:
    """A switch for the front end: what it is called, and its values as a person reads them."""
    words = [WORDS.get(value, str(value)) for value in values]
    if name == "shape":
        words = [value.replace("x", " × ") for value in values]
    if name in ("fast", "slow"):
        words = [f"{value:g} GB/s" for value in values]
    kind = "range" if name == "microbatches" else "select"
    return {
        "name": name,
        "label": LABELS.get(name, name),
        "kind": kind,
        "values": values,
        "words": words,
    }


def shapes(
    workers: int = 8,
    *,
    shape: str | Sequence[int] | None = None,
    model: str = "llama-7b",
    device: str = "a100-80",
    batch: int | None = None,
    worker: int = 0,
    show: Iterable[str] | None = None,
    goals: Any = (),
    **switches: Any,
) -> ShapesView:
    """Ask which shape so many workers should have; put it last in a cell.

    The mesh is a grid of workers. A click on one marks the groups that it is in and draws the
    timeline of its pipeline. All numbers are simulated, for one model and one batch.

    Args:
        workers: how many there are, 2 to 16, in every shape.
        shape: data, ranks and tensor to begin with, as (4, 2, 1) or "4x2x1"; their product is
            workers. Without it all are copies.
        model: a name that the planner knows, such as "llama-7b".
        device: likewise, such as "a100-80": how fast it computes, and its memory.
        batch: samples of a step; without it 8 for each worker.
        worker: the chosen one.
        show: the switches that can be moved, by name; without it all of them.
        goals: a list of ``pipelab.widgets.Goal``, or a slug of the course.
        switches: where they stand: zero, schedule, microbatches, node (workers of a node), fast and
            slow (GB/s inside a node and between nodes).

    Returns:
        The widget.

    Raises:
        UnknownName: there is no such model, device, schedule or switch.
        UsageError: a shape of another number of workers, or a configuration that cannot be.

    >>> shapes(8, shape=(1, 1, 8), node=4).said.split(":")[0]
    'tensor = 8 leaves the node'
    """
    if not isinstance(workers, int) or isinstance(workers, bool) or not 2 <= workers <= MOST:
        raise UsageError(f"workers is {workers!r}; it is a whole number from 2 to {MOST}.")
    for what, name, known in (("model", model, MODELS), ("device", device, DEVICES)):
        if name not in known:
            raise UnknownName(what, name, known)
    unknown = [name for name in switches if name not in SWITCHES]
    if unknown:
        raise UnknownName("switch", unknown[0], SWITCHES)
    machine = DEVICES[device]
    usual: dict[str, Any] = {
        "node": min(workers, machine.node_size),
        "fast": float(machine.node_bandwidth),
        "slow": float(machine.network_bandwidth),
    }
    sizes = (workers, 1, 1) if shape is None else _sizes(shape, workers)
    start = Shape(
        *sizes,
        model=model,
        device=device,
        batch=8 * workers if batch is None else batch,
        **(usual | switches),
    )
    for name in ("zero", "schedule"):
        known_values = start.options()[name]
        if getattr(start, name) not in known_values:
            raise UnknownName(name, str(getattr(start, name)), list(map(str, known_values)))
    if start.problem():
        raise UsageError(start.problem())
    shown = list(SWITCHES) if show is None else list(show)
    strange = [name for name in shown if name not in SWITCHES]
    if strange:
        raise UnknownName("switch", strange[0], SWITCHES)
    told = goals if isinstance(goals, str) else list(goals)
    return ShapesView(start, worker=worker, show=shown, goals=told)


def _sizes(shape: str | Sequence[int], workers: int) -> tuple[int, int, int]:
    """Data, ranks and tensor. Raises UsageError unless their product is the workers."""
    given = tuple(shape.replace("×", "x").split("x")) if isinstance(shape, str) else tuple(shape)
    for one in factorizations(workers):
        if tuple(str(size).strip() for size in given) == tuple(map(str, one)):
            return one
    known = ", ".join("x".join(map(str, one)) for one in factorizations(workers))
    raise UsageError(
        f"shape is {shape!r}; it is data x ranks x tensor, whose product is the {workers} workers: "
        f"{known}."
    )
