"""Building a schedule by hand: each move checked and explained, the makespan against par."""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import traitlets

from ..catalogue import build, entry, recognise
from ..errors import Refusal, ScheduleError, UnknownName, UsageError
from ..plots import svg, view
from ..plots.bundle import bundle
from ..plots.page import write_whole
from ..schedule import Action, Kind, Schedule, check
from ..simulator import Costs
from ..timeline import Timeline
from .construction import Construction
from .goals import GoalsWidget
from .panel import with_backward
from .par import par
from .real_run import RealRunWidget
from .requests import listen
from .settings import Settings
from .standing import legal_times, memory, partial, standing_atoms, starts, times
from .styles import styles
from .training import IDLE, unit_ms

_HERE = Path(__file__).parent
RECOGNISED = 600
"""Actions of a schedule that is still compared with the catalogue: beyond, it takes seconds."""


@dataclass(frozen=True)
class Task:
    """What a person is to build: a sentence, the time to reach, and the exercise that asks for it.

    ``target`` is a makespan; without it, to place all actions is enough.
    """

    text: str = ""
    target: float = math.inf
    exercise: str = ""


TASKS: dict[str, tuple[Task, dict[str, Any]]] = {
    "08": (
        Task(
            "Hold at most 3 micro-batches on a rank, and end at 30: nothing is shorter.", 30, "08"
        ),
        {"ranks": 4, "microbatches": 6, "memory_limit": 3.0, "hold": "microbatch"},
    )
}
"""Exercises that are a schedule: what they ask for, and their settings."""


