"""``cuts``: a profiled model as a row of layers, with cuts that move, and what follows from them.

In: a Profile, and the model to train if there is one. Out: a widget whose front end cuts by itself
(``plots/frontend/recut.js``); the kernel answers with the same, and runs it for real.
"""

import threading
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import traitlets

from ..catalogue import build
from ..errors import UnknownName, UsageError
from ..layout import Partition, Profile
from ..layout.chain import Chain
from ..layout.cutter import Cutter
from ..layout.folding import crossing
from ..layout.memory import states_of
from ..plots import view
from ..plots.bundle import bundle
from ..schedule import Schedule
from ..simulator import Costs, Link
from ..timeline import Timeline
from .cut_picture import cuts_svg
from .cut_run import CutRun, Trained, slowdown, slowed
from .goals import GoalsWidget
from .real_run import RealRunWidget
from .requests import listen
from .styles import styles
from .training import IDLE

_HERE = Path(__file__).parent
WAYS = ("even", "parameters", "best")
"""Ways to cut that stand beside the person's."""
COLUMNS = (
    *("forward", "input_grad", "weight_grad", "activation_bytes", "saved_input_bytes"),
    *("output_bytes", "parameter_bytes", "deferred_activation_bytes", "deferred_gradient_bytes"),
)
"""What the front end gets of each layer."""


