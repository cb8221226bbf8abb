"""Where a rank sits: how it reaches its driver and the other ranks. And its run, from there."""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch

from ..job.batches import Batch
from ..job.rank_job import RankJob, RankResult
from ..rank.rank import Rank
from ..record.board import Board
from ..record.clock import HostClock
from ..transport import gpu
from ..transport.group import Group
from ..transport.protocol import Transport


class Seat(Protocol):
    """What a rank needs of its surroundings.

    A worker of the pool has one, and so has a process of torchrun.
    """

    @property
    def bases(self) -> dict:
        """From what the clocks of ranks on GPUs count, for all ranks of the process."""
        ...

    def open_board(self, sizes: dict[str, int]) -> Board:
        """The shared memory of the run."""
        ...

    def device(self, rank: int) -> torch.device:
        """The GPU of a rank."""
        ...

    def transport(
        self, job: RankJob, board: Board, device: torch.device, clock: HostClock
    ) -> Transport:
        """How the rank reaches the others."""
        ...

    def group(
        self,
        job: RankJob,
        board: Board,
        transport: Transport,
        kind: int,
        workers: list[int],
        waits: Callable[[float], None],
    ) -> Group:
        """Some workers of the mesh that do something together: DATA or TENSOR of the board."""
        ...

    def tell(self, what: str, value: Any = None) -> None:
        """Tell the driver something."""

    def ask(self, what: str, value: Any = None) -> Any:
        """Ask the driver for something, and wait for the answer."""


class AnyRank(Protocol):
    """A rank of this engine or of torch's."""

    def step(self, step: int, batch: Batch) -> None:
        """One training step."""

    def result(self) -> RankResult:
        """What the rank brings home after the last step."""
        ...


def run_rank(seat: Seat, job: RankJob) -> RankResult:
    """A rank's whole run: get ready, wait for the others, train."""
    job.settings.apply()
    board = seat.open_board(job.sizes)
    if job.torch is not None:
        # A second of imports, only where it is asked for.
        from ..reference.torch_rank import TorchRank

        return _train(seat, job, TorchRank(job, job.torch, board))
    if job.where.device == "cpu":
        device, clock = torch.device("cpu"), HostClock(board, job.worker)
        transport = seat.transport(job, board, device, clock)
        groups = _groups_of(seat, job, board, transport)
        return _train_ours(seat, job, Rank(job, board, transport, clock, device, groups))
    device = seat.device(job.worker)
    with gpu.on_own_stream(device):
        paced = job.durations is not None or job.recipe.latency > 0
        clock = gpu.clock_of(board, job.worker, device, seat.bases, paced=paced)
        transport = seat.transport(job, board, device, clock)
        groups = _groups_of(seat, job, board, transport)
        result = _train_ours(seat, job, Rank(job, board, transport, clock, device, groups))
        result.peak_memory = torch.cuda.max_memory_allocated(device)
        result.waited_for_host = clock.waited_for_host()
        result.peak_reserved = torch.cuda.max_memory_reserved(device)
        return result


def _groups_of(
    seat: Seat, job: RankJob, board: Board, transport: Transport
) -> Callable[[int, list[int], Callable[[float], None]], Group] | None:
    """How a worker of a mesh finds those with whom it does something together."""
    if job.mesh.planes == 1:
        return None
    return partial(seat.group, job, board, transport)


def _train_ours(seat: Seat, job: RankJob, rank: Rank) -> RankResult:
    """Rehearse before a paced run, then train."""
    if job.durations is None:
        return _train(seat, job, rank)
    first = job.batch or seat.ask("batch", 0)
    seat.tell("measured", rank.rehearse(first))
    return _train(seat, job, rank, first)


def _train(seat: Seat, job: RankJob, rank: AnyRank, first: Batch | None = None) -> RankResult:
    """Train. first: the batch of step 0, where it is known already."""
    seat.ask("ready")  # answered when all others are ready too
    for step in range(job.recipe.steps):
        known = job.batch or (first if step == 0 else None)
        rank.step(step, known or seat.ask("batch", step))
    return rank.result()
