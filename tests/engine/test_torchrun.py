"""A process per rank under torchrun: one host, or two agents that reach each other over
loopback. Most tests start the processes as torchrun does, but from one that has imported torch.
"""

import contextlib
import json
import os
import re
import select
import socket
import subprocess
import sys
import time

import psutil
import pytest
import torch
from torch.nn import functional

import pipelab
from pipelab import errors

PROGRAM = """
import json, os, sys, time
import torch
from torch import nn
import pipelab

every = json.loads(sys.argv[1])
rank = int(os.environ["RANK"])

class Odd(nn.Linear):
    calls = 0
    def forward(self, x):
        Odd.calls += 1
        if Odd.calls == 3:
            {act}
        return super().forward(x)

def causal(timeline):
    # Whether on the common clock every result was there before it was used.
    producer = timeline.schedule.producer
    used = producer >= 0
    return bool((timeline.started[used] > timeline.ended[producer[used]] - 5e-3).all())

torch.manual_seed(0)
model = [layer for _ in range(3) for layer in (nn.Linear(16, 16), nn.Tanh())] + [Odd(16, 16)]
generator = torch.Generator().manual_seed(1)
x, y = torch.randn(24, 16, generator=generator), torch.randint(16, (24,), generator=generator)
{before}
answers = []
for options in every:
    exec(options.pop("tamper", ""))
    try:
        sgd = lambda p: torch.optim.SGD(p, lr=0.1)
        run = pipelab.run(model, x, y, nn.functional.cross_entropy, optimizer=sgd, **options)
        answer = {{"losses": run.losses, "workers": run.workers, "transport": run.transport}}
        answer["makespan"] = run.timeline.makespan
        answer["causal"] = causal(run.timeline)
        answer["queued"] = 0 if run.timeline.queued is None else len(run.timeline.queued)
        try:
            answer["error"] = run.gradient_error
            answer["weights"] = {{name: value.tolist() for name, value in run.state_dict.items()}}
        except pipelab.PipelabError as error:
            answer["refused"] = str(error)
    except pipelab.PipelabError as error:
        answer = {{"failed": type(error).__name__, "text": str(error)}}
    answers.append(answer)
with open(os.path.join(os.environ["ANSWERS"], str(rank)), "w") as file:
    json.dump(answers, file)
"""


OTHER_CLOCKS = """
from pipelab.engine.hosts import group
true_clock = time.perf_counter
# As on another host, which started at another time:
time.perf_counter = lambda: true_clock() + 1000 * rank
group.host_identity = lambda: str(rank)
"""


TENSOR_PLAN = {"0": "column", "2": "row"}

STARTER = """
import json, os, runpy, sys
import torch, torch.distributed, torch._dynamo, torch.fx.experimental.symbolic_shapes
import pipelab, pipelab.engine

for line in sys.stdin:
    ranks, program, answers, environment, arguments = json.loads(line)
    children = []
    for rank in range(ranks):
        child = os.fork()
        if not child:
            said = os.open(os.path.join(answers, f"said-{rank}"), os.O_WRONLY | os.O_CREAT)
            os.dup2(said, 1), os.dup2(said, 2)
            os.environ |= environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            sys.argv = [program, *arguments]
            runpy.run_path(program, run_name="__main__")
            sys.exit()
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    print("over", flush=True)
"""
"""What torchrun does on one host, without its import of torch in every process."""

STAND_IN = """
from pipelab.engine.hosts import torchrun as distributed
from pipelab.engine.transport import gpu
distributed.way_of = lambda device: {way!r}
class Event:  # the processor has done what it was asked when it returns
    record = lambda self: None
    query = lambda self: True
torch.cuda.Event = Event
by_nccl = torch.distributed.new_group
torch.distributed.new_group = lambda *ranks, backend, **how: by_nccl(*ranks, backend="gloo", **how)
"""
"""The processor stands in for a GPU and gloo for NCCL: its ways are used, without tags, in the
order of the sends.
"""


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def end(agent):
    """End torchrun and its workers, which have sessions of their own: they would hold a GPU."""
    family = psutil.Process(agent.pid).children(recursive=True) if agent.poll() is None else []
    for each in (agent, *family):
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    agent.communicate()


def environment(**more):
    house = os.path.dirname(os.path.dirname(pipelab.__file__))
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": house} | more


