"""Schedules as plain data: what each rank does, in what order.

In: action texts, CSV files, or integer columns from the catalogue. Out: a Schedule, or a Refusal
that says why not. A Schedule holds no times, no idle cells and no communication: sends and receives
follow from the placement.
"""

from .action import Action, Overlap, parse_cell
from .check import check, require_legal
from .csv import read_csv, refusal_of_text
from .kinds import Kind
from .mesh import Mesh, Place, spread
from .messages import Link, check_transport, links
from .schedule import Schedule

__all__ = [
    "Action",
    "Kind",
    "Link",
    "Mesh",
    "Overlap",
    "Place",
    "Schedule",
    "check",
    "check_transport",
    "links",
    "parse_cell",
    "read_csv",
    "refusal_of_text",
    "require_legal",
    "spread",
]
