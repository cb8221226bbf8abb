"""When an action may start and must end: at once, or paced so that a laptop shows the law of eight devices.

Paced, every action really computes and then sleeps to its planned duration. Plans are carried from rank to rank with the
messages, so lateness never adds up; an action that is more than ``SLACK`` late moves the plan, honestly.
"""

import time

SLACK = 2e-3
"""Seconds an action may be late before the plan is moved."""


class Pace:
    """The plan of one rank. durations: {(kind, stage): seconds}, or None to run raw; latency in seconds."""

    def __init__(self, durations: dict[tuple[int, int], float] | None, latency: float):
        self._durations, self._latency = durations, latency
        self._free = 0.0
        self._start = 0.0

    def new_step(self) -> None:
        """The next action is the first of a step: it starts when its input is there."""
        self._free = 0.0

    def begin(self, sent: float | None, planned: float) -> None:
        """Waits until the action may start. sent, planned: of its input; sent is None when it came from this rank."""
        now = time.perf_counter()
        if self._durations is None:
            if sent is not None and self._latency:
                _sleep_until(sent + self._latency)
            return
        start = self._free
        if sent is not None:
            start = max(start, planned + self._latency)
        self._start = now if now > start + SLACK else start
        _sleep_until(self._start)

    def finish(self, kind: int, stage: int) -> float:
        """Waits until the action has lasted its planned time. Returns the planned end (0 when raw)."""
        if self._durations is None:
            return 0.0
        end = self._start + self._durations[kind, stage]
        now = time.perf_counter()
        self._free = now if now > end + SLACK else end
        _sleep_until(self._free)
        return self._free


def _sleep_until(moment: float) -> None:
    left = moment - time.perf_counter()
    if left > 0:
        time.sleep(left)
