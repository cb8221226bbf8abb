"""``fit_link``: latency α and bandwidth β of the links, from transfers that were measured.

    seconds = α + bytes / β         F ends ─ copied, handed over, woken up ─ the next F starts

Only transfers that the receiver waited for tell how long data was under way; what it had waited
before the sender was done is not transfer but waiting.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..errors import UsageError
from ..simulator import Link
from ..timeline import Timeline

_SIZES = "pass several runs whose micro-batches or widths differ, fit_link([small, large])"


def fit_link(runs: Any) -> Link:
    """Fit α and β to the transfers of runs or timelines, of messages of several sizes.

    Of each size the median counts, so that one slow transfer does not; the line has the least
    relative errors. The first step of a run is left out when there are others.

    Args:
        runs: a Run or a Timeline, or several.

    Returns:
        A Link in seconds and bytes per second, for ``Costs(link=)`` and ``partition(link=)``.

    Raises:
        UsageError: nothing that was measured between ranks, messages of one size only, or large
            ones that take no longer than small ones.

    Source: Hockney 1994, "The communication challenge for MPP", for the two parameters.
    """
    size, seconds = transfers(runs)
    sizes = np.unique(size)
    if not len(sizes):
        raise UsageError(
            "There is no transfer that a rank has waited for: fit_link takes runs, or their "
            "timelines, with two ranks or more."
        )
    if len(sizes) < 2:
        raise UsageError(
            f"All messages have {sizes[0]:,.0f} bytes, and one size cannot tell latency from "
            f"bandwidth: {_SIZES}."
        )
    medians = np.array([np.median(seconds[size == each]) for each in sizes])
    latency, per_byte = _line(sizes, medians)
    if per_byte <= 0:
        raise UsageError(
            f"Messages of {sizes[-1]:,.0f} bytes took no longer than those of {sizes[0]:,.0f}, so "
            f"no bandwidth shows: {_SIZES}, with larger ones."
        )
    return Link(latency, 1 / per_byte)


def transfers(runs: Any) -> tuple[np.ndarray, np.ndarray]:
    """Bytes and seconds of every transfer between ranks that was waited for. Raises UsageError."""
    sizes, seconds = [np.empty(0)], [np.empty(0)]
    for timeline in _timelines(runs):
        schedule = timeline.schedule
        consumers = np.flatnonzero(schedule.crosses)
        senders = schedule.producer[consumers]
        handed = timeline.ended[senders]
        waited = timeline.asked[consumers] <= handed
        sizes.append(timeline.bytes_sent[senders][waited])
        seconds.append((timeline.arrived[consumers] - handed)[waited])
    return np.concatenate(sizes), np.concatenate(seconds)


def _timelines(runs: Any) -> list[Timeline]:
    """All timelines of runs, without first steps. Raises UsageError for anything else."""
    if isinstance(runs, Timeline):
        if runs.source == "predicted":
            raise UsageError("A predicted timeline has no measured transfers: give one of a run.")
        return [runs]
    if hasattr(runs, "timelines"):
        steps: list[Timeline] = runs.timelines
        return steps[1:] or steps
    if isinstance(runs, Iterable):
        return [timeline for each in runs for timeline in _timelines(each)]
    raise UsageError(f"fit_link takes runs or timelines, not a {type(runs).__name__}.")


def _line(sizes: np.ndarray, seconds: np.ndarray) -> tuple[float, float]:
    """α and 1 / β with the least squares of relative errors; α is not below 0."""
    weights = 1 / np.maximum(seconds, 1e-12)
    table = np.stack([np.ones(len(sizes)), sizes], axis=1) * weights[:, None]
    latency, per_byte = np.linalg.lstsq(table, np.ones(len(sizes)), rcond=None)[0]
    if latency < 0:
        along = sizes * weights
        latency, per_byte = 0.0, along.sum() / (along**2).sum()
    return float(latency), float(per_byte)
