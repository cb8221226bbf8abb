"""The schedules of the field, one file per family, and the registry that builds them by name.

In: a name, ranks and micro-batches. Out: a Schedule. Each entry says its source and its constraints.
"""

from .registry import Entry, build, entry, names

__all__ = ["Entry", "build", "entry", "names"]
