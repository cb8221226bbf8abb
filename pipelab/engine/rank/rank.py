"""What one rank does in a run, wherever it lives, step by step.

It joins the interpreter, which executes the schedule, and the update, which follows it.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ...schedule import Kind
from ..job.batches import Batch
from ..job.exchange import Layer
from ..job.rank_job import RankJob, RankResult
from ..job.values import Value
from ..mesh.collectives import Collectives
from ..mesh.cuts import TensorPlan
from ..mesh.peers import Peers
from ..mesh.tensor import cut_layers
from ..record.board import DATA, TENSOR, TRACE, Board
from ..record.clock import HostClock, queued
from ..stage.randomness import Seeds, generator_of
from ..stage.split import DeferredGradients
from ..stage.stage import Stage
from ..stage.stash import Stash
from ..transport.group import Group
from ..transport.protocol import Transport
from ..travel.checkpoint import to_bytes
from ..travel.ship import copied, dumps, pack
from .evaluator import Evaluator
from .interpreter import Interpreter
from .mail import Mail
from .pace import Pace
from .update import Name, Update

VERSIONS_KEPT = {"stashed": 1, "double": 2}
"""How many of the newest versions a new micro-batch may ask for."""


class Rank:
    """A rank with its stages, ready for ``step``."""

    def __init__(
        self,
        job: RankJob,
        board: Board,
        transport: Transport,
        clock: HostClock,
        device: torch.device,
        groups: Callable[[int, list[int], Callable[[float], None]], Group] | None = None,
    ):
        mail = Mail(job, transport, board)
        clock.first_atom = job.first_atom
        peers = _peers_of(job, mail, groups)
        self._job, self._board, self._clock, self._device = job, board, clock, device
        self._peers = peers
        self._layers, self._stages = _stages_of(job, device, peers)
        parameters: dict[Name, nn.Parameter] = {}
        for replica, layer, module in self._layers:
            for name, parameter in module.named_parameters():
                parameters[replica, f"{layer}.{name}"] = parameter
        by_stage = {}
        for key, stage in self._stages.items():
            by_stage[key] = [p for _, m in stage.layers for p in m.parameters()]
        self._update = Update(mail, parameters, job, by_stage, peers)
        kind = Evaluator if job.recipe.evaluate else Interpreter
        first_loss = job.plane * job.sizes["microbatches"] // job.mesh.planes
        self._interpreter = kind(
            job.program, self._stages, mail, board, clock, self._update, peers, first_loss
        )
        self._pace = Pace(job.durations, job.recipe.latency)
        if job.resumed:
            self._update.load(job.resumed.optimizer)
        self._fixed = None if job.batch is None else job.batch.to(device)
        self._result = RankResult()

    def step(self, step: int, batch: Batch) -> None:
        """One training step, or one of evaluation."""
        before = queued()
        self._execute(step, batch)
        self._board.queued[step, self._job.worker] = queued() - before

    def _execute(self, step: int, batch: Batch) -> None:
        recipe, update = self._job.recipe, self._update
        batch = self._fixed or batch.to(self._device)
        update.clear()
        if isinstance(self._interpreter, Evaluator):
            outputs: dict[int, Value] | None = {} if recipe.outputs else None
            self._interpreter.outputs = outputs
            self._interpreter.run(step, batch, self._seeds(step), self._pace)
            update.meet(torch.zeros((), device=self._device))
            if outputs is not None and not self._job.place.tensor:
                first = self._seeds(step).first
                found = {first + i: pack(_by_part(v)) for i, v in outputs.items()}
                self._result.outputs.append(found)
            return
        is_last = step == recipe.steps - 1
        if is_last and self._peers.is_home:
            self._result.before = pack(self._buffers())
        self._interpreter.run(step, batch, self._seeds(step), self._pace)
        if is_last:
            update.sum_parts()
            self._result.gradients = pack(self._at_home(update.gradients()))
            if recipe.optimizer:
                self._result.before |= pack(self._at_home(update.pieces()))
        update.step()

    def _at_home(self, found: Mapping[Name, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Of the first copy of the model, by name: what this worker brings home."""
        home = self._peers.brings_home
        return {name: t for (replica, name), t in found.items() if replica == 0 and home(name)}

    def _seeds(self, step: int) -> Seeds:
        job = self._job
        first = job.resumed.step if job.resumed else 0
        count = job.sizes["microbatches"] // job.mesh.planes
        generator, of_copy = generator_of(self._device), job.place.data * count
        return Seeds(job.recipe.seed or 0, first + step, generator, of_copy)

    def result(self) -> RankResult:
        """What the rank brings home after the last step."""
        for stage in self._stages.values():
            stage.end()
        state: dict[str, Any] = {}
        for replica, layer, module in self._layers:
            if replica == 0:
                state |= self._state_of(layer, module)
        tensors = {name: t for name, t in state.items() if isinstance(t, torch.Tensor)}
        rest = {name: value for name, value in state.items() if name not in tensors}
        self._result.state = pack(tensors)
        if rest:
            self._result.extra_state = dumps([rest])[0]
        if self._job.recipe.optimizer:
            kept = self._update.state()
            home = self._peers.brings_home
            kept["state"] = {name: own for name, own in kept["state"].items() if home(name)}
            self._result.optimizer = to_bytes(kept)
        versions = sum(stage.version_bytes for stage in self._stages.values())
        self._result.bytes = self._update.bytes() | {"versions": versions}
        return self._result

    def _state_of(self, layer: str, module: nn.Module) -> dict[str, Any]:
        """What a run may have changed of a layer's state_dict: parameters need an optimizer."""
        called = {p: f"{layer}.{name}" for name, p in module.named_parameters()}
        pieces, peers = self._update.pieces(), self._peers
        state: dict[str, Any] = {}
        for name, value in module.state_dict(prefix=f"{layer}.", keep_vars=True).items():
            if not isinstance(value, nn.Parameter):
                if peers.is_home:
                    state[name] = value
            elif self._job.recipe.optimizer is not None and peers.brings_home(called[value]):
                state[name] = pieces[0, called[value]]
        return state

    def _buffers(self) -> dict[str, torch.Tensor]:
        """Of the first copy of the model, by the names of the unsplit model."""
        buffers: dict[str, torch.Tensor] = {}
        for replica, layer, module in self._layers:
            if replica == 0:
                buffers |= {f"{layer}.{name}": b for name, b in module.named_buffers()}
        return buffers

    def rehearse(self, batch: Batch) -> dict[int, float]:
        """Run two unpaced steps and undo them.

        Returns the processor seconds of each atom, from the second.
        """
        modules = [m for _, _, layer in self._layers for m in layer.modules()]
        kept = []
        for module in modules:
            held = module._buffers.items()
            kept.append({name: b if b is None else b.clone() for name, b in held})
        batch = batch.to(self._device)
        with self._update.rehearsal():
            for _ in range(2):
                self._interpreter.run(0, batch, self._seeds(0), Pace(None, 0), time.thread_time)
                self._update.meet(torch.zeros((), device=self._device))
        self._clock.done = 0
        self._board.status[self._job.worker] = 0
        for module, buffers in zip(modules, kept, strict=True):
            module._buffers.update(buffers)
        worked = self._board.trace[0, :, TRACE.index("worked")]
        first = self._job.first_atom
        return {first + each.atom: float(worked[first + each.atom]) for each in self._job.program}


