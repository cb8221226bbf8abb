"""Timelines as plain data: what happened when, and what memory held.

In: a Schedule with times, from the simulator or from a real run. Out: the bubble numbers, peaks,
idle moments with their causes, the critical path, Chrome traces and JSON; and ``gap``, between a
measured and a predicted one. Nothing here asks where a Timeline came from.
"""

from .gap import gap
from .idle import Idle
from .timeline import Timeline

__all__ = ["Idle", "Timeline", "gap"]
