"""The command line: its output is a contract, and every refusal says what would work."""

import json
import os
import subprocess
import sys
from argparse import ArgumentTypeError

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pipelab
from pipelab.catalogue import names
from pipelab.cli import main, write
from pipelab.launcher.arguments import number, pace

LEGAL = "0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n"
DEADLOCK = "0F0,0B0,0F1,0B1\n1F0,1F1,1B0,1B1\n"


@pytest.fixture
def run(capsys):
    """Runs a command line -> (exit code, standard output, standard error)."""

    def run(line):
        code = main(line if isinstance(line, list) else line.split())
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def as_json(run):
    """Runs a command line with --json -> (exit code, the object)."""

    def as_json(line):
        code, out, _ = run(f"{line} --json")
        assert out.count("\n") == 1, "one object, and nothing else"
        return code, json.loads(out)

    return as_json


@pytest.fixture
def csv(tmp_path):
    def csv(text, name="mine.csv"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return csv


# simulate


def test_simulate_json_has_the_keys_of_the_contract(as_json):
    code, data = as_json("simulate 1f1b --ranks 4 --microbatches 8")
    assert code == 0
    assert data == {
        "schedule": "1f1b",
        "ranks": 4,
        "stages": 4,
        "stages_per_rank": 1,
        "microbatches": 8,
        "makespan": 33,
        "spans": [33, 30, 27, 24],
        "idle": [9, 9, 9, 9],
        "bubble_fraction": pytest.approx(3 / 11),
        "bubble_overhead": pytest.approx(3 / 8),
        "bubble_rate": pytest.approx(3 / 11),
        "peak_in_flight": [4, 3, 2, 1],
        "peak_in_flight_until_weight_grad": [4, 3, 2, 1],
    }


@pytest.mark.parametrize(
    "flags, makespan",
    [
        ("", 33),
        ("--forward 2", 44),
        ("--backward 1", 22),
        ("--input-grad 1.5 --weight-grad 1.5", 44),
        ("--latency 1/4", 37),
        ("--latency .1", 34.6),
        ("--forward 27418/3 --backward 0", 27418 / 3 * 11),
        ("--recompute early --recompute-time 1", 41),
        ("--recompute in-backward --recompute-time 1", 44),
    ],
)
def test_simulate_follows_every_cost(as_json, flags, makespan):
    _, data = as_json(f"simulate 1f1b --ranks 4 --microbatches 8 {flags}")
    assert data["makespan"] == pytest.approx(makespan, rel=1e-12)


def test_overlap_has_a_cost_of_its_own(as_json, csv):
    name = csv("0F0,(0F1;0B0)OVERLAP_F_B,0B1\n")
    assert as_json(f"simulate {name}")[1]["makespan"] == 6
    assert as_json(f"simulate {name} --overlap 2.5")[1]["makespan"] == 5.5


def test_simulate_for_a_person(run):
    code, out, err = run("simulate gpipe --ranks 2 --microbatches 4")
    assert code == 0 and err == ""
    assert out.splitlines() == [
        "gpipe: 2 ranks, 2 stages, 4 micro-batches",
        "makespan         15",
        "bubble_fraction  0.2  idle / (ranks × makespan)",
        "bubble_overhead  0.25  idle / busy",
        "bubble_rate      0.2  1 − busy/span, on the rank with the longest span",
        "rank  span  idle  peak in flight  until weight grad",
        "   0    15     3               4                  4",
        "   1    12     3               4                  4",
    ]


def test_explain_says_why_each_rank_stood_idle(run):
    code, out, _ = run("simulate 1f1b --ranks 2 --microbatches 3 --latency 0.5 --explain")
    assert code == 0
    assert out.splitlines()[8:] == [
        "idle by cause; not forced: another action of the rank was ready",
        "rank  warm-up  upstream-forward  downstream-backward  transfer  cool-down  idle  not "
        "forced",
        "   0        0                 0                    4         1          0     "
        "5           3",
        "   1      1.5               0.5                    0       0.5        2.5     "
        "5           0",
        "longest not forced: rank 0 waits from 2 to 4.5 for 0B0 (downstream-backward), where 0F2 "
        "could have run",
    ]
    assert "longest not forced" not in run("simulate gpipe --ranks 2 --microbatches 3 --explain")[1]


def test_explain_adds_one_key_and_sums_to_the_idle_time(as_json):
    line = "simulate zb-h1 --ranks 4 --microbatches 6 --latency 1/2"
    plain, data = as_json(line)[1], as_json(f"{line} --explain")[1]
    causes = data.pop("idle_by_cause")
    assert data == plain
    assert list(causes) == [
        "warm-up",
        "upstream-forward",
        "downstream-backward",
        "transfer",
        "imbalance",
        "barrier",
        "gap",
        "cool-down",
    ]
    assert [sum(column) for column in zip(*causes.values(), strict=True)] == data["idle"]


def test_timeline_is_drawn_as_wide_as_the_terminal(run, monkeypatch):
    for columns, rows in (
        ("35", ["rank 0  F0-F1-......B0====...B1====", "rank 1  ...F0-B0====F1-B1====......"]),
        ("30", ["rank 0  F0F1....B0==..B1==", "rank 1  ..F0B0==F1B1==...."]),
    ):
        monkeypatch.setenv("COLUMNS", columns)
        code, out, _ = run("simulate 1f1b --ranks 2 --microbatches 2 --timeline")
        assert code == 0 and out.splitlines()[8:10] == rows
    code, out, err = run("simulate 1f1b --ranks 2 --microbatches 2 --timeline --json")
    assert code == 2 and "--timeline draws for a person and --json writes for a program" in err


def test_a_schedule_that_depends_on_costs_is_built_for_those_given(as_json):
    costs = pipelab.Costs(1, input_grad=1, weight_grad=1, latency=0.5)
    built = pipelab.build("zb-2p", ranks=4, microbatches=8, costs=costs)
    flags = "--ranks 4 --microbatches 8 --input-grad 1 --weight-grad 1 --latency .5"
    assert as_json(f"schedule zb-2p {flags}")[1]["actions"] == [
        list(map(str, row)) for row in built.actions
    ]
    assert built != pipelab.build("zb-2p", ranks=4, microbatches=8)


def test_collectives_of_a_file_are_kept_where_they_have_a_cost(run, as_json, csv):
    name = csv("0UNSHARD,0F0,0B0,0RESHARD,0REDUCE_GRAD\n")
    assert as_json(f"simulate {name}")[1]["makespan"] == 3
    assert as_json(f"simulate {name} --unshard 2 --reduce-grad 0.5")[1]["makespan"] == 5.5
    assert as_json(f"simulate {name} --reshard 0")[1]["makespan"] == 3
    code, _, said = run(f"simulate {csv('0F0,0UNSHARD,0B0', 'late.csv')} --unshard 1")
    assert code == 2 and "0F0 comes before 0UNSHARD" in said


def test_compare_lists_numbers_and_reasons(run, csv):
    code, out, _ = run(
        f"simulate --compare gpipe,1f1b,zb-v,chimera,{csv(LEGAL)} --ranks 4 --microbatches 6"
    )
    assert code == 0
    assert out.splitlines() == [
        "schedule  stages  makespan  bubble_fraction  bubble_overhead  bubble_rate  peak in flight",
        "   gpipe       4        27         0.333333              0.5     0.333333               6",
        "    1f1b       4        27         0.333333              0.5     0.333333               4",
        "    zb-v       8        39         0.076923         0.083333     0.052632               8",
        "times are per action of one stage: cut into twice as many stages, a model takes half of "
        "them",
        "chimera: needs micro-batches in units of ranks (4, 8, 12, …), not 6: half of a unit per "
        "direction.",
        f"{csv(LEGAL)}: has ranks = 2, which --ranks 4 contradicts",
    ]


def test_a_named_schedule_stands_first_in_its_comparison(as_json):
    """A name beside --compare was refused, though the comparison is clearly meant to hold it."""
    _, data = as_json("simulate naive --compare gpipe,1f1b --ranks 2 --microbatches 2")
    assert [metrics["schedule"] for metrics in data["compare"]] == ["naive", "gpipe", "1f1b"]


def test_compare_is_simulate_for_each(as_json):
    flags = "--ranks 4 --microbatches 6 --latency 1/3 --recompute early --recompute-time 1"
    code, data = as_json(f"simulate --compare 1f1b,dualpipe,gpipe {flags}")
    assert code == 0 and list(data) == ["compare"]
    first, impossible, last = data["compare"]
    assert (first, last) == (
        as_json(f"simulate 1f1b {flags}")[1],
        as_json(f"simulate gpipe {flags}")[1],
    )
    assert list(impossible) == ["schedule", "problem"] and impossible["schedule"] == "dualpipe"
    assert "at least 2 × ranks = 8, not 6" in impossible["problem"]


def test_simulate_a_file(as_json, csv):
    code, data = as_json(f"simulate {csv(LEGAL)}")
    assert code == 0
    assert (data["schedule"], data["ranks"], data["microbatches"], data["makespan"]) == (
        "mine",
        2,
        2,
        9,
    )
    assert as_json(f"simulate {csv(LEGAL)} --ranks 2 --microbatches 2 --stages-per-rank 1")[0] == 0


@pytest.mark.parametrize(
    "flag, has", [("--ranks 3", 2), ("--microbatches 3", 2), ("--stages-per-rank 2", 1)]
)
def test_a_flag_may_not_contradict_the_file(run, csv, flag, has):
    code, out, err = run(f"simulate {csv(LEGAL)} {flag}")
    what = flag.split()[0][2:].replace("-", "_")
    assert (code, out) == (2, "")
    assert f"has {what} = {has}, which {flag} contradicts" in err


# schedule


def test_schedule_prints_a_grid(run):
    code, out, _ = run("schedule 1f1b --ranks 2 --microbatches 2")
    assert code == 0
    assert out.splitlines() == [
        "rank 0  0F0 0F1 .   0B0 .   0B1",
        "rank 1  .   1F0 1B0 1F1 1B1 .",
        "1f1b: 2 ranks, 2 stages, 2 micro-batches, makespan 9",
    ]


def test_schedule_json(as_json):
    code, data = as_json("schedule 1f1b --ranks 2 --microbatches 2 --forward 2 --stages-per-rank 1")
    assert code == 0
    assert data == {
        "schedule": "1f1b",
        "ranks": 2,
        "stages": 2,
        "stages_per_rank": 1,
        "microbatches": 2,
        "actions": [["0F0", "0F1", "0B0", "0B1"], ["1F0", "1B0", "1F1", "1B1"]],
        "makespan": 12,
    }


def test_schedule_csv_to_standard_output(run):
    assert run("schedule 1f1b --ranks 2 --microbatches 2 --csv -") == (0, LEGAL, "")


def test_schedule_csv_to_a_file_is_read_back(run, as_json, tmp_path):
    name = str(tmp_path / "out.csv")
    code, out, _ = run(f"schedule 1f1b --ranks 4 --microbatches 8 --csv {name}")
    assert code == 0 and out.endswith("makespan 33\n")
    assert as_json(f"simulate {name}")[1]["makespan"] == 33
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_torch_is_said_to_be_unable_to_read_our_additions(run, csv):
    code, out, err = run(f"schedule {csv('0F0,0R0,0B0')} --csv -")
    assert (code, out) == (0, "0F0,0R0,0B0\n")
    assert "torch.distributed.pipelining cannot read this file" in err


def test_schedule_list(run, as_json):
    code, out, _ = run("schedule --list")
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == names()
    assert list(as_json("schedule --list")[1]["schedules"]) == names()


# check


def test_check_accepts(run, as_json, csv):
    assert as_json(f"check {csv(LEGAL)}") == (
        0,
        {"ok": True, "ranks": 2, "stages": 2, "microbatches": 2},
    )
    known = "this is 1f1b (for these sizes the same as eager-1f1b, interleaved-1f1b)"
    assert run(f"check {csv(LEGAL)}") == (
        0,
        f"legal: mine: 2 ranks, 2 stages, 2 micro-batches\n{known}\n",
        "",
    )


def test_check_says_what_is_nearest(run, csv):
    name = csv("0F0,0F1,0B0,0B1\n1F0,1F1,1B1,1B0\n")
    assert run(f"check {name}")[1].splitlines() == [
        "legal: mine: 2 ranks, 2 stages, 2 micro-batches",
        "nearest: gpipe, 1 action stands elsewhere; first at rank 1, step 2: 1B1 where gpipe has "
        "1B0",
    ]


def test_check_names_large_files_too(run, csv):
    rows = "\n".join(",".join(f"{r}F{i},{r}B{i}" for i in range(1300)) for r in range(2))
    code, out, _ = run(f"check {csv(rows)}")
    assert (code, out) == (0, "legal: mine: 2 ranks, 2 stages, 1300 micro-batches\nthis is naive\n")


def test_check_refuses_and_marks_the_place(run, as_json, csv):
    code, data = as_json(f"check {csv(DEADLOCK)}")
    assert code == 1
    assert list(data) == ["ok", "code", "rank", "step", "action", "needs", "message"]
    assert (data["ok"], data["code"]) == (False, "deadlock")
    code, out, _ = run(f"check {csv(DEADLOCK)}")
    assert code == 1
    assert out.startswith("refused (deadlock): ") and out.count("^^^ here") == 1


def test_check_refuses_a_transfer_on_the_wrong_side(as_json, csv):
    code, data = as_json(f"check {csv('0SEND_F0,0F0,0B0')}")
    assert (code, data["code"], data["action"]) == (1, "order", "0SEND_F0")


def test_check_says_line_and_cell_of_what_it_cannot_read(run, as_json, csv):
    name = csv("0F0,0B0\n1F0,1X0\n")
    code, data = as_json(f"check {name}")
    assert code == 1
    assert (data["code"], data["rank"], data["step"], data["action"]) == ("syntax", 1, 1, "1X0")
    code, out, _ = run(f"check {name}")
    assert code == 1 and out.startswith("refused (syntax): line 2, cell 2: ")


def test_an_illegal_file_is_unusable_input_elsewhere(run, csv):
    assert run(f"simulate {csv(DEADLOCK)}")[0] == 2


# Bad input: exit 2, the reason on standard error, nothing on standard output.


@pytest.mark.parametrize(
    "line, message",
    [
        (
            "simulate gpip --ranks 2 --microbatches 2",
            "There is no schedule 'gpip'. Did you mean 'gpipe'? Valid names:",
        ),
        ("schedule 1f2b", "There is no schedule '1f2b'. Did you mean '1f1b'?"),
        ("schedule", "which schedule? Give a name (naive, gpipe, 1f1b, "),
        ("simulate gpipe --ranks 2", "give --ranks and --microbatches"),
        (
            "simulate --ranks 2 --microbatches 2",
            "give one schedule, or several with --compare NAME,NAME,…",
        ),
        (
            "simulate --compare gpipe,gpip --ranks 2 --microbatches 2",
            "There is no schedule 'gpip'. Did you mean 'gpipe'?",
        ),
        ("simulate --compare gpipe,1f1b --ranks 2", "give --ranks and --microbatches"),
        (
            "simulate --compare gpipe,1f1b --ranks 2 --microbatches 2 --forward -1",
            "forward is -1; a duration is",
        ),
        (
            "simulate --compare gpipe --ranks 2 --microbatches 2 --explain",
            "--explain and --timeline are about one schedule",
        ),
        (
            "simulate gpipe --ranks 0 --microbatches 2",
            "0 ranks are impossible; the number of ranks is a whole number, 1 or",
        ),
        ("simulate gpipe --ranks 2 --microbatches -3", "-3 micro-batches are impossible"),
        (
            "simulate gpipe --ranks 2 --microbatches 2 --stages-per-rank 2",
            "gpipe has one stage per rank, not 2",
        ),
        (
            "simulate gpipe --ranks two --microbatches 2",
            "argument --ranks: invalid int value: 'two'",
        ),
        (
            "simulate gpipe --ranks 2 --microbatches 2 --forward -1",
            "forward is -1; a duration is a finite number, 0 or more",
        ),
        (
            "simulate gpipe --ranks 2 --microbatches 2 --forward nan",
            "--forward: 'nan' is not a number such as",
        ),
        (
            "simulate gpipe --ranks 2 --microbatches 2 --latency inf",
            "--latency: 'inf' is not a number such as",
        ),
        (
            "simulate gpipe --ranks 2 --microbatches 2 --latency 1/0",
            "--latency: '1/0' divides by zero",
        ),
        (
            "simulate gpipe --ranks 2 --microbatches 2 --recompute early",
            "--recompute and --recompute-time need each other",
        ),
        (
            "simulate gpipe --ranks 2 --microbatches 2 --recompute-time 1",
            "--recompute and --recompute-time need each other",
        ),
        (
            "simulate gpipe --ranks 2 --microbatches 2 --recompute late --recompute-time 1",
            "choose from",
        ),
        ("simulate nowhere.csv", "nowhere.csv: No such file or directory"),
        ("check nowhere.csv", "nowhere.csv: No such file or directory"),
        (
            "schedule gpipe --ranks 2 --microbatches 2 --csv no/where.csv",
            "No such file or directory",
        ),
        ("simulat gpipe", "invalid choice: 'simulat'"),
        ("simulate gpipe --rank 2", "unrecognized arguments: --rank 2"),
        ("train --schedule gpip", "There is no schedule 'gpip'"),
        ("train --device tpu", "argument --device: it is one of auto, cpu, cuda, not 'tpu'"),
        (
            "train --workers fibers",
            "argument --workers: it is one of auto, processes, threads, torchrun, not 'fibers'",
        ),
        ("train --pace 10", "'10' is not F,B or F,B,W in milliseconds, such as 10,20"),
        ("train --pace 10,0", "'10,0' is not F,B or F,B,W in milliseconds"),
        ("train --trace no/where.json", "cannot write no/where.json: its folder does not exist"),
        ("lab --port 0", "cannot serve on port 0: a port is a number from 1 to 65535"),
    ],
)
def test_bad_input(run, line, message):
    code, out, err = run(line)
    assert (code, out) == (2, "")
    assert message in err


def test_with_json_an_error_is_an_object_too(run):
    code, out, err = run("simulate gpip --json")
    assert code == 2
    assert json.loads(out)["error"].startswith("There is no schedule 'gpip'.")
    assert "There is no schedule 'gpip'." in err


def test_a_file_that_is_no_text(run, tmp_path):
    path = tmp_path / "picture.csv"
    path.write_bytes(b"\x89PNG\xff")
    for command in ("check", "simulate"):
        code, out, err = run(f"{command} {path}")
        assert (code, out) == (2, "") and "is not text" in err


def test_csv_and_json_do_not_share_standard_output(run):
    code, _, err = run("schedule gpipe --ranks 2 --microbatches 2 --csv - --json")
    assert code == 2 and "both want standard output" in err


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == "pipelab 0.1.0\n"


# Files and pipes.


@pytest.mark.parametrize("text", ["2", "0.5", "1e-3", "27418/3", ".5", "5."])
def test_numbers(text):
    top, _, bottom = text.partition("/")
    assert number(text) == pytest.approx(float(top) / float(bottom or 1))


@pytest.mark.parametrize(
    "text", ["0.0024883061897336485", "1e-05", "1E3", "5e-324", "1.7976931348623157e+308", "-0.0"]
)
def test_every_float_that_python_prints_is_a_number(text):
    assert number(text) == float(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_come_back_as_they_were(value):
    assert number(repr(value)) == value


@pytest.mark.parametrize("text", ["inf", "nan", "1e400", "1_000", "0x1p3", "1e", "", "٣"])
def test_what_is_no_number(text):
    with pytest.raises(ArgumentTypeError, match="is not a number such as 2, 0.5 or 27418/3"):
        number(text)


def test_times_to_the_last_digit(run):
    time = "0.0024883061897336485"
    code, out, _ = run(
        f"simulate 1f1b --ranks 2 --microbatches 4 --forward {time},{time} --latency {time} "
        f"--backward 1e-05 --optimizer local --step-time {time} --json"
    )
    assert code == 0 and json.loads(out)["makespan"] > 0
    assert pace(f"{time},1e-05") == (float(time) / 1000, 1e-05 / 1000)


def test_times_that_add_up_to_more_than_a_float_holds(run):
    code, out, err = run("simulate 1f1b --ranks 2 --microbatches 4 --forward 1e308")
    assert (code, out) == (2, "")
    assert "add up to more than a number can hold (1.8e308): give them in a larger unit" in err


def test_a_number_of_a_billion_digits_is_not_computed():
    with pytest.raises(Exception, match="is not a number such as"):
        number("1e999999999")


def test_a_file_that_cannot_be_finished_is_not_begun(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("before")
    with pytest.raises(UnicodeEncodeError):
        write(str(path), "half\ud800")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link.csv").symlink_to(tmp_path / "there.csv")
    write(str(tmp_path / "link.csv"), "text")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "there.csv").read_text() == "text"


def test_a_reader_that_has_seen_enough_gets_no_traceback():
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pipelab",
            "schedule",
            "1f1b",
            "--ranks",
            "64",
            "--microbatches",
            "512",
            "--csv",
            "-",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.read(10)
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 0


def test_a_terminal_without_our_signs_shows_the_rest():
    answer = subprocess.run(
        [
            sys.executable,
            "-m",
            "pipelab",
            "simulate",
            "gpipe",
            "--ranks",
            "2",
            "--microbatches",
            "4",
        ],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.returncode == 0, answer.stderr
    assert "idle / (ranks ? makespan)" in answer.stdout


def test_costs_per_stage(as_json):
    _, data = as_json(
        "simulate gpipe --ranks 4 --microbatches 100 --forward 1,1,3,1 --backward 2,2,6,2"
    )
    assert data["makespan"] == 100 * 9 + 3 + 6
    code, data = as_json("simulate gpipe --ranks 4 --microbatches 8 --forward 1,2")
    assert (
        code == 2 and data["error"] == "There are 2 costs per stage, but the schedule has 4 stages."
    )


@pytest.mark.parametrize(
    ("flags", "makespan"),
    [
        ("", 12),
        ("--bandwidth 0.5", 20),
        ("--bandwidth 0.5 --message 1,3,5", 28),
        ("--bandwidth 0.5 --latency 1", 24),
    ],
)
def test_links(as_json, flags, makespan):
    """One micro-batch over 3 ranks: 9 of computing, and 4 messages of 1 (or 2 of 1 and 2 of 3)."""
    _, data = as_json(f"simulate naive --ranks 3 --microbatches 1 --forward 2 {flags}")
    assert data["makespan"] == makespan


def test_steps_with_and_without_a_barrier(as_json, run):
    line = (
        "simulate zb-h2 --ranks 4 --microbatches 8 --forward 1 --input-grad 1 --weight-grad 1 "
        "--steps 3 --step-time 0"
    )
    _, free = as_json(f"{line} --optimizer local")
    _, tied = as_json(f"{line} --optimizer barrier --explain")
    assert (free["time_per_step"], tied["time_per_step"]) == (24, 27)
    assert sum(tied["idle_by_cause"]["barrier"]) > 0
    assert "time_per_step    27  from the end of one step" in run(f"{line} --optimizer barrier")[1]
    code, data = as_json("simulate gpipe --ranks 2 --microbatches 2 --steps 3")
    assert code == 2 and data["error"].startswith(
        "--step-time and --steps need --optimizer local or barrier"
    )


def test_memory_in_bytes(as_json, run):
    flags = (
        "--activation-bytes 100 --weight-bytes 10,20 --gradient-bytes 10,20 --optimizer-bytes 20,40"
    )
    _, data = as_json(f"simulate 1f1b --ranks 2 --microbatches 8 {flags}")
    assert data["peak_bytes"] == [240, 180]
    assert data["peak_bytes_by_part"]["activations"] == [200, 100]
    assert data["peak_bytes_by_part"]["optimizer_state"] == [20, 40]
    text = run(f"simulate 1f1b --ranks 2 --microbatches 8 {flags}")[1]
    assert (
        "bytes at each rank's peak\nrank  peak  activations  weights  gradients  optimizer state\n"
        in text
    )
    _, less = as_json(
        "simulate gpipe --ranks 2 --microbatches 8 --activation-bytes 100 --input-bytes 10 "
        "--recompute early --recompute-time 1"
    )
    assert less["peak_bytes"] == [170, 170]
    share = "simulate zb-h1 --ranks 2 --microbatches 8 --activation-bytes 100 --weight-grad-memory"
    assert (
        as_json(f"{share} 0.1")[1]["peak_bytes"][1]
        == 110
        < as_json(f"{share} 0.9")[1]["peak_bytes"][1]
    )
    assert "peak_bytes" not in as_json("simulate gpipe --ranks 2 --microbatches 8")[1]


def test_check_for_a_transport(as_json, csv):
    steady = csv("0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n")
    assert as_json(f"check {steady}") == as_json(f"check {steady} --transport ordered") == (
        0, {"ok": True, "ranks": 2, "stages": 2, "microbatches": 2}
    )  # fmt: skip
    code, data = as_json(f"check {steady} --transport blocking")
    assert (code, data["code"], data["rank"], data["step"], data["action"]) == (
        1,
        "deadlock",
        0,
        1,
        "0F1",
    )
    crossed = csv("0F0,0F1,0B1,0B0\n1F1,1F0,1B1,1B0\n", "crossed.csv")
    code, data = as_json(f"check {crossed} --transport ordered")
    assert (code, data["code"], data["action"], data["needs"]) == (1, "order", "1F1", "0F1")
