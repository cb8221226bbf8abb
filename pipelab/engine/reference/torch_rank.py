"""The other executor: a rank of torch.distributed.pipelining's own runtime, with our trace.

    Schedule ─ CSV ▶ torch's _PipelineScheduleRuntime over gloo, a process per rank
                         └─ the methods of its stages, each call timed ▶ trace ▶ Timeline

torch keeps no record of single actions. Memory is counted as ours is, activations until B or W;
what torch itself holds on to, such as all outputs until the end of the step, is not in it.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import pipelining
from torch.distributed.pipelining.schedules import _PipelineScheduleRuntime

from ...schedule import Kind
from ..job.batches import Batch
from ..job.program import Instruction
from ..job.rank_job import RankJob, RankResult
from ..job.torch_handover import TorchJob
from ..job.values import joined
from ..rank.optimizer import make_optimizer, make_scheduler
from ..record.board import BETWEEN, COMPUTING, TRACE, WAITING, Board
from ..stage.saved_bytes import SavedBytes, storages
from ..transport.network import SLOWEST
from ..travel.ship import pack


class TorchRank:
    """As ``rank.Rank``: a rank with its stages, ready for ``step``."""

    def __init__(self, job: RankJob, torch_job: TorchJob, board: Board):
        self._job, self._board, self._recipe = job, board, job.recipe
        self._stage_count = torch_job.stages
        dist.init_process_group(
            "gloo",
            init_method=f"file://{torch_job.store}",
            rank=job.rank,
            world_size=job.sizes["ranks"],
            timeout=timedelta(seconds=min(job.recipe.limit, SLOWEST)),
        )
        self._named: dict[str, nn.Parameter] = {}
        self._buffers: dict[str, torch.Tensor] = {}
        for part, _ in job.stages.values():
            for _, layer, module in part:
                self._named |= {f"{layer}.{name}": p for name, p in module.named_parameters()}
                self._buffers |= {f"{layer}.{name}": b for name, b in module.named_buffers()}
        self._instructions = {(i.kind, i.stage, i.microbatch): i for i in job.program}
        following = zip(job.program, job.program[1:], strict=False)
        self._next = {one.atom: other for one, other in following}
        self._kept: dict[tuple[int, int], int] = {}
        """Bytes by (stage, micro-batch), known once they have been counted."""
        self._held, self._step, self._ended = 0, 0, 0.0
        parts = sorted((index, part) for (_, index), (part, _) in job.stages.items())
        stages = [self._timed_stage(index, part) for index, part in parts]
        losses = [loss for _, loss in job.stages.values() if loss]
        # On other ranks than the last it must have a loss too, to run backwards.
        loss = losses[0] if losses else lambda _output, _target: None
        self._runtime = _PipelineScheduleRuntime(
            stages, job.sizes["microbatches"], loss_fn=loss, scale_grads=False
        )
        self._runtime._load_csv(torch_job.csv, format="compute_only")
        self._time_loss()
        self._parameters = parameters = list(dict.fromkeys(self._named.values()))
        self._optimizer = self._scheduler = None
        if self._recipe.optimizer:
            names = {p: name for name, p in reversed(self._named.items())}
            named = [(names[p], p) for p in parameters]
            self._optimizer = make_optimizer(self._recipe.optimizer, named)
        if self._optimizer and self._recipe.scheduler:
            self._scheduler = make_scheduler(self._recipe.scheduler, self._optimizer)
        self._result = RankResult()

    def step(self, step: int, batch: Batch) -> None:
        """One training step."""
        self._step, self._shares = step, batch.shares
        for parameter in self._parameters:
            parameter.grad = None
        arguments = () if batch.inputs is None else (joined(batch.inputs)[0],)
        options: dict[str, Any] = {}
        if batch.targets is not None:
            options = {"target": joined(batch.targets).opened(), "losses": []}
        self._ended = time.perf_counter()
        self._about_to(self._job.program[0])
        self._runtime.step(*arguments, **options)
        for parameter in self._parameters:
            # Each loss was a mean; torch 2.9's own division misses split backwards.
            if parameter.grad is not None:
                parameter.grad.div_(len(batch.shares))
        self._stand(-1, BETWEEN)
        if step == self._recipe.steps - 1:
            gradients = {name: p.grad for name, p in self._named.items() if p.grad is not None}
            self._result.gradients = pack(gradients)
            if self._optimizer:
                self._result.before = pack(self._named)
        if self._optimizer:
            self._optimizer.step()
        if self._scheduler:
            self._scheduler.step()

    def result(self) -> RankResult:
        """What the rank brings home after the last step."""
        self._result.state = pack(self._buffers | (self._named if self._recipe.optimizer else {}))
        dist.destroy_process_group()
        return self._result

    def _timed_stage(self, index: int, part: list) -> pipelining.PipelineStage:
        module = nn.Sequential(*(layer for _, _, layer in part))
        own = set(storages([*module.parameters(), *module.buffers()]))
        stage = pipelining.PipelineStage(module, index, self._stage_count, torch.device("cpu"))
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
        for name, replacement in (
            ("_get_init_p2p_neighbors_ops", lambda: []),
            ("forward_one_chunk", timed_forward),
            ("backward_one_chunk", timed_backward),
            ("backward_weight_one_chunk", timed_weights),
        ):
            setattr(stage, name, replacement)
        return stage

    def _time_loss(self) -> None:
        """The loss is computed after the last stage's forward, and belongs to it."""
        compute = self._runtime._maybe_compute_loss

        def timed(stage, output, targets, microbatch, *rest):
            compute(stage, output, targets, microbatch, *rest)
            if stage.is_last:
                ended = time.perf_counter()
                atom = self._instructions[Kind.F, stage.stage_index, microbatch].atom
                row = self._board.trace[self._step, atom]
                row[TRACE.index("worked")] += ended - row[TRACE.index("ended")]
                row[TRACE.index("ended")] = self._ended = ended
                loss = self._runtime._internal_losses[-1]
                self._board.losses[self._step, microbatch] = loss.item() * self._shares[microbatch]

        setattr(self._runtime, "_maybe_compute_loss", timed)  # noqa: B010 - it is a method

    def _timed(self, kind: Kind, stage: int, microbatch: int, compute: Callable):
        """Computes one action and writes its row of the trace."""
        instruction, asked = self._instructions[kind, stage, microbatch], self._ended
        self._stand(instruction.atom, COMPUTING)
        started = time.perf_counter()
        try:
            result = compute()
        except RuntimeError as error:  # "Failed to run", and why beside it
            why = error.__cause__ or error
            first = next((line for line in str(why).splitlines() if line.strip()), repr(why))
            raise RuntimeError(
                f"torch.distributed.pipelining's own runtime failed: {first.strip()} "
                "(executor='pipelab' may run what it cannot)"
            ) from why
        self._ended = ended = time.perf_counter()
        kept = self._kept.get((stage, microbatch), 0)
        self._held += kept if kind == Kind.F else 0
        held = self._held
        self._held -= kept if kind in (Kind.B, Kind.W) else 0
        at = self._board.trace[self._step]
        if instruction.paired:  # of a pair, the first carries the wait and the work
            first = at[instruction.atom - 1]
            first[TRACE.index("worked")] += ended - started
            first[TRACE.index("ended")], started = ended, first[TRACE.index("started")]
            asked = started
        worked = 0.0 if instruction.paired else ended - started
        known = asked, asked, started, started, ended, worked, held, self._held
        at[instruction.atom, : len(known)] = known
        self._board.status[self._job.rank, 4] += 1
        if instruction.atom in self._next:
            self._about_to(self._next[instruction.atom])
        return result

    def _about_to(self, instruction: Instruction) -> None:
        """What comes next, and whether its input has to come from another rank."""
        self._stand(instruction.atom, COMPUTING if instruction.message_in is None else WAITING)

    def _stand(self, atom: int, phase: float) -> None:
        self._board.status[self._job.rank, :4] = self._step, atom, phase, time.perf_counter()
