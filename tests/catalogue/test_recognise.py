"""A schedule is found again by its actions; a changed one, by what it is nearest to."""

from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipelab.catalogue import build, entry, names, recognise
from pipelab.catalogue.recognise import MANY, Difference, distance
from pipelab.schedule import Schedule, read_csv
from pipelab.simulator import Costs

FIXED = [name for name in names() if not entry(name).searched]
"""The schedules that have an order of their own; auto has whatever it finds."""
FILES = Path(__file__).parents[1] / "data" / "schedules"


def rows(*lines):
    return Schedule.from_rows([line.split() for line in lines])


@given(
    name=st.sampled_from(FIXED), ranks=st.integers(1, 6), microbatches=st.integers(1, 13),
    stages_per_rank=st.sampled_from([None, 1, 2, 3, 4]),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_every_schedule_recognises_itself_after_csv(name, ranks, microbatches, stages_per_rank):
    assume(entry(name).problem(ranks, microbatches, stages_per_rank) is None)
    schedule = build(name, ranks=ranks, microbatches=microbatches, stages_per_rank=stages_per_rank)
    found = recognise(Schedule.from_csv(schedule.to_csv()))
    assert found.exact and found.distance == 0 and found.differences == ()
    assert name in (found.name, *found.also)
    assert found.text.startswith(f"this is {found.name}")


@pytest.mark.parametrize("name", FIXED)
def test_at_a_size_where_most_are_apart_each_is_called_by_its_own_name(name):
    same = {"zb-1p": "zb-h1"}
    found = recognise(Schedule.from_csv(build(name, ranks=4, microbatches=12).to_csv()))
    assert found.name == same.get(name, name)


def test_a_swapped_pair_is_reported_where_it_stands():
    lines = build("1f1b", ranks=4, microbatches=8).to_csv().splitlines()
    cells = lines[2].split(",")
    assert cells[4:6] == ["2B1", "2F3"]
    cells[4:6] = "2F3", "2B1"
    lines[2] = ",".join(cells)
    found = recognise(Schedule.from_csv("\n".join(lines)))
    assert (found.name, found.exact, found.distance) == ("1f1b", False, 1)
    assert found.differences == (Difference(2, 4, "2F3", "2B1"),)
    assert (
        found.text
        == "nearest: 1f1b, 1 action stands elsewhere; first at rank 2, step 4: 2F3 where 1f1b "
        "has 2B1"
    )


def test_each_rank_that_differs_is_reported_once():
    found = recognise(rows("0F0 0F1 0F2 0F3 0B1 0B0 0B3 0B2", "1F0 1F1 1F2 1F3 1B1 1B0 1B2 1B3"))
    assert (found.name, found.distance) == ("gpipe", 3)
    assert found.differences == (Difference(0, 4, "0B1", "0B0"), Difference(1, 4, "1B1", "1B0"))
    assert (
        found.text
        == "nearest: gpipe, 3 actions stand elsewhere; first at rank 0, step 4: 0B1 where gpipe "
        "has 0B0"
    )


@pytest.mark.parametrize(
    ("row", "known", "steps"),
    [
        ("a b c d", "a b c d", 0),
        ("b a c d", "a b c d", 1),
        ("d a b c", "a b c d", 1),  # one action moved far is one action
        ("d c b a", "a b c d", 3),
        ("a b x d", "a b c d", 1),
        ("a b c d e f", "a b c d", 2),
        ("a", "b c", 2),
    ],
)
def test_distance(row, known, steps):
    assert (
        distance([row.split()], [known.split()])
        == distance([known.split()], [row.split()])
        == steps
    )


@given(st.permutations(range(7)))
def test_distance_against_all_subsequences(order):
    """By the textbook's table of longest common subsequences."""
    row, known = [str(i) for i in order], [str(i) for i in range(7)]
    table = [[0] * 8 for _ in range(8)]
    for i in range(7):
        for j in range(7):
            table[i + 1][j + 1] = (
                table[i][j] + 1 if row[i] == known[j] else max(table[i][j + 1], table[i + 1][j])
            )
    assert distance([row], [known]) == 7 - table[7][7]


def test_a_rank_that_ends_early_or_goes_on():
    asynchronous = rows("0F0 0B0 0STEP0", "1F0 1B0 1STEP0")
    assert recognise(asynchronous).name == "pipedream"
    recomputed = recognise(rows("0F0 0R0 0B0", "1F0 1B0"))
    assert (
        recomputed.text
        == "nearest: naive, 1 action stands elsewhere; first at rank 0, step 1: 0R0 where naive "
        "has 0B0"
    )
    stepped = recognise(rows("0F0 0I0 0W0 0STEP0", "1F0 1I0 1W0 1STEP0"))
    assert stepped.name == "zb-h1" and stepped.differences[0] == Difference(0, 3, "0STEP0", None)
    assert stepped.text.endswith("first at rank 0, step 3: 0STEP0 where zb-h1 has nothing more")


def test_what_the_catalogue_does_not_have():
    found = recognise(rows("0F0 2F0 2B0 0B0", "1F0 1B0"))
    assert (found.name, found.exact, found.distance, found.differences) == (None, False, None, ())
    assert (
        found.text
        == "the catalogue has no schedule of 2 ranks and 1 micro-batches that places 3 stages "
        "like this"
    )
    backwards = rows("3F0 0F0 3B0 0B0", "1F0 2F0 2B0 1B0")  # a V: the catalogue has it
    assert recognise(backwards).name is not None
    assert recognise(rows("1F0 1B0", "0F0 0B0")).name is None  # stage 0 on the last rank


def test_with_one_microbatch_many_are_the_same_and_the_simplest_gives_its_name():
    found = recognise(build("eager-1f1b", ranks=3, microbatches=1))
    assert found.name == "naive" and {"gpipe", "1f1b", "eager-1f1b"} <= set(found.also)
    assert found.text.startswith(
        "this is naive (for these sizes the same as gpipe, 1f1b, eager-1f1b"
    )


def test_what_auto_finds_is_called_by_the_name_of_a_schedule_with_that_order():
    assert recognise(build("auto", ranks=4, microbatches=12)).name == "zb-h1"


def test_schedules_that_follow_costs_are_found_with_these():
    costs = Costs(1, input_grad=1, weight_grad=1, latency=0.5)
    schedule = build("zb-2p", ranks=4, microbatches=8, costs=costs)
    assert recognise(schedule, costs=costs).name == "zb-2p"
    assert not recognise(schedule).exact


@pytest.mark.parametrize(
    ("file", "name", "exact"),
    [
        ("sail_v_half_4rank_12mb", "v-half", True),
        ("sail_v_half_8rank_24mb", "v-half", True),
        ("sail_v_min_4rank_12mb", "v-min", True),
        ("sail_v_min_8rank_24mb", "v-min", True),
        ("sail_zb1p_6.2B_8rank_24mb", "zb-h1", True),  # the same order as zb-1p for equal costs
        ("sail_zb1p_1.5B_8rank_24mb", "zb-h1", False),
        ("sail_zb2p_1.5B_8rank_24mb", "zb-2p", False),
        ("torch_dualpipev_4rank_10mb", "dualpipe-v", True),
        ("torch_zb1p_2rank_2stagep_compute", "interleaved-zb", True),
        ("torch_zb1p_2rank_2stagep_comms", "interleaved-zb", False),  # full backwards on its rank 0
        ("torchtitan_custom_schedule", "interleaved-zb", False),
    ],
)
def test_other_peoples_files(file, name, exact):
    found = recognise(read_csv(FILES / f"{file}.csv"))
    assert (found.name, found.exact) == (name, exact)


@pytest.mark.parametrize("name", ["zb-h1", "interleaved-1f1b", "dualpipe-v", "dualpipe"])
def test_large_schedules_too(name):
    """Tens of thousands of actions; of those that are slow to build, none."""
    original = build(name, ranks=16, microbatches=512)
    assert len(original.kind) > MANY
    assert recognise(Schedule.from_csv(original.to_csv())).name == name
    rows = [list(map(str, row)) for row in original.actions]
    rows[3][20], rows[3][21] = rows[3][21], rows[3][20]
    found = recognise(Schedule.from_rows(rows))
    assert (found.name, found.exact, found.distance, found.differences[0].rank) == (
        name,
        False,
        1,
        3,
    )
