"""What one rank does in a run, wherever it lives: its stages, its interpreter and its optimizer,
step by step.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from ..schedule import Kind
from .batches import Batch
from .board import TRACE, Board
from .checkpoint import to_bytes
from .clock import HostClock
from .evaluator import Evaluator
from .handover import TorchJob
from .interpreter import MAX_PARTS, Interpreter
from .layers import Seeds, Value, generator_of
from .pace import Pace
from .program import Step
from .ship import pack
from .split import WeightGradients
from .stage import Stage
from .stash import Stash
from .transport import Transport
from .update import Exchange, Update

VERSIONS_KEPT = {"stashed": 1, "double": 2}
"""How many of the newest versions a new micro-batch may ask for."""


@dataclass(frozen=True)
class RankJob:
    """All that a rank needs for a run. stages: (replica, index) -> (layers as (index, name,
    module), loss or None); torch: where torch's own runtime is to execute it, else None."""

    rank: int
    sizes: dict[str, int]
    program: list[Step]
    stages: dict[tuple[int, int], tuple[list, Callable | None]]
    weights: str
    optimizer: Callable | None
    scheduler: Callable | None
    clip: float | None
    exchange: Exchange
    resumed: dict | None
    dtype: str
    evaluate: bool
    outputs: bool
    steps: int
    first_step: int
    batch: Batch | None
    seed: int
    durations: dict[int, float] | None
    latency: float
    timeout: float
    device: str
    torch: TorchJob | None


@dataclass
class RankResult:
    """What a rank brings home: packed gradients of the last step, the weights they belong to, the
    state after it, that of the optimizer as bytes, and for evaluation the outputs of each step. Of
    two copies of the model the first speaks. peak_memory: on a GPU, in bytes."""

    gradients: dict[str, tuple] = field(default_factory=dict)
    before: dict[str, tuple] = field(default_factory=dict)
    state: dict[str, tuple] = field(default_factory=dict)
    optimizer: bytes | None = None
    outputs: list[dict[int, dict]] = field(default_factory=list)
    peak_memory: int | None = None


