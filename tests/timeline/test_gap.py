"""Measured minus predicted, in parts that sum exactly."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import pipelab
from pipelab.catalogue import entry, names
from pipelab.errors import UsageError
from pipelab.timeline import gap
from pipelab.timeline.gap import PARTS


def simulate(name="1f1b", ranks=2, microbatches=4, **costs):
    schedule = pipelab.build(name, ranks=ranks, microbatches=microbatches)
    return pipelab.simulate(schedule, pipelab.Costs(**costs))


def test_no_gap_to_itself():
    found = gap(simulate(latency=1), simulate(latency=1))
    assert found == dict.fromkeys(
        ("compute", "transfer", "waiting", "overhead", "processors", "total"), [0.0, 0.0]
    )


def test_slower_compute_on_one_rank_is_waiting_on_the_other():
    """Rank 1's actions take 1 and 2 more than assumed: 4 · 3 in all, for which rank 0 waits."""
    found = gap(simulate("gpipe", forward=[1, 2], backward=[2, 4]), simulate("gpipe"))
    assert found["compute"] == [0, 12] and found["overhead"] == found["transfer"] == [0, 0]
    assert found["waiting"][0] == found["total"][0] == found["total"][1]
    assert found["waiting"][1] == found["total"][1] - 12


def test_latency_is_transfer_where_somebody_waits_for_it():
    found = gap(simulate("naive", 2, 1, latency=0.5), simulate("naive", 2, 1))
    assert found["transfer"] == [0.5, 0] and found["total"] == [1, 1]
    assert found["waiting"] == [
        0.5,
        1,
    ]  # rank 0 also waits for the way there, rank 1 for that and for the way back


def test_time_between_actions_whose_input_was_there_is_overhead():
    expected = simulate("gpipe", 1, 2)
    times = {
        name: getattr(expected, name) + np.arange(4) * 0.25
        for name in ("arrived", "started", "ended")
    }
    asked = np.append(0.0, times["ended"][:-1])
    late = replace(expected, asked=asked, sent=asked, **times)
    assert gap(late, expected) == {
        "compute": [0.0], "transfer": [0.0], "waiting": [0.0], "overhead": [0.75],
        "processors": [0.0], "total": [0.75],
    }  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(names()), st.integers(1, 4), st.integers(1, 8), st.data())
def test_the_parts_sum_to_the_gap_on_every_rank(name, ranks, microbatches, data):
    assume(not entry(name).problem(ranks, microbatches))
    schedule = entry(name).build(ranks, microbatches)
    cost = st.floats(0.25, 4)
    per_stage = st.lists(cost, min_size=schedule.stages, max_size=schedule.stages)
    costs = [
        pipelab.Costs(
            data.draw(per_stage),
            input_grad=data.draw(cost),
            weight_grad=data.draw(cost),
            latency=data.draw(cost),
        )
        for _ in range(2)
    ]
    slow, expected = (pipelab.simulate(schedule, c) for c in costs)
    queued = data.draw(st.lists(st.floats(0, 9), min_size=ranks, max_size=ranks))
    slow = replace(slow, queued=np.array(queued))
    found = gap(slow, expected)
    sums = np.sum([found[part] for part in PARTS], axis=0)
    assert np.allclose(sums, slow.makespan - expected.makespan) and np.allclose(
        found["total"], sums
    )
    assert np.all(np.array(found["processors"]) <= np.array(queued) + 1e-9)
    assert np.allclose(found["overhead"], 0)  # the simulator starts an action as soon as it can


def test_what_cannot_be_compared():
    with pytest.raises(
        UsageError,
        match="two timelines of one schedule; these are of gpipe and 1f1b, with different actions",
    ):
        gap(simulate("gpipe"), simulate("1f1b"))
    measured = replace(simulate(), unit="s")
    with pytest.raises(
        UsageError,
        match="measured timeline is in s, the predicted one in abstract units: predict from costs",
    ):
        gap(measured, simulate())


def test_a_lack_of_processors_is_a_part_of_its_own():
    """Rank 1's actions take 12 more in all; for 5 of them no processor was free."""
    slow, expected = simulate("gpipe", forward=[1, 2], backward=[2, 4]), simulate("gpipe")
    starved = gap(replace(slow, queued=np.array([0.0, 5.0])), expected)
    assert starved["compute"] == [0, 7] and starved["processors"] == [0, 5]
    much = gap(replace(slow, queued=np.array([0.0, 99.0])), expected)
    assert much["compute"] == [0, 0] and much["total"] == starved["total"]
    faster = gap(replace(expected, queued=np.array([3.0, 3.0])), slow)
    assert faster["processors"][1] == 0  # what took less time than expected lacked nothing
