"""What goes wrong, and what the user sees: one clear error, soon, and a pool that works again."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import psutil
import pytest
import torch
from torch import nn
from torch.nn import functional

import pipelab
from pipelab import engine, errors
from pipelab.engine.workers.pool import worker_source

from .conftest import batch, mlp


class Failing(nn.Module):
    """Does something else on its n-th forward or backward."""

    def __init__(self, act, where="forward"):
        super().__init__()
        self.act, self.where, self.linear = act, where, nn.Linear(16, 16)

    def forward(self, x):
        if self.where == "forward":
            self.act()
        x = self.linear(x)
        if self.where == "backward":
            x.register_hook(lambda gradient: self.act())
        return x


def fail():
    raise ArithmeticError("planted fault")


def train(act, where="forward", **options):
    model = mlp(4)
    model[2] = Failing(act, where)
    options = {"schedule": "1f1b", "ranks": 4, "microbatches": 4} | options
    return pipelab.run(model, *batch(), functional.cross_entropy, **options)


class AcceleratorError(RuntimeError):
    """As torch's own, which needs a GPU."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            AcceleratorError("CUDA error: device-side assert triggered"),
            "on another rank of the same",
        ),
        (RuntimeError("CUDA error: an illegal memory access"), "device='cpu' shows where"),
        (
            RuntimeError("Expected all tensors to be on the same device, cuda:0 and cpu"),
            "self.register_buffer",
        ),
    ],
)
def test_errors_that_would_mislead_say_more(error, said):
    """CUDA reports an index out of range later, by whichever rank asks it for something next."""

    def act():
        raise error

    with pytest.raises(errors.WorkerError) as caught:
        train(act)
    where, more = str(caught.value).splitlines()[1:3]
    assert where.startswith("Rank 2 has computed 2F0") and said in more


def works_again():
    run = pipelab.run(
        mlp(4), *batch(), functional.cross_entropy, schedule="1f1b", ranks=4, microbatches=4
    )
    assert run.gradient_error <= 1e-5
    assert_nothing_left()


def assert_nothing_left():
    """The server has no workers left."""
    pid = worker_source().pid
    deadline = time.monotonic() + 5
    while psutil.Process(pid).children() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert psutil.Process(pid).children() == []


@pytest.mark.timing
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_worker_that_raises_is_named_with_its_traceback(where):
    begin = time.monotonic()
    with pytest.raises(errors.WorkerError) as caught:
        train(fail, where)
    assert time.monotonic() - begin < 30
    text = str(caught.value)
    kind = "2F0 (forward" if where == "forward" else "2B0 (backward"
    assert "Rank 2 raised ArithmeticError: planted fault\n" in text
    assert f"Rank 2 has computed {kind} of micro-batch 0 on stage 2, layer 2)" in text
    assert "The worker's own traceback:" in text and "in fail" in text
    works_again()


def end_of_file():
    raise EOFError("nothing more to read")


def test_an_end_of_file_in_the_model_is_an_error_like_any_other():
    """It was taken for the driver's end: the user read of a dead worker, without its traceback."""
    with pytest.raises(errors.WorkerError, match="Rank 2 raised EOFError: nothing more to read"):
        train(end_of_file)
    works_again()


@pytest.mark.timing
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_killed_worker_is_noticed_at_once(where):
    begin = time.monotonic()
    with pytest.raises(
        errors.WorkerDied,
        match=r"The worker of rank 2 is gone: its process was killed by SIGKILL.*2[FB]0",
    ):
        train(lambda: os.kill(os.getpid(), signal.SIGKILL), where)
    assert time.monotonic() - begin < 30
    works_again()


def test_a_worker_that_exits_is_noticed():
    with pytest.raises(
        errors.WorkerDied, match="rank 2 is gone: its process ended with exit code 3"
    ):
        train(lambda: os._exit(3))
    works_again()


@pytest.mark.timing
def test_a_stalled_worker_is_named_after_its_deadline():
    begin = time.monotonic()
    with pytest.raises(errors.WorkerStalled) as caught:
        train(lambda: time.sleep(3600), timeout=1)
    assert 1 <= time.monotonic() - begin < 30
    text = str(caught.value)
    assert "nothing came for 1 s" in text
    assert "Rank 2 has computed 2F0" in text
    assert "Rank 3 has waited" in text and "for the result of 2F0 from rank 2" in text
    works_again()


