"""Data and tensor parallelism against torch's own: DDP, FSDP2, and column and row parallel."""

import json
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

import pipelab

PROGRAM = """
import json, os, sys
import torch, torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel, RowwiseParallel, parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
rank = dist.get_rank()
mesh = init_device_mesh("cpu", (2,))

def model():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 6), nn.Linear(6, 4))

torch.manual_seed(0)
x, y = torch.randn(16, 6), torch.randn(16, 4)
own = x.tensor_split(2)[rank], y.tensor_split(2)[rank]

def gradients(made, data):
    nn.functional.mse_loss(made(data[0]), data[1]).backward()
    found = {}
    for name, parameter in made.named_parameters():
        gradient = parameter.grad
        whole = gradient.full_tensor() if isinstance(gradient, DTensor) else gradient
        found[name.removeprefix("module.")] = whole.tolist()
    return found

divided = model()
for layer in (divided[0], divided[2], divided[3]):
    fully_shard(layer, mesh=mesh)
fully_shard(divided, mesh=mesh)
shared = parallelize_module(model(), mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
answers = {
    "DDP": gradients(DistributedDataParallel(model()), own),
    "FSDP2": gradients(divided, own),
    "tensor": gradients(shared, (x, y)),
}
if rank == 0:
    with open(sys.argv[1], "w") as file:
        json.dump(answers, file)
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.timeout(120)
def test_gradients_are_those_of_torchs_own_parallelisms(tmp_path):
    program, answers = tmp_path / "program.py", tmp_path / "answers"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(program), str(answers)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = json.loads(answers.read_text())
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 6), nn.Linear(6, 4))
    torch.manual_seed(0)
    x, y = torch.randn(16, 6), torch.randn(16, 4)
    plan = {"0": "column", "2": "row"}
    for theirs_name, options in (
        ("DDP", {"data": 2}),
        ("FSDP2", {"data": 2, "zero": 3}),
        ("tensor", {"tensor": 2, "tensor_plan": plan}),
    ):
        run = pipelab.run(
            model, x, y, nn.functional.mse_loss, schedule="1f1b", ranks=2, microbatches=4, **options
        )
        for name, gradient in run.gradients.items():
            expected = torch.tensor(theirs[theirs_name][name])
            torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)