class Builder(GoalsWidget, RealRunWidget):
    """A grid of actions per rank, on the axis of time; make one with `builder`.

    Moves are methods, and messages of the front end: ``place``, ``move``, ``remove``, ``undo``,
    ``redo``, ``hint``, ``clear``, ``load``, ``run``, ``hand_in``. What a move leads to, or why it
    is refused, is in ``grid``. Goals are about ``facts``; they take the place of the task.
    """

    _esm = bundle(_HERE / "builder.js")
    _css = styles()

    grid = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        start: Construction,
        settings: Settings,
        task: Task | None = None,
        goals: Any = (),
    ):
        super().__init__(goals=goals if isinstance(goals, str) else list(goals))
        self.settings = settings
        self.task = task or Task()
        self._lock = threading.RLock()
        self._start_over(start)
        listen(self, self._told)

    @property
    def construction(self) -> Construction:
        """What stands now."""
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
    def facts(self) -> dict[str, Any]:
        """What goals can be about: left, the actions to place; makespan and peak; the run."""
        score = self.grid.get("score", {})
        about = {"left": self.grid.get("left"), "run": self.progress["state"]}
        return about | {name: score.get(name) for name in ("makespan", "peak")}

    @property
    def csv(self) -> str:
        """What stands, in torch's notation, one row per rank."""
        return "".join(",".join(map(str, row)) + "\n" for row in self.construction.rows)

    def place(self, text: str, rank: int | None = None) -> None:
        """Put an action, such as "1F0", behind the last of its rank."""
        self._try(lambda now: now.place(text, rank))

    def move(self, rank: int, step: int, to: int) -> None:
        """Move an action to another step of its rank."""
        self._try(lambda now: now.move(rank, step, to))

    def remove(self, rank: int, step: int) -> None:
        """Take an action away, unless another needs it."""
        self._try(lambda now: now.remove(rank, step))

    def undo(self) -> None:
        """Go back by a move."""
        self._go(max(0, self._at - 1))

    def redo(self) -> None:
        """Go on by a move that was undone."""
        self._go(min(len(self._history) - 1, self._at + 1))

    def clear(self) -> None:
        """Take everything away; undo brings it back."""
        self._try(lambda now: Construction(((),) * len(now.rows), now.universe, now.homes))

    def hint(self) -> Action | None:
        """Show and return the next action of a good order; None when all is placed."""
        with self._lock:
            limit = self.settings.limit_in_microbatches or math.inf
            now, latency = self.construction, self.settings.latency
            action = now.hint(starts(self._timeline(), now, latency), limit)
            text = f"Try {action}: it can start first." if action else "All is placed."
            self.grid = self.grid | {"message": text, "hint": str(action or ""), "refused": False}
            return action

    def load(self, csv: str) -> None:
        """Start over from a CSV. What is wrong with it is shown, and then nothing changes."""
        start, refusal = None, None
        try:
            schedule = Schedule.from_csv(csv)
            refusal = check(schedule)
            if refusal is None:
                start = Construction.of(schedule)
        except (UsageError, ScheduleError) as error:
            refusal = Refusal("syntax", None, None, None, None, str(error))
        with self._lock:
            if start is None:
                self._show(refusal)
            else:
                self._start_over(start)

    def hand_in(self, path: str | Path | None = None) -> Path:
        """Write what stands into the file of its exercise, and return its path.

        What stood in the file before stays beside it, as "….before".

        Args:
            path: of the file; without it, that in the nearest folder "exercises".

        Raises UsageError where this is not the schedule of an exercise, or there is no such file.
        """
        if not self.task.exercise:
            raise UsageError(
                'Only the schedule of an exercise is handed in: builder(exercise="08").'
            )
        file = Path(path) if path is not None else _file_of(self.task.exercise)
        if file.exists():
            old = file.read_text(encoding="utf-8")
            write_whole(file.with_name(f"{file.name}.before"), old)
        return write_whole(file, self.csv)

    def run(self) -> None:
        """Train the finished schedule for real, in the background."""
        with self._lock:
            if not self.construction.complete or self._busy:
                return
            timeline = self._timeline()
            self.pace_ms = unit_ms(self.settings, timeline)
            self._begin(self.settings, timeline)

    def _hand_in_or_say(self) -> None:
        """``hand_in`` for the front end, which shows where to, or why it is impossible."""
        try:
            path = self.hand_in()
            number = self.task.exercise
            said = f'{path.parent.name}/{path.name} is written: pipelab.grade("{number}").'
        except (UsageError, OSError) as error:
            said = str(error)
        self.grid = self.grid | {"message": said, "refused": False}

    def _pace(self, unit_ms: float) -> None:
        self.pace_ms = unit_ms
        self.predicted = view(self._timeline(), milliseconds=unit_ms)

    def _start_over(self, start: Construction) -> None:
        self._history, self._at = [start], 0
        microbatches = 1 + max(action.microbatch for action in start.universe)
        self.settings = self.settings.with_changes(ranks=len(start.rows), microbatches=microbatches)
        self._par = par(start, self.settings)
        if self.goals:  # what a lesson lets one find is not named before
            self._par["par_name"] = ""
        self._show()

    def _try(self, change: Callable[[Construction], Construction | Refusal]) -> None:
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
        return self.settings.simulate(self.construction.completed())

    def _show(self, refusal: Refusal | None = None) -> None:
        """Tell the front end what stands now, or why what stood still does.

        A move that was refused changes nothing, so a run that is on goes on.
        """
        if refusal is None:
            training = self._let_go()
            if training:
                training.stop()
        timeline = self._timeline()
        standing = standing_atoms(self.construction, timeline.schedule)
        with self.hold_sync():
            self.grid = self._grid(timeline, standing, refusal)
            if refusal is None:
                whole = self.construction.complete
                unit = timeline.memory_unit
                self.predicted = view(timeline) if whole else partial(timeline, standing, unit)
                self.run_picture, self.progress = {}, IDLE
                self._tick()

    def _grid(
        self, timeline: Timeline, standing: np.ndarray, refusal: Refusal | None
    ) -> dict[str, Any]:
        now = self.construction
        legal = [now.legal(rank) for rank in range(len(now.rows))]
        score = self._score(timeline, standing)
        limits = self.settings.limits(timeline)
        return {
            "rows": [list(map(str, row)) for row in now.rows],
            "legal": [list(map(str, actions)) for actions in legal],
            "times": times(timeline, standing),
            "legal_times": legal_times(timeline, now, self.settings.latency),
            "memory": memory(timeline, standing),
            "memory_unit": timeline.memory_unit,
            "limit": max(limits) if limits else None,
            "time_name": "time per batch" if self.settings.one_batch else "makespan",
            "task": self._judged(score, timeline, standing, limits),
            "exercise": self.task.exercise,
            "left": len(now.universe) - len(now.placed),
            "complete": now.complete,
            "csv": self.csv,
            "undo": self._at,
            "redo": len(self._history) - 1 - self._at,
            "score": score,
            "name": self._name(now, timeline.schedule),
            "message": refusal.message if refusal else "",
            "refused": refusal is not None,
        }

    def _score(self, timeline: Timeline, standing: np.ndarray) -> dict[str, Any]:
        """Makespan and peak of what stands, against par and the bound."""
        ends, held = timeline.ended[standing], timeline.bytes_held[standing]
        return self._par | {
            "makespan": float(ends.max(initial=0)),
            "peak": float(held.max(initial=0)),
        }

    def _judged(
        self,
        score: dict[str, Any],
        timeline: Timeline,
        standing: np.ndarray,
        limits: list[float],
    ) -> dict[str, Any]:
        """What is asked for, and whether what stands is that."""
        left = len(self.construction.universe) - len(self.construction.placed)
        text = self.task.text or (
            f"Place all {len(self.construction.universe)} actions: "
            f"{self._par['par_name'] or 'a known schedule'} takes "
            f"{self._par['par']:.4g}."
        )
        over = sorted(
            {
                int(timeline.rank[atom])
                for atom in np.flatnonzero(standing)
                if limits and timeline.bytes_held[atom] > limits[timeline.rank[atom]] * (1 + 1e-9)
            }
        )
        reached = not left and not over and score["makespan"] <= self.task.target * (1 + 1e-9)
        return {"text": text, "over": over, "reached": reached}

    def _name(self, now: Construction, schedule: Schedule) -> str:
        if not now.complete or len(now.universe) > RECOGNISED:
            return ""
        return recognise(schedule, costs=self.settings.costs(schedule.stages)).text

    def _show_run(
        self,
        timelines: dict[str, Timeline],
        costs: Costs | None,  # noqa: ARG002 - the builder draws no formulas, which need them
    ) -> None:
        for source, timeline in timelines.items():
            if source == "measured":
                self.run_picture = view(timeline)
            else:
                self.predicted = view(timeline)

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The live view; for viewers without a kernel a drawing of a finished order, and words."""
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        if self.construction.complete:
            data["image/svg+xml"] = svg(self._timeline())
        grid = self.csv if self.construction.placed else ""
        data["text/html"] = (
            f"<p><b>Build by hand.</b> {escape(self.grid['task']['text'])} "
            "This grid needs JupyterLab and a kernel.</p>" + (grid and f"<pre>{escape(grid)}</pre>")
        )
        return data, metadata

    def _told(self, action: str, arguments: dict[str, Any]) -> None:
        if action == "hand_in":
            self._hand_in_or_say()
            return
        changes = (self.place, self.move, self.remove, self.undo, self.redo, self.clear, self.load)
        moves = (*changes, self.hint, self.run, self.stop, self.show_step, self.show_goal)
        {move.__name__: move for move in moves}[action](**arguments)


def _file_of(exercise: str) -> Path:
    """The CSV file of an exercise, in the nearest folder "exercises" here or above."""
    here = Path.cwd()
    for place in (here, *here.parents):
        found = sorted(place.glob(f"exercises/{exercise}_*/*.csv"))
        if found:
            return found[0]
    raise UsageError(
        f"There is no file of exercise {exercise} here or above: give its path, hand_in(path)."
    )


def builder(  # noqa: PLR0913 - the whole of what a grid can start with
    schedule: str | Schedule | None = None,
    *,
    ranks: int = 4,
    microbatches: int = 4,
    stages_per_rank: int = 1,
    split: bool = False,
    without: str = "",
    batches: int = 1,
    exercise: str = "",
    goals: Any = (),
    **settings: Any,
) -> Builder:
    """Build a schedule by hand: put it last in a notebook cell.

    Args:
        schedule: what to start from, a name of the catalogue or a Schedule; without it, an empty
            grid.
        ranks: of a grid or a named schedule.
        microbatches: of the same.
        stages_per_rank: of the same; in an empty grid the stages are looped over the ranks.
        split: whether an empty grid has I and W instead of B.
        without: a kind of the named schedule that is left to place, such as "W".
        batches: how often the named schedule stands there, each time on the micro-batches that
            follow: a flush lies between.
        exercise: "08": its counts, costs and limits, and a button that hands the order in.
        goals: what is to be reached, one after another: a list of ``pipelab.widgets.Goal``, or a
            slug of the course.
        settings: as for ``pipelab.lab``: hold, forward, input_grad, weight_grad, latency,
            stage_costs; and memory_limit, which is drawn and part of the task.

    Returns:
        The widget.

    Raises:
        UnknownName: there is no such schedule.
        UsageError: impossible counts or costs; also a schedule of more than F, B, I and W of one
            copy of the model.
    """
    task = None
    if exercise:
        task, given = _task_of(exercise)
        ranks, microbatches = given.pop("ranks"), given.pop("microbatches")
        settings = given | settings
    settings = with_backward(settings)
    configuration = Settings(ranks=ranks, microbatches=microbatches, **settings).valid()
    if schedule is None:
        empty = Construction.empty(ranks, microbatches, stages_per_rank, split=split)
        return Builder(empty, configuration, task, goals)
    if isinstance(schedule, str):
        per_rank = None if entry(schedule).fixed else stages_per_rank
        schedule = build(schedule, ranks=ranks, microbatches=microbatches, stages_per_rank=per_rank)
    start = Construction.of(schedule).repeated(batches)
    if without:
        start = start.without(Kind[without])
    return Builder(start, configuration, task, goals)


def _task_of(exercise: str) -> tuple[Task, dict[str, Any]]:
    """What an exercise asks to build, and its settings."""
    if exercise.zfill(2) not in TASKS:
        raise UnknownName("exercise to build by hand", exercise, TASKS)
    task, settings = TASKS[exercise.zfill(2)]
    return task, dict(settings)
