"""Between the last backward of a step and the next step.

… last B │ sum over the copies of each parameter │ norm over all stages │ optimizer │ learning
rate │ next F …
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ...errors import UsageError
from ...schedule import Kind
from ..job.exchange import Transfer
from ..job.program import Instruction
from ..job.rank_job import RankJob
from ..job.values import Alone
from ..mesh.copies import Copies, Part
from ..mesh.peers import Peers
from ..record.board import BETWEEN, WAITING
from ..stage.saved_bytes import nbytes
from ..transport.protocol import Arrival
from .mail import Mail
from .optimizer import load_state, make_optimizer, make_scheduler, state_of
from .reduced import reduced_by
from .shared_gradients import Name, SharedGradients

Key = tuple[int, int] | None
"""(replica, stage) that an optimizer steps; None: all of a rank."""


class Update:
    """What one rank does with its weights.

    Args:
        mail: of this rank.
        parameters: of the rank, by (replica, name).
        job: how to train, and what ranks exchange.
        by_stage: the parameters of each (replica, stage).
        peers: the workers of the mesh with which it shares them.
    """

    def __init__(
        self,
        mail: Mail,
        parameters: dict[Name, nn.Parameter],
        job: RankJob,
        by_stage: dict[Part, list[nn.Parameter]],
        peers: Peers,
    ):
        recipe, self._exchange = job.recipe, job.exchange
        self._peers, self._latency = peers, recipe.latency
        self._mail, self._parameters, self._clip = mail, parameters, job.recipe.clip
        self._shared = SharedGradients(mail, parameters, job.exchange, job.reductions)
        self.all = list(dict.fromkeys(parameters.values()))
        steps = any(instruction.kind == Kind.STEP for instruction in job.program)
        self._copies = None
        if peers.data is not None:
            parts = {part: _trained_of(mine) for part, mine in by_stage.items()}
            reduced = reduced_by(job, parts, self._shared, every_time=steps or job.mesh.zero > 1)
            self._copies = Copies(peers.data, job.mesh.zero, parts, reduced)
        self._by_stage = by_stage if steps else None
        whose: dict[Key, list[nn.Parameter]] = {None: self.all}
        if self._by_stage is not None:
            whose = {key: mine for key, mine in self._by_stage.items()}
        self.optimizers: dict[Key, torch.optim.Optimizer] = {}
        first = {p: name for (_, name), p in reversed(parameters.items())}
        names = {p: job.tied.get(name, name) for p, name in first.items()}
        if recipe.optimizer:
            for key, mine in whose.items():
                trained = [(names[p], self._trained(p)) for p in mine]
                made = make_optimizer(
                    recipe.optimizer, [(name, p) for name, p in trained if p is not None]
                )
                if made is not None:
                    self.optimizers[key] = made
        self.schedulers: list[Any] = []
        if recipe.scheduler:
            for optimizer in self.optimizers.values():
                self.schedulers.append(make_scheduler(recipe.scheduler, optimizer))
        self._stepped: dict[nn.Parameter, torch.Tensor | None] = {}
        self._zero, self._summed = job.mesh.zero, False
        self._rehearsing = False

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """While it lasts no optimizer steps; afterwards there are no gradients."""
        self._rehearsing = True
        yield
        self._rehearsing = False
        self._stepped.clear()
        self.clear()

    def _trained(self, parameter: nn.Parameter) -> nn.Parameter | None:
        """What the optimizer of this rank has of a parameter."""
        return parameter if self._copies is None else self._copies.trained(parameter)

    def pieces(self) -> dict[Name, nn.Parameter]:
        """What this rank has of each parameter for good: under ZeRO some rows, maybe none."""
        if self._copies is None:
            return dict(self._parameters)
        pieces = self._copies.pieces
        return {key: pieces.get(p, p) for key, p in self._parameters.items()}

    def bytes(self) -> dict[str, int]:
        """What this rank holds, by part.

        weights and gradients: for good; gathered: the most of weights that were whole for a while;
        optimizer: its state.
        """
        zero, all_of = self._zero, dict.fromkeys(self._parameters.values())
        pieces = self._copies.pieces if self._copies is not None else {}
        rows = {p: pieces.get(p, p) for p in all_of}
        kept: list[torch.Tensor] = []
        for optimizer in self.optimizers.values():
            for state in optimizer.state.values():
                kept += [v for v in state.values() if isinstance(v, torch.Tensor) and v.dim()]
        trained = [p for p in all_of if p.requires_grad]
        return {
            "weights": sum(nbytes(rows[p] if zero == 3 else p) for p in all_of),
            "gathered": 0 if self._copies is None else self._copies.most_gathered,
            "gradients": sum(nbytes(rows[p] if zero >= 2 else p) for p in trained),
            "optimizer": sum(nbytes(each) for each in kept),
        }

    def gradients(self) -> dict[Name, torch.Tensor]:
        """Of the step, by (replica, name): of what this rank has of each parameter.

        Where the schedule steps the optimizer: of the last such step.
        """
        found = {key: self._stepped.get(p, p.grad) for key, p in self.pieces().items()}
        return {key: gradient for key, gradient in found.items() if gradient is not None}

    def clear(self) -> None:
        """Forget all gradients."""
        self._summed = False
        for parameter in self.all:
            parameter.grad = None
        if self._copies is not None:
            self._copies.clear()

    def collect(self, instruction: Instruction, planned: float) -> tuple[list[Arrival], int]:
        """A collective action, its waiting: send what others need, and wait for what they send.

        planned: when the rank meant to be here (paced mode). Returns what arrived, and the bytes
        that were sent to other ranks of the pipeline.
        """
        copies, part = self._copies, (instruction.replica, instruction.stage)
        arrivals: list[Arrival] = []
        sent_bytes = 0
        if instruction.kind == Kind.REDUCE_GRAD:
            arrivals, sent_bytes = self._shared.collect(instruction, planned)
        if copies is None or instruction.kind == Kind.RESHARD:
            return arrivals, sent_bytes
        planned = max([planned, *(each.planned + self._latency for each in arrivals)])
        if instruction.kind == Kind.UNSHARD:
            last = copies.post_weights(part, planned)
        else:
            self._shared.sum(instruction)
            last = copies.post_gradients(instruction.atom, planned)
        if last is not None:
            when, meant = last  # where copies meet nothing is under way
            arrivals.append(Arrival(torch.empty(0), when, meant - self._latency))
        return arrivals, sent_bytes

    def unshard(self, instruction: Instruction) -> None:
        """UNSHARD: the weights of a stage are whole."""
        if self._copies is not None:
            self._copies.gather((instruction.replica, instruction.stage))

    def reshard(self, instruction: Instruction) -> None:
        """RESHARD: the rank keeps its rows of a stage's weights alone."""
        if self._copies is not None:
            self._copies.give_back((instruction.replica, instruction.stage))

    def reduce(self, instruction: Instruction) -> None:
        """REDUCE_GRAD: make every copy's gradient the sum over all, in a fixed order."""
        if self._copies is None:
            self._shared.sum(instruction)
        else:
            self._copies.reduce(instruction.atom)

    def step(self) -> None:
        """Clip over all stages, then step the optimizer and the learning rate.

        Where the schedule steps the optimizer, that is left to it.
        """
        self.sum_parts()
        if self._clip is not None:
            self._clip_gradients(self._clip)
        else:
            self.meet(self._sum_over_parts(torch.zeros(())))
        if self._by_stage is None:
            for optimizer in self.optimizers.values():
                optimizer.step()
        for scheduler in self.schedulers:
            scheduler.step()
        self._peers.forget()  # a few numbers, of no action

    def step_stage(self, instruction: Instruction) -> None:
        """STEP: the optimizer of one stage, which then begins to sum gradients anew."""
        key = instruction.replica, instruction.stage
        mine = (self._by_stage or {})[key]
        self._sum_parts_of(mine)
        if key in self.optimizers and not self._rehearsing:
            self.optimizers[key].step()
        for parameter in mine:
            self._stepped[parameter], parameter.grad = parameter.grad, None

    def meet(self, value: torch.Tensor) -> torch.Tensor:
        """Sum a number over all ranks, in their order, where the run has meetings.

        When it returns, all have come.
        """
        for transfer in self._exchange.of_meeting():
            if transfer.source == self._mail.rank:
                self._mail.send(transfer.target, transfer.message, Alone((value,)))
            elif transfer.target == self._mail.rank:
                received = self._receive(transfer)
                value = value + received if self._mail.rank == 0 else received
        return value

    def _sum_over_parts(self, value: torch.Tensor) -> torch.Tensor:
        """Sum a number over those who share the layers: they begin the next step together."""
        return value if self._peers.tensor is None else self._peers.tensor.all_reduce(value)

    def _clip_gradients(self, clip: float) -> None:
        """Scale all gradients so that their norm over the whole model is at most ``clip``.

        As torch's clip_grad_norm_.
        """
        counted_elsewhere = set()
        for shared in self._exchange.shared:
            for i, parameters in self._shared.held(shared).items():
                if i > 0:
                    counted_elsewhere.update(parameters)
        counted_elsewhere |= self._peers.counted_by_first
        trained = {p: piece for p in self.all if (piece := self._trained(p)) is not None}
        own = [t.grad for p, t in trained.items() if p not in counted_elsewhere]
        total = torch.zeros((), dtype=torch.float64)
        for gradient in own:
            total = total if gradient is None else total + _square(gradient)
        total = self._sum_over_parts(total)
        if self._peers.data is not None and self._zero:
            total = self._peers.data.all_reduce(total)
        norm = self.meet(total).sqrt()
        scale = (clip / (norm + 1e-6)).clamp(max=1.0)  # nan stays nan
        for parameter in trained.values():
            if parameter.grad is not None:
                parameter.grad.mul_(scale)

    def sum_parts(self) -> None:
        """Sum what tensor-parallel workers have found on their parts of the sequence, once.

        These are gradients of norms alone, some numbers of each layer. As clipping and the
        optimizer it belongs to no action: no row of the trace has it, and no prediction. A STEP has
        its own stage's inside.
        """
        if not self._summed:
            self._sum_parts_of(self.all)
        self._summed = True

    def _sum_parts_of(self, parameters: list[nn.Parameter]) -> None:
        tensor, summands = self._peers.tensor, self._peers.summands
        for parameter in parameters:
            trained = self._trained(parameter)
            if tensor is None or parameter not in summands or trained is None:
                continue
            if trained.grad is not None:
                trained.grad = tensor.all_reduce(trained.grad)

    def _receive(self, transfer: Transfer) -> torch.Tensor:
        self._mail.stand(-1, WAITING)
        value, _ = self._mail.receive(
            transfer.message, f"the end of the step (for rank {transfer.source})"
        )
        self._mail.stand(-1, BETWEEN)
        tensor = value[0].clone()
        self._mail.release(transfer.message, 1)
        return tensor

    def state(self) -> dict:
        """What a checkpoint keeps of the first copy of the model: see ``optimizer.state_of``."""
        named = reversed(self.pieces().items())
        names = {p: name for (replica, name), p in named if replica == 0}
        return state_of(list(self.optimizers.values()), self.schedulers, names)

    def load(self, saved: dict) -> None:
        """The inverse of ``state``, of which the rank takes its part.

        Raises UsageError where it does not fit the optimizer or the scheduler.
        """
        names = {p: name for (_, name), p in reversed(self.pieces().items())}
        for optimizer in self.optimizers.values():
            load_state(optimizer, saved, names, self._peers.own_part)
        if self.schedulers and saved["scheduler"] is None:
            raise UsageError(
                "the checkpoint was saved without a scheduler, so there is none to go on with: "
                "leave it out"
            )
        for scheduler in self.schedulers:
            scheduler.load_state_dict(saved["scheduler"])


def _trained_of(parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    return list(dict.fromkeys(p for p in parameters if p.requires_grad))


def _square(gradient: torch.Tensor) -> torch.Tensor:
    """The square of a gradient's norm, in double precision."""
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    wide = torch.complex128 if values.is_complex() else torch.float64
    return torch.linalg.vector_norm(values, dtype=wide).square()
