import pytest

from pipelab.catalogue import build
from pipelab.errors import UsageError
from pipelab.schedule import Action, Kind, Overlap, Schedule


def test_sizes_and_placement_follow_from_the_rows():
    schedule = Schedule.from_rows(["0F0 3F0 3B0 0B0".split(), "1F0 2F0 2B0 1B0".split()])
    assert (schedule.ranks, schedule.stages, schedule.microbatches, schedule.replicas) == (
        2,
        4,
        1,
        1,
    )
    assert schedule.placement == {(0, 0): 0, (0, 3): 0, (0, 1): 1, (0, 2): 1}
    assert schedule.stages_per_rank == 2
    assert (
        Schedule.from_rows(["0F0 1F0 1B0 0B0".split(), "2F0 2B0".split()]).stages_per_rank is None
    )


def test_actions_are_views_of_the_columns():
    schedule = Schedule.from_rows(["0F0 (0F1;0B0)OVERLAP_F_B 0B1".split()])
    row = schedule.actions[0]
    assert (
        len(row) == 3
        and schedule.kind.tolist() == [0, 0, 1, 1]
        and schedule.cell.tolist() == [0, 1, 1, 2]
    )
    assert row[1] == Overlap(Action(Kind.F, 0, 1), Action(Kind.B, 0, 0))
    assert row[-1] == Action(Kind.B, 0, 1) and row[:1] == [Action(Kind.F, 0, 0)]
    assert [str(a) for a in row] == ["0F0", "(0F1;0B0)OVERLAP_F_B", "0B1"]
    with pytest.raises(IndexError):
        row[3]
    assert repr(schedule.actions) == "[[0F0, (0F1;0B0)OVERLAP_F_B, 0B1]]"


def test_equality_is_about_actions_not_names():
    a, b = (build("gpipe", ranks=2, microbatches=m) for m in (2, 3))
    assert a == Schedule.from_rows(a.actions, name="mine")
    assert a != b and a != "gpipe"


def test_nothing_and_nonsense_are_refused():
    with pytest.raises(UsageError, match="empty"):
        Schedule.from_rows([[]])
    with pytest.raises(UsageError, match="weights is 'three'"):
        Schedule.from_rows([["0F0", "0B0"]], weights="three")


def test_grid_by_time_and_by_step():
    assert build("gpipe", ranks=2, microbatches=2).grid() == (
        "rank 0  0F0 0F1 .   .   0B0 0B1\nrank 1  .   1F0 1F1 1B0 1B1 ."
    )
    stuck = Schedule.from_rows(["0F0 0B0 0F1 0B1".split(), "1F1 1F0 1B0 1B1".split()])
    assert stuck.grid() == "rank 0  0F0 0B0 0F1 0B1\nrank 1  1F1 1F0 1B0 1B1"
