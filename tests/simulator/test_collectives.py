"""UNSHARD, RESHARD and REDUCE_GRAD take time on their rank, and nothing else."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelab import Costs, Memory, Schedule, build, simulate
from pipelab.errors import ScheduleError, UsageError
from pipelab.timeline import idle

NAMES = ("naive", "gpipe", "1f1b", "interleaved-1f1b", "zb-h1", "zb-v")
ROWS = [
    "0UNSHARD 0F0 0F1 0B0 0B1 0RESHARD 0REDUCE_GRAD".split(),
    "1UNSHARD 1F0 1B0 1F1 1B1 1RESHARD 1REDUCE_GRAD".split(),
]


def around(schedule: Schedule) -> Schedule:
    """With the collectives of every stage of a rank around its actions."""
    rows = []
    for row in schedule.actions:
        stages = sorted({action.stage for action in row})
        before = [f"{stage}UNSHARD" for stage in stages]
        after = [f"{stage}{kind}" for stage in stages for kind in ("RESHARD", "REDUCE_GRAD")]
        rows.append([*before, *map(str, row), *after])
    return Schedule.from_rows(rows, name=schedule.name)


@given(
    name=st.sampled_from(NAMES),
    ranks=st.integers(1, 4),
    microbatches=st.integers(1, 5),
    latency=st.floats(0, 2),
)
@settings(max_examples=40, deadline=None)
def test_without_a_cost_they_change_nothing(name, ranks, microbatches, latency):
    plain = build(name, ranks=ranks, microbatches=microbatches)
    costs = Costs(latency=latency)
    before, after = simulate(plain, costs), simulate(around(plain), costs)
    for number in set(before.metrics) - {"spans", "bubble_rate"}:  # they begin with UNSHARD
        assert before.metrics[number] == after.metrics[number]
    assert sum(map(sum, before.idle_by_cause.values())) == pytest.approx(
        sum(map(sum, after.idle_by_cause.values()))
    )
    work = after.schedule.of_microbatch
    assert np.array_equal(before.ended, after.ended[work])
    assert np.array_equal(before.bytes_held, after.bytes_held[work])


def test_each_takes_its_cost_per_stage():
    plain = simulate(Schedule.from_rows(ROWS)).makespan
    timeline = simulate(
        Schedule.from_rows(ROWS), Costs(unshard=(1, 5), reshard=2, reduce_grad=(3, 4))
    )
    assert timeline.compute[timeline.schedule.kind >= 6].tolist() == [1, 2, 3, 5, 2, 4]
    assert timeline.makespan == plain + 4 + 2 + 3  # rank 1 gathers while rank 0 does, and F0
    assert timeline.metrics["peak_in_flight"] == [2, 1]
    assert timeline.metrics["spans"] == [timeline.makespan, 5 + 6 + 2 + 4]
    for rank, idle_time in enumerate(timeline.metrics["idle"]):
        assert sum(i.end - i.start for i in timeline.idle if i.rank == rank) == idle_time


def test_costs_are_judged_as_the_others_are():
    with pytest.raises(UsageError, match="reduce_grad is -1; a duration is"):
        Costs(reduce_grad=-1)
    with pytest.raises(UsageError, match="3 costs per stage, but the schedule has 2 stages"):
        simulate(Schedule.from_rows(ROWS), Costs(unshard=(1, 1, 1)))
    with pytest.raises(ScheduleError, match="comes before 0UNSHARD"):
        simulate(Schedule.from_rows([["0F0", "0UNSHARD", "0B0"]]))


def test_optimizer_steps_recomputation_and_memory_go_with_them():
    schedule = around(build("1f1b", ranks=2, microbatches=2))
    plain = build("1f1b", ranks=2, microbatches=2)
    sizes = Memory(activations=8, inputs=1, weights=5, gradients=3, optimizer_state=6)
    for options in ({"optimizer": "local", "steps": 2}, {"optimizer": "barrier"}):
        for recompute in (None, "early", "in-backward"):
            costs = Costs(latency=0.5, recompute=1, step=1)
            with_them, without = (
                simulate(s, costs, recompute=recompute, memory=sizes, **options)
                for s in (schedule, plain)
            )
            assert with_them.makespan == without.makespan
            assert with_them.peak_bytes == without.peak_bytes
            assert with_them.version.max() == without.version.max()
            assert with_them.schedule.microbatches == without.schedule.microbatches


def test_no_action_is_said_to_be_ready_before_its_weights_are_gathered():
    """Rank 1 waits for 1F1; 1B0 needs 1UNSHARD, which stands between, so nothing could run."""
    rows = [
        "0F0 0F1 0B0 0B1".split(),
        "1UNSHARD 1F0 1RESHARD 1UNSHARD 1F1 1RESHARD 1UNSHARD 1B0 1B1".split(),
    ]
    waits = [
        i
        for i in simulate(Schedule.from_rows(rows), Costs(forward=(3, 1))).idle
        if i.rank == 1 and i.cause != "cool-down"
    ]
    assert waits and all(i.forced for i in waits)
    assert set(idle.CAUSES) >= {i.cause for i in waits}


def test_exports_have_no_micro_batch_for_them():
    timeline = simulate(Schedule.from_rows(ROWS), Costs(unshard=1))
    events = json.loads(json.dumps(timeline.to_json()))["events"]
    assert events["kind"][0] == "UNSHARD" and events["microbatch"][0] is None
    assert events["microbatch"][1] == 0
    chrome = [e for e in timeline.to_chrome()["traceEvents"] if e["ph"] == "X"]
    assert chrome[0]["name"] == "0UNSHARD" and chrome[0]["args"]["microbatch"] is None
    assert chrome[0]["cat"] == "gather weights"
    assert timeline.critical_path[0] in (0, 7)  # gathering begins the longest chain
