"""Idle time and bubbles are never below 0, whatever the costs: sums of floats are rounded."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelab import Costs, build, simulate
from pipelab.catalogue import entry, names
from pipelab.timeline.metrics import without_rounding

UNSEARCHED = [name for name in names() if not entry(name).searched]
time = st.floats(1e-6, 10)


@given(
    name=st.sampled_from(UNSEARCHED),
    ranks=st.integers(1, 5),
    microbatches=st.integers(1, 10),
    costs=st.builds(Costs, time, input_grad=time, weight_grad=time, latency=st.just(0) | time),
)
@settings(max_examples=150, deadline=None)
def test_nothing_idle_is_negative(name, ranks, microbatches, costs):
    if entry(name).problem(ranks, microbatches, None, costs):
        return
    schedule = build(name, ranks=ranks, microbatches=microbatches, costs=costs)
    timeline = simulate(schedule, costs)
    found = timeline.metrics
    assert min(found["idle"]) >= 0
    for bubble in ("bubble_fraction", "bubble_overhead", "bubble_rate"):
        assert found[bubble] >= 0, bubble
    assert min(timeline.wait_per_rank) >= 0
    causes = np.array(list(timeline.idle_by_cause.values()))
    assert causes.min() >= 0
    near = pytest.approx(found["idle"], abs=1e-9 * found["makespan"])
    assert causes.sum(axis=0).tolist() == near


def test_a_real_error_is_not_hidden():
    left = without_rounding(np.array([-5e-17, 0.25, -0.5]), 1.0)
    assert left.tolist() == [0, 0.25, -0.5]