def _by_part(value: Value) -> dict[int | None, torch.Tensor]:
    """A tuple's tensors by their position; a tensor that stands alone by None."""
    return {None: value[0]} if value.alone else dict(enumerate(value))


def _peers_of(
    job: RankJob,
    mail: Mail,
    groups: Callable[[int, list[int], Callable[[float], None]], Group] | None,
) -> Peers:
    """The groups of a worker, through those that its seat makes."""
    peers = Peers(job.mesh, job.place, job.plan)
    ranks, waits = job.exchange.ranks, mail.stand_in
    if groups is not None and job.mesh.data > 1:
        members = job.mesh.data_group(ranks, job.place)
        peers.data = Collectives(groups(DATA, members, waits))
    if groups is not None and job.mesh.tensor > 1:
        members = job.mesh.tensor_group(ranks, job.place)
        peers.tensor = Collectives(groups(TENSOR, members, waits))
    return peers


def _stages_of(
    job: RankJob, device: torch.device, peers: Peers
) -> tuple[list[tuple[int, str, nn.Module]], dict[tuple[int, int], Stage]]:
    """The layers of a rank as (replica, name, module), and its stages by (replica, index)."""
    layers: list[tuple[int, str, nn.Module]] = []
    stages: dict[tuple[int, int], Stage] = {}
    splits = any(instruction.kind == Kind.W for instruction in job.program)
    deferred = DeferredGradients() if splits else None
    for (replica, index), (part, loss) in _with_copies(job.stages).items():
        modules = [module for _, _, module in part]
        for module in [*modules, *([loss] if isinstance(loss, nn.Module) else [])]:
            module.to(device)
        for module in modules:
            if job.recipe.evaluate:
                module.eval()
        if peers.tensor is not None:
            sequence = job.mesh.sequence_parallel
            summands = cut_layers(part, job.plan, peers.tensor, sequence=sequence)
            peers.summands.update(summands)
            if job.place.tensor:
                peers.counted_by_first.update(_alike(part, job.plan))
        if deferred is not None:
            _defer(modules, deferred, without_weights=job.mesh.zero == 3)
        stash = None
        if job.weights != "one":
            stash = Stash(modules, VERSIONS_KEPT[job.weights])
        numbered = [(i, module) for i, _, module in part]
        half = job.recipe.dtype == "bfloat16"
        stages[replica, index] = Stage(index, numbered, loss, deferred, stash, half=half)
        layers += [(replica, name, module) for _, name, module in part]
    return layers, stages


def _defer(modules: list[nn.Module], deferred: DeferredGradients, *, without_weights: bool) -> None:
    """Let layers put off the gradients of their weights.

    without_weights: W finds none, which only a Linear layer can do without.
    """
    for module in modules:
        deferred.defer(module)
        if without_weights:
            others = [each for each in module.modules() if type(each) is not nn.Linear]
            deferred.leave_to_i(others)


def _alike(layers: list[Layer], plan: TensorPlan) -> list[nn.Parameter]:
    """Parameters that all workers of a rank have alike."""
    found = []
    for _, layer, module in layers:
        for name, parameter in module.named_parameters(prefix=layer):
            if name not in plan.cuts:
                found.append(parameter)
    return found


def _with_copies(stages: dict) -> dict:
    """The stages of a second copy of the model with layers of their own.

    What the layers share among them stays shared.
    """
    result = {key: stage for key, stage in stages.items() if key[0] == 0}
    for replica in sorted({replica for replica, _ in stages} - {0}):
        layers = copied({key: part for key, (part, _) in stages.items() if key[0] == replica})
        result |= {key: (part, stages[key][1]) for key, part in layers.items()}
    return result
