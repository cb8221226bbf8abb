"""A timeline drawn with letters: exactly, in small cases; true in time, in all."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import pipelab
from pipelab.catalogue import build, entry, names
from pipelab.timeline.text import draw


def drawn(name_or_rows, width, *, ranks=2, microbatches=2, **costs):
    if isinstance(name_or_rows, str):
        schedule = build(name_or_rows, ranks=ranks, microbatches=microbatches)
    else:
        schedule = pipelab.Schedule.from_rows([row.split() for row in name_or_rows])
    return draw(pipelab.simulate(schedule, pipelab.Costs(**costs)), width).splitlines()


def test_forwards_backwards_and_idle():
    assert drawn("1f1b", 40) == [
        "rank 0  F0-F1-......B0====...B1====",
        "rank 1  ...F0-B0====F1-B1====......",
        "        0                         9",
        "F- forward, B= backward, . idle",
    ]


def test_letters_alone_where_numbers_do_not_fit():
    assert drawn("1f1b", 19)[:3] == [
        "rank 0  FF..B0.B1",
        "rank 1  .FB0FB1..",
        "        0       9",
    ]


def test_too_little_room_for_every_unit_is_still_true_in_time():
    """33 units in 20 columns: a column shows what runs in the middle of its 1.65 units."""
    assert drawn("gpipe", 28, microbatches=10)[:3] == [
        "rank 0  FFFFFF..BBB2BBBBB7BB",
        "rank 1  .FFFFFFBBBB3BBBBB8B.",
        "        0                 33",
    ]


def test_times_that_are_no_multiples_of_a_unit_use_the_whole_width():
    """9.6 units in 22 columns: of the latency of 0.3, what lies in the middle of a column shows."""
    assert drawn("1f1b", 30, latency=0.3)[:3] == [
        "rank 0  F0F1-......B0==..B1===",
        "rank 1  ...F0B0===F1B1===.....",
        "        0                  9.6",
    ]


def test_the_split_backward_and_the_stage_where_a_rank_has_several():
    """The stage is drawn while a sign fits behind it; then stage and number give way, the kind
    never.
    """
    rows = ["0F0 3F0 3I0 3W0 0I0 0W0", "1F0 2F0 2I0 2W0 1I0 1W0"]
    assert drawn(rows, 60) == [
        "rank 0  0F0--..........3F0--3I0::3W0~~..........0I0::0W0~~",
        "rank 1  .....1F0--2F0--..........2I0::2W0~~1I0::1W0~~.....",
        "        0                                               10",
        "F- forward, I: input gradient, W~ weight gradient, . idle",
    ]
    assert drawn(rows, 40)[0] == "rank 0  F0-......F0-I0:W0~......I0:W0~"
    assert drawn(rows, 30)[0] == "rank 0  F0....F0I0W0....I0W0"
    assert drawn(rows, 20)[0] == "rank 0  F..FIW..IW"


def test_overlapped_pairs():
    rows = ["0F0 (0F1;0B0)OVERLAP_F_B 0B1"]
    assert drawn(rows, 40) == [
        "rank 0  F0---F1B0###########B1========",
        "        0                            6",
        "F- forward, B= backward, # forward and backward at once, . idle",
    ]
    assert drawn(rows, 30)[0] == "rank 0  F0-F1B0#####B1===="
    assert drawn(rows, 18, overlap=1)[0] == "rank 0  F0F#B1=="


def test_kinds_that_take_no_time_are_not_explained():
    assert drawn("pipedream", 60)[-1] == "F- forward, B= backward, . idle"
    assert (
        drawn("pipedream", 60, step=1)[-1] == "F- forward, B= backward, S+ optimizer step, . idle"
    )


def test_collectives_have_a_letter_and_no_number():
    rows = ["0UNSHARD 0F0 0B0 0RESHARD 0REDUCE_GRAD"]
    assert drawn(rows, 28, unshard=1, reshard=1, reduce_grad=2) == [
        "rank 0  U<F0B0==H>G%%%",
        "        0            7",
        "F- forward, B= backward, U< gather weights, H> give weights back, G% reduce gradients, "
        ". idle",
    ]
    assert drawn(rows, 28)[-1] == "F- forward, B= backward, . idle"


def test_the_axis_is_as_long_as_the_rows():
    """Seven columns have no room for 2.33333: the axis was longer than the rows above it."""
    timeline = pipelab.simulate(build("naive", ranks=1, microbatches=1), pipelab.Costs(1 / 3))
    for width in range(10, 40):
        lines = draw(timeline, width).splitlines()[:-1]
        assert len({len(line) for line in lines}) == 1, lines


@given(
    name=st.sampled_from(names()),
    f=st.floats(0.1, 9),
    latency=st.floats(0, 3),
    width=st.integers(20, 200),
    ranks=st.integers(1, 12),
    microbatches=st.integers(1, 24),
)
@settings(max_examples=150, deadline=None)
def test_as_much_is_drawn_idle_as_is_idle(name, f, latency, width, ranks, microbatches):
    assume(entry(name).problem(ranks, microbatches) is None)
    timeline = pipelab.simulate(
        build(name, ranks=ranks, microbatches=microbatches), pipelab.Costs(f, latency=latency)
    )
    *rows, axis, _ = draw(timeline, width).splitlines()
    label = len(axis) - len(axis.lstrip())
    assert len({len(line) for line in [*rows, axis]}) == 1 and len(axis) <= max(width, label + 10)
    column = timeline.makespan / (len(axis) - label)
    for rank, row in enumerate(rows):
        mine = [i for i in timeline.idle if i.rank == rank]
        assert row[label:].count(".") * column == pytest.approx(
            timeline.metrics["idle"][rank], abs=(len(mine) + 1) * column
        )
        middles = (np.arange(len(axis) - label) + 0.5) * column
        for sign, t in zip(row[label:], middles, strict=True):
            # A middle that falls on the end of an interval, but for rounding, may be drawn either
            # way.
            if all(
                abs(t - edge) > 1e-9 * timeline.makespan for i in mine for edge in (i.start, i.end)
            ):
                assert (sign == ".") == any(i.start <= t < i.end for i in mine)
