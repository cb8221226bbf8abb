"""What a learner guessed and reached: one JSON file beside the notebooks, keyed by slug.

    {"00-four-devices": {"first": 25.0, "second": 34.0},
     "01-more-devices": {"shown": true},
     "02-fill": {"reached": [0, 2], "of": 3}}

A guess is stored once: the first try stays. ``shown`` means that the answer was asked for without
a guess. Goals are stored by their place in the list. A bare number is a guess of version 0.1.
"""

import json
import os
from pathlib import Path
from typing import Any

STORE = "guesses.json"

Entry = dict[str, Any]


def place(store: str | Path | None = None) -> Path:
    """The file: the one that is given, or the one in the current folder."""
    return Path(store) if store else Path.cwd() / STORE


def read(store: Path) -> dict[str, Any]:
    """All that was stored; nothing where there is no file, or not one of ours."""
    try:
        stored = json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}


def entry(stored: dict[str, Any], slug: str) -> Entry:
    """What is stored under a slug; {} for nothing."""
    found = stored.get(slug, {})
    if isinstance(found, bool) or not isinstance(found, int | float | dict):
        return {}
    return found if isinstance(found, dict) else {"first": found}


def keep(store: Path, slug: str, value: Any) -> None:
    """Store a value; the file is whole at any moment, and what else is in it stays."""
    known = read(store) | {slug: value}
    draft = store.with_name(f".{store.name}.{os.getpid()}")
    draft.write_text(json.dumps(known, indent=1), encoding="utf-8")
    draft.replace(store)


def keep_reached(store: Path, slug: str, reached: list[bool]) -> None:
    """Store which goals were reached; what was reached once stays."""
    before = entry(read(store), slug).get("reached", [])
    now = sorted(
        {i for i in before if isinstance(i, int)} | {i for i, yes in enumerate(reached) if yes}
    )
    keep(store, slug, {"reached": now, "of": len(reached)})