def test_a_rank_that_waits_for_the_gradients_of_a_copy_says_so():
    class Stuck(nn.Linear):
        def forward(self, x):
            if x[0, 0] == 7:  # only in the copy on rank 0
                time.sleep(3600)
            return super().forward(x)

    x, y = batch()
    x[0, 0] = 7
    copies = pipelab.Schedule.from_rows([["0F0", "0B0"], ["0F1@1", "0B1@1"]], name="two copies")
    with pytest.raises(errors.WorkerStalled) as caught:
        pipelab.run([Stuck(16, 4)], x, y, functional.cross_entropy, schedule=copies, timeout=1)
    assert "Rank 0 has computed 0F0" in str(caught.value)
    assert "in 0REDUCE_GRAD@1, for the gradients of other copies" in str(caught.value)
    works_again()


def test_a_rank_that_waits_at_the_end_of_a_step_says_so():
    class Stuck(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            if y.requires_grad:
                y.register_hook(lambda _: time.sleep(3600))
            return y

    model, x = [Stuck(16, 16), nn.Linear(16, 4)], batch()[0]
    options = {"optimizer": lambda ps: torch.optim.SGD(ps, lr=0.1), "clip": 1.0, "timeout": 1}
    with pytest.raises(errors.WorkerStalled) as caught:
        pipelab.run(model, x, batch()[1], functional.cross_entropy, schedule="1f1b", ranks=2,
                    microbatches=2, **options)  # fmt: skip
    assert "Rank 0 has computed 0B0" in str(caught.value)
    assert "at the end of step 0, for what other ranks send then." in str(caught.value)
    works_again()


def test_a_lone_rank_that_never_returns_is_ended_too():
    with pytest.raises(errors.WorkerStalled, match="Rank 0 has computed 0F0"):
        train(lambda: time.sleep(3600), ranks=1, timeout=1)
    works_again()


def test_cancel_stops_a_run():
    run = pipelab.start(
        mlp(4),
        *batch(),
        functional.cross_entropy,
        schedule="1f1b",
        ranks=4,
        microbatches=4,
        steps=1000,
        pace=(0.05, 0.1),
    )
    while not len(run.snapshot()["columns"]["rank"]):
        time.sleep(0.01)
    run.cancel()
    with pytest.raises(errors.RunCancelled, match="stopped"):
        run.wait(10)
    with pytest.raises(errors.RunCancelled):
        _ = run.timeline
    works_again()
    finished = pipelab.run(
        mlp(4), *batch(), functional.cross_entropy, schedule="gpipe", ranks=2, microbatches=2
    )
    finished.cancel()
    assert finished.wait() is finished and finished.losses


def test_an_interrupt_stops_the_run_that_is_waited_for():
    timer = threading.Timer(1.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        train(lambda: time.sleep(0.5), steps=100)
    timer.join()
    works_again()


def test_an_error_in_the_users_callables_is_the_users_own():
    def bad_data(step):
        if step == 2:
            raise LookupError("no more data")
        return batch()

    with pytest.raises(LookupError, match="no more data"):
        pipelab.run(
            mlp(4),
            bad_data,
            None,
            functional.cross_entropy,
            schedule="1f1b",
            ranks=2,
            microbatches=2,
            steps=4,
        )

    def stop(event):
        raise StopAsyncIteration("seen enough")

    with pytest.raises(StopAsyncIteration, match="seen enough"):
        train(lambda: None, on_event=stop)
    works_again()


class Returning(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(x)


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (
            lambda x: [x, x],
            "returned a list; between the layers of a pipeline passes a tensor or a flat tuple "
            "of tensors",
        ),
        (lambda x: {"x": x}, "returned a dict"),
        (lambda x: (x, (x, x)), "returned a tuple whose part 1 is a tuple"),
        (lambda x: (x, None), "returned a tuple whose part 1 is None"),
        (lambda x: (), "returned an empty tuple"),
        (lambda x: (x,) * 9, "stage 1 hands on 9 tensors, but at most 8 pass between stages"),
        (
            lambda x: x.long(),
            "stage 2 received nothing but torch.int64, which carries no gradient back",
        ),
    ],
)
def test_what_may_not_pass_between_layers(wrap, message):
    model = nn.Sequential(nn.Linear(16, 16), Returning(wrap), nn.Linear(16, 4))
    with pytest.raises(errors.WorkerError) as caught:
        pipelab.run(
            model, *batch(), functional.cross_entropy, schedule="1f1b", ranks=3, microbatches=2
        )
    assert message in str(caught.value)
    if "returned" in message:
        assert "layer 1 (Returning) returned" in str(caught.value)


@pytest.mark.parametrize(
    ("where", "blame"),
    [(2, "was not finite either, so it arose on a stage before"), (3, "was finite")],
)
def test_a_loss_that_is_no_number_is_said_with_stage_and_microbatch(where, blame):
    model = mlp(4)
    model[where] = Returning(lambda x: (x if where == 2 else x[:, :4]) * float("nan"))
    with pytest.raises(errors.WorkerError) as caught:
        pipelab.run(
            model, *batch(), functional.cross_entropy, schedule="1f1b", ranks=4, microbatches=4
        )
    text = str(caught.value)
    assert (
        "Rank 3 raised FloatingPointError: the loss of micro-batch 0 is nan; the input of stage "
        "3, which" in text
    )
    assert blame in text and "clip=1.0" in text


def test_a_loss_must_be_one_number():
    def per_sample(output, target):
        return functional.cross_entropy(output, target, reduction="none")

    with pytest.raises(
        errors.WorkerError, match=r"loss_fn must return one real number.*shape \(12,\)"
    ):
        pipelab.run(mlp(4), *batch(), per_sample, schedule="1f1b", ranks=2, microbatches=2)
    works_again()


def test_a_killed_server_is_replaced():
    run = pipelab.start(
        mlp(4),
        *batch(),
        functional.cross_entropy,
        schedule="1f1b",
        ranks=2,
        microbatches=2,
        steps=100,
        pace=(0.05, 0.1),
    )
    while not len(run.snapshot()["columns"]["rank"]):
        time.sleep(0.01)
    os.kill(worker_source().pid, signal.SIGKILL)
    with pytest.raises(errors.WorkerDied):
        run.wait(10)
    works_again()


def test_shutdown_and_start_again():
    engine.shutdown()
    assert worker_source().pid is None
    works_again()


def test_many_runs_leave_nothing_behind():
    works_again()
    files = len(os.listdir("/proc/self/fd"))
    for ranks in (1, 2, 3, 4, 1, 2, 3, 4):
        pipelab.run(
            mlp(4), *batch(), functional.cross_entropy, schedule="1f1b", ranks=ranks, microbatches=2
        )
    assert_nothing_left()
    assert len(os.listdir("/proc/self/fd")) == files


def test_two_runs_at_once():
    """Of two runs started at once, one failed while its model was being sent to the workers."""
    runs = [
        pipelab.start(
            mlp(4),
            *batch(),
            functional.cross_entropy,
            schedule=s,
            ranks=2,
            microbatches=4,
            pace=(0.02, 0.04),
        )
        for s in ("gpipe", "1f1b")
    ]
    assert [run.wait(60).gradient_error <= 1e-5 for run in runs] == [True, True]


SCRIPT = """
    import os, sys, time, torch, pipelab
    class Slow(torch.nn.Module):
        def forward(self, x):
            time.sleep({sleep})
            return x * SCALE
    SCALE = 2.0
    model = [torch.nn.Linear(4, 4), Slow(), torch.nn.Linear(4, 4)]
    x = torch.randn(4, 4)
    print("started", flush=True)
    loss = torch.nn.functional.mse_loss
    run = pipelab.run(model, x, x, loss, schedule="1f1b", ranks=3, microbatches=2)
    print("error", run.gradient_error, flush=True)
"""


def script(sleep):
    return textwrap.dedent(SCRIPT).format(sleep=sleep)


@pytest.mark.parametrize("how", ["file", "command", "stdin"])
def test_unguarded_scripts_work(tmp_path, how):
    """Without ``if __name__ == "__main__"``, and from where there is no file at all."""
    file = tmp_path / "unguarded.py"
    file.write_text(script(0))
    command = {"file": [str(file)], "command": ["-c", script(0)], "stdin": ["-"]}[how]
    done = subprocess.run(
        [sys.executable, *command],
        input=script(0),
        capture_output=True,
        text=True,
        timeout=90,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("started") == 1 and "error" in done.stdout


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_the_parent(tmp_path, signum):
    process = subprocess.Popen(
        [sys.executable, "-c", script(3600)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    try:
        process.stdout.readline()
        family = []
        deadline = time.monotonic() + 60
        while len(family) < 4 and time.monotonic() < deadline:  # the server and three workers
            family = psutil.Process(process.pid).children(recursive=True)
            time.sleep(0.05)
        assert len(family) == 4
        process.send_signal(signum)
        process.wait(10)
        _, alive = psutil.wait_procs(family, timeout=5)
        assert alive == []
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def test_edits_of_a_students_own_module_are_seen(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "my_layers_for_this_test.py"
    losses = []
    for factor in (1, 2):
        file.write_text(
            f"import torch\nFACTOR = {factor}\nclass Scale(torch.nn.Module):\n    def "
            "forward(self, x): return x * FACTOR\n"
        )
        sys.modules.pop("my_layers_for_this_test", None)
        sys.dont_write_bytecode, keep = True, sys.dont_write_bytecode
        try:
            import my_layers_for_this_test as mine
        finally:
            sys.dont_write_bytecode = keep
        torch.manual_seed(0)
        model = [nn.Linear(16, 16), mine.Scale(), nn.Linear(16, 4)]
        losses += pipelab.run(
            model, *batch(), functional.cross_entropy, schedule="1f1b", ranks=3, microbatches=2
        ).losses
    assert losses[0] != losses[1]


def test_workers_without_fork(monkeypatch):
    monkeypatch.setenv("PIPELAB_START", "spawn")
    run = pipelab.run(
        mlp(2), *batch(), functional.cross_entropy, schedule="1f1b", ranks=2, microbatches=2
    )
    assert run.gradient_error <= 1e-5
    with pytest.raises(errors.WorkerDied, match="exit code 3"):
        train(lambda: os._exit(3), ranks=2)
    monkeypatch.setenv("PIPELAB_START", "teleport")
    with pytest.raises(errors.UsageError, match="'fork' or 'spawn'"):
        engine.warm()


def test_cancelling_does_not_wait_for_a_server_that_is_still_importing():
    """Stop did nothing for the seconds in which the server of the first run imported torch."""
    engine.shutdown()
    run = pipelab.start(
        mlp(4), *batch(), functional.cross_entropy, schedule="1f1b", ranks=4, microbatches=4
    )
    run.cancel()
    with pytest.raises(errors.RunCancelled):
        run.wait(20)
    # else the next run would find that server, and the loop below would not wait for its request
    engine.shutdown()
    run = pipelab.start(
        mlp(4), *batch(), functional.cross_entropy, schedule="1f1b", ranks=4, microbatches=4
    )
    while worker_source().pid is None:
        time.sleep(0.01)
    engine.shutdown()
    with pytest.raises(errors.RunError):
        run.wait(20)
    works_again()


def test_large_batches_never_block_the_driver():
    """More data than a socket holds, for a worker that does not read it: the run hung, neither the
    stall nor a cancel was noticed.
    """
    x, y = torch.randn(64, 4096), torch.randint(4, (64,))
    model = nn.Sequential(nn.Linear(4096, 4), Napping())
    options = {"schedule": "1f1b", "ranks": 2, "microbatches": 2, "steps": 3}
    with pytest.raises(errors.WorkerStalled, match="Rank 1 has computed 1F0"):
        pipelab.run(
            model, lambda step: (x, y), None, functional.cross_entropy, timeout=2, **options
        )
    run = pipelab.start(model, lambda step: (x, y), None, functional.cross_entropy, **options)
    while not len(run.snapshot()["columns"]["rank"]):
        time.sleep(0.01)
    run.cancel()
    with pytest.raises(errors.RunCancelled):
        run.wait(20)
    works_again()


class Napping(nn.Module):
    def forward(self, x):
        time.sleep(3600)


def test_what_cannot_travel_is_said():
    model = mlp(2)
    model[0].lock = threading.Lock()
    with pytest.raises(errors.UsageError, match="cannot be sent to a worker: .*lock"):
        pipelab.run(
            model, *batch(), functional.cross_entropy, schedule="1f1b", ranks=2, microbatches=2
        )