class Cuts(GoalsWidget, RealRunWidget):
    """Cuts of a profiled model; make one with ``pipelab.cuts``.

    ``sizes`` are the layers of each stage: set them to move cuts. ``found`` is the Partition that
    they make, ``best`` the best one there is. ``ran`` has every cut that was run for real.

    A run belongs to its cuts: a move stops it and clears its picture, but not its row in ``ran``.
    """

    _esm = bundle(_HERE / "cuts.js")
    _css = styles() + (_HERE / "cuts.css").read_text(encoding="utf-8")

    sizes = traitlets.List(traitlets.Int()).tag(sync=True)
    ghosts = traitlets.List(traitlets.Enum(WAYS), list(WAYS)).tag(sync=True)
    about = traitlets.Dict().tag(sync=True)
    ran = traitlets.List(traitlets.Dict()).tag(sync=True)
    slower = traitlets.Float(1.0).tag(sync=True)

    found: Partition
    """What the cuts as they are come to."""

    def __init__(
        self,
        cutter: Cutter,
        best: Partition,
        about: dict[str, Any],
        *,
        job: Trained | None = None,
        **traits: Any,
    ):
        self._lock = threading.RLock()
        self._cutter, self._job, self.best = cutter, job, best
        assert best.even is not None and best.parameters is not None
        self.ways = {"even": best.even, "parameters": best.parameters, "best": best}
        self.found = cutter.evaluated(cutter.whole(traits["sizes"]))
        slower = slowdown(best.even.makespan, best.schedule.ranks)
        super().__init__(about=about, slower=slower, **traits)
        self._settle()
        self.observe(lambda _: self._settle(), names=["sizes"])
        listen(self, self._told)

    @traitlets.validate("sizes")
    def _fitting(self, proposal: dict[str, Any]) -> list[int]:
        return self._cutter.whole(proposal["value"])

    @property
    def facts(self) -> dict[str, Any]:
        """What goals can be about.

        above_best: how much longer the slowest rank takes than with the best cuts, as a share.
        gain: how much less than with even cuts. traffic: bytes that cross, against even cuts. runs:
        how many cuts have been run for real; run: the state of the run.
        """
        best, even = self.best.slowest, self.ways["even"].slowest
        return {
            "above_best": self.found.slowest / best - 1,
            "gain": 1 - self.found.slowest / even,
            "traffic": traffic(self.found) / (traffic(self.ways["even"]) or 1),
            "runs": len({str(one["sizes"]) for one in self.ran}),
            "run": self.progress["state"],
        }

    def apply(self, **changes: Any) -> None:
        """Change ``sizes``, or cut ``way="even"``, "parameters" or "best"."""
        way = changes.pop("way", None)
        if way is not None:
            if way not in WAYS:
                raise UnknownName("way to cut", way, WAYS)
            changes["sizes"] = self.ways[way].sizes
        for name, value in changes.items():
            setattr(self, name, value)

    def run(self) -> None:
        """Train the model with these cuts for real, in the background. Not while a run is on.

        Raises UsageError where there is no model to train.
        """
        if self._job is None:
            raise UsageError(
                "There is only a profile here, and nothing to train: cuts(profile, train=job), "
                "where job = pipelab.model.workload(...) has the model and its batches."
            )
        with self._lock:
            if self._busy:
                return
            if self.paced:
                self._pace(1000 * self.slower)
            self._training = CutRun(
                self._job,
                self.found,
                slower=self.slower,
                paced=self.paced,
                publish=self._publish,
            )
            self._training.start()

    def _settle(self) -> None:
        """Work out what the cuts come to, and drop a run that belonged to others."""
        with self._lock:
            training = self._let_go()
            with self.hold_sync():
                if training and training.busy:
                    training.stop()
                    self.progress = {"state": "stopped", "message": "Stopped: a cut moved."}
                else:
                    self.progress = IDLE
                self.found = self._cutter.evaluated(list(self.sizes))
                self.run_picture = {}
                self.predicted = self._message()
                self._tick()

    def _pace(self, unit_ms: float) -> None:
        if unit_ms != 1000 * self.slower:
            self.slower = unit_ms / 1000
            self.ran = [one for one in self.ran if not one["paced"]]  # at another pace
        self.predicted = self._message(self.slower)

    def _message(self, slower: float = 1.0) -> dict[str, Any]:
        """The prediction for the canvas."""
        more = {"sizes": list(self.sizes), "slower": slower, "bytes": self.found.bytes}
        return view(slowed(self.found, slower)) | more

    def _show_run(
        self,
        timelines: dict[str, Timeline],
        costs: Costs | None,  # noqa: ARG002 - for the lab's formulas
    ) -> None:
        if "predicted" in timelines:
            kept = {name: self.predicted[name] for name in ("sizes", "bytes")}
            self.predicted = view(timelines["predicted"]) | kept | {"slower": 1.0}
        self.run_picture = view(timelines["measured"])
        training = self._training
        row = {
            "sizes": list(self.sizes),
            "name": next((n for n in WAYS[::-1] if self.ways[n].sizes == list(self.sizes)), ""),
            "paced": training is not None and training.paced,
            "predicted": self.predicted["end"],
            "measured": 1000 * timelines["measured"].makespan,
        }
        same = ("sizes", "paced")
        others = [one for one in self.ran if any(one[name] != row[name] for name in same)]
        self.ran = [*others, row]
        self._tick()

    def _told(self, action: str, _arguments: dict[str, Any]) -> None:
        """Do what the front end asks for."""
        actions: dict[str, Callable[[], object]] = {
            "run": self.run,
            "stop": self.stop,
            "show_goal": self.show_goal,
            "hello": lambda: self.send({"hello": True}),
        }
        actions[action]()

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The live view; a still picture and words for viewers without a kernel."""
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        chain = self.about["chain"]
        seconds = {part: chain[part] for part in ("forward", "input_grad", "weight_grad")}
        data["image/svg+xml"] = cuts_svg(chain["names"], seconds, self.found)
        sizes = ", ".join(map(str, self.sizes))
        slowest = self.found.slowest
        what = "rank" if max(self.found.rank_seconds) >= slowest else "message"
        said = f"Layers of each stage: {sizes}. The slowest {what} takes {1000 * slowest:.3g} ms."
        data["text/html"] = f"<p>{escape(said)}</p>{data['image/svg+xml']}"
        return data, metadata


def traffic(found: Partition) -> float:
    """Bytes that cross between ranks in a step: of each micro-batch there and back."""
    sizes = np.broadcast_to(np.asarray(found.costs.message), found.schedule.stages)[:-1]
    crossed = np.array(crossing(found.schedule), bool)
    return float(2 * found.schedule.microbatches * sizes[crossed].sum())


def cuts(  # noqa: PLR0913 - what partition takes, and the widget's own
    profile: Profile,
    *,
    ranks: int = 4,
    microbatches: int | None = None,
    schedule: str | Schedule = "1f1b",
    stages_per_rank: int | None = None,
    sizes: Iterable[int] | None = None,
    link: Link | None = None,
    memory_limit: float | None = None,
    optimizer: str = "adam",
    train: Trained | None = None,
    ghosts: Iterable[str] = WAYS,
    goals: Any = (),
    paced: bool = True,
) -> Cuts:
    """Show a profiled model as a row of layers and let a person cut it; put it last in a cell.

    Args:
        profile: of the layers, from ``pipelab.profile``.
        ranks: how many there are.
        microbatches: of a step; default: twice the ranks.
        schedule: a name or a Schedule.
        stages_per_rank: default: what is usual for the schedule.
        sizes: layers of each stage to begin with; default: even cuts.
        link: between any two ranks; without one, transfers take no time.
        memory_limit: bytes that a rank may hold with the best cuts.
        optimizer: "sgd", "momentum" or "adam".
        train: the model to run for real, such as ``pipelab.model.workload("gpt")``: anything with
            ``model``, ``batches(step)``, ``loss_fn`` and ``optimizer(parameters)``.
        ghosts: the other ways that may be seen: "even", "parameters", "best". The best cuts are
            shown once all goals are reached.
        goals: a list of ``pipelab.widgets.Goal``, or a slug of the course.
        paced: whether a real run is slowed down, so that few processors show many ranks.

    Returns:
        The widget.

    Raises:
        UsageError: something else than a profile; fewer layers than stages; sizes that do not fit;
            a limit that no cuts keep; a model with other layers than the profile, or a link beside
            a model, which has links of its own.

    >>> from pipelab.layout import LayerProfile
    >>> loss = LayerProfile("loss", 0, 0, 0, 0, 0, 0, 0)
    >>> layers = [LayerProfile(str(i), t, t, t, 8, 0, 8, 4) for i, t in enumerate((1, 1, 1, 3))]
    >>> widget = cuts(Profile("cpu", "float32", 1, tuple(layers), loss), ranks=2)
    >>> widget.sizes, widget.found.slowest, widget.best.sizes
    ([2, 2], 12.0, [3, 1])
    """
    if not isinstance(profile, Profile):
        raise UsageError(
            f"cuts takes a Profile, not a {type(profile).__name__}: measure one with "
            "pipelab.profile(model, inputs, targets, loss_fn), or read it with Profile.load(path)."
        )
    _check(profile, train, link)
    if isinstance(schedule, str):
        m = 2 * ranks if microbatches is None else microbatches
        schedule = build(schedule, ranks=ranks, microbatches=m, stages_per_rank=stages_per_rank)
    cutter = Cutter(profile, schedule, link, optimizer)
    best = cutter.partition(memory_limit)
    assert best.even is not None
    return Cuts(
        cutter,
        best,
        _about(profile, schedule, link or Link(), optimizer, best) | {"trains": train is not None},
        job=train,
        sizes=best.even.sizes if sizes is None else list(sizes),
        ghosts=list(ghosts),
        goals=goals if isinstance(goals, str) else list(goals),
        paced=paced,
    )


def _check(profile: Profile, train: Trained | None, link: Link | None) -> None:
    """Refuse what does not belong together. Raises UsageError."""
    if train is None:
        return
    if link is not None:
        raise UsageError(
            "A real run has this machine's links, and a link of your own is only predicted: leave "
            "out link, or train."
        )
    missing = [n for n in ("model", "batches", "loss_fn", "optimizer") if not hasattr(train, n)]
    if missing:
        raise UsageError(
            f"train has no {' and no '.join(missing)}: give pipelab.model.workload(...), or a "
            "pipelab.model.Workload of your own."
        )
    layers = len(train.model)
    if layers != len(profile.layers):
        raise UsageError(
            f"The profile has {len(profile.layers)} layers, and the model to train has {layers}: "
            "profile that model."
        )


def _about(
    profile: Profile, schedule: Schedule, link: Link, optimizer: str, best: Partition
) -> dict[str, Any]:
    """What the front end must know to cut by itself."""
    chain = Chain(profile)
    start = np.arange(chain.layers)
    columns: dict[str, Any] = {
        name: chain.total(name, start, start + 1).tolist() for name in COLUMNS
    }
    names = [layer.name for layer in profile.layers]
    names[-1] += ", loss"
    ways = {"even": best.even, "parameters": best.parameters, "best": best}
    found = {name: way for name, way in ways.items() if way is not None}
    return {
        "chain": columns | {"names": names, "split": chain.measured_split},
        "schedule": schedule.name,
        "ranks": schedule.ranks,
        "microbatches": schedule.microbatches,
        "replicas": schedule.replicas,
        "homes": [[stage, rank] for (_, stage), rank in sorted(schedule.placement.items())],
        "crosses": crossing(schedule),
        "link": {"latency": link.latency, "bandwidth": link.bandwidth},
        "optimizer": optimizer,
        "copies": 2 + states_of(optimizer),
        "ways": {name: way.sizes for name, way in found.items()},
        "slowest": {name: way.slowest for name, way in found.items()},
        "traffic": {name: traffic(way) for name, way in found.items()},
    }
