"""Colour means one thing everywhere: the kind by hue and pattern, the micro-batch by shade.

The hues are Paul Tol's. Under normal vision and the three colour blindnesses the closest two are 14
apart (CIEDE2000), and because some are equally light (amber and mint, in grey print) every split or
added kind also carries a pattern.
"""

from typing import NamedTuple

from ..schedule import Kind


class Look(NamedTuple):
    """How one kind is drawn.

    ``dark`` is the hue on a dark background; ``pattern`` is plotly's letter for it.
    """

    letter: str
    title: str
    colour: str
    dark: str
    pattern: str


def _look(kind: Kind, colour: str, pattern: str = "", dark: str = "") -> Look:
    letter = "S" if kind is Kind.STEP else kind.name
    return Look(letter, kind.title, colour, dark or colour, pattern)


LOOKS = {
    Kind.F: _look(Kind.F, "#4477AA"),
    Kind.B: _look(Kind.B, "#DDAA33"),
    Kind.I: _look(Kind.I, "#BB5566", "|"),
    Kind.W: _look(Kind.W, "#44BB99", "/"),
    Kind.R: _look(Kind.R, "#BBCCEE", "."),
    Kind.STEP: _look(Kind.STEP, "#332288", "x", dark="#CCEEFF"),
}


def shade(colour: str, fraction: float) -> str:
    """The colour of one micro-batch: ``fraction`` 0 (the first) is lightened, 1 (the last)
    darkened.

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
