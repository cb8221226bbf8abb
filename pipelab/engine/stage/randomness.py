"""Random numbers by (run, step, layer, micro-batch), wherever a layer runs.

torch's generators are seeded before every layer. numpy's, Python's, and generators that a layer
holds itself are too, where a layer is seen to draw from them: that costs more than most layers do.
"""

import contextlib
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True)
class Seeds:
    """The seed of every layer's random numbers: from run, step, layer and micro-batch.

    generator: of the rank's GPU, which is seeded too. first: number of the first micro-batch of
    this copy of the pipeline in the whole batch.
    """

    seed: int
    step: int
    generator: torch.Generator | None = None
    first: int = 0

    def set(self, layer: int, microbatch: int) -> int:
        """Seed torch's generators for one layer and micro-batch. Returns the seed."""
        # Python's hash of integers is the same in every process. The generator is seeded directly:
        # torch.manual_seed would also queue a seed for every GPU, with a stack trace, each time.
        seed = hash((self.seed, self.step, layer, self.first + microbatch)) & 0x7FFF_FFFF_FFFF_FFFF
        torch.default_generator.manual_seed(seed)
        if self.generator is not None:
            self.generator.manual_seed(seed)
        return seed

    def states(self) -> list[torch.Tensor]:
        """Where torch's generators stand."""
        states = [torch.default_generator.get_state()]
        if self.generator is not None:
            states.append(self.generator.get_state())
        return states


def generator_of(device: torch.device) -> torch.Generator | None:
    """The generator of a GPU; None for the processor, whose own is always seeded."""
    return torch.cuda.default_generators[device.index] if device.type == "cuda" else None


class Sources:
    """What a layer draws random numbers from, beside torch's own generators.

    generators: those that it holds itself, of torch, numpy and Python. draws: whether it draws from
    anything at all; shared: whether from numpy's or Python's common ones. None: not yet known.
    """

    def __init__(self, layer: nn.Module):
        self.generators: list[Any] = []
        for module in layer.modules():
            for value in vars(module).values():
                if isinstance(value, (torch.Generator, np.random.Generator, random.Random)):
                    self.generators.append(value)
                elif isinstance(value, np.random.RandomState):
                    self.generators.append(value)
        self.draws: bool | None = None
        self.shared: bool | None = None

    def seed(self, seed: int) -> None:
        """Seed all but torch's own generators."""
        if self.shared is not False:
            random.seed(seed)
            np.random.seed(seed & 0xFFFF_FFFF)
        for generator in self.generators:
            _seed(generator, seed)

    def look(self, torchs: bool, before: tuple) -> None:  # noqa: FBT001 - a fact, not an option
        """Note what the layer has drawn from.

        torchs: whether from torch's generators. before: ``shared_states`` before it ran.
        """
        self.shared = not same_states(before, shared_states())
        self.draws = torchs or self.shared or bool(self.generators)


def generator_states(generators: list[Any]) -> list[Any]:
    """Where generators that layers hold themselves stand."""
    return [_state(generator) for generator in generators]


def put_generators_back(generators: list[Any], states: list[Any]) -> None:
    """The inverse of ``generator_states``."""
    for generator, state in zip(generators, states, strict=True):
        if isinstance(generator, torch.Generator):
            generator.set_state(state)
        elif isinstance(generator, np.random.Generator):
            generator.bit_generator.state = state
        elif isinstance(generator, np.random.RandomState):
            generator.set_state(state)
        else:
            generator.setstate(state)


def _state(generator: Any) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=True)
    return generator.getstate()


def shared_states() -> tuple:
    """Where numpy's and Python's common generators stand."""
    return random.getstate(), np.random.get_state(legacy=True)


def put_back(states: tuple) -> None:
    """The inverse of ``shared_states``."""
    random.setstate(states[0])
    np.random.set_state(states[1])


def same_states(one: tuple, other: tuple) -> bool:
    """Whether nothing was drawn between two ``shared_states``."""
    (python, (name, keys, *rest)), (python2, (name2, keys2, *rest2)) = one, other
    return python == python2 and (name, rest) == (name2, rest2) and bool((keys == keys2).all())


def _seed(generator: Any, seed: int) -> None:
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    elif isinstance(generator, np.random.Generator):
        bits = generator.bit_generator
        bits.state = type(bits)(seed).state
    elif isinstance(generator, np.random.RandomState):
        generator.seed(seed & 0xFFFF_FFFF)
    else:
        generator.seed(seed)


class Turns:
    """Turns that layers take where several ranks share the generators of a process.

    lock: None while a process has one rank. A layer that never draws does not wait.
    """

    def __init__(self) -> None:
        self.lock: threading.Lock | None = None
        self._sources: dict[nn.Module, Sources] = {}
        self.simple: set[nn.Module] = set()
        """Layers for which seeding torch's generators is all there is to do: without a price."""

    def forget(self) -> None:
        """Let go of all layers."""
        self._sources.clear()
        self.simple.clear()

    @contextlib.contextmanager
    def take(self, module: nn.Module, layer: int, seeds: Seeds, microbatch: int) -> Iterator[None]:
        """While it lasts, the generators are the layer's, seeded for it."""
        sources = self._sources.get(module)
        if sources is None:
            sources = self._sources[module] = Sources(module)
        if sources.draws is False and self.lock is not None:
            yield
            return
        with self.lock or contextlib.nullcontext():
            seed = seeds.set(layer, microbatch)
            if sources.draws is not None:
                if sources.shared or sources.generators:
                    sources.seed(seed)
                yield
                return
            sources.seed(seed)
            before, torchs = shared_states(), seeds.states()
            yield
            sources.look(not all(map(torch.equal, torchs, seeds.states())), before)
            if self.lock is None and not sources.shared and not sources.generators:
                self.simple.add(module)


TURNS = Turns()
