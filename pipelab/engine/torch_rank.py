"""The other executor: a rank of torch.distributed.pipelining's own runtime, under the same Schedule
and with our trace.

    Schedule ─ CSV ▶ torch's _PipelineScheduleRuntime over gloo, a process per rank
                         └─ the methods of its stages, each call timed ▶ trace ▶ Timeline

torch keeps no record of single actions. Memory is counted as ours is, activations until B or W;
what torch itself holds on to, such as all outputs until the end of the step, is not in it.
"""

import time
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import pipelining
from torch.distributed.pipelining.schedules import _PipelineScheduleRuntime

from ..schedule import Kind
from .batches import Batch
from .board import BETWEEN, COMPUTING, TRACE, WAITING, Board
from .network import SLOWEST
from .program import Step
from .rank import RankJob, RankResult
from .saved_bytes import SavedBytes
from .ship import pack


class TorchRank:
    """As ``rank.Rank``: a rank with its stages, ready for ``step``."""

    def __init__(self, job: RankJob, board: Board):
        self._job, self._board = job, board
        dist.init_process_group(
            "gloo",
            init_method=f"file://{job.torch.store}",
            rank=job.rank,
            world_size=job.sizes["ranks"],
            timeout=timedelta(seconds=min(job.timeout, SLOWEST)),
        )
        layers = [layer for part, _ in job.stages.values() for layer in part]
        self._named = {
            f"{name}.{k}": p for _, name, module in layers for k, p in module.named_parameters()
        }
        self._buffers = {
            f"{name}.{k}": b for _, name, module in layers for k, b in module.named_buffers()
        }
        self._steps = {(step.kind, step.stage, step.microbatch): step for step in job.program}
        self._next = dict(zip((step.atom for step in job.program), job.program[1:]))
        self._kept: dict[
            tuple[int, int], int
        ] = {}  # (stage, micro-batch) -> bytes, known once they have been counted
        self._held, self._number, self._ended = 0, 0, 0.0
        stages = [
            self._timed_stage(index, part) for (_, index), (part, _) in sorted(job.stages.items())
        ]
        losses = [
            loss for _, loss in job.stages.values() if loss
        ]  # elsewhere it must have one too, to run backwards
        loss = losses[0] if losses else lambda output, target: None
        self._runtime = _PipelineScheduleRuntime(
            stages, job.sizes["microbatches"], loss_fn=loss, scale_grads=False
        )
        self._runtime._load_csv(job.torch.csv, format="compute_only")
        self._time_loss()
        self._parameters = parameters = list(dict.fromkeys(self._named.values()))
        self._optimizer = job.optimizer(parameters) if job.optimizer and parameters else None
        self._scheduler = (
            job.scheduler(self._optimizer) if job.scheduler and self._optimizer else None
        )
        self._result = RankResult()

    def step(self, number: int, sequence: int, batch: Batch) -> None:
        """One training step."""
        self._number, self._weights = number, batch.weights
        for parameter in self._parameters:
            parameter.grad = None
        arguments = () if batch.inputs is None else (torch.cat(batch.inputs),)
        target = {} if batch.targets is None else {"target": torch.cat(batch.targets), "losses": []}
        self._ended = time.perf_counter()
        self._about_to(self._job.program[0])
        self._runtime.step(*arguments, **target)
        for parameter in (
            self._parameters
        ):  # each loss was a mean; torch 2.9's own division misses split backwards
            if parameter.grad is not None:
                parameter.grad.div_(len(batch.weights))
        self._status(-1, BETWEEN)
        if number == self._job.steps - 1:
            self._result.gradients = pack(
                {name: p.grad for name, p in self._named.items() if p.grad is not None}
            )
            if self._optimizer:
                self._result.before = pack(self._named)
        if self._optimizer:
            self._optimizer.step()
        if self._scheduler:
            self._scheduler.step()

    def result(self) -> RankResult:
        """What the rank brings home after the last step."""
        self._result.state = pack(self._buffers | (self._named if self._job.optimizer else {}))
        dist.destroy_process_group()
        return self._result

    def _timed_stage(self, index: int, part: list) -> pipelining.PipelineStage:
        module = nn.Sequential(*(layer for _, _, layer in part))
        own = {t.untyped_storage().data_ptr() for t in (*module.parameters(), *module.buffers())}
        stage = pipelining.PipelineStage(module, index, self._job.torch.stages, torch.device("cpu"))
        forward, backward, weights = (
            stage.forward_one_chunk,
            stage.backward_one_chunk,
            stage.backward_weight_one_chunk,
        )

        def timed_forward(microbatch: int, *arguments, **options):
            def compute():
                if (index, microbatch) in self._kept:
                    return forward(microbatch, *arguments, **options)
                with SavedBytes(own) as counter:
                    result = forward(microbatch, *arguments, **options)
                self._kept[index, microbatch] = counter.total
                return result

            return self._timed(Kind.F, index, microbatch, compute)

        def timed_backward(microbatch: int, *arguments, full_backward: bool = True, **options):
            def compute():
                return backward(microbatch, *arguments, full_backward=full_backward, **options)

            return self._timed(Kind.B if full_backward else Kind.I, index, microbatch, compute)

        def timed_weights(microbatch: int, *arguments, **options):
            return self._timed(
                Kind.W, index, microbatch, lambda: weights(microbatch, *arguments, **options)
            )

        # Before its first step torch lets neighbours greet each other, for NCCL's sake; on a V
        # torch 2.11 lets a rank also greet itself, which gloo cannot.
        stage._get_init_p2p_neighbors_ops = lambda: []
        stage.forward_one_chunk, stage.backward_one_chunk = timed_forward, timed_backward
        stage.backward_weight_one_chunk = timed_weights
        return stage

    def _time_loss(self) -> None:
        """The loss is computed after the last stage's forward, and belongs to it."""
        compute = self._runtime._maybe_compute_loss

        def timed(stage, output, targets, microbatch, *rest):
            compute(stage, output, targets, microbatch, *rest)
            if stage.is_last:
                atom, ended = (
                    self._steps[Kind.F, stage.stage_index, microbatch].atom,
                    time.perf_counter(),
                )
                row = self._board.trace[self._number, atom]
                row[TRACE.index("worked")] += ended - row[TRACE.index("ended")]
                row[TRACE.index("ended")] = self._ended = ended
                loss = self._runtime._internal_losses[-1]
                self._board.losses[self._number, microbatch] = (
                    loss.item() * self._weights[microbatch]
                )

        self._runtime._maybe_compute_loss = timed

    def _timed(self, kind: Kind, stage: int, microbatch: int, compute: Callable):
        """Computes one action and writes its row of the trace."""
        step, asked = self._steps[kind, stage, microbatch], self._ended
        self._status(step.atom, COMPUTING)
        started = time.perf_counter()
        result = compute()
        self._ended = ended = time.perf_counter()
        kept = self._kept.get((stage, microbatch), 0)
        self._held += kept if kind == Kind.F else 0
        held = self._held
        self._held -= kept if kind in (Kind.B, Kind.W) else 0
        at = self._board.trace[self._number]
        if step.paired:  # of a pair, the first carries the wait and the work
            first = at[step.atom - 1]
            first[TRACE.index("worked")] += ended - started
            first[TRACE.index("ended")], started = ended, first[TRACE.index("started")]
            asked = started
        worked = 0.0 if step.paired else ended - started
        at[step.atom] = asked, asked, started, started, ended, worked, held, self._held, 0, 0
        self._board.status[self._job.rank, 4] += 1
        if step.atom in self._next:
            self._about_to(self._next[step.atom])
        return result

    def _about_to(self, step: Step) -> None:
        """What comes next, and whether its input has to come from another rank."""
        self._status(step.atom, COMPUTING if step.message_in is None else WAITING)

    def _status(self, atom: int, phase: float) -> None:
        self._board.status[self._job.rank, :4] = self._number, atom, phase, time.perf_counter()
