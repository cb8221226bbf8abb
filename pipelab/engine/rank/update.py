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
from ..job.exchange import Shared, Transfer
from ..job.program import Instruction
from ..job.rank_job import RankJob
from ..job.values import Alone
from ..record.board import BETWEEN, WAITING
from ..transport.protocol import Arrival
from .mail import Mail
from .optimizer import make_optimizer, make_scheduler
from .shared_gradients import flatten, summed

Name = tuple[int, str]
"""(replica, name in the whole model) of a parameter on its rank."""
Key = tuple[int, int] | None
"""(replica, stage) that an optimizer steps; None: all of a rank."""
_WHO = ("params", "param_names")
"""What of a group is no option."""


class Update:
    """What one rank does with its weights.

    Args:
        mail: of this rank.
        parameters: of the rank, by (replica, name).
        job: how to train, and what ranks exchange.
        by_stage: the parameters of each (replica, stage), where the schedule itself steps the
            optimizer; else None.
    """

    def __init__(
        self,
        mail: Mail,
        parameters: dict[Name, nn.Parameter],
        job: RankJob,
        by_stage: dict[tuple[int, int], list[nn.Parameter]] | None,
    ):
        recipe, self._exchange, self._reductions = job.recipe, job.exchange, job.reductions
        self._mail, self._parameters, self._clip = mail, parameters, job.recipe.clip
        self._flat: dict[int, dict[int, torch.Tensor]] = {}
        """Gradients under way: number of the shared parameters -> number of the holder -> all."""
        self.all = list(dict.fromkeys(parameters.values()))
        self._by_stage = by_stage
        whose: dict[Key, list[nn.Parameter]] = {None: self.all}
        if by_stage is not None:
            whose = {key: mine for key, mine in by_stage.items()}
        self.optimizers: dict[Key, torch.optim.Optimizer] = {}
        first = {p: name for (_, name), p in reversed(parameters.items())}
        names = {p: job.tied.get(name, name) for p, name in first.items()}
        if recipe.optimizer:
            for key, mine in whose.items():
                made = make_optimizer(recipe.optimizer, [(names[p], p) for p in mine])
                if made is not None:
                    self.optimizers[key] = made
        self.schedulers: list[Any] = []
        if recipe.scheduler:
            for optimizer in self.optimizers.values():
                self.schedulers.append(make_scheduler(recipe.scheduler, optimizer))
        self._stepped: dict[nn.Parameter, torch.Tensor | None] = {}
        self._rehearsing = False

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """While it lasts no optimizer steps; afterwards there are no gradients."""
        self._rehearsing = True
        yield
        self._rehearsing = False
        self._stepped.clear()
        self.clear()

    def gradients(self) -> dict[Name, torch.Tensor]:
        """Of the step, by (replica, name).

        Where the schedule steps the optimizer: of the last such step.
        """
        found = {key: self._stepped.get(p, p.grad) for key, p in self._parameters.items()}
        return {key: gradient for key, gradient in found.items() if gradient is not None}

    def clear(self) -> None:
        """Forget all gradients."""
        for parameter in self.all:
            parameter.grad = None

    def collect(self, instruction: Instruction, planned: float) -> tuple[list[Arrival], int]:
        """REDUCE_GRAD: send what others sum, and wait for what this rank sums now.

        planned: when the rank meant to be here (paced mode). Returns what arrived, and the bytes
        that were sent.
        """
        reduction, rank, sent_bytes = self._reductions[instruction.atom], self._mail.rank, 0
        for number in reduction.sends:
            shared = self._exchange.shared[number]
            flat = {i: flatten(parameters) for i, parameters in self._held(shared).items()}
            self._flat[number] = flat
            for transfer in shared.transfers():
                if transfer.source == rank:
                    own = Alone((flat[shared.holder_of(transfer)],))
                    sent_bytes += self._mail.send(transfer.target, transfer.message, own, planned)
        arrivals = []
        for number in reduction.sums:
            shared = self._exchange.shared[number]
            for transfer in shared.transfers():
                if transfer.target == rank:
                    value, arrival = self._mail.receive(transfer.message, instruction)
                    self._flat[number][shared.holder_of(transfer)] = value[0].clone()
                    self._mail.release(transfer.message, 1)
                    arrivals.append(arrival)
        return arrivals, sent_bytes

    def reduce(self, instruction: Instruction) -> None:
        """REDUCE_GRAD: make every copy's gradient the sum over all, in the order of the holders."""
        for number in self._reductions[instruction.atom].sums:
            shared = self._exchange.shared[number]
            held, flat = self._held(shared), self._flat.pop(number)
            like = next(iter(held.values()))
            totals = summed([flat[i] for i in range(len(shared.holders))], like)
            for k, total in enumerate(totals):
                for parameters in held.values():
                    parameters[k].grad = total if total is None or len(held) == 1 else total.clone()

    def step(self) -> None:
        """Clip over all stages, then step the optimizer and the learning rate.

        Where the schedule steps the optimizer, that is left to it.
        """
        if self._clip is not None:
            self._clip_gradients(self._clip)
        else:
            self.meet(torch.zeros(()))
        if self._by_stage is None:
            for optimizer in self.optimizers.values():
                optimizer.step()
        for scheduler in self.schedulers:
            scheduler.step()

    def step_stage(self, instruction: Instruction) -> None:
        """STEP: the optimizer of one stage, which then begins to sum gradients anew."""
        key = instruction.replica, instruction.stage
        mine = (self._by_stage or {})[key]
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

    def _held(self, shared: Shared) -> dict[int, list[nn.Parameter]]:
        """The parameters of each holder on this rank, by the holder's number."""
        held = {}
        for i, (replica, rank) in enumerate(shared.holders):
            if rank == self._mail.rank:
                held[i] = [self._parameters[replica, name] for name in shared.names[i]]
        return held

    def _clip_gradients(self, clip: float) -> None:
        """Scale all gradients so that their norm over the whole model is at most ``clip``.

        As torch's clip_grad_norm_.
        """
        counted_elsewhere = set()
        for shared in self._exchange.shared:
            for i, parameters in self._held(shared).items():
                if i > 0:
                    counted_elsewhere.update(parameters)
        own = [p.grad for p in self.all if p.grad is not None and p not in counted_elsewhere]
        total = sum((_square(g) for g in own), torch.zeros((), dtype=torch.float64))
        norm = self.meet(total).sqrt()
        scale = (clip / (norm + 1e-6)).clamp(max=1.0)  # nan stays nan
        for parameter in self.all:
            if parameter.grad is not None:
                parameter.grad.mul_(scale)

    def _receive(self, transfer: Transfer) -> torch.Tensor:
        self._mail.stand(-1, WAITING)
        value, _ = self._mail.receive(
            transfer.message, f"the end of the step (for rank {transfer.source})"
        )
        self._mail.stand(-1, BETWEEN)
        tensor = value[0].clone()
        self._mail.release(transfer.message, 1)
        return tensor

    # The state of the optimizers, by the names of the parameters: a checkpoint does not depend on
    # how the model is cut.

    def state(self) -> dict:
        """What a checkpoint keeps.

        "state": name -> what the optimizer keeps of it; "groups": options with the names;
        "scheduler": its state.
        """
        named = reversed(self._parameters.items())
        names = {p: name for (replica, name), p in named if replica == 0}
        state: dict[str, Any] = {}
        groups: list[dict] = []
        for optimizer in self.optimizers.values():
            for g, group in enumerate(optimizer.param_groups):
                mine = [p for p in group["params"] if p in names]
                state |= {names[p]: optimizer.state[p] for p in mine if p in optimizer.state}
                if g == len(groups):
                    options = {k: v for k, v in group.items() if k not in _WHO}
                    groups.append(options | {"params": []})
                groups[g]["params"] += [names[p] for p in mine]
        scheduler = self.schedulers[0].state_dict() if self.schedulers else None
        return {"state": state, "groups": groups, "scheduler": scheduler}

    def load(self, saved: dict) -> None:
        """The inverse of ``state``, of which the rank takes its part.

        Raises UsageError where it does not fit the optimizer or the scheduler.
        """
        names = {p: name for (_, name), p in reversed(self._parameters.items())}
        for optimizer in self.optimizers.values():
            _load(optimizer, saved, names)
        if self.schedulers and saved["scheduler"] is None:
            raise UsageError(
                "the checkpoint was saved without a scheduler, so there is none to go on with: "
                "leave it out"
            )
        for scheduler in self.schedulers:
            scheduler.load_state_dict(saved["scheduler"])


def _load(optimizer: torch.optim.Optimizer, saved: dict, names: dict[nn.Parameter, str]) -> None:
    """Give one optimizer the state of its parameters. Raises UsageError for other groups."""
    now, index = optimizer.state_dict(), 0
    had, has = len(saved["groups"]), len(now["param_groups"])
    if had != has:
        raise UsageError(
            f"the checkpoint was saved with {had} {'group' if had == 1 else 'groups'} of "
            f"parameters, and the optimizer factory makes {has}: resume with the factory "
            "that it was saved with"
        )
    for group, old in zip(now["param_groups"], saved["groups"], strict=True):
        group |= {k: v for k, v in old.items() if k not in _WHO}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if names[parameter] in saved["state"]:
                now["state"][index] = saved["state"][names[parameter]]
            index += 1
    optimizer.load_state_dict(now)


def _square(gradient: torch.Tensor) -> torch.Tensor:
    """The square of a gradient's norm, in double precision."""
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    wide = torch.complex128 if values.is_complex() else torch.float64
    return torch.linalg.vector_norm(values, dtype=wide).square()
