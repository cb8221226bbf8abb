"""Latency and bandwidth link by link."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import pipelab
from pipelab.catalogue import names
from pipelab.errors import UsageError
from pipelab.simulator import closed_form


def build(name="gpipe", ranks=2, microbatches=3):
    return pipelab.build(name, ranks=ranks, microbatches=microbatches)


def starts(timeline):
    return {str(timeline.schedule.atom(i)): float(t) for i, t in enumerate(timeline.started)}


def test_a_link_carries_one_message_at_a_time():
    # F = 1, and each message takes 2 on the link: it is there at 3, 5, 7, not at 3, 4, 5.
    timeline = pipelab.simulate(build(), pipelab.Costs(bandwidth=0.5))
    assert [starts(timeline)[f"1F{i}"] for i in range(3)] == [3, 5, 7]
    # The gradients go the other way, on a link of their own: B = 2 from 8 on, so nothing queues.
    assert [starts(timeline)[f"0B{i}"] for i in range(3)] == [12, 14, 16]
    assert timeline.idle_by_cause["transfer"] == [2, 2]


def test_latency_comes_after_the_link_and_does_not_occupy_it():
    timeline = pipelab.simulate(build(), pipelab.Costs(bandwidth=0.5, latency=10))
    assert [starts(timeline)[f"1F{i}"] for i in range(3)] == [13, 15, 17]


def test_messages_are_as_large_as_the_output_they_carry_or_answer():
    costs = pipelab.Costs(bandwidth=2, message=[4, 6, 100])
    timeline = pipelab.simulate(build("naive", 3, 1), costs)
    at = starts(timeline)
    assert at["1F0"] == 1 + 4 / 2 and at["2F0"] == at["1F0"] + 1 + 6 / 2
    assert (
        at["1B0"] - at["2B0"] == 2 + 6 / 2 and at["0B0"] - at["1B0"] == 2 + 4 / 2
    )  # the last output goes nowhere


def test_tables_say_how_each_link_is():
    slow = [[0, 0, 0], [0, 0, 5], [0, 0, 0]]  # only from rank 1 to rank 2
    at = starts(pipelab.simulate(build("naive", 3, 1), pipelab.Costs(latency=slow)))
    assert (at["1F0"], at["2F0"], at["1B0"], at["0B0"]) == (1, 7, 10, 12)
    narrow = [[1, 1, 1], [1, 1, 0.25], [1, 1, 1]]
    at = starts(pipelab.simulate(build("naive", 3, 1), pipelab.Costs(bandwidth=narrow)))
    assert (at["1F0"], at["2F0"], at["1B0"], at["0B0"]) == (2, 7, 11, 14)


def test_a_slow_link_between_nodes_is_why_traffic_matters():
    """Interleaving divides the bubble and multiplies the traffic: over slow links it loses."""

    def makespan(name, v, bandwidth):
        schedule = pipelab.build(name, ranks=4, microbatches=8, stages_per_rank=v)
        return pipelab.simulate(
            schedule, pipelab.Costs(1 / v, backward=2 / v, bandwidth=bandwidth)
        ).makespan

    assert makespan("interleaved-1f1b", 2, 1000) < makespan("1f1b", 1, 1000)
    assert makespan("interleaved-1f1b", 2, 0.7) > makespan("1f1b", 1, 0.7)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(names()),
    st.integers(1, 5),
    st.integers(1, 9),
    st.sampled_from([0, 0.3, 2]),
    st.sampled_from([None, 0.5, 1.7]),
)
def test_links_for_every_schedule(name, ranks, microbatches, latency, bandwidth):
    """An endless bandwidth is none; on a finite one no two messages share a link; a table of equal
    entries is a number.
    """
    entry = pipelab.catalogue.entry(name)
    assume(not entry.problem(ranks, microbatches))
    schedule = entry.build(ranks, microbatches)
    free = pipelab.simulate(schedule, pipelab.Costs(latency=latency))
    fast = pipelab.simulate(schedule, pipelab.Costs(latency=latency, bandwidth=1e12))
    assert np.allclose(free.started, fast.started, atol=1e-6)
    costs = pipelab.Costs(latency=[[latency] * ranks] * ranks, bandwidth=bandwidth)
    timeline = pipelab.simulate(schedule, costs)
    assert timeline.makespan >= free.makespan - 1e-9
    if bandwidth is None:
        assert np.array_equal(timeline.started, free.started)
    else:
        assert_no_two_messages_share_a_link(timeline, latency, bandwidth)
    assert sum(map(sum, timeline.idle_by_cause.values())) == pytest.approx(
        sum(timeline.metrics["idle"])
    )


def assert_no_two_messages_share_a_link(timeline, latency, bandwidth):
    schedule = timeline.schedule
    producer = schedule.producer
    consumers = np.flatnonzero((producer >= 0) & (schedule.rank[producer] != schedule.rank))
    senders = producer[consumers]
    gone = (
        timeline.ended[senders] + timeline.transit[consumers] - latency
    )  # when the link was free again
    assert (gone >= timeline.ended[senders] + 1 / bandwidth - 1e-9).all()
    assert (timeline.started[consumers] >= gone + latency - 1e-9).all()
    ends = schedule.rank[senders].tolist(), schedule.rank[consumers].tolist()
    for link in set(zip(*ends, strict=True)):
        mine = (schedule.rank[senders] == link[0]) & (schedule.rank[consumers] == link[1])
        assert (np.diff(np.sort(gone[mine])) >= 1 / bandwidth - 1e-9).all()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            {"bandwidth": 0},
            "bandwidth is 0: nothing would ever arrive. Leave it out for links without a limit.",
        ),
        ({"bandwidth": -1}, "bandwidth is -1; it is a finite number, 0 or more."),
        ({"bandwidth": [[1, 0], [1, 1]]}, "bandwidth is 0: nothing would ever arrive"),
        (
            {"latency": [1, 2]},
            "latency is a number, or a square table with one row per sending and one column",
        ),
        ({"latency": [[1, 2], [3]]}, "latency is a number, or a square table"),
        ({"latency": [[1, -2], [3, 4]]}, "latency is -2; an entry of its table is a finite number"),
        ({"message": float("nan")}, "message is nan"),
    ],
)
def test_impossible_links(given, text):
    with pytest.raises(UsageError) as error:
        pipelab.Costs(**given)
    assert text in str(error.value)


def test_a_table_must_fit_the_ranks():
    for name in ("latency", "bandwidth"):
        with pytest.raises(
            UsageError, match=f"The table of {name} is for 3 ranks, but the schedule has 2."
        ):
            pipelab.simulate(build(), pipelab.Costs(**{name: [[1] * 3] * 3}))


def test_the_closed_forms_say_that_they_know_no_links():
    for costs in (pipelab.Costs(bandwidth=1), pipelab.Costs(latency=[[0, 1], [1, 0]])):
        with pytest.raises(UsageError, match="one latency and no bandwidth"):
            closed_form("gpipe", ranks=2, microbatches=4, costs=costs)
        with pytest.raises(UsageError, match="zb-2p are built for one latency"):
            pipelab.build("zb-2p", ranks=2, microbatches=4, costs=costs)
