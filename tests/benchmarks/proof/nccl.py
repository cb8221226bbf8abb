"""NCCL's lanes: one process, and several processes that it takes for hosts of their own."""

import json
import os
import sys
import tempfile

from .common import DRY, ms, row
from .processes import run_limited

PROGRAM = """
import json, os, sys, time
rank = int(os.environ["RANK"])
if sys.argv[1] == "shared":
    # NCCL takes each process for another host, and lets them have the same GPU.
    os.environ |= {"NCCL_HOSTID": f"host{rank}", "NCCL_SOCKET_IFNAME": "lo", "NCCL_NET": "Socket"}
    os.environ |= {"NCCL_IB_DISABLE": "1", "NCCL_MNNVL_ENABLE": "0", "NCCL_CUMEM_ENABLE": "0"}
    os.environ.setdefault("NCCL_MAX_CTAS", "4")
import torch, pipelab
from torch import nn
from pipelab.engine.hosts import torchrun
if sys.argv[1] == "shared":
    torchrun.way_of = lambda device: "nccl" if device == "cuda" else "gloo"
torch.manual_seed(0)
p, width, rows = int(sys.argv[6]), int(sys.argv[3]), int(sys.argv[4])
model = [nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(4 * p)]
x, y = torch.randn(rows, width), torch.randn(rows, width)
for name in sys.argv[2].split(","):
    for extra in ({}, {"clip": 1.0}):
        start = time.time()
        try:
            run = pipelab.run(
                model, x, y, nn.functional.mse_loss, schedule=name, ranks=p, microbatches=8,
                steps=3, device=sys.argv[5], optimizer=lambda q: torch.optim.SGD(q, lr=1e-3),
                timeout=25, **extra, **json.loads(os.environ.get("PROOF_MESH", "{}")),
            )
            said = [run.timeline.makespan, run.gradient_error if rank == 0 else 0, run.transport]
        except BaseException as error:
            said = [-1, None, f"rank {rank}: {type(error).__name__}: {str(error)[:150]}"]
        if rank == 0 or said[1] is None:
            print("SAID", json.dumps([name, bool(extra), time.time() - start, *said]), flush=True)
"""
TIGHT = {"NCCL_BUFFSIZE": "262144", "NCCL_P2P_NET_CHUNKSIZE": "32768", "NCCL_MAX_CTAS": "1"}
"""So that a send waits for its receive."""


def go(what, processes, way, schedules, *, width=64, rows=64, limit=40, mesh=None, **environment):
    """One torchrun, a row for each of its runs. environment: what is set beside."""
    mesh = mesh or {}
    ranks = processes // (mesh.get("data", 1) * mesh.get("tensor", 1))
    environment["PROOF_MESH"] = json.dumps(mesh)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "program.py")
        with open(path, "w") as file:
            file.write(PROGRAM)
        port = str(29500 + os.getpid() % 400 + processes)
        command = [sys.executable, "-m", "torch.distributed.run", "--master-port", port]
        command += ["--nproc-per-node", str(processes), path, way, schedules]
        command += [str(width), str(rows), "cpu" if DRY else "cuda", str(ranks)]
        said, out = run_limited(command, limit, os.environ | environment)
    for line in out.splitlines():
        if "SAID" not in line:
            continue
        name, clip, took, makespan, error, transport = json.loads(line[line.index("[") :])
        value = "FAILED" if error is None else f"error {error:.1e}"
        note = f"{took:.1f} s, step {ms(makespan)}; {transport}"
        good = error is not None and error <= 1e-4
        row(f"{what} {name}{' clip' if clip else ''}", value, note, good=good)
    if said:
        row(what, said, out[-200:], good=False)


def nccl():
    go("1 process", 1, "own", "1f1b")
    if DRY:
        go("2 processes", 2, "own", "1f1b,chimera", limit=60)
        return
    go("2 on one GPU", 2, "shared", "1f1b,chimera")
    go("4 on one GPU", 4, "shared", "hanayo")
    # Sends that wait for their receives, and kernels that are loaded when they are first used.
    long = {"width": 1024, "rows": 2048} | TIGHT
    go("long messages", 4, "shared", "zb-h2,dualpipe", **long)
