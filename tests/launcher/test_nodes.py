"""`pipelab train --nnodes`: one command per host."""

import json
import os
import socket
import subprocess
import sys

import pytest

import pipelab
from pipelab.cli import main

SMALL = ["--model", "mlp", "--layers", "4", "--width", "8", "--steps", "2", "--json"]


def test_two_hosts_train_what_one_trains(capsys):
    """Two agents on this machine, over loopback: rank 0's prints, and its losses are those of
    processes of one host.
    """
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        master = f"127.0.0.1:{server.getsockname()[1]}"
    house = os.path.dirname(os.path.dirname(pipelab.__file__))
    hosts = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "pipelab",
                "train",
                *SMALL,
                "--nnodes",
                "2",
                f"--node-rank={node}",
                "--master",
                master,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": house},
        )
        for node in (0, 1)
    ]
    printed = []
    for host in hosts:
        try:
            printed.append(host.communicate(timeout=90))
        finally:
            host.kill()
    assert [host.returncode for host in hosts] == [0, 0], printed
    assert printed[1][0] == ""
    data = json.loads(printed[0][0])
    assert (data["workers"], data["transport"]) == ("torchrun", "torch.distributed, gloo")
    assert data["gradient_error"] <= 1e-5
    assert main(["train", *SMALL]) == 0
    assert data["losses"] == json.loads(capsys.readouterr().out)["losses"]


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (
            "--nnodes 3 --ranks 4",
            "4 ranks cannot be shared out evenly over 3 hosts: --ranks is a multiple of --nnodes",
        ),
        ("--nnodes 0", "2 ranks cannot be shared out evenly over 0 hosts"),
        (
            "--nnodes 2",
            "every host is told its own number and where the first one is: --node-rank 0 "
            "--master HOST:PORT there",
        ),
        (
            "--nnodes 2 --node-rank 0 --master here",
            "--master is HOST:PORT, such as 10.0.0.1:29400, not 'here'",
        ),
    ],
)
def test_hosts_that_cannot_work(capsys, flags, text):
    assert main(["train", *flags.split()]) == 2
    assert text in capsys.readouterr().err
