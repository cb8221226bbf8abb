from pathlib import Path

import pytest

from pipelab.catalogue import build
from pipelab.errors import ScheduleError, ScheduleFormatError
from pipelab.schedule import Kind, Schedule, check, read_csv, refusal_of_text
from pipelab.schedule.csv import unreadable_by_torch

FILES = sorted((Path(__file__).parents[1] / "data" / "schedules").glob("*.csv"))

ANY_COUNTS = ["naive", "gpipe", "1f1b", "interleaved-1f1b", "zb-h1", "zb-v"]
"""Schedules that any numbers of ranks and micro-batches allow."""


@pytest.mark.parametrize("name", ANY_COUNTS)
@pytest.mark.parametrize("ranks", [1, 2, 5])
@pytest.mark.parametrize("microbatches", [1, 4])
def test_round_trip(name, ranks, microbatches):
    schedule = build(name, ranks=ranks, microbatches=microbatches)
    assert Schedule.from_csv(schedule.to_csv()) == schedule


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_files_of_other_projects_are_read_and_legal(path):
    schedule = read_csv(path)
    assert schedule.name == path.stem
    assert check(schedule) is None
    assert Schedule.from_csv(schedule.to_csv()) == schedule


def test_lowered_file_has_the_computation_of_its_twin():
    folder = FILES[0].parent
    lowered, plain = (
        read_csv(folder / f"torch_zb1p_2rank_2stagep_{k}.csv") for k in ("comms", "compute")
    )
    assert lowered.kinds == {Kind.F, Kind.I, Kind.W, Kind.B} and plain.kinds == {
        Kind.F,
        Kind.I,
        Kind.W,
    }
    assert [lowered.ranks, lowered.stages, lowered.microbatches] == [
        plain.ranks,
        plain.stages,
        plain.microbatches,
    ]


def test_empty_cells_are_idle_and_trailing_lines_nothing():
    text = "0F0,,,0B0\r\n,1F0,1B0,\r\n\r\n"
    assert Schedule.from_csv(text) == Schedule.from_rows([["0F0", "0B0"], ["1F0", "1B0"]])


def test_communication_is_verified_then_dropped():
    lowered = (
        "0UNSHARD,0F0,0SEND_F0,0RECV_B0,0B0,0REDUCE_GRAD,0RESHARD\n1RECV_F0,1F0,1B0,1SEND_B0\n"
    )
    assert Schedule.from_csv(lowered) == Schedule.from_rows([["0F0", "0B0"], ["1F0", "1B0"]])


@pytest.mark.parametrize(
    ("text", "action", "why"),
    [
        ("0SEND_F0,0F0,0B0\n1F0,1B0", "0SEND_F0", "computes only later"),
        ("0F0,0B0\n1F0,1RECV_F0,1B0", "1RECV_F0", "has already run"),
        ("0F0,0B0,0RECV_B0\n1F0,1B0", "0RECV_B0", "has already run"),
        ("0F0,0B0\n1F0,1SEND_B0,1B0", "1SEND_B0", "computes only later"),
        ("0F0,1SEND_F0,0B0\n1F0,1B0", "1SEND_F0", "does not run"),
        ("0F0,0B0,0UNSHARD\n1F0,1B0", "0UNSHARD", "after the last action"),
        ("0REDUCE_GRAD,0F0,0B0\n1F0,1B0", "0REDUCE_GRAD", "before the first action"),
        ("0F0,7RESHARD,0B0\n1F0,1B0", "7RESHARD", "does not run"),
    ],
)
def test_communication_on_the_wrong_side_is_refused(text, action, why):
    with pytest.raises(ScheduleError, match=why) as caught:
        Schedule.from_csv(text)
    assert caught.value.refusal.code == "order" and caught.value.refusal.action == action


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("0F0,0B0\n1F0,1BB0", "line 2, cell 2: '1BB0' is not an action"),
        ("0F0,,0B0x", "line 1, cell 3: '0B0x'"),
    ],
)
def test_unreadable_cells_are_named_by_line_and_cell(text, place):
    with pytest.raises(ScheduleFormatError) as caught:
        Schedule.from_csv(text)
    assert str(caught.value).startswith(place)


def test_refusal_of_text_counts_actions_not_cells():
    refusal = refusal_of_text("0F0,,0B0x")
    assert (refusal.code, refusal.rank, refusal.step, refusal.action) == ("syntax", 0, 1, "0B0x")
    assert refusal_of_text("0F0,0B0") is None
    assert refusal_of_text("0B0,0F0").code == "order"
    assert refusal_of_text("0SEND_F0,0F0,0B0\n1F0,1B0").code == "order"
    assert refusal_of_text("").code == "syntax"


@pytest.mark.parametrize("text", ["", "\n\n", ",,\n", '"0F0'])
def test_no_schedule_at_all(text):
    with pytest.raises(ScheduleFormatError):
        Schedule.from_csv(text)


def test_a_file_that_is_not_text(tmp_path):
    path = tmp_path / "image.csv"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ScheduleFormatError, match="is not text"):
        read_csv(path)


def test_our_additions_are_said():
    assert unreadable_by_torch(build("1f1b", ranks=2, microbatches=2)) is None
    ours = Schedule.from_rows(["0F0 0R0 0B0 0STEP0".split(), "1F0 1B0 1STEP0".split()])
    assert "R (recompute), STEP (optimizer step)" in unreadable_by_torch(ours)
    twice = Schedule.from_rows(["0F0 0B0 1F1@1 1B1@1".split(), "1F0 1B0 0F1@1 0B1@1".split()])
    assert "second replica" in unreadable_by_torch(twice)


LOWERED = """0UNSHARD,0F0,0SEND_F0,0RECV_B0,0B0,0RESHARD,0REDUCE_GRAD
1UNSHARD,1RECV_F0,1F0,1B0,1SEND_B0,1RESHARD,1REDUCE_GRAD
"""


def test_collectives_are_kept_on_demand(tmp_path):
    path = tmp_path / "lowered.csv"
    path.write_text(LOWERED)
    kept = read_csv(path, collectives=True)
    assert check(kept) is None
    assert kept.to_csv() == (
        "0UNSHARD,0F0,0B0,0RESHARD,0REDUCE_GRAD\n1UNSHARD,1F0,1B0,1RESHARD,1REDUCE_GRAD\n"
    )
    assert Schedule.from_csv(kept.to_csv(), collectives=True) == kept
    assert Schedule.from_csv(kept.to_csv()) == read_csv(path)
    assert unreadable_by_torch(kept) is None  # they are torch's own
    assert kept.microbatches == 1 and kept.kinds >= {Kind.UNSHARD, Kind.RESHARD, Kind.REDUCE_GRAD}


def test_a_collective_of_the_second_replica_is_read():
    text = "0UNSHARD,0UNSHARD@1,0F0,0B0,0F1@1,0B1@1"
    kept = Schedule.from_csv(text, collectives=True)
    assert kept.to_csv().strip() == text and kept.replicas == 2
    assert Schedule.from_csv(text).to_csv().strip() == "0F0,0B0,0F1@1,0B1@1"


def test_kept_collectives_are_judged_by_the_check():
    assert check(Schedule.from_csv("0F0,0UNSHARD,0B0", collectives=True)).code == "order"
    assert check(Schedule.from_csv("0F0,0UNSHARD,0B0")) is None
