"""`pipelab train`: real workers, the keys of the contract, and an end that leaves nothing
behind.
"""

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest

from pipelab.cli import main
from pipelab.launcher.child import descendants
from pipelab.launcher.train import as_text

KEYS = [
    "schedule",
    "ranks",
    "stages",
    "microbatches",
    "data",
    "tensor",
    "zero",
    "partition",
    "partition_note",
    "device",
    "workers",
    "transport",
    "device_note",
    "executor",
    "losses",
    "measured",
    "predicted",
    "gradient_error",
    "peak_in_flight",
    "peak_activation_bytes",
    "bytes_by_collective",
    "peak_bytes",
    "peak_memory_bytes",
    "peak_reserved_bytes",
    "waited_for_python",
    "advice",
    "gap_ms",
]
SMALL = ["--model", "mlp", "--layers", "4", "--width", "8"]


@pytest.fixture
def train(capsys):
    """Runs `pipelab train --json` in this process -> (exit code, the object, standard error)."""

    def train(*flags):
        code = main(["train", *flags, "--json"])
        out, err = capsys.readouterr()
        return code, json.loads(out), err

    return train


def test_the_defaults_train_a_gpt_and_its_loss_falls(train):
    code, data, err = train()
    assert code == 0
    assert list(data) == KEYS
    assert (data["schedule"], data["ranks"], data["stages"], data["microbatches"]) == (
        "1f1b",
        2,
        2,
        4,
    )
    assert (data["device"], data["workers"], data["executor"]) == ("cpu", "processes", "pipelab")
    assert len(data["losses"]) == len(data["measured"]) == 5
    assert data["losses"][-1] < 0.9 * data["losses"][0]
    assert data["gradient_error"] <= 1e-5
    assert data["peak_in_flight"] == [2, 1]
    assert all(size > 0 for size in data["peak_activation_bytes"])
    assert data["peak_memory_bytes"] is None  # of a GPU
    progress = [line for line in err.splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in progress] == ["1/5", "2/5", "3/5", "4/5", "5/5"]
    for step in [*data["measured"], data["predicted"]]:
        for parts in zip(step["compute_ms"], step["transfer_ms"], step["wait_ms"], strict=True):
            assert sum(parts) == pytest.approx(step["makespan_ms"])


def test_the_seed_decides_the_losses(train):
    (_, first, _), (_, again, _), (_, other, _) = (
        train(*SMALL, "--steps", "1", "--seed", s) for s in "112"
    )
    assert first["losses"] == again["losses"] != other["losses"]


def test_a_paced_run_is_predicted_by_its_pace(train):
    flags = [
        "--schedule",
        "gpipe",
        "--microbatches",
        "2",
        "--pace",
        "20,40",
        "--steps",
        "2",
        "--stages-per-rank",
        "1",
    ]
    _, data, _ = train(
        *SMALL, *flags, "--timeout", "20", "--device", "cpu", "--workers", "processes"
    )
    assert data["schedule"] == "gpipe"
    assert data["predicted"]["makespan_ms"] == pytest.approx(3 * 60)
    assert data["predicted"]["compute_ms"] == pytest.approx([120, 120])
    assert data["measured"][-1]["makespan_ms"] >= 3 * 60 - 1


def test_the_gap_to_the_prediction_is_in_the_data(train):
    _, data, _ = train(*SMALL, "--pace", "20,40", "--microbatches", "2")
    gap = data["gap_ms"]
    difference = data["measured"][-1]["makespan_ms"] - data["predicted"]["makespan_ms"]
    assert list(gap) == ["compute", "transfer", "waiting", "overhead", "processors", "total"]
    for parts in zip(*gap.values(), strict=True):
        assert sum(parts[:-1]) == pytest.approx(parts[-1]) == pytest.approx(difference)


def test_torchs_own_engine_beside_ours(train, tmp_path):
    page = tmp_path / "both.html"
    code, data, _ = train(
        *SMALL, "--executor", "torch", "--schedule", "zb-h1", "--steps", "2", "--html", str(page)
    )
    assert code == 0 and list(data) == [*KEYS, "beside"]
    assert (data["executor"], data["beside"]["executor"]) == ("torch", "pipelab")
    assert data["beside"]["gradient_difference"] == 0
    assert data["losses"] == pytest.approx(data["beside"]["losses"])
    assert data["beside"]["measured"]["makespan_ms"] > 0
    assert '"source": "torch"' in page.read_text() and '"source": "pipelab"' in page.read_text()


