"""What each rank holds, in bytes: weights, gradients, the optimizer's state and activations.

    bytes of a stage (from the profile) × how many of it a rank holds (from the schedule)

Over time it is ``simulate(schedule, costs, memory=stage_memory(…))``; here are the peaks.
"""

from collections.abc import Sequence

import numpy as np

from ..errors import UnknownName
from ..schedule import Kind, Schedule
from ..simulator import Costs, Memory, with_recompute
from ..simulator.memory import activations, memory_over_time
from .chain import Chain, bounds
from .folding import Folding
from .profile import Profile

OPTIMIZERS = {"sgd": 0, "momentum": 1, "adam": 2}
"""What each keeps: so many numbers for every parameter, in its dtype."""
PARTS = ("weights", "gradients", "optimizer", "activations")


def states_of(optimizer: str) -> int:
    """How many numbers an optimizer keeps for a parameter. Raises UnknownName."""
    if optimizer not in OPTIMIZERS:
        raise UnknownName("optimizer", optimizer, OPTIMIZERS)
    return OPTIMIZERS[optimizer]


def stage_memory(profile: Profile, sizes: Sequence[int], optimizer: str = "adam") -> Memory:
    """The bytes of every stage, for ``simulate(..., memory=)``, which knows the schedule.

    With ``recompute=`` there too it says what recomputation saves. Parameters, gradients and the
    optimizer's state have the dtype of the parameters: autocast keeps no second copy of them.

    Args:
        profile: of the layers, in the precision that is to be trained in.
        sizes: layers of each stage.
        optimizer: "sgd", "momentum" or "adam" (0, 1 or 2 numbers for a parameter).

    >>> from .profile import LayerProfile
    >>> layer = LayerProfile("0", 1, 1, 1, 100, 0, 8, 40)
    >>> loss = LayerProfile("loss", 0, 0, 0, 5, 0, 4, 0)
    >>> profile = Profile("cpu", "float32", 1, (layer,) * 3, loss)
    >>> memory = stage_memory(profile, [2, 1])
    >>> memory.activations, memory.weights, memory.optimizer_state
    ((200.0, 105.0), (80.0, 40.0), (160.0, 80.0))
    """
    chain, (start, stop) = Chain(profile), bounds(tuple(sizes))
    weights = chain.total("parameter_bytes", start, stop)
    kept = chain.activations(start, stop)
    return Memory(
        activations=kept.tolist(),
        inputs=np.minimum(kept, chain.received(start)).tolist(),
        weights=weights.tolist(),
        gradients=weights.tolist(),
        optimizer_state=(states_of(optimizer) * weights).tolist(),
        deferred_activations=chain.deferred_activations(start, stop).tolist(),
        deferred_gradients=chain.total("deferred_gradient_bytes", start, stop).tolist(),
    )


def rank_bytes(
    schedule: Schedule, memory: Memory, *, recompute: str | None = None
) -> list[dict[str, int]]:
    """The bytes of every rank by part, each at its largest moment; ``total`` is their sum.

    Older versions of the weights count as weights. recompute: as for ``simulate``.
    """
    if recompute is not None:
        schedule, _ = with_recompute(schedule, Costs(), recompute)
    levels = memory_over_time(schedule, memory, recomputed=recompute == "in-backward")
    held = {part: both[0] for part, both in levels.items()}
    held["weights"] = held["weights"] + held.pop("weight_versions")
    held["optimizer"] = held.pop("optimizer_state")
    first = schedule.offsets[:-1]
    peaks = np.stack([np.maximum.reduceat(held[part], first) for part in PARTS], axis=1)
    rows = [dict(zip(PARTS, map(round, row), strict=True)) for row in peaks.tolist()]
    return [row | {"total": sum(row.values())} for row in rows]


class Occupancy:
    """How much of each stage a group of ranks holds at once: what a limit is checked with.

    The bytes of a rank are linear in those of its stages, so the moments that can matter are known
    before the cuts are.

    moments: of shape (moments, stages × 3): activations, those that W needs, gradients for W.
    copies: how often each stage's parameters are held: weights, gradients, states, versions.
    """

    def __init__(self, moments: np.ndarray, copies: np.ndarray):
        self.moments, self.copies = moments, copies

    def total(self, chain: Chain, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """Bytes of a rank for many ways to cut: start, stop of shape (ways, stages)."""
        weights = chain.total("parameter_bytes", start, stop) @ self.copies
        parts = (
            chain.activations(start, stop),
            chain.deferred_activations(start, stop),
            chain.total("deferred_gradient_bytes", start, stop),
        )
        of_stage = np.stack(parts, axis=-1).reshape(len(start), 3 * start.shape[1])
        most = np.zeros(len(start))
        for moment in self.moments:
            most = np.maximum(most, of_stage @ moment)
        total: np.ndarray = weights + most
        return total


def occupancies(schedule: Schedule, folding: Folding, states: int) -> list[Occupancy]:
    """Of every group. states: numbers that the optimizer keeps for a parameter."""
    columns: list[np.ndarray] = []
    copies = np.zeros((len(folding.groups), folding.blocks))
    none = [0.0] * schedule.stages
    for block in range(folding.blocks):
        # One stage of every group: an atom's rank holds no other of them.
        unit = [0.0] * schedule.stages
        for group in folding.groups:
            unit[group[block]] = 1.0
        for memory in (
            Memory(unit, deferred_activations=none),
            Memory(none, deferred_activations=unit),
            Memory(none, deferred_activations=none, deferred_gradients=unit),
        ):
            columns.append(activations(schedule, memory, recomputed=False)[0])
        held = memory_over_time(schedule, Memory(none, weights=unit))["weight_versions"][0]
        for number, ranks in enumerate(folding.ranks):
            versions = max(held[slice(*schedule.slices[rank])].max() for rank in ranks)
            copies[number, block] = 2 + states + versions
    table = np.stack(columns, axis=1)
    if Kind.W not in schedule.kinds:
        table[:, 1::3] = 0
    found = []
    for number, ranks in enumerate(folding.ranks):
        rows = np.concatenate([table[slice(*schedule.slices[rank])] for rank in ranks])
        found.append(Occupancy(_undominated(np.unique(rows, axis=0)), copies[number]))
    return found


def _undominated(rows: np.ndarray) -> np.ndarray:
    """The rows that no other row exceeds in every column."""
    keep: list[np.ndarray] = []
    for row in rows[np.argsort(-rows.sum(axis=1), kind="stable")]:
        if not any((other >= row).all() for other in keep):
            keep.append(row)
    return np.array(keep)
