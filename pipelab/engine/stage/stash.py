"""Weights of several versions on one stage, for pipelines without a flush.

    optimizer ─steps▶ live weights ─copied at every STEP▶ version 0, 1, 2, …
                          ▲                        │ one for F and backward of a micro-batch
                          └─ gradients, in order ──┘

PipeDream (arXiv 1806.03377 §3.3) stashes the version that each micro-batch has seen; 2BW (arXiv
2006.09503 §2.1) keeps two. Which one a micro-batch uses is in the schedule (``schedule.versions``);
a version goes when nobody can need it any more.
"""

import torch
from torch import nn

from .gradients import add_gradient
from .saved_bytes import storages


class Stash:
    """The versions of one stage's weights.

    keep: how many of the newest a new micro-batch may still ask for. most_bytes: that the versions
    have taken, the newest included.
    """

    def __init__(self, layers: list[nn.Module], keep: int):
        owners = dict.fromkeys(module for layer in layers for module in layer.modules())
        self._places = [
            (m, name, p) for m in owners for name, p in m._parameters.items() if p is not None
        ]
        self._live = list(dict.fromkeys(p for _, _, p in self._places))
        self._keep, self.most_bytes = keep, 0
        self.begin()

    def begin(self) -> None:
        """A training step begins, and nothing is in flight: the live weights are version 0."""
        self._versions: dict[int, dict[torch.Tensor, torch.Tensor]] = {}
        self._users: dict[int, int] = {}
        self._newest = -1
        self.stepped()

    def stepped(self) -> int:
        """The optimizer has stepped the live weights. Returns the number of the new version."""
        self._newest += 1
        self._users[self._newest] = 0
        self._versions[self._newest] = {
            p: p.detach().clone().requires_grad_() if p.requires_grad else p for p in self._live
        }
        kept = [t for copies in self._versions.values() for p, t in copies.items() if t is not p]
        self.most_bytes = max(self.most_bytes, sum(t.nbytes for t in kept))
        self._drop()
        return self._newest

    def hold(self, version: int) -> None:
        """A micro-batch begins on this version, which stays until ``collect``."""
        self._users[version] += 1

    def use(self, version: int) -> None:
        """The layers compute with this version now."""
        for module, name, live in self._places:
            # A version is a plain tensor, which autograd takes as it takes a parameter.
            module._parameters[name] = self._versions[version][live]  # type: ignore[assignment]

    def use_live(self) -> None:
        """The layers hold the live weights, as they do outside of a run."""
        for module, name, live in self._places:
            module._parameters[name] = live

    def collect(self, version: int) -> None:
        """A micro-batch has its gradients: they are added to those of the live weights."""
        for live, copy in self._versions[version].items():
            if copy is not live and copy.grad is not None:
                add_gradient(live, copy.grad)
                copy.grad = None
        self._users[version] -= 1
        self._drop()

    def memory(self) -> set[int]:
        """Where the versions lie: weights are no activations."""
        return set(storages(t for copies in self._versions.values() for t in copies.values()))

    def _drop(self) -> None:
        for version in [
            v for v, users in self._users.items() if not users and v <= self._newest - self._keep
        ]:
            del self._versions[version], self._users[version]
