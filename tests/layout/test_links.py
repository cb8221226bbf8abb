"""Links: α and β come back from transfers that are known, and waiting is not transfer."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pipelab
from pipelab.errors import UsageError
from pipelab.layout.links import transfers


def measured(link, size, *, microbatches=3, ranks=3, name="naive"):
    """A timeline as a run on such a link would leave it, with messages of one size."""
    schedule = pipelab.build(name, ranks=ranks, microbatches=microbatches)
    timeline = pipelab.simulate(schedule, pipelab.Costs(link=link, message=size))
    return replace(
        timeline, bytes_sent=np.full(len(schedule.kind), float(size)), source="measured", unit="s"
    )


latencies = st.floats(1e-6, 1e-2)


@settings(deadline=None, max_examples=60)
@given(
    latencies,
    st.floats(1e6, 1e10),
    st.lists(st.integers(1_000, 100_000_000), min_size=2, max_size=5, unique=True),
)
def test_what_went_in_comes_out(latency, bandwidth, sizes):
    link = pipelab.Link(latency, bandwidth)
    found = pipelab.fit_link([measured(link, size) for size in sizes])
    for size in sizes:
        assert found.seconds(size) == pytest.approx(link.seconds(size), rel=1e-3)


def test_one_slow_transfer_does_not_count():
    link = pipelab.Link(1e-3, 1e6)
    timelines = [measured(link, size, microbatches=9) for size in (1000, 5000)]
    late = timelines[0].arrived.copy()
    late[timelines[0].schedule.crosses.nonzero()[0][2]] += 100
    found = pipelab.fit_link([replace(timelines[0], arrived=late), timelines[1]])
    assert found.latency == pytest.approx(1e-3, rel=1e-6)
    assert found.bandwidth == pytest.approx(1e6, rel=1e-6)


def test_waiting_is_not_transfer():
    """In 1F1B, ranks wait for others to compute: that is left out, and so is what came early."""
    link = pipelab.Link(0.25, 100.0)
    sizes, seconds = transfers(measured(link, 25, name="1f1b", microbatches=8))
    assert (sizes == 25).all() and 0 < len(sizes) < 2 * 2 * 8
    assert seconds == pytest.approx(np.full(len(seconds), 0.5))


def test_of_a_run_the_first_step_is_left_out():
    class Run:
        timelines = (
            measured(pipelab.Link(9, 1), 8),
            measured(pipelab.Link(1, 4), 8),
            measured(pipelab.Link(1, 4), 16),
        )

    found = pipelab.fit_link(Run())
    assert (found.latency, found.bandwidth) == (pytest.approx(1), pytest.approx(4))


def test_costs_take_a_link():
    costs = pipelab.Costs(link=pipelab.Link(0.5, 4.0), message=8)
    assert costs == pipelab.Costs(latency=0.5, bandwidth=4.0, message=8)
    schedule = pipelab.build("naive", ranks=2, microbatches=1)
    assert pipelab.simulate(schedule, costs).makespan == 6 + 2 * (0.5 + 8 / 4)
    with pytest.raises(UsageError, match="give the link, or the two numbers"):
        pipelab.Costs(link=pipelab.Link(1), latency=2)


@pytest.mark.parametrize(
    ("runs", "text"),
    [
        ([], "There is no transfer that a rank has waited for"),
        (measured(pipelab.Link(1), 8), "All messages have 8 bytes, and one size cannot tell"),
        (
            [measured(pipelab.Link(2), 8), measured(pipelab.Link(1), 16)],
            "Messages of 16 bytes took no longer than those of 8",
        ),
        (replace(measured(pipelab.Link(1), 8), source="predicted"), "has no measured transfers"),
        (7, "fit_link takes runs or timelines, not a int"),
    ],
)
def test_refusals_to_fit(runs, text):
    with pytest.raises(UsageError, match=text):
        pipelab.fit_link(runs)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"latency": -1}, "latency is -1; it is a number of seconds"),
        ({"bandwidth": 0}, "bandwidth is 0; it is a number of bytes per second above 0"),
        ({"latency": "a"}, "latency is 'a'"),
    ],
)
def test_impossible_links(given, text):
    with pytest.raises(UsageError, match=text):
        pipelab.Link(**given)
