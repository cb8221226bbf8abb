"""When an action may start and must end: at once, or paced.

Paced, a laptop shows the law of eight devices: every action really computes and then sleeps to its
planned end. Plans are carried from rank to rank with the messages, so lateness never adds up: an
action that starts late is shorter. One that is late by more than ``SLACK`` of its duration moves
the plan, honestly.
"""

import time

SLACK = 0.5
"""How late an action may be, as a share of its duration, before the plan is moved."""


class Pace:
    """The plan of one rank. durations: {atom: seconds}, or None to run raw; latency in seconds.

    What takes no planned time, such as an optimizer step that costs nothing, moves the plan no
    sooner than the shortest of the others.
    """

    def __init__(self, durations: dict[int, float] | None, latency: float):
        self._durations, self._latency = durations, latency
        self._shortest = min((d for d in (durations or {}).values() if d), default=0.0)
        self._free = self._end = self._slack = 0.0

    @property
    def free(self) -> float:
        """When the rank is free by the plan."""
        return self._free

    def begin_step(self) -> None:
        """The next action is the first of a step: it starts when its input is there."""
        self._free = 0.0

    def begin(self, atom: int, sent: float | None, planned: float) -> float:
        """Wait until the action may start. Returns its planned end (0: raw).

        sent, planned: of its input; sent is None when it came from this rank.
        """
        if self._durations is None:
            if sent is not None and self._latency:
                _sleep_until(sent + self._latency)
            return 0.0
        start, duration, now = self._free, self._durations[atom], time.perf_counter()
        if sent is not None:
            start = max(start, planned + self._latency)
        self._slack = SLACK * max(duration, self._shortest)
        if now > start + self._slack:
            start = now
        self._end = start + duration
        _sleep_until(start)
        return self._end

    def finish(self, met: float = 0.0) -> float:
        """Wait until the action has lasted its planned time. Returns its planned end (0: raw).

        met: when those with whom it was done mean to end it; it ends with the last of them.
        """
        if self._durations is None:
            return 0.0
        self._end = max(self._end, met)
        now = time.perf_counter()
        self._free = now if now > self._end + self._slack else self._end
        _sleep_until(self._free)
        return self._free

    def end_step(self) -> None:
        """Let ranks whose last action ends with this one's wake up.

        They do so before what lies between steps takes the processors.
        """
        if self._durations is not None:
            _sleep_until(self._free + SLACK * self._shortest)


def _sleep_until(moment: float) -> None:
    left = moment - time.perf_counter()
    if left > 0:
        time.sleep(left)
