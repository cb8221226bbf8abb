"""The course's running example, trained for real in stages of time: what it has learned is seen.

``trained("mlp", schedule="gpipe", …)`` trains the spirals under a schedule and draws the borders
between the arms before, during and after; ``trained("gpt", …)`` shows what the small GPT writes.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .figures import Line, lines

if TYPE_CHECKING:
    from ..engine import Run

SIDE = 210
ARMS = ("#4477AA", "#DDAA33", "#BB5566")
PROMPT = "self."
SAMPLES = 240
"""Points of the spirals that are drawn over the borders."""


@dataclass(frozen=True)
class Trained:
    """A model trained in parts: what it had learned at each moment, and the runs.

    moments: (step, picture as HTML). runs: of the parts, in order. losses: of all steps.
    """

    name: str
    moments: list[tuple[int, str]]
    runs: list["Run"] = field(repr=False)

    @property
    def losses(self) -> list[float]:
        """The loss of every step."""
        return [loss for run in self.runs for loss in run.losses]

    @property
    def gradient_error(self) -> float | None:
        """That of the last step, against the unsplit model."""
        return self.runs[-1].gradient_error

    def _repr_html_(self) -> str:
        run = self.runs[-1]
        schedule = run.schedule
        about = f"{schedule.name}, {schedule.ranks} ranks, m = {schedule.microbatches}"
        cells = "".join(
            f'<figure style="margin:0"><figcaption>step {step}</figcaption>{picture}</figure>'
            for step, picture in self.moments
        )
        error = self.gradient_error
        said = f"; gradients: {run.gradient_note}"
        if error is not None:
            near = "equal to" if error == 0 else f"within {error:.0e} of"
            said = f"; gradients {near} the unsplit model's"
        step = max(1, len(self.losses) // 24)
        curve = Line("loss", dict(list(enumerate(self.losses))[::step]), "truth")
        return (
            f"<p>{escape(about)}{said}</p>"
            f'<div style="display:flex;flex-wrap:wrap;gap:12px">{cells}</div>'
            + lines([curve], x_label="step", y_label="loss", height=200)
        )


def trained(
    name: str = "mlp",
    *,
    schedule: str,
    ranks: int = 4,
    microbatches: int = 8,
    steps: Sequence[int] = (0, 20, 120),
    **settings: Any,
) -> Trained:
    """Train a model of the course for real and keep what it had learned at some moments.

    Args:
        name: "mlp" learns which arm of a spiral a point is on; "gpt" the next character of Python's
            own sources.
        schedule: of the pipeline, a name of the catalogue.
        ranks: worker processes.
        microbatches: pieces of a batch.
        steps: the moments, in training steps; the last one ends the training.
        settings: more for ``pipelab.run``, such as stages_per_rank.

    Returns:
        What was seen, which a notebook shows; ``runs``, ``losses`` and ``gradient_error``.
    """
    from ..engine import run
    from ..model import workload
    from ..model.seen import regions, writes

    sizes: dict[str, dict[str, Any]] = {
        "mlp": {"layers": 8, "width": 32, "batch": 96},
        "gpt": {"layers": 6, "width": 64, "batch": 8},
    }
    job = workload(name, **sizes[name])
    points = _points(*job.batches(0)) if name == "mlp" else ""
    moments: list[tuple[int, str]] = []

    def see(step: int, weights: Any) -> None:
        if name == "mlp":
            moments.append((step, _borders(regions(job.model, weights).tolist(), points)))
        else:
            wrote = writes(job.model, weights, PROMPT)
            moments.append((step, f"<pre>{escape(PROMPT)}<b>{escape(wrote)}</b></pre>"))

    see(steps[0], job.model.state_dict())
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "weights.pt"
        for before, after in pairwise(steps):
            going: dict[str, Any] = {"resume": checkpoint} if runs else {}
            done = run(
                job.model, job.batches, None, job.loss_fn, schedule=schedule, ranks=ranks,
                microbatches=microbatches, steps=after - before, optimizer=job.optimizer,
                **going, **settings,
            )  # fmt: skip
            done.save(checkpoint)
            runs.append(done)
            see(after, done.state_dict)
    return Trained(name, moments, runs)


def _points(inputs: Any, targets: Any) -> str:
    """Some samples, as dots in the colours of their arms."""
    dots = []
    for (x, y), arm in zip(inputs.tolist()[:SAMPLES], targets.tolist(), strict=False):
        dots.append(
            f'<circle cx="{_at(x):.0f}" cy="{SIDE - _at(y):.0f}" r="3" fill="{ARMS[arm]}" '
            'stroke="#FFFFFF"/>'
        )
    return "".join(dots)


def _borders(regions: list[list[int]], points: str) -> str:
    """The regions in the colours of the arms, and the samples on them."""
    side = SIDE / len(regions)
    tiles = []
    for i, row in enumerate(regions):
        start = 0
        for j in range(1, len(row) + 1):
            if j < len(row) and row[j] == row[start]:
                continue
            tiles.append(
                f'<rect x="{start * side:.2f}" y="{SIDE - (i + 1) * side:.2f}" '
                f'width="{(j - start) * side:.2f}" height="{side:.2f}" '
                f'fill="{ARMS[row[start]]}" fill-opacity="0.45" shape-rendering="crispEdges"/>'
            )
            start = j
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIDE}" height="{SIDE}" role="img" '
        f'aria-label="regions of the three arms, with samples">{"".join(tiles)}{points}</svg>'
    )


def _at(value: float) -> float:
    from ..model.seen import EDGE

    return SIDE * (value + EDGE) / (2 * EDGE)
