"""The papers' formulas, with the conditions under which they hold.

Symbols: p ranks, m micro-batches, v stages per rank; F, B = I + W durations of one action of one
stage, c latency. A formula gives the makespan, the longest span, or the idle time of a rank (the
longest where ranks differ).
"""

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import UsageError
from .costs import Costs


@dataclass(frozen=True)
class Terms:
    """What the formulas are made of."""

    p: int
    m: int
    v: int
    F: float
    B: float
    I: float  # noqa: E741 - the field's letter
    W: float
    FB: float
    c: float


@dataclass(frozen=True)
class Formula:
    """A formula of a paper.

    quantity: "makespan", "span" (the longest) or "idle" (of the rank that idles most). holds:
    whether it is exact.
    """

    quantity: str
    text: str
    source: str
    value: Callable[[Terms], float]
    condition: str
    holds: Callable[[Terms], bool]


@dataclass(frozen=True)
class ClosedForm:
    """A formula filled in.

    exact: whether its condition is met; if not, the value is only the paper's approximation.
    """

    quantity: str
    value: float
    text: str
    source: str
    condition: str
    exact: bool


def closed_form(
    name: str,
    *,
    ranks: int,
    microbatches: int,
    stages_per_rank: int = 1,
    costs: Costs | None = None,
) -> ClosedForm | None:
    """The formula for a schedule of the catalogue, filled in; None where there is none.

    >>> closed_form("1f1b", ranks=4, microbatches=8).value
    33.0

    Args:
        name: A schedule of the catalogue.
        ranks: How many there are, p.
        microbatches: How many there are, m.
        stages_per_rank: How many each rank has, v.
        costs: Equal for all stages, and links without a limit: so the formulas assume.

    Raises:
        UsageError: costs per stage or per link, or a bandwidth.
    """
    costs = costs or Costs()
    durations = {
        name: float(value)
        for name, value in costs.durations.items()
        if not isinstance(value, tuple)
    }
    if len(durations) < len(costs.durations):
        raise UsageError("The closed forms assume equal stages; simulate() takes costs per stage.")
    if not isinstance(costs.latency, int | float) or costs.bandwidth is not None:
        raise UsageError(
            "The closed forms know one latency and no bandwidth; simulate() takes both, link by "
            "link."
        )
    formula = FORMULAS.get(name)
    if formula is None:
        return None
    t = Terms(
        p=ranks,
        m=microbatches,
        v=stages_per_rank,
        F=durations["forward"],
        B=durations["backward"],
        I=durations["input_grad"],
        W=durations["weight_grad"],
        FB=durations["overlap"],
        c=float(costs.latency),
    )
    return ClosedForm(
        formula.quantity,
        formula.value(t),
        formula.text,
        formula.source,
        formula.condition,
        formula.holds(t),
    )


def _always(_: Terms) -> bool:
    return True


def _equal(t: Terms) -> bool:
    return t.F == t.I == t.W and t.c == 0


def _small_w(t: Terms) -> bool:
    return min(t.F, t.I) >= t.W and t.c == 0


_GPIPE = "GPipe, arXiv 1811.06965, section 2.3"
_MEGATRON = "Megatron-LM, arXiv 2104.04473, section 2.2"
_ZERO = "zero bubble, arXiv 2401.10241, table 2"
_DERIVED = "derived here, checked by simulation"
_CONTROLLED = "controllable memory, arXiv 2405.15362; the authors' generator"
_DUAL = "DualPipe's README, 2025"