@pytest.fixture(scope="module")
def starter():
    """Runs a program in processes for ranks, as often as one asks, and says what they printed."""
    process = None

    def start(tmp_path, program, ranks, arguments):
        nonlocal process
        if process is None or process.poll() is not None:
            process = subprocess.Popen(
                [sys.executable, "-c", STARTER],
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        given = {
            "WORLD_SIZE": str(ranks),
            "LOCAL_WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
            "ANSWERS": str(tmp_path),
        }
        process.stdin.write(json.dumps([ranks, str(program), str(tmp_path), given, arguments]))
        process.stdin.write("\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], 90)[0]:
            end(process)
        else:
            assert process.stdout.readline() == "over\n"
        return [(tmp_path / f"said-{rank}").read_text() for rank in range(ranks)]

    yield start
    if process is not None:
        end(process)


def by_torchrun(tmp_path, program, ranks, arguments, nodes=1):
    """The same by torchrun itself, one agent for each node."""
    port = free_port()
    agents = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "torch.distributed.run",
                "--nnodes",
                str(nodes),
                "--node-rank",
                str(node),
                "--nproc-per-node",
                str(ranks // nodes),
                "--master-addr",
                "127.0.0.1",
                "--master-port",
                str(port),
                str(program),
                *arguments,
            ],
            env=environment(ANSWERS=str(tmp_path)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for node in range(nodes)
    ]
    said = []
    for agent in agents:
        try:
            said.append(agent.communicate(timeout=90)[1])
        finally:
            end(agent)
    return said


@pytest.fixture
def torchrun(tmp_path, starter):
    """What each rank answered, by rank; a list of answers to several ``runs``, each a change of the
    options. nodes: by torchrun itself, as on so many hosts.
    """

    def run(ranks, *, nodes=0, act="pass", before="pass", runs=None, **options):
        program = tmp_path / "program.py"
        program.write_text(PROGRAM.format(act=act, before=before))
        options = {
            "schedule": "1f1b",
            "ranks": ranks,
            "microbatches": 6,
            "steps": 3,
            "timeout": 20,
        } | options
        arguments = [json.dumps([options | change for change in runs or [{}]])]
        answers = [tmp_path / str(rank) for rank in range(ranks)]
        for answer in answers:
            answer.unlink(missing_ok=True)
        if nodes:
            said = by_torchrun(tmp_path, program, ranks, arguments, nodes)
        else:
            said = starter(tmp_path, program, ranks, arguments)
        assert all(answer.exists() for answer in answers), "\n".join(said)
        answered = [json.loads(answer.read_text()) for answer in answers]
        return answered if runs else [answer for (answer,) in answered]

    return run


def expected(**options):
    torch.manual_seed(0)
    layers = [torch.nn.Tanh() if i % 2 else torch.nn.Linear(16, 16) for i in range(7)]
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(24, 16, generator=generator), torch.randint(16, (24,), generator=generator)
    return pipelab.run(
        layers,
        x,
        y,
        functional.cross_entropy,
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1),
        seed=0,
        **options,
    )


@pytest.mark.parametrize(
    ("schedule", "ranks", "nodes"),
    [("1f1b", 2, 1), ("interleaved-1f1b", 3, 0), ("hanayo", 2, 2), ("chimera", 2, 0)],
)
def test_the_same_numbers_as_on_this_machine(torchrun, schedule, ranks, nodes):
    """On a V (hanayo) messages overtake one another; two agents with clocks of their own are what
    two hosts would be; the copies of chimera sum their gradients."""
    sizes = {"schedule": schedule, "ranks": ranks, "microbatches": 6, "steps": 3}
    answers = torchrun(nodes=nodes, before=OTHER_CLOCKS if nodes > 1 else "pass", **sizes)
    here = expected(**sizes)
    for answer in answers:
        assert answer["losses"] == here.losses and answer["causal"]
        assert answer["queued"] == ranks  # who had no processor is known of all
        assert (answer["workers"], answer["transport"]) == ("torchrun", "torch.distributed, gloo")
        assert answer["makespan"] == answers[0]["makespan"] and 0 < answer["makespan"] < 60
    assert answers[0]["error"] <= 1e-5
    for name, value in here.state_dict.items():
        assert torch.equal(torch.tensor(answers[0]["weights"][name]), value), name
    assert (
        answers[1]["refused"]
        == "Gradients and weights are on rank 0: ask there (torch.distributed.get_rank() == 0)."
    )


def test_a_mesh_under_torchrun_trains_as_in_processes(torchrun):
    """Its groups are gloo's; sums are made in the same order, so the bits are the same."""
    meshes = [{"data": 2, "zero": 3}, {"tensor": 2, "tensor_plan": TENSOR_PLAN}]
    answers = torchrun(4, runs=[{"ranks": 2, **mesh} for mesh in meshes])
    for number, mesh in enumerate(meshes):
        here = expected(schedule="1f1b", ranks=2, microbatches=6, steps=3, **mesh)
        for answer in answers:
            assert answer[number]["losses"] == here.losses and answer[number]["causal"]
        assert answers[0][number]["error"] <= 1e-5
        for name, value in here.state_dict.items():
            assert torch.equal(torch.tensor(answers[0][number]["weights"][name]), value), name


def test_a_worker_that_hangs_while_others_wait_in_a_collective(torchrun):
    """They waited for torch's own limit, half an hour."""
    act = "time.sleep(8 if rank == 3 else 0)"
    answers = torchrun(4, act=act, timeout=2, runs=[{"ranks": 2, "data": 2}])
    ((first,), *_) = answers
    assert first["failed"] == "WorkerStalled", first


@pytest.mark.parametrize("way", ["nccl", "staged"])
def test_the_ways_between_gpus(torchrun, way):
    """On a V messages overtake one another; clipping needs links that the run before had not; the
    copies of chimera send in both directions at once, and sum their gradients."""
    two = {"ranks": 2, "steps": 2}
    for workers, runs in {
        3: [{"steps": 2}, {"steps": 2, "schedule": "hanayo", "clip": 0.5}],
        2: [{"steps": 2, "schedule": "chimera"}],
        4: [two | {"data": 2, "zero": 3}, two | {"tensor": 2, "tensor_plan": TENSOR_PLAN}],
    }.items():
        every = torchrun(workers, before=STAND_IN.format(way=way), runs=runs)
        for i, options in enumerate(runs):
            here = expected(**{"schedule": "1f1b", "ranks": workers, "microbatches": 6} | options)
            for answers in every:
                assert answers[i].get("losses") == here.losses and answers[i]["causal"], answers[i]
                assert ("host" if way == "staged" else "distributed, NCCL") in answers[i][
                    "transport"
                ]
            for name, value in here.state_dict.items():
                assert torch.equal(torch.tensor(every[0][i]["weights"][name]), value), name


NOTHING_BY_NCCL = """
from pipelab.engine.transport.network import Lanes
by_lane = Lanes.send
def refuse(self, data, to):
    if len(data) > 1:  # more than the greeting with which a link is set up
        raise ArithmeticError("by NCCL")
    return by_lane(self, data, to)
Lanes.send = refuse
"""


def test_the_first_step_does_not_go_by_nccl(torchrun):
    """A kernel that was loaded then waited for an idle GPU, which waited for a send: for ever."""
    before = STAND_IN.format(way="nccl") + NOTHING_BY_NCCL
    for first, second in torchrun(2, before=before, runs=[{"steps": 1}, {"steps": 2}]):
        assert first["transport"].endswith("NCCL") and len(first["losses"]) == 1
        assert second["failed"] == "WorkerError" and "by NCCL" in second["text"]


IN_CUDA = """
from pipelab.engine.transport.network import Lanes
abort = Lanes.abort
Lanes.abort = lambda self: (abort(self), os.environ.update(ABORTED="1"))
"""


@pytest.mark.timing
def test_a_host_that_is_stuck_in_cuda_comes_back_and_says_where(torchrun):
    """It waited for NCCL's own watchdog, half an hour; when one rank gave up, others stayed."""
    before, begin = STAND_IN.format(way="nccl") + IN_CUDA, time.monotonic()
    # As a wait for the GPU, which only the end of NCCL ends.
    stuck = "[time.sleep(0.05) for _ in range(1200) if 'ABORTED' not in os.environ]"
    answers = torchrun(2, act=stuck, before=before, timeout=2)
    assert time.monotonic() - begin < 40
    assert {answer["failed"] for answer in answers} <= {"WorkerStalled", "WorkerError"}
    assert re.match(r"The run stalled. Rank 1 has computed 1F2 .* for 2\.\d s", answers[1]["text"])
    assert "waited for a rank that is gone" in answers[1]["text"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU on this machine")
@pytest.mark.parametrize("schedule", ["1f1b", "hanayo", "chimera"])
def test_processes_of_torchrun_on_gpus(torchrun, schedule):
    """By NCCL where there are two GPUs, else through the host's memory."""
    answers = torchrun(2, nodes=1, schedule=schedule, device="cuda")  # the starter sees none
    way = "NCCL" if torch.cuda.device_count() > 1 else "gloo through the host's memory"
    for answer in answers:
        assert answer["transport"].startswith(f"torch.distributed, {way}") and answer["causal"]
    assert answers[0]["error"] <= 1e-4


@pytest.mark.parametrize(
    "before", ["pass", STAND_IN.format(way="nccl")], ids=["gloo", "ways between GPUs"]
)
def test_a_rank_that_raises_is_named_everywhere(torchrun, before):
    answers = torchrun(3, act="raise ArithmeticError('planted')", before=before)
    assert {answer["failed"] for answer in answers} == {"WorkerError"}
    assert answers[2]["text"].startswith(
        "Rank 2 raised ArithmeticError: planted\nRank 2 has computed 2F2"
    )
    for rank in (0, 1):
        assert answers[rank]["text"].startswith(f"Rank {rank} lost another rank. Rank {rank} has ")
        assert answers[rank]["text"].endswith("Rank 2 raised ArithmeticError: planted")


def test_a_rank_that_stalls(torchrun):
    answers = torchrun(2, act="time.sleep(8)", timeout=2)
    assert answers[0]["failed"] == "WorkerStalled"
    assert re.search(
        r"Rank 0 has waited 2\.\d s, in step 0, before 0B\d, for the result of 1B\d from rank 1",
        answers[0]["text"],
    )


def test_processes_that_do_not_agree(torchrun):
    cases = {
        "torchrun started 3 processes, but the schedule has 2 ranks": {"ranks": 2},
        "was started with another model than rank": {"tamper": "model[0].weight.data += rank"},
        "was started with another schedule than rank": {
            "tamper": "options['microbatches'] += rank"
        },
        "was started with another value of steps than rank": {"tamper": "options['steps'] += rank"},
    }
    for answers in torchrun(3, runs=list(cases.values())):
        for answer, text in zip(answers, cases, strict=True):
            assert answer["failed"] == "UsageError" and text in answer["text"]


EACH_ITS_OWN = """
def shuffled(seed):
    torch.manual_seed(seed)
    data = torch.utils.data.TensorDataset(x, y)
    batches = iter(torch.utils.data.DataLoader(data, batch_size=12, shuffle=True))
    return lambda step: next(batches)
"""


def test_every_process_must_bring_the_same_batch(torchrun):
    """Inputs of one process met targets of another; the badge said 1 and the run went on."""
    flipped = "x, y = (lambda step, x=x, y=y: (x, y.flip(0) if rank * step == 2 else y)), None"
    cases = {
        "Rank 1 brought other inputs and targets than rank 0 to step 0: rank 0 uses its inputs": {
            "tamper": "old, x, y = (x, y), shuffled(rank), None"
        },
        "The data ended: inputs(2) raised StopIteration": {
            "tamper": "x, y = old; x, y = shuffled(0), None"
        },
        "Rank 2 brought other targets than rank 0 to step 1:": {"tamper": "x, y = old; " + flipped},
        # The same sums:
        "was started with other inputs than rank": {
            "tamper": "x, y = old; x = x.flip(0) if rank else x"
        },
        "was started with another kind of data than rank": {
            "tamper": "x, y = old if rank else (lambda step: old, None)"
        },
    }
    for answers in torchrun(3, before=EACH_ITS_OWN, runs=list(cases.values())):
        for answer, text in zip(answers, cases, strict=True):
            assert text in answer["text"], answer


def test_a_microbatch_of_weight_0_beside_batchnorm(torchrun):
    """Nobody had tried it: inputs that are nan, and count for nothing, in processes of torchrun."""
    before = "model = nn.Sequential(*model, nn.BatchNorm1d(16, affine=False)); y[4:8] = -100"
    weighed = "; options['weight'] = lambda t: (t != -100).sum()"
    runs = [{"tamper": "x[4:8] = 0" + weighed}, {"tamper": "x[4:8] = float('nan')" + weighed}]
    answers = torchrun(2, before=before, runs=runs)
    healthy, odd = answers[0]
    assert healthy["losses"] == odd["losses"] and max(healthy["error"], odd["error"]) <= 1e-5
    for name, value in healthy["weights"].items():
        assert "running" in name or value == odd["weights"][name], name


def test_data_that_end_in_one_process_end_the_run_in_all(torchrun):
    before = "x, y = (lambda step, b=iter([(x, y)] * (3 - rank)): next(b)), None"
    answers = torchrun(2, before=before)
    assert "The data ended: inputs(2) raised StopIteration" in answers[1]["text"]
    assert answers[0]["text"].startswith("Rank 1 had no data for step 2: rank 0 uses its inputs")
    assert {answer["failed"] for answer in answers} == {"DataEnded"}


def test_a_group_without_gloo(torchrun):
    joined = "torch.distributed.init_process_group('cuda:gloo')"
    (answer,) = torchrun(1, before=joined)
    assert answer["failed"] == "UsageError" and "backend='cpu:gloo,cuda:nccl'" in answer["text"]


def test_a_group_that_is_bound_to_a_gpu(torchrun):
    """NCCL puts what such a group sends in one line: ranks could wait for each other for ever."""
    bound = (
        "torch.distributed.init_process_group('gloo'); "
        "torch.distributed.group.WORLD.bound_device_id = torch.device('cuda:0')"
    )
    for answer in torchrun(2, before=STAND_IN.format(way="nccl") + bound):
        assert answer["failed"] == "UsageError" and "leave device_id out" in answer["text"]


def test_torchrun_is_asked_for_where_there_is_none():
    with pytest.raises(
        errors.UsageError, match="needs a process per rank that torchrun has started"
    ):
        expected(schedule="1f1b", ranks=2, microbatches=2, workers="torchrun")
