"""Colour means one thing everywhere: the kind by hue and pattern, the micro-batch by shade.

The hues are Paul Tol's. Under normal vision and the three colour blindnesses the closest two are 14
apart (CIEDE2000), and because some are equally light (amber and mint, in grey print) every split or
added kind also carries a pattern.
"""

from typing import NamedTuple

from ..schedule import Kind
from ..schedule.kinds import KINDS, KindOf, sending


class Look(NamedTuple):
    """How one kind is drawn, and what the front end must know of it; it finds it by its number.

    ``dark`` is the hue on a dark background; ``pattern`` is plotly's letter for it. ``needs`` holds
    the kinds (numbers) that come before it on its stage. ``sends`` is "down", "up" or None, and
    ``sources`` holds the kinds whose results it needs from the stage on the other side. ``cost`` is
    the setting that says how long it takes.
    """

    letter: str
    title: str
    colour: str
    dark: str
    pattern: str
    needs: tuple[int, ...]
    sends: str | None
    sources: tuple[int, ...]
    cost: str


def _look(row: KindOf) -> Look:
    colour = row.look.colour
    return Look(
        row.letter,
        row.title,
        colour,
        row.look.dark or colour,
        row.look.pattern,
        tuple(int(kind) for kind, _ in row.needs),
        row.sends,
        tuple(map(int, sending(row.sends))) if row.sends else (),
        row.cost,
    )


LOOKS: dict[Kind, Look] = {row.kind: _look(row) for row in KINDS}
"""The table of kinds as the pictures and the front end need it, in the order of the numbers."""


PLAIN = 0.5
"""The shade of what stands for all micro-batches: the colour itself."""


def shade(colour: str, fraction: float) -> str:
    """The colour of one micro-batch: lightened for ``fraction`` 0, the first, darkened for 1.

    The same formula stands in ``frontend/colour.js``.

    >>> shade("#4477AA", 0.0), shade("#4477AA", 1.0)
    ('#799ec2', '#376089')
    """
    towards, amount = (255, 0.5 - fraction) if fraction < 0.5 else (0, fraction - 0.5)
    amount *= 0.57 if towards else 0.39
    channels = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(c + (towards - c) * amount):02x}" for c in channels)


def ink(colour: str) -> str:
    """Black or white, whichever is easier to read on ``colour``."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 118 else "#ffffff"
