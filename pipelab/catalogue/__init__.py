"""The schedules of the field, one file per family, and the registry that builds them by name.

In: a name, ranks and micro-batches. Out: a Schedule. Each entry says its source and its
constraints. ``recognise`` goes the other way: from a Schedule to the name of the same or the
nearest one.
"""

from .entry import Entry
from .recognise import Recognition, recognise
from .registry import build, entry, names

__all__ = ["Entry", "Recognition", "build", "entry", "names", "recognise"]
