"""Between the last backward of a step and the next step: gradients of copies are summed, clipped,
and used.

    … last B │ sum over the copies of each parameter │ norm over all stages │ optimizer │ learning
    rate │ next F …

A parameter has copies where the schedule runs the model twice (Chimera, DualPipe), and where layers
on different ranks share it (tied weights). Every holder sends its gradient to the others, and all
sum in the same order, so the copies stay equal to the bit. These messages are numbered after those
of the schedule, in one order for the whole run: whoever follows it (``transfers``) can never wait
in a circle.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from ..errors import UsageError
from ..schedule import Schedule
from .board import BETWEEN, WAITING
from .interpreter import Interpreter
from .program import messages

Name = tuple[int, str]
"""(replica, name in the whole model) of a parameter on its rank."""


@dataclass(frozen=True)
class Shared:
    """Parameters of which several holders have a copy. holders: (replica, rank), in the order of
    summing.

    names[i]: what holder i calls them. Holder i's gradients go to rank ranks[j] as message first +
    i · len(ranks) + j.
    """

    holders: tuple[tuple[int, int], ...]
    names: tuple[tuple[str, ...], ...]
    first: int

    @property
    def ranks(self) -> list[int]:
        return list(dict.fromkeys(rank for _, rank in self.holders))


class Transfer(NamedTuple):
    """A tensor from one rank to another after the last backward."""

    source: int
    target: int
    message: int


@dataclass(frozen=True)
class Exchange:
    """All that ranks exchange between two steps.

    meeting: number of the first message of a meeting, in which the ranks sum a number; None where
    none is needed. It is for clipping; and a rank that needs no other's gradients for its next step
    must not overtake those who have not read its last messages. total: how many message numbers a
    step needs, its actions' included.
    """

    shared: list[Shared]
    meeting: int | None
    ranks: int
    total: int

    def transfers(self) -> list[Transfer]:
        """Every transfer of the run, in the order in which each rank makes its own."""
        return [t for shared in self.shared for t in of_shared(shared)] + self.of_meeting()

    def of_meeting(self) -> list[Transfer]:
        """Every rank tells rank 0, which tells every rank the sum."""
        if self.meeting is None:
            return []
        others = range(1, self.ranks)
        up = [Transfer(rank, 0, self.meeting + rank) for rank in others]
        return up + [Transfer(0, rank, self.meeting + self.ranks + rank) for rank in others]


def of_shared(shared: Shared) -> list[Transfer]:
    """Every holder tells the ranks of the others."""
    ranks = shared.ranks
    return [
        Transfer(rank, other, shared.first + i * len(ranks) + j)
        for i, (_, rank) in enumerate(shared.holders)
        for j, other in enumerate(ranks)
        if other != rank
    ]


def plan_exchange(
    stages: list[list[tuple[int, str, nn.Module]]], schedule: Schedule, meet: bool
) -> Exchange:
    """Who shares which parameters, from the placement and the layers of each stage as (index, name,
    module).

    meet: whether ranks meet even if nothing is shared.
    """
    homes = schedule.placement_table.tolist()
    holders: dict[nn.Parameter, dict[tuple[int, int], str]] = {}
    for replica, home in enumerate(homes):
        for stage, layers in enumerate(stages):
            for _, layer, module in layers:
                for name, parameter in module.named_parameters():
                    if parameter.requires_grad:
                        holders.setdefault(parameter, {}).setdefault(
                            (replica, home[stage]), f"{layer}.{name}"
                        )
    groups: dict[tuple, list[tuple[str, ...]]] = {}  # those with the same holders travel together
    for parameter, names in holders.items():
        if len(names) > 1:
            groups.setdefault((parameter.dtype, tuple(names)), []).append(tuple(names.values()))
    shared, first = [], messages(schedule)
    for (_, who), names in groups.items():
        shared.append(Shared(who, tuple(zip(*names, strict=True)), first))
        first += len(who) * len(shared[-1].ranks)
    meet = meet or bool(shared)
    return Exchange(
        shared, first if meet else None, schedule.ranks, first + 2 * schedule.ranks * meet
    )


class Update:
    """What one rank does between two steps.

    parameters: of the rank, by (replica, name). optimizer: a factory, or None; scheduler: a factory
    optimizer -> LRScheduler, or None. by_stage: the parameters of each (replica, stage), where the
    schedule itself steps the optimizer.
    """

    def __init__(
        self,
        interpreter: Interpreter,
        parameters: dict[Name, nn.Parameter],
        exchange: Exchange,
        timeout: float,
        *,
        optimizer: Callable | None,
        scheduler: Callable | None,
        clip: float | None,
        by_stage: dict[tuple[int, int], list[nn.Parameter]] | None,
    ):
        self._interpreter, self._parameters, self._exchange, self._timeout = (
            interpreter,
            parameters,
            exchange,
            timeout,
        )
        self._transport, self._rank, self._clip = interpreter.transport, interpreter.rank, clip
        self._shared = [s for s in exchange.shared if self._rank in s.ranks]
        self.all = list(dict.fromkeys(parameters.values()))
        whose = {None: self.all} if by_stage is None else by_stage
        self.optimizers = (
            {key: optimizer(mine) for key, mine in whose.items() if mine} if optimizer else {}
        )
        self.schedulers = (
            [scheduler(each) for each in self.optimizers.values()] if scheduler else []
        )
        self._by_stage = by_stage or {}
        self._stepped: dict[nn.Parameter, torch.Tensor | None] = {}
        interpreter.step_optimizer = self._step_stage

    def gradients(self) -> dict[Name, torch.Tensor]:
        """Of the step (where the schedule steps the optimizer: of the last such step), by (replica,
        name).
        """
        found = {key: self._stepped.get(p, p.grad) for key, p in self._parameters.items()}
        return {key: gradient for key, gradient in found.items() if gradient is not None}

    def clear(self) -> None:
        for parameter in self.all:
            parameter.grad = None

    def sum_copies(self, number: int, sequence: int) -> None:
        """Makes every copy's gradient the sum over all copies, in the order of the holders."""
        for shared in self._shared:
            mine = {
                i: replica for i, (replica, rank) in enumerate(shared.holders) if rank == self._rank
            }
            held = {
                i: [self._parameters[replica, name] for name in shared.names[i]]
                for i, replica in mine.items()
            }
            flat = {i: _flatten(parameters) for i, parameters in held.items()}
            like = next(iter(held.values()))
            for transfer in of_shared(shared):
                i = (transfer.message - shared.first) // len(shared.ranks)
                if transfer.source == self._rank:
                    self._transport.send(transfer.target, transfer.message, sequence, flat[i], 0.0)
                elif transfer.target == self._rank:
                    flat[i] = self._receive(transfer, number, sequence)
            for k, total in enumerate(_sum([flat[i] for i in range(len(shared.holders))], like)):
                for parameters in held.values():
                    parameters[k].grad = total if total is None or len(held) == 1 else total.clone()

    def step(self, number: int, sequence: int) -> None:
        """Clips over all stages, then steps the optimizer, unless the schedule does, and the
        learning rate.
        """
        if self._clip is not None:
            self._clip_gradients(number, sequence)
        else:
            self.meet(torch.zeros(()), number, sequence)
        if not self._by_stage:
            for optimizer in self.optimizers.values():
                optimizer.step()
        for scheduler in self.schedulers:
            scheduler.step()

    def _step_stage(self, replica: int, stage: int) -> None:
        """STEP: the optimizer of one stage, which then begins to sum gradients anew."""
        mine = self._by_stage[replica, stage]
        if mine:
            self.optimizers[replica, stage].step()
        for parameter in mine:
            self._stepped[parameter], parameter.grad = parameter.grad, None

    def _clip_gradients(self, number: int, sequence: int) -> None:
        """Scales all gradients so that the norm over the whole model is at most ``clip``, as
        torch's clip_grad_norm_.
        """
        counted_elsewhere = {
            self._parameters[replica, name]
            for shared in self._shared
            for (replica, rank), names in list(zip(shared.holders, shared.names, strict=True))[1:]
            if rank == self._rank
            for name in names
        }
        gradients = [p.grad for p in self.all if p.grad is not None]
        own = [p.grad for p in self.all if p.grad is not None and p not in counted_elsewhere]
        total = sum((g.double().square().sum() for g in own), torch.zeros((), dtype=torch.float64))
        scale = min(1.0, self._clip / (self.meet(total, number, sequence).sqrt().item() + 1e-6))
        for gradient in gradients:
            gradient.mul_(scale)

    def meet(self, value: torch.Tensor, number: int, sequence: int) -> torch.Tensor:
        """The sum over all ranks, in their order, where the run has meetings; all have come when it
        returns.
        """
        for transfer in self._exchange.of_meeting():
            if transfer.source == self._rank:
                self._transport.send(transfer.target, transfer.message, sequence, value, 0.0)
            elif transfer.target == self._rank:
                received = self._receive(transfer, number, sequence)
                value = value + received if self._rank == 0 else received
        return value

    def _receive(self, transfer: Transfer, number: int, sequence: int) -> torch.Tensor:
        self._interpreter.status(number, -1, WAITING)
        try:
            arrival = self._transport.receive(
                transfer.message, sequence, time.perf_counter() + self._timeout
            )
        except TimeoutError:
            raise TimeoutError(
                f"waited {self._timeout:g} s for rank {transfer.source} at the end of the step"
            ) from None
        self._interpreter.status(number, -1, BETWEEN)
        tensor = arrival.tensor.clone()
        self._transport.consumed(transfer.message, sequence)
        return tensor

    # The state of the optimizers, by the names of the parameters: a checkpoint does not depend on
    # how the model is cut.

    def state(self) -> dict:
        """{"state": name -> what the optimizer keeps of it, "groups": options with the names,
        "scheduler": its state}.
        """
        names = {
            p: name for (replica, name), p in reversed(self._parameters.items()) if replica == 0
        }
        state, groups = {}, []
        for optimizer in self.optimizers.values():
            for g, group in enumerate(optimizer.param_groups):
                mine = [names[p] for p in group["params"] if p in names]
                state |= {
                    names[p]: optimizer.state[p]
                    for p in group["params"]
                    if p in names and p in optimizer.state
                }
                if g == len(groups):
                    groups.append(
                        {k: v for k, v in group.items() if k != "params"} | {"params": []}
                    )
                groups[g]["params"] += mine
        return {
            "state": state,
            "groups": groups,
            "scheduler": self.schedulers[0].state_dict() if self.schedulers else None,
        }

    def load(self, saved: dict) -> None:
        """The inverse of ``state``, of which the rank takes its part."""
        names = {p: name for (_, name), p in reversed(self._parameters.items())}
        for optimizer in self.optimizers.values():
            now, index = optimizer.state_dict(), 0
            had, has = len(saved["groups"]), len(now["param_groups"])
            if had != has:
                raise UsageError(
                    f"the checkpoint was saved with {had} {'group' if had == 1 else 'groups'} of "
                    f"parameters, and the optimizer factory makes {has}: resume with the factory "
                    "that it was saved with"
                )
            for group, old in zip(now["param_groups"], saved["groups"], strict=True):
                group |= {k: v for k, v in old.items() if k != "params"}
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if names[parameter] in saved["state"]:
                        now["state"][index] = saved["state"][names[parameter]]
                    index += 1
            optimizer.load_state_dict(now)
        if self.schedulers and saved["scheduler"] is None:
            raise UsageError(
                "the checkpoint was saved without a scheduler, so there is none to go on with: "
                "leave it out"
            )
        for scheduler in self.schedulers:
            scheduler.load_state_dict(saved["scheduler"])


def _flatten(parameters: list[nn.Parameter]) -> torch.Tensor:
    """Which of them have a gradient (1 or 0 each), then the gradients, one after the other."""
    like = parameters[0]
    flags = torch.tensor(
        [p.grad is not None for p in parameters], dtype=like.dtype, device=like.device
    )
    return torch.cat(
        [flags]
        + [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in parameters]
    )


def _sum(flat: list[torch.Tensor], like: list[nn.Parameter]) -> list[torch.Tensor | None]:
    """The sums of what ``_flatten`` made, one per parameter; None where no copy has a gradient."""
    sums, at = [], len(like)
    for k, parameter in enumerate(like):
        end = at + parameter.numel()
        present = [f[at:end] for f in flat if f[k]]
        total = None
        for gradient in present:
            total = gradient.clone() if total is None else total + gradient
        sums.append(None if total is None else total.view(parameter.shape))
        at = end
    return sums