class Rank:
    """A rank with its stages, ready for ``step``."""

    def __init__(
        self,
        job: RankJob,
        board: Board,
        transport: Transport,
        clock: HostClock,
        device: torch.device,
    ):
        self._job, self._board, self._device = job, board, device
        stages = _with_copies(job.stages)
        layers = [
            (replica, name, module)
            for (replica, _), (part, _) in stages.items()
            for _, name, module in part
        ]
        parameters = {
            (r, f"{name}.{k}"): p for r, name, m in layers for k, p in m.named_parameters()
        }
        self._named = {name: p for (replica, name), p in parameters.items() if replica == 0}
        self._layers = layers
        kinds = {step.kind for step in job.program}
        by_stage = None
        if Kind.STEP in kinds:
            by_stage = {
                key: [p for _, _, m in part for p in m.parameters()]
                for key, (part, _) in stages.items()
            }
        weights = WeightGradients() if Kind.W in kinds else None
        for _, loss in stages.values():
            if isinstance(loss, nn.Module):
                loss.to(device)
        for _, _, module in layers:
            module.to(device)
            if job.evaluate:
                module.eval()
            if weights is not None:
                weights.defer(module)
        self._stages = {
            (replica, index): Stage(
                index,
                [(i, module) for i, _, module in part],
                loss,
                weights,
                Stash([m for _, _, m in part], VERSIONS_KEPT[job.weights])
                if job.weights != "one"
                else None,
                half=job.dtype == "bfloat16",
            )
            for (replica, index), (part, loss) in stages.items()
        }
        kind = Evaluator if job.evaluate else Interpreter
        stride = job.sizes["messages"] // MAX_PARTS
        pace = Pace(job.durations, job.latency)
        self._interpreter = kind(
            job.rank, job.program, self._stages, transport, board, pace, job.timeout, stride, clock
        )
        self._update = Update(
            self._interpreter,
            parameters,
            job.exchange,
            job.timeout,
            optimizer=job.optimizer,
            scheduler=job.scheduler,
            clip=job.clip,
            by_stage=by_stage,
        )
        if job.resumed:
            self._update.load(job.resumed)
        self._result = RankResult()

    def step(self, number: int, sequence: int, batch: Batch) -> None:
        """One training step (or one of evaluation). sequence: of its messages."""
        job, update, result = self._job, self._update, self._result
        update.clear()
        if job.outputs:
            self._interpreter.outputs = {}
        self._interpreter.run(
            number, sequence, batch.to(self._device), self._seeds(number), record=True
        )
        if job.evaluate:
            update.meet(torch.zeros((), device=self._device), number, sequence)
            if job.outputs:
                result.outputs.append(
                    {i: pack(_by_part(value)) for i, value in self._interpreter.outputs.items()}
                )
            return
        update.sum_copies(number, sequence)
        if number == job.steps - 1:
            result.gradients = pack(
                {name: g for (replica, name), g in update.gradients().items() if replica == 0}
            )
            if job.optimizer:
                result.before = pack(self._named)
        update.step(number, sequence)

    def _seeds(self, number: int) -> Seeds:
        return Seeds(self._job.seed, self._job.first_step + number, generator_of(self._device))

    def result(self) -> RankResult:
        """What the rank brings home after the last step."""
        result, job = self._result, self._job
        buffers = {
            f"{name}.{k}": b
            for replica, name, m in self._layers
            if replica == 0
            for k, b in m.named_buffers()
        }
        result.state = pack(buffers | (self._named if job.optimizer else {}))
        if job.optimizer:
            result.optimizer = to_bytes(self._update.state())
        return result

    def rehearse(self, batch: Batch) -> dict[int, float]:
        """Two steps at full speed, of which nothing stays: processor seconds of each atom, from the
        second.
        """
        interpreter, board, job = self._interpreter, self._board, self._job
        modules = [m for _, _, layer in self._layers for m in layer.modules()]
        kept = [
            {name: b if b is None else b.clone() for name, b in m._buffers.items()} for m in modules
        ]
        pace, interpreter.pace, interpreter.work_clock = (
            interpreter.pace,
            Pace(None, 0),
            time.thread_time,
        )
        step, interpreter.step_optimizer = (
            interpreter.step_optimizer,
            lambda replica, stage: self._update.clear(),
        )
        batch = batch.to(self._device)
        for sequence in (1, 2):
            interpreter.run(0, sequence, batch, self._seeds(0), record=True)
            self._update.sum_copies(0, sequence)
            self._update.meet(torch.zeros((), device=self._device), 0, sequence)
        interpreter.pace, interpreter.work_clock, interpreter.clock.done = (
            pace,
            time.perf_counter,
            0,
        )
        interpreter.step_optimizer = step
        board.status[job.rank] = 0
        for module, buffers in zip(modules, kept, strict=True):
            module._buffers.update(buffers)
        self._update.clear()
        worked = board.trace[0, :, TRACE.index("worked")]
        return {step.atom: float(worked[step.atom]) for step in job.program}


def _by_part(value: Value) -> dict[int | None, torch.Tensor]:
    """A tuple's tensors by their place; a tensor that stands alone by None."""
    return {None: value} if isinstance(value, torch.Tensor) else dict(enumerate(value))


def _with_copies(stages: dict[tuple[int, int], tuple[list, Callable | None]]) -> dict:
    """The stages of a second copy of the model with layers of their own; what they share among them
    stays shared.
    """
    result = {key: stage for key, stage in stages.items() if key[0] == 0}
    for copied in sorted({replica for replica, _ in stages} - {0}):
        layers = copy.deepcopy({key: part for key, (part, _) in stages.items() if key[0] == copied})
        result |= {key: (part, stages[key][1]) for key, part in layers.items()}
    return result
