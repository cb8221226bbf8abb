"""`pipelab train --nnodes`: the same command on several hosts, through torchrun.

In: the command and the hosts. Out: a process per rank, and the exit code of this host's.
"""

import subprocess
import sys
from collections.abc import Sequence

from ..errors import UsageError

FLAGS = ("--nnodes", "--node-rank", "--master")


def train_on_nodes(
    argv: Sequence[str], *, nodes: int, node_rank: int | None, master: str | None, ranks: int
) -> int:
    """Run ``pipelab`` once for each rank of this host.

    Args:
        argv: the arguments of `pipelab`; the flags that led here are taken out.
        nodes: how many hosts there are.
        node_rank: which of them this is, from 0.
        master: HOST:PORT of the first host, which all of them reach.
        ranks: of the schedule, over all hosts.

    Returns:
        The exit code of torchrun on this host.

    Raises:
        UsageError: the ranks cannot be shared out evenly, or a flag is missing or malformed.
    """
    if nodes < 1 or ranks % nodes:
        raise UsageError(
            f"{ranks} ranks cannot be shared out evenly over {nodes} hosts: --ranks is a multiple "
            "of --nnodes"
        )
    if nodes > 1 and (node_rank is None or master is None):
        raise UsageError(
            "with --nnodes, every host is told its own number and where the first one is: "
            "--node-rank 0 --master HOST:PORT there, --node-rank 1 --master HOST:PORT on the next"
        )
    host, _, port = (master or "127.0.0.1:29400").rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"--master is HOST:PORT, such as 10.0.0.1:29400, not {master!r}")
    command = [sys.executable, "-m", "torch.distributed.run"]
    command += [f"--nnodes={nodes}", f"--node-rank={node_rank or 0}"]
    command += [f"--nproc-per-node={ranks // nodes}"]
    command += [f"--master-addr={host}", f"--master-port={port}", "-m", "pipelab"]
    return subprocess.run([*command, *without(argv, FLAGS)], check=False).returncode


def without(argv: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Take out flags and their values, given as ``--flag value`` or ``--flag=value``.

    >>> without(["train", "--nnodes", "2", "--steps", "3", "--master=a:1"], FLAGS)
    ['train', '--steps', '3']
    """
    kept, skip = [], False
    for argument in argv:
        if skip:
            skip = False
        elif argument in flags:
            skip = True
        elif argument.partition("=")[0] not in flags:
            kept.append(argument)
    return kept
