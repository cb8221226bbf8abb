"""What would cost time or memory on a GPU alone, seen with the stand-in for torch.cuda."""

import gc
import weakref

import torch

from pipelab.engine.job.batches import Batch
from pipelab.engine.rank import shared_gradients

from .conftest import batch
from .fake_cuda import Cuda
from .stand_in import run_on_stand_in


def moved(monkeypatch):
    """The tensors of the batches that are moved to the GPU from now on: copies, as there."""
    seen = []

    def copied(values):
        copies = values and tuple(value.each(torch.clone) for value in values)
        seen[-1].extend(weakref.ref(tensor) for value in copies or () for tensor in value)
        return copies

    def to(self, device):
        seen.append([])
        return Batch(copied(self.inputs), copied(self.targets), self.shares)

    monkeypatch.setattr(Batch, "to", to)
    return seen


def test_a_batch_that_every_step_uses_is_moved_once(model, data, monkeypatch):
    """It was copied again for each step, and each copy waited for the GPU."""
    Cuda.install(monkeypatch)
    seen = moved(monkeypatch)
    _, _, board = run_on_stand_in(model, data, "1f1b", 3)
    board.close()
    assert len(seen) == 2, "once for each rank"


def test_a_batch_is_gone_before_the_next_one_comes(model, monkeypatch):
    """There were two of them on the GPU."""
    Cuda.install(monkeypatch)
    seen = moved(monkeypatch)
    alive = []
    original = Batch.to

    def to(self, device):
        gc.collect()
        alive.append(sum(t() is not None for tensors in seen for t in tensors))
        return original(self, device)

    monkeypatch.setattr(Batch, "to", to)
    _, _, board = run_on_stand_in(model, (lambda step: batch(seed=step), None), "gpipe", 3)
    board.close()
    one_step = max(len(tensors) for tensors in seen)
    assert len(seen) == 6 and max(alive) <= one_step, "only the other rank's"


def test_which_gradients_there_are_is_not_asked_one_by_one(monkeypatch):
    """Each question to a GPU waits for all that is queued there."""
    some = [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]
    some[0].grad, some[2].grad = torch.ones(2), torch.full((2,), 2.0)
    flat = [shared_gradients.flatten(some) for _ in range(2)]

    def ask(self):
        raise AssertionError("the host waits for the GPU")

    monkeypatch.setattr(torch.Tensor, "__bool__", ask)
    first, second, third = shared_gradients.summed(flat, some)
    assert second is None
    assert (first.tolist(), third.tolist()) == ([2, 2], [4, 4])
