"""A worker of a mesh that dies, raises, stalls or is slow: the others wait in collectives."""

import os
import signal
import time

import pytest
import torch
from torch import nn

import pipelab
from pipelab import errors
from pipelab.schedule import Kind

MESHES = {
    "copies": {"data": 2},
    "divided weights": {"data": 2, "zero": 3},
    "shared layers": {"data": 2, "tensor": 2, "tensor_plan": {"1": "column", "2": "row"}},
}


class Odd(nn.Module):
    """Does something else for one sample, which copy 1 has."""

    def __init__(self, act):
        super().__init__()
        self.act, self.linear = act, nn.Linear(6, 6)

    def forward(self, x):
        if float(x[0, 0].detach()) > 50:
            self.act()
        return self.linear(x)


def train(act, mesh, **options):
    torch.manual_seed(0)
    x, y = torch.randn(16, 6).clamp(-3, 3), torch.randn(16, 6)
    x[12, 0] = 100
    model = [Odd(act), *(nn.Linear(6, 6) for _ in range(3))]
    options = {"schedule": "1f1b", "ranks": 2, "microbatches": 4} | MESHES[mesh] | options
    return pipelab.run(model, x, y, nn.functional.mse_loss, **options)


def fail():
    raise ArithmeticError("planted fault")


@pytest.mark.parametrize("mesh", MESHES)
def test_one_that_dies_is_named_and_the_next_run_works(mesh):
    began = time.perf_counter()
    with pytest.raises(errors.WorkerDied, match=r"SIGKILL(?s:.*)\(data 1, rank 0, tensor \d"):
        train(lambda: os.kill(os.getpid(), signal.SIGKILL), mesh)
    assert time.perf_counter() - began < 30
    assert train(lambda: None, mesh).gradient_error < 1e-5


@pytest.mark.parametrize("mesh", MESHES)
def test_one_that_raises_is_named(mesh):
    with pytest.raises(errors.WorkerError, match=r"data 1, rank 0, tensor \d\) raised Arithmetic"):
        train(fail, mesh)


@pytest.mark.parametrize(
    ("mesh", "words"),
    [
        ("copies", "in 0REDUCE_GRAD, for the gradients of other copies"),
        ("divided weights", "in 0UNSHARD, for the weights of other copies"),
    ],
)
def test_one_that_stalls_ends_the_run_and_every_worker_says_where_it_is(mesh, words):
    with pytest.raises(errors.WorkerStalled) as caught:
        train(lambda: time.sleep(60), mesh, timeout=1.5)
    said = str(caught.value)
    assert words in said
    assert "Worker 2 (data 1, rank 0, tensor 0) has computed 0F2" in said
    assert "for the result of 0F2 from worker 2" in said
    assert said.count("Worker ") >= 4


def test_who_shares_a_layer_with_one_that_stalls_says_so(tmp_path):
    file = str(tmp_path / "first")

    def sleep_in_one():
        try:
            os.close(os.open(file, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        time.sleep(60)

    with pytest.raises(errors.WorkerStalled, match=r"in 0B1, for those who compute it together"):
        train(sleep_in_one, "shared layers", timeout=1.5)


def test_waiting_for_the_slowest_copy_is_not_moving_bytes():
    run = train(lambda: time.sleep(0.5), "copies")
    timeline = run.timeline
    reduces = timeline.kind == Kind.REDUCE_GRAD
    of_copy = timeline.data[reduces]
    waited = timeline.waiting[reduces]
    assert waited[of_copy == 0].min() > 0.4  # they came first
    assert waited[of_copy == 1].min() < 0.1
    assert timeline.compute[reduces].max() < 0.1