def test_threads_and_processes_give_the_same_losses(train):
    (_, processes, _), (_, threads, _) = (
        train(*SMALL, "--workers", workers) for workers in ("processes", "threads")
    )
    assert (threads["workers"], threads["transport"]) == ("threads", "references in one process")
    assert threads["losses"] == processes["losses"]


def test_a_schedule_of_ones_own_and_its_files(train, tmp_path):
    mine = tmp_path / "mine.csv"
    mine.write_text("0F0,2F0,0F1,2F1,2B0,0B0,2B1,0B1\n1F0,1F1,1B0,1B1\n")
    html, trace = tmp_path / "step.html", tmp_path / "step.json"
    code, data, _ = train(
        *SMALL, "--schedule", str(mine), "--steps", "1", "--html", str(html), "--trace", str(trace)
    )
    assert code == 0
    assert (data["schedule"], data["ranks"], data["stages"], data["microbatches"]) == (
        "mine",
        2,
        3,
        2,
    )
    actions = [
        event["name"]
        for event in json.loads(trace.read_text())["traceEvents"]
        if event["ph"] == "X"
    ]
    assert sorted(actions) == sorted(mine.read_text().replace("\n", ",").strip(",").split(","))
    page = html.read_text()
    assert "<canvas" in page or "createElement" in page
    assert "plotly" not in page.lower()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "mine.csv",
        "step.html",
        "step.json",
    ]


