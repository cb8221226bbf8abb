"""Pictures of weights in several versions, and how long training with them takes.

In: schedules that step the optimizer themselves, such as PipeDream's. Out: a picture whose colours
are versions of the weights, and for each learning rate the time until a loss is reached.
"""

import math
from collections.abc import Sequence
from statistics import fmean

from ..schedule import Kind, Schedule
from ..simulator import Costs, simulate
from .figures import OTHERS, WIDTH, Picture, label, svg

WINDOW = 32
"""Micro-batches over whose losses a mean is taken: single ones are noisy."""
_LEFT, _STEP, _BAR = 64, 40, 26


def versioned(schedule: Schedule) -> Picture:
    """The timeline of a schedule, coloured by the version of the weights that an action uses.

    A backward has the colour of its forward, whatever was made between. Lines are optimizer steps.
    """
    timeline = simulate(schedule)
    scale = (WIDTH - _LEFT - 8) / timeline.makespan
    parts, steps = [], []
    for rank in range(schedule.ranks):
        parts.append(label(_LEFT - 8, 18 + rank * _STEP, f"rank {rank}", "end"))
    columns = (timeline.rank, timeline.kind, timeline.microbatch, timeline.version)
    times = (timeline.started, timeline.ended)
    for rank, kind, i, version, start, end in zip(*columns, *times, strict=True):
        x, y, wide = _LEFT + start * scale, rank * _STEP, (end - start) * scale
        if kind == Kind.STEP:
            steps.append(
                f'<line x1="{x:.1f}" y1="{y - 3}" x2="{x:.1f}" y2="{y + _BAR + 3}" '
                'stroke="currentColor" stroke-width="2.5"/>'
            )
            continue
        colour = OTHERS[version % len(OTHERS)]
        ink = "#111111" if version % len(OTHERS) in (1, 3) else "#FFFFFF"
        dashes = 'stroke-dasharray="3 2" ' if kind != Kind.F else ""
        parts.append(
            f'<rect x="{x:.1f}" y="{y}" width="{max(wide - 1, 1):.1f}" height="{_BAR}" '
            f'fill="{colour}" stroke="currentColor" stroke-opacity="0.6" {dashes}/>'
        )
        name = f"{Kind(kind).name}{i}" if wide > 20 else str(i)
        if wide > 7 * len(name):
            parts.append(
                f'<text x="{x + wide / 2:.1f}" y="{y + 18}" text-anchor="middle" fill="{ink}" '
                f'font-family="system-ui, sans-serif" font-size="11">{name}</text>'
            )
    bottom = schedule.ranks * _STEP + 6
    used = timeline.version[timeline.kind != Kind.STEP]
    parts += [*steps, *_key(int(used.max()), bottom)]
    said = f"{schedule.name}: actions in the colours of the weight versions that they use"
    return Picture(svg(parts, bottom + 24, said))


def _key(newest: int, y: float) -> list[str]:
    """Which colour is which version; they come round again."""
    parts = [label(_LEFT - 8, y + 12, "version", "end", faint=True)]
    for version in range(min(newest + 1, 2 * len(OTHERS))):
        x = _LEFT + 44 * version
        colour = OTHERS[version % len(OTHERS)]
        parts.append(f'<rect x="{x}" y="{y + 2}" width="12" height="12" fill="{colour}"/>')
        parts.append(label(x + 17, y + 12, str(version), "start", faint=True))
    return parts


def time_to_loss(
    schedule: Schedule,
    losses: Sequence[Sequence[float]],
    rates: Sequence[float],
    *,
    loss: float,
    batch: int = 8,
) -> dict[float, float]:
    """When a training reaches a loss, by learning rate; infinite where it never does.

    Args:
        schedule: that was trained with. Its simulated times count: stages are equal, and one device
            alone takes 100 for ``batch`` micro-batches.
        losses: of every micro-batch, for each rate (``model.stale.stale_losses``).
        rates: the learning rates.
        loss: the mean of 32 micro-batches has to be so low.
        batch: micro-batches.

    Returns:
        Rate -> time.
    """
    share = 100 / (3 * schedule.stages * batch)
    timeline = simulate(schedule, Costs(share, backward=2 * share))
    last = (timeline.kind == Kind.F) & (timeline.stage == schedule.stages - 1)
    when = dict(zip(timeline.microbatch[last].tolist(), timeline.ended[last].tolist(), strict=True))
    return {
        rate: when.get(_reached(curve, loss), math.inf)
        for rate, curve in zip(rates, losses, strict=True)
    }


def _reached(curve: Sequence[float], loss: float) -> int | None:
    """The micro-batch with which the mean of the last ones is low enough."""
    for i in range(WINDOW, len(curve) + 1):
        if fmean(curve[i - WINDOW : i]) <= loss:
            return i - 1
    return None
