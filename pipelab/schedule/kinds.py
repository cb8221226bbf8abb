"""The kinds of action: one row each, in which stands all that is true of a kind.

In: nothing. Out: ``KINDS``, which everyone reads: the notation, ``check``, the simulator, the
timeline, the engine, the pictures and, through ``plots.palette``, the front end. To add a kind, add
a member of ``Kind`` and its row.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Literal


class Kind(IntEnum):
    """What an action does. The numbers are those of traces and of the front end.

    F forward; B full backward; I input gradient; W weight gradient (B = I + W); R recomputation of
    a forward; STEP optimizer step; UNSHARD gathers a stage's weights from the copies of the model
    that share them; RESHARD gives the gathered weights back; REDUCE_GRAD sums a stage's gradients
    over those copies. The zero-bubble papers write B for what torch and pipelab call I.
    """

    F = 0
    B = 1
    I = 2  # noqa: E741 - the field's letter
    W = 3
    R = 4
    STEP = 5
    UNSHARD = 6
    RESHARD = 7
    REDUCE_GRAD = 8

    @property
    def title(self) -> str:
        """The kind in words."""
        return KINDS[self].title


@dataclass(frozen=True)
class Look:
    """How a kind is drawn.

    colour: on a light background. sign: fills its bars in a terminal. pattern: plotly's letter for
    it. dark: the colour on a dark background, where it is another.
    """

    colour: str
    sign: str
    pattern: str = ""
    dark: str = ""


@dataclass(frozen=True)
class KindOf:
    """All that is true of one kind of action.

    Attributes:
        kind: The kind that this row is about.
        title: The kind in words.
        letter: Stands for it where there is room for one letter.
        cost: The field of ``Costs`` that says how long it takes.
        look: How it is drawn.
        numbered: What the number in its text counts; None where it has no number.
        needs: The kinds that come before it on its stage and micro-batch, where they are there,
            each with the reason.
        sends: Where its result goes: "down" to the next stage, "up" to the one before, or nowhere.
            It needs a result of the same direction from the stage on the other side.
        memory: What it does with the activations of its stage and micro-batch.
        torch: Whether it is part of torch's notation.
    """

    kind: Kind
    title: str
    letter: str
    cost: str
    look: Look
    numbered: Literal["micro-batch", "step"] | None = "micro-batch"
    needs: tuple[tuple[Kind, str], ...] = ()
    sends: Literal["down", "up"] | None = None
    memory: (
        Literal["takes", "takes again", "gives back", "gives back a part", "the rest"] | None
    ) = None
    torch: bool = True


_KEPT = (Kind.F, "a backward uses the activations that its forward kept")
_RESTORED = (Kind.R, "recomputation restores the activations that the backward uses")
_ONCE = (Kind.F, "there is nothing to recompute before the forward has run once")
_BROUGHT = (
    Kind.I,
    "the weight gradient uses the output gradient that the input gradient brought",
)

KINDS = (
    KindOf(
        Kind.F,
        "forward",
        "F",
        cost="forward",
        look=Look("#4477AA", "-"),
        sends="down",
        memory="takes",
    ),
    KindOf(
        Kind.B,
        "backward",
        "B",
        cost="backward",
        look=Look("#DDAA33", "="),
        needs=(_KEPT, _RESTORED),
        sends="up",
        memory="gives back",
    ),
    KindOf(
        Kind.I,
        "input gradient",
        "I",
        cost="input_grad",
        look=Look("#BB5566", ":", "|"),
        needs=(_KEPT, _RESTORED),
        sends="up",
        memory="gives back a part",
    ),
    KindOf(
        Kind.W,
        "weight gradient",
        "W",
        cost="weight_grad",
        look=Look("#44BB99", "~", "/"),
        needs=(_BROUGHT,),
        memory="the rest",
    ),
    KindOf(
        Kind.R,
        "recompute",
        "R",
        cost="recompute",
        look=Look("#BBCCEE", "^", "."),
        needs=(_ONCE,),
        memory="takes again",
        torch=False,
    ),
    KindOf(
        Kind.STEP,
        "optimizer step",
        "S",
        cost="step",
        look=Look("#332288", "+", "x", dark="#CCEEFF"),
        numbered="step",
        torch=False,
    ),
    KindOf(
        Kind.UNSHARD,
        "gather weights",
        "U",
        cost="unshard",
        look=Look("#EEEEBB", "<", "\\"),
        numbered=None,
    ),
    KindOf(
        Kind.RESHARD,
        "give weights back",
        "H",
        cost="reshard",
        look=Look("#222222", ">", "-", dark="#FFFFFF"),
        numbered=None,
    ),
    KindOf(
        Kind.REDUCE_GRAD,
        "reduce gradients",
        "G",
        cost="reduce_grad",
        look=Look("#661100", "%", "+", dark="#EE8866"),
        numbered=None,
    ),
)
"""The table, in the order of the kinds' numbers: ``KINDS[kind]`` is the row of a kind."""

OF_MICROBATCH = frozenset(row.kind for row in KINDS if row.numbered == "micro-batch")
COLLECTIVES = frozenset(row.kind for row in KINDS if row.numbered is None)
"""What the copies of a model that share the data do together; stands for all micro-batches."""


@cache
def sending(direction: str) -> tuple[Kind, ...]:
    """The kinds whose results go "down" or "up".

    >>> [kind.name for kind in sending("up")]
    ['B', 'I']
    """
    return tuple(row.kind for row in KINDS if row.sends == direction)


@cache
def remembering(*what: str) -> tuple[Kind, ...]:
    """The kinds that do one of these things with the activations: see ``KindOf.memory``."""
    return tuple(row.kind for row in KINDS if row.memory in what)