def test_the_text_for_a_person(capsys):
    assert main(["train", *SMALL, "--steps", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1f1b: 2 ranks, 2 stages, 4 micro-batches; cpu, processes, shared memory"
    assert [line.split("  ")[0] for line in lines[1:5]] == [
        "loss",
        "makespan",
        "bubble_fraction",
        "gradient error",
    ]
    assert lines[5].split() == [
        "rank",
        "compute",
        "transfer",
        "wait",
        "in",
        "flight",
        "activations",
    ]
    assert [line.split()[0] for line in lines[6:]] == ["0", "1", "gap"]


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--layers", "2", "--ranks", "3"], "3 stages are more than the 2 layers of the model"),
        (["--layers", "1"], "a gpt of 1 layers cannot be built"),
        (["--model", "gtp"], "There is no model 'gtp'. Did you mean 'gpt'? Valid names: gpt, mlp."),
        (["--steps", "0"], "steps is 0"),
        (["--width", "0"], "width must be at least 1, not 0"),
        (["--timeout", "0"], "timeout is 0"),
        (["--optimizer", "lion"], "There is no optimizer 'lion'. Valid names: adam, adamw, sgd."),
        (["--dtype", "float16"], "There is no dtype 'float16'. Did you mean 'bfloat16'?"),
        (
            ["--recompute", "never"],
            "There is no way of recomputing 'never'. Valid names: in-backward, early.",
        ),
        (["--clip", "0"], "clip is 0"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_a_worker_starts(train, flags, message):
    before = len(descendants(psutil.Process().pid))
    code, data, err = train(*flags)
    assert code == 2
    assert message in data["error"] and message in err
    assert len(descendants(psutil.Process().pid)) <= before


@pytest.mark.parametrize(
    "row", ["0F0,0I0,0W0", "0F0,0R0,0B0", "0F0,0F1,0B0,(0F2;0B1)OVERLAP_F_B,0B2"]
)
def test_every_kind_of_a_file_is_trained(train, tmp_path, row):
    path = tmp_path / "mine.csv"
    path.write_text(row + "\n")
    code, data, _ = train(*SMALL, "--schedule", str(path), "--steps", "2")
    assert code == 0
    assert data["gradient_error"] <= 1e-5


def test_an_asynchronous_schedule_says_why_its_gradients_are_not_compared(capsys):
    assert main(["train", *SMALL, "--schedule", "pipedream", "--steps", "2"]) == 0
    out = capsys.readouterr().out
    assert (
        "gradient error   nothing to compare with: micro-batches of one step saw weights of "
        "several versions" in out
    )


@pytest.mark.parametrize(
    "flags",
    [
        ["--optimizer", "sgd"],
        ["--optimizer", "adamw"],
        ["--dtype", "bfloat16"],
        ["--clip", "0.01", "--optimizer", "sgd"],
    ],
    ids=" ".join,
)
def test_how_to_train_changes_what_comes_out(train, flags):
    base = flags[2:] if "--clip" in flags else []
    (code, data, _), (_, plain, _) = (
        train(*SMALL, "--steps", "3", *flags),
        train(*SMALL, "--steps", "3", *base),
    )
    assert code == 0
    assert data["losses"] != plain["losses"] and data["losses"] == pytest.approx(
        plain["losses"], rel=0.5
    )
    assert data["gradient_error"] <= 1e-5


@pytest.mark.parametrize("mode", ["in-backward", "early"])
def test_recomputing_needs_less_memory(train, mode):
    flags = ["--schedule", "gpipe", "--steps", "2"]
    (_, data, _), (_, plain, _) = train(*SMALL, *flags, "--recompute", mode), train(*SMALL, *flags)
    assert data["losses"] == plain["losses"]
    assert data["peak_activation_bytes"][0] < plain["peak_activation_bytes"][0]


def test_a_checkpoint_is_gone_on_from(train, tmp_path):
    file = str(tmp_path / "mlp.pt")
    _, first, _ = train(*SMALL, "--steps", "2", "--checkpoint", file)
    _, second, _ = train(*SMALL, "--steps", "2", "--checkpoint", file)
    _, through, _ = train(*SMALL, "--steps", "4")
    assert first["losses"] + second["losses"] == through["losses"]
    code, data, _ = train(*SMALL, "--checkpoint", str(tmp_path / "nowhere" / "mlp.pt"))
    assert code == 2 and "its folder does not exist" in data["error"]


@pytest.mark.timing
def test_ctrl_c_ends_at_once_and_leaves_nothing(tmp_path):
    html = tmp_path / "step.html"
    command = [
        sys.executable,
        "-m",
        "pipelab",
        "train",
        *SMALL,
        "--steps",
        "1000",
        "--pace",
        "20,40",
        "--html",
        str(html),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as training:
        assert training.stderr.readline().startswith("step 1/1000")
        family = descendants(training.pid)
        assert len(family) >= 2, "two workers at least"
        started = time.monotonic()
        training.send_signal(signal.SIGINT)
        out, err = training.communicate(timeout=60)
    assert training.returncode == 130
    assert time.monotonic() - started < 5
    assert out == "" and err.splitlines()[-1] == "stopped" and "Traceback" not in err
    _, left = psutil.wait_procs(family, timeout=10)
    assert not left
    assert list(tmp_path.iterdir()) == []


def test_where_it_ran_and_what_would_help_is_said(train):
    _, data, _ = train(*SMALL, "--steps", "1")
    plain = as_text(data, None)
    said = as_text(
        data | {"device_note": "on the processor: no driver", "advice": "wait less"}, None
    )
    more = [line for line in said.splitlines() if line not in plain.splitlines()]
    assert more == ["note             on the processor: no driver", "wait less"]


def test_three_dimensions_change_neither_the_model_nor_its_batch(train):
    sizes = ["--ranks", "2", "--steps", "2", "--layers", "4", "--width", "16"]
    _, alone, _ = train(*sizes)
    for mesh in (
        ["--data-parallel", "2", "--zero", "3"],
        ["--tensor-parallel", "2", "--sequence-parallel"],
    ):
        code, data, _ = train(*sizes, *mesh)
        assert code == 0 and list(data) == KEYS
        assert data["losses"] == pytest.approx(alone["losses"], rel=1e-5)
        assert data["gradient_error"] < 1e-5
        copies, parts = (int(mesh[1]), 1) if "--zero" in mesh else (1, int(mesh[1]))
        assert (data["data"], data["tensor"]) == (copies, parts)
        assert len(data["bytes_by_collective"]) == len(data["peak_bytes"]) == 4
        assert len(data["measured"][0]["compute_ms"]) == 4
        sent = data["bytes_by_collective"][0]
        assert bool(sent["unshard"]) == (copies > 1) and bool(sent["tensor"]) == (parts > 1)
        assert "worker" in as_text(data, None)


def test_a_mesh_that_cannot_be_is_refused(train):
    code, _, error = train("--tensor-parallel", "3", "--model", "gpt")
    assert code == 2 and "tensor=2, 4 would" in error