FORMULAS = {
    "naive": Formula(
        "makespan",
        "m (p (F + B) + 2 (p − 1) c)",
        _DERIVED,
        lambda t: t.m * (t.p * (t.F + t.B) + 2 * (t.p - 1) * t.c),
        "always",
        _always,
    ),
    "gpipe": Formula(
        "makespan",
        "(m + p − 1)(F + B) + 2 (p − 1) c",
        _GPIPE,
        lambda t: (t.m + t.p - 1) * (t.F + t.B) + 2 * (t.p - 1) * t.c,
        "always",
        _always,
    ),
    "1f1b": Formula(
        "makespan",
        "(m + p − 1)(F + B) + 2c (p − 1 + ⌊(m − 1)(p − 1)/p⌋)",
        f"{_MEGATRON}; with latency {_DERIVED}",
        lambda t: (
            (t.m + t.p - 1) * (t.F + t.B) + 2 * t.c * (t.p - 1 + (t.m - 1) * (t.p - 1) // t.p)
        ),
        "always",
        _always,
    ),
    "eager-1f1b": Formula(
        "makespan",
        "(m + p − 1)(F + B) + 2 (p − 1) c",
        _DERIVED,
        lambda t: (t.m + t.p - 1) * (t.F + t.B) + 2 * (t.p - 1) * t.c,
        "c ≤ (F + B) / 2",
        lambda t: t.c <= (t.F + t.B) / 2,
    ),
    "interleaved-1f1b": Formula(
        "makespan",
        "m v (F + B) + (p − 1)(F + B)",
        f"{_MEGATRON}, F and B of one of the v stages",
        lambda t: (t.m * t.v + t.p - 1) * (t.F + t.B),
        "m a multiple of p, no latency",
        lambda t: t.m % t.p == 0 and t.c == 0,
    ),
    "looped-bfs": Formula(
        "makespan",
        "m v (F + B) + (p − 1)(F + B)",
        "breadth-first, arXiv 2211.05953, F and B of one of the v stages",
        lambda t: (t.m * t.v + t.p - 1) * (t.F + t.B),
        "m ≥ p, no latency",
        lambda t: t.m >= t.p and t.c == 0,
    ),
    "interleaved-zb": Formula(
        "makespan",
        "m v (F + I + W) + (p − 1)(F + I − W)",
        _DERIVED,
        lambda t: t.m * t.v * (t.F + t.B) + (t.p - 1) * (t.F + t.I - t.W),
        "W ≤ F and I, m a multiple of p, no latency",
        lambda t: _small_w(t) and t.m % t.p == 0,
    ),
    "zb-h1": Formula(
        "makespan",
        "m (F + I + W) + (p − 1)(F + I − W)",
        _ZERO,
        lambda t: t.m * (t.F + t.B) + (t.p - 1) * (t.F + t.I - t.W),
        "W ≤ F and I, m ≥ p, no latency",
        lambda t: _small_w(t) and t.m >= t.p,
    ),
    "zb-h2": Formula(
        "span",
        "m (F + I + W) + (p − 1)(F + I − 2W)",
        _ZERO,
        lambda t: t.m * (t.F + t.B) + (t.p - 1) * (t.F + t.I - 2 * t.W),
        "W ≤ F and I, m ≥ 2p − 1, no latency",
        lambda t: _small_w(t) and t.m >= 2 * t.p - 1,
    ),
    "zb-v": Formula(
        "span",
        "2 m (F + I + W)",
        _ZERO,
        lambda t: 2 * t.m * (t.F + t.B),
        "F = I = W, m ≥ 2p − 1, no latency",
        lambda t: _equal(t) and t.m >= 2 * t.p - 1,
    ),
    "v-half": Formula(
        "idle",
        "(3p − 7) F for even p, (3p − 4) F for odd p",
        _CONTROLLED,
        lambda t: (3 * t.p - (7 if t.p % 2 == 0 else 4)) * t.F,
        "F = I = W, p even and at least 4, m ≥ p + 2, no latency",
        lambda t: _equal(t) and t.p % 2 == 0 and t.p >= 4 and t.m >= t.p + 2,
    ),
    "v-min": Formula(
        "idle",
        "(4p − 5) F, or (4p − 7) F for p a multiple of 3",
        _CONTROLLED,
        lambda t: (4 * t.p - (7 if t.p % 3 == 0 else 5)) * t.F,
        "F = I = W, p ≥ 2, m ≥ p, no latency",
        lambda t: _equal(t) and t.p >= 2 and t.m >= t.p,
    ),
    "dualpipe": Formula(
        "idle",
        "(p/2 − 1)(F&B + B − 3W)",
        _DUAL,
        lambda t: (t.p / 2 - 1) * (t.FB + t.B - 3 * t.W),
        "F = I = W, F&B ≤ F + B, no latency",
        lambda t: _equal(t) and t.FB <= t.F + t.B,
    ),
    "dualpipe-v": Formula(
        "idle",
        "(p − 1)(F&B + B − 3W)",
        _DUAL,
        lambda t: (t.p - 1) * (t.FB + t.B - 3 * t.W),
        "F = I = W, F&B ≤ F + B, no latency",
        lambda t: _equal(t) and t.FB <= t.F + t.B,
    ),
}
