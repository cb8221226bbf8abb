"""Every kind of refusal: where, what it lacks, and a text that explains."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelab.catalogue import build
from pipelab.errors import ScheduleError
from pipelab.schedule import Schedule, check, require_legal

ANY_COUNTS = ["naive", "gpipe", "1f1b", "interleaved-1f1b", "zb-h1", "zb-v"]
"""Schedules that any numbers of ranks and micro-batches allow."""


def rows(*lines):
    return Schedule.from_rows([line.split() for line in lines])


CASES = {
    "rank without work": (rows("0F0 0B0", ""), "missing", 1, None, None, "Rank 1 has no actions"),
    "micro-batch out of range": (
        rows("0F0 0F1 0B0 0B1 0F7 0B7", "1F0 1F1 1B0 1B1"),
        "out-of-range",
        0,
        4,
        "0F7",
        "micro-batch 2 appears nowhere",
    ),
    "counting from one": (rows("0F1 0B1"), "out-of-range", 0, 0, "0F1", "counting starts at 0"),
    "stage out of range": (
        rows("0F0 0B0", "2F0 2B0"),
        "out-of-range",
        1,
        0,
        "2F0",
        "stage 1 appears nowhere",
    ),
    "wrong rank": (
        rows("0F0 0B0 0F1", "1F0 1B0 1F1 1B1 0B1"),
        "wrong-rank",
        1,
        4,
        "0B1",
        "belongs on rank 0",
    ),
    "duplicate": (rows("0F0 0F0 0B0", "1F0 1B0"), "duplicate", 0, 1, "0F0", "a second time"),
    "B twice": (rows("0F0 0B0 0B0", "1F0 1B0"), "duplicate", 0, 2, "0B0", "a second time"),
    "B beside I": (rows("0F0 0I0 0B0"), "mixed-backward", 0, 2, "0B0", "either one B, or I and W"),
    "B beside W": (rows("0F0 0B0 0W0"), "mixed-backward", 0, 1, "0B0", "0W0 is there too"),
    "no forward": (
        rows("0F0 0B0 0B1", "1F0 1B0 1F1 1B1"),
        "missing",
        0,
        None,
        "0F1",
        "runs every micro-batch forward",
    ),
    "no backward": (
        rows("0F0 0B0 0F1", "1F0 1B0 1F1 1B1"),
        "missing",
        0,
        None,
        "0B1",
        "needs its backward",
    ),
    "no W": (rows("0F0 0I0"), "missing", 0, None, "0W0", "leaves the weights without a gradient"),
    "no I": (rows("0F0 0W0"), "missing", 0, None, "0I0", "output gradient that I brings"),
    "no stage for one micro-batch": (
        rows("0F0 0F1 0B0 0B1", "1F0 1B0"),
        "missing",
        1,
        None,
        "1F1",
        "Rank 1: 1F1 is missing",
    ),
    "backward first": (
        rows("0B0 0F0", "1F0 1B0"),
        "order",
        0,
        0,
        "0B0",
        "activations that its forward kept",
    ),
    "W before I": (rows("0F0 0W0 0I0"), "order", 0, 1, "0W0", "comes before 0I0"),
    "recompute before forward": (rows("0R0 0F0 0B0"), "order", 0, 0, "0R0", "nothing to recompute"),
    "recompute after backward": (
        rows("0F0 0B0 0R0"),
        "order",
        0,
        1,
        "0B0",
        "restores the activations",
    ),
    "stages of one rank in the wrong order": (
        rows("1F0 0F0 1B0 0B0"),
        "order",
        0,
        0,
        "1F0",
        "on the same rank",
    ),
    "overlap with its own forward": (
        rows("(0F0;0B0)OVERLAP_F_B"),
        "order",
        0,
        0,
        "0B0",
        "comes before 0F0",
    ),
    "steps out of order": (
        rows("0F0 0B0 0STEP1 0STEP0"),
        "order",
        0,
        2,
        "0STEP1",
        "numbered as they stand",
    ),
    "a step is missing": (
        rows("0F0 0B0 0STEP0", "1F0 1B0"),
        "missing",
        1,
        None,
        "1STEP0",
        "take 1 optimizer steps",
    ),
    "a forward on weights in parts": (
        rows("0F0 0UNSHARD 0B0"),
        "order",
        0,
        0,
        "0F0",
        "comes before 0UNSHARD: each copy of the model holds only a part",
    ),
    "weights given back too early": (
        rows("0UNSHARD 0F0 0RESHARD 0B0"),
        "order",
        0,
        3,
        "0B0",
        "comes after 0RESHARD and before 0UNSHARD",
    ),
    "gathered twice": (
        rows("0UNSHARD 0UNSHARD 0F0 0B0"),
        "duplicate",
        0,
        1,
        "0UNSHARD",
        "gathers weights that are gathered already",
    ),
    "nothing to give back": (
        rows("0RESHARD 0UNSHARD 0F0 0B0"),
        "order",
        0,
        0,
        "0RESHARD",
        "gives back weights that are not there",
    ),
    "old weights": (
        rows("0UNSHARD 0F0 0B0 0STEP0 0F1 0B1 0STEP1"),
        "order",
        0,
        4,
        "0F1",
        "the weights from before the step",
    ),
    "a gradient after the sum": (
        rows("0F0 0F1 0B0 0REDUCE_GRAD 0B1", "1F0 1F1 1B0 1B1"),
        "order",
        0,
        3,
        "0REDUCE_GRAD",
        "comes before 0B1: the sum over the copies of the model would lack its gradient",
    ),
    "a weight gradient after the sum": (
        rows("0F0 0I0 0REDUCE_GRAD 0W0"),
        "order",
        0,
        2,
        "0REDUCE_GRAD",
        "nothing to sum",
    ),
    "summed twice": (
        rows("0F0 0B0 0REDUCE_GRAD 0REDUCE_GRAD"),
        "duplicate",
        0,
        3,
        "0REDUCE_GRAD",
        "sums gradients that are summed already",
    ),
    "a step before the sum": (
        rows("0F0 0B0 0STEP0 0REDUCE_GRAD"),
        "order",
        0,
        2,
        "0STEP0",
        "comes before 0REDUCE_GRAD",
    ),
    "a collective on the wrong rank": (
        rows("0F0 0B0 1UNSHARD", "1F0 1B0"),
        "wrong-rank",
        0,
        2,
        "1UNSHARD",
        "belongs on rank 1",
    ),
    "deadlock of two": (
        rows("0F0 0B0 0F1 0B1", "1F1 1F0 1B0 1B1"),
        "deadlock",
        0,
        1,
        "0B0",
        "The cycle: 0B0 → 1F1 → 0B0",
    ),
    "deadlock of three": (
        rows("0F0 0F1 0B0 0B1", "1F0 1B0 1F1 1B1", "2F1 2F0 2B0 2B1"),
        "deadlock",
        1,
        1,
        "1B0",
        "1B0 → 2F1 → 1B0",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_refusals(case):
    schedule, code, rank, step, action, text = CASES[case]
    refusal = check(schedule)
    assert refusal is not None
    assert (refusal.code, refusal.rank, refusal.step, refusal.action) == (code, rank, step, action)
    assert text in refusal.message
    with pytest.raises(ScheduleError) as caught:
        require_legal(schedule)
    assert caught.value.refusal == refusal
    assert set(refusal.to_dict()) == {"code", "rank", "step", "action", "needs", "message"}


def test_a_refusal_points_into_the_grid():
    message = check(rows("0F0 0F0 0B0", "1F0 1B0")).message
    assert message.splitlines()[1:] == [
        "rank 0  0F0 0F0 0B0",
        "            ^^^ here",
        "rank 1  1F0 1B0 .",
    ]


def test_a_deadlock_names_who_waits_for_what_from_whom():
    refusal = check(rows("0F0 0B0 0F1 0B1", "1F1 1F0 1B0 1B1"))
    assert refusal.needs == "1B0"
    assert (
        "rank 0 stands at 0B0 and needs 1B0 from rank 1, which must first run 1F1"
        in refusal.message
    )
    assert (
        "rank 1 stands at 1F1 and needs 0F1 from rank 0, which must first run 0B0"
        in refusal.message
    )


@given(
    name=st.sampled_from(ANY_COUNTS),
    ranks=st.integers(1, 6),
    microbatches=st.integers(1, 8),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_every_swap_is_either_legal_or_explained(name, ranks, microbatches, data):
    """Swap two actions of a rank anywhere: the check decides, and never fails itself."""
    schedule = build(name, ranks=ranks, microbatches=microbatches)
    actions = [list(row) for row in schedule.actions]
    row = data.draw(st.sampled_from(actions))
    i, j = (data.draw(st.integers(0, len(row) - 1)) for _ in range(2))
    row[i], row[j] = row[j], row[i]
    refusal = check(Schedule.from_rows(actions))
    if refusal:
        assert refusal.code in ("order", "deadlock")
        assert refusal.message


@given(
    name=st.sampled_from(ANY_COUNTS),
    ranks=st.integers(1, 5),
    microbatches=st.integers(1, 6),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_leaving_out_or_doubling_an_action_is_always_refused(name, ranks, microbatches, data):
    actions = [list(row) for row in build(name, ranks=ranks, microbatches=microbatches).actions]
    row = data.draw(st.sampled_from(actions))
    i = data.draw(st.integers(0, len(row) - 1))
    if data.draw(st.booleans()):
        row.insert(data.draw(st.integers(0, len(row))), row[i])
        assert check(Schedule.from_rows(actions)).code == "duplicate"
    else:
        del row[i]
        if any(actions):
            assert check(Schedule.from_rows(actions)).code in ("missing", "out-of-range")


LEGAL = {
    "gathered once": "0UNSHARD 0F0 0F1 0B0 0B1 0RESHARD 0REDUCE_GRAD",
    "gathered for each": "0UNSHARD 0F0 0RESHARD 0UNSHARD 0B0 0RESHARD 0REDUCE_GRAD",
    "given back before W": "0UNSHARD 0F0 0I0 0RESHARD 0W0 0REDUCE_GRAD",
    "summed after each backward": "0F0 0F1 0B0 0REDUCE_GRAD 0B1 0REDUCE_GRAD",
    "two steps": "0UNSHARD 0F0 0B0 0REDUCE_GRAD 0STEP0 0UNSHARD 0F1 0B1 0REDUCE_GRAD 0STEP1",
    "never given back": "0UNSHARD 0F0 0B0",
    "two replicas": "0UNSHARD 0UNSHARD@1 0F0 0B0 0F1@1 0B1@1 0RESHARD@1 0RESHARD 0REDUCE_GRAD@1",
}


@pytest.mark.parametrize("case", LEGAL)
def test_collectives_in_their_place(case):
    assert check(rows(LEGAL[case])) is None


@given(
    name=st.sampled_from(ANY_COUNTS),
    ranks=st.integers(1, 4),
    microbatches=st.integers(1, 4),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_a_collective_anywhere_is_either_legal_or_explained(name, ranks, microbatches, data):
    """Around all of a stage they are legal; one of them moved, the check decides."""
    actions = [list(row) for row in build(name, ranks=ranks, microbatches=microbatches).actions]
    for row in actions:
        for stage in sorted({action.stage for action in row}):
            row.insert(0, f"{stage}UNSHARD")
            row += [f"{stage}RESHARD", f"{stage}REDUCE_GRAD"]
    assert check(Schedule.from_rows(actions)) is None
    row = data.draw(st.sampled_from(actions))
    moved = row.pop(
        data.draw(st.sampled_from([i for i, a in enumerate(row) if isinstance(a, str)]))
    )
    row.insert(data.draw(st.integers(0, len(row))), moved)
    refusal = check(Schedule.from_rows(actions))
    if refusal:
        assert refusal.code == "order" and refusal.rank == actions.index(row)
        assert refusal.message.startswith(f"Rank {refusal.rank}, step {refusal.step}: ")
