"""Building a schedule by hand: a grid of actions, each move checked and explained, the makespan
against par.
"""

import threading
from pathlib import Path

import anywidget
import numpy as np
import traitlets

from ..catalogue import build, entry, recognise
from ..errors import Refusal, ScheduleError, UsageError
from ..plots import view
from ..plots.bundle import FRONTEND, bundle
from ..plots.view import COLUMNS, live_view
from ..schedule import Action, Schedule, check
from ..simulator import simulate
from ..timeline import Timeline
from .construction import Construction
from .settings import Settings
from .theory import bound
from .training import IDLE, PACE_MS, Training

_HERE = Path(__file__).parent
RECOGNISED = 600
"""Actions of a schedule that is still compared with the catalogue: beyond, it takes seconds."""


class Builder(anywidget.AnyWidget):
    """A grid of actions per rank; make one with `builder`.

    Moves are methods, and messages of the front end: ``place``, ``move``, ``remove``, ``undo``,
    ``redo``, ``hint``, ``clear``, ``load``, ``run``. What a move leads to, or why it is refused, is
    in ``grid``.
    """

    _esm = bundle(_HERE / "builder.js")
    _css = "".join(
        path.read_text(encoding="utf-8") for path in (FRONTEND / "picture.css", _HERE / "lab.css")
    )

    grid = traitlets.Dict().tag(sync=True)
    predicted = traitlets.Dict().tag(sync=True)
    measured = traitlets.Dict().tag(sync=True)
    progress = traitlets.Dict(IDLE).tag(sync=True)
    paced = traitlets.Bool(True).tag(sync=True)
    pace_ms = traitlets.Float(PACE_MS).tag(sync=True)

    def __init__(self, start: Construction, settings: Settings):
        super().__init__()
        self.settings = settings
        self._lock = threading.RLock()
        self._training: Training | None = None
        self._start_over(start)
        self.on_msg(lambda _widget, content, _buffers: self._told(content))

    @property
    def construction(self) -> Construction:
        return self._history[self._at]

    @property
    def schedule(self) -> Schedule:
        """The finished schedule. Raises ScheduleError, which says what is missing, before."""
        now = self.construction
        if not now.complete:
            left = sorted(map(str, now.universe - now.placed))
            message = f"{len(left)} actions are not placed yet, {left[0]} among them."
            raise ScheduleError(Refusal("missing", None, None, left[0], left[0], message))
        return Schedule.from_rows(now.rows, name="by hand")

    @property
    def csv(self) -> str:
        """What stands, in torch's notation, one row per rank."""
        return "".join(",".join(map(str, row)) + "\n" for row in self.construction.rows)

    def place(self, text: str, rank: int | None = None) -> None:
        """Puts an action, such as "1F0", behind the last of its rank."""
        self._try(lambda now: now.place(text, rank))

    def move(self, rank: int, step: int, to: int) -> None:
        """Moves an action to another step of its rank."""
        self._try(lambda now: now.move(rank, step, to))

    def remove(self, rank: int, step: int) -> None:
        """Takes an action away, unless another needs it."""
        self._try(lambda now: now.remove(rank, step))

    def undo(self) -> None:
        self._go(max(0, self._at - 1))

    def redo(self) -> None:
        self._go(min(len(self._history) - 1, self._at + 1))

    def clear(self) -> None:
        """Takes everything away; undo brings it back."""
        self._try(lambda now: Construction(((),) * len(now.rows), now.universe, now.homes))

    def hint(self) -> Action | None:
        """The next action of a good order, also shown; None when all is placed."""
        with self._lock:
            action = self.construction.hint(self._starts())
            text = f"Try {action}: it can start first." if action else "All is placed."
            self.grid = self.grid | {"message": text, "hint": str(action or ""), "refused": False}
            return action

    def load(self, csv: str) -> None:
        """Starts over from a CSV. What is wrong with it is shown, and nothing changes."""
        try:
            schedule = Schedule.from_csv(csv)
            refusal = check(schedule)
            start = None if refusal else Construction.of(schedule)
        except (UsageError, ScheduleError) as error:
            refusal, start = Refusal("syntax", None, None, None, None, str(error)), None
        with self._lock:
            if start is None:
                self._show(refusal)
            else:
                self._start_over(start)

    def run(self) -> None:
        """Trains the finished schedule for real, in the background."""
        with self._lock:
            if not self.construction.complete or (self._training and self._training.busy):
                return
            timeline = self._timeline()
            if self.paced:
                self.predicted = view(timeline, milliseconds=PACE_MS)
            self._training = Training(
                self.settings, timeline, paced=self.paced, publish=self._publish
            )
            self._training.start()

    def stop(self) -> None:
        if self._training:
            self._training.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until no run is on; whether that came within ``timeout`` seconds."""
        return self._training.wait(timeout) if self._training else True

    def close(self) -> None:
        self.stop()
        super().close()

    def _start_over(self, start: Construction) -> None:
        self._history, self._at = [start], 0
        self._par = _par(start, self.settings)
        self._show()

    def _try(self, change) -> None:
        with self._lock:
            found = change(self.construction)
            if isinstance(found, Refusal):
                self._show(found)
                return
            self._history = [*self._history[: self._at + 1], found]
            self._go(self._at + 1)

    def _go(self, at: int) -> None:
        with self._lock:
            self._at = at
            self._show()

    def _timeline(self) -> Timeline:
        schedule = self.construction.completed()
        return simulate(schedule, self.settings.costs(schedule.stages))

    def _show(self, refusal: Refusal | None = None) -> None:
        """Tells the front end what stands now; a refusal, why it still does."""
        training, self._training = (
            (self._training, None) if refusal is None else (None, self._training)
        )
        if training:
            training.stop()
        now, timeline = self.construction, self._timeline()
        standing = _standing(now, timeline.schedule)
        with self.hold_sync():
            self.grid = {
                "rows": [[str(action) for action in row] for row in now.rows],
                "legal": [
                    [str(action) for action in now.legal(rank)] for rank in range(len(now.rows))
                ],
                "left": len(now.universe) - len(now.placed),
                "complete": now.complete,
                "csv": self.csv,
                "undo": self._at,
                "redo": len(self._history) - 1 - self._at,
                "score": self._score(timeline, standing),
                "name": self._name(now, timeline.schedule),
                "message": refusal.message if refusal else "",
                "refused": refusal is not None,
            }
            if refusal is None:
                columns = {name: getattr(timeline, name)[standing] for name in COLUMNS}
                partial = live_view(columns, timeline.schedule) | {
                    "source": "predicted",
                    "unit": "",
                }
                unscaled = live_view(
                    columns | {n: columns[n] / 1000 for n in ("started", "ended")},
                    timeline.schedule,
                )
                partial |= {name: unscaled[name] for name in ("bars", "end", "step")} | {
                    "memory_unit": "activations"
                }
                self.predicted = view(timeline) if now.complete else partial
                self.measured, self.progress = {}, IDLE

    def _score(self, timeline: Timeline, standing: np.ndarray) -> dict:
        """Makespan and peak of what stands, against par and the bound."""
        ends, held = timeline.ended[standing], timeline.bytes_held[standing]
        return self._par | {
            "makespan": float(ends.max(initial=0)),
            "peak": float(held.max(initial=0)),
        }

    def _name(self, now: Construction, schedule: Schedule) -> str:
        if not now.complete or len(now.universe) > RECOGNISED:
            return ""
        return recognise(schedule, costs=self.settings.costs(schedule.stages)).text

    def _starts(self) -> dict[Action, float]:
        """When each legal action could start, at the earliest."""
        now = self.construction
        timeline = self._timeline()
        schedule = timeline.schedule
        ends = {schedule.atom(i): float(timeline.ended[i]) for i in range(len(schedule.kind))}
        latency = self.settings.latency
        starts = {}
        for rank, row in enumerate(now.rows):
            free = ends[row[-1]] if row else 0.0
            for action in now.legal(rank):
                arrived = [
                    ends[a] + latency * (now.homes[a.stage] != rank) for a in now.needs(action)
                ]
                starts[action] = max([free, *arrived])
        return starts

    def _publish(
        self, training: Training, *, timelines: dict | None = None, costs=None, **traits
    ) -> None:
        with self._lock, self.hold_sync():
            if training is not self._training:
                return
            for name, value in traits.items():
                setattr(self, name, value)
            for source, timeline in (timelines or {}).items():
                setattr(self, source, view(timeline))

    def _told(self, content: dict) -> None:
        arguments = {name: value for name, value in content.items() if name != "action"}
        changes = (self.place, self.move, self.remove, self.undo, self.redo, self.clear, self.load)
        moves = (*changes, self.hint, self.run, self.stop)
        {move.__name__: move for move in moves}[content["action"]](**arguments)


def _standing(now: Construction, schedule: Schedule) -> np.ndarray:
    """Of each atom of the completed schedule: whether it stands already.

    What stands comes first on each rank.
    """
    return schedule.cell < np.repeat([len(row) for row in now.rows], np.diff(schedule.offsets))


def _par(start: Construction, settings: Settings) -> dict:
    """What there is to beat: a known schedule on the same ranks, and the bound that no order can
    beat.
    """
    schedule = start.completed()
    per_rank = schedule.stages_per_rank or 1
    looped = start.homes == tuple(stage % schedule.ranks for stage in range(schedule.stages))
    name = "1f1b" if per_rank == 1 else "interleaved-1f1b" if looped else "zb-v"
    found = entry(name)
    counts = {"ranks": schedule.ranks, "microbatches": schedule.microbatches}
    if found.problem(*counts.values(), None if found.fixed else per_rank):
        name, found = "gpipe", entry("gpipe")
    known = build(name, **counts, stages_per_rank=None if found.fixed else per_rank)
    par = simulate(known, settings.costs(known.stages))
    least, _ = bound(
        simulate(schedule, settings.costs(schedule.stages)), settings.costs(schedule.stages)
    )
    return {
        "par_name": found.title,
        "par": par.makespan,
        "par_peak": float(par.bytes_held.max()),
        "bound": least,
    }


def builder(
    schedule: str | Schedule | None = None,
    *,
    ranks: int = 4,
    microbatches: int = 4,
    stages_per_rank: int = 1,
    split: bool = False,
    **settings,
) -> Builder:
    """Build a schedule by hand: put it last in a notebook cell.

    schedule: what to start from, a name of the catalogue or a Schedule; without it an empty grid of
    ``ranks`` × ``microbatches``, with ``stages_per_rank`` stages looped over the ranks, and I and W
    instead of B if ``split``. settings: costs, as for ``pipelab.lab``: forward, input_grad,
    weight_grad, latency, stage_costs. Raises UnknownName and UsageError; also for schedules of more
    than F, B, I and W of one copy of the model.
    """
    configuration = Settings(ranks=ranks, microbatches=microbatches, **settings).valid()
    if schedule is None:
        return Builder(
            Construction.empty(ranks, microbatches, stages_per_rank, split), configuration
        )
    if isinstance(schedule, str):
        per_rank = None if entry(schedule).fixed else stages_per_rank
        schedule = build(schedule, ranks=ranks, microbatches=microbatches, stages_per_rank=per_rank)
    return Builder(Construction.of(schedule), configuration)
