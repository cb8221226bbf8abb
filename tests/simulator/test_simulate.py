import pytest

import pipelab
from pipelab.errors import ScheduleError, UnknownName, UsageError


def build(name="1f1b", ranks=4, microbatches=8):
    return pipelab.build(name, ranks=ranks, microbatches=microbatches)


def rows(*lines):
    return pipelab.Schedule.from_rows([line.split() for line in lines])


@pytest.mark.parametrize(
    ("given", "durations"),
    [
        ({}, (1, 2, 1, 1, 3)),
        ({"backward": 4}, (1, 4, 2, 2, 5)),
        ({"input_grad": 3, "weight_grad": 1}, (1, 4, 3, 1, 5)),
        ({"backward": 5, "weight_grad": 1}, (1, 5, 4, 1, 6)),
        ({"backward": 5, "input_grad": 1}, (1, 5, 1, 4, 6)),
        ({"forward": 2, "overlap": 3.5}, (2, 2, 1, 1, 3.5)),
        ({"forward": [1, 2]}, ((1, 2), 2, 1, 1, (3, 4))),
        ({"backward": [2, 6]}, (1, (2, 6), (1, 3), (1, 3), (3, 7))),
    ],
)
def test_missing_costs_follow(given, durations):
    values = pipelab.Costs(**given).durations
    assert (
        tuple(values[k] for k in ("forward", "backward", "input_grad", "weight_grad", "overlap"))
        == durations
    )


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"forward": -1}, "forward is -1; a duration is a finite number"),
        ({"backward": float("inf")}, "backward is inf"),
        ({"latency": float("nan")}, "latency is nan"),
        ({"forward": "2"}, "forward is '2'"),
        ({"forward": [1, -2]}, "forward is -2"),
        ({"forward": [1, 2], "backward": [1, 2, 3]}, "different lengths"),
        ({"backward": 1, "weight_grad": 2}, "takes longer than all of it"),
    ],
)
def test_impossible_costs(given, text):
    with pytest.raises(UsageError, match=text):
        pipelab.Costs(**given)


def test_costs_per_stage_must_fit_the_schedule():
    with pytest.raises(UsageError, match="3 costs per stage, but the schedule has 4 stages"):
        pipelab.simulate(build(), pipelab.Costs(forward=[1, 2, 3]))


def test_the_slowest_stage_sets_the_beat():
    metrics = pipelab.simulate(
        build("gpipe", 4, 100), pipelab.Costs(forward=[1, 1, 3, 1], backward=[2, 2, 6, 2])
    ).metrics
    assert (
        metrics["makespan"] == 100 * 9 + 3 * 1 + 3 * 2
    )  # the slow stage never waits; others fill in and drain
    assert metrics["idle"][2] == pytest.approx(9)


def test_latency_delays_data_between_ranks_only():
    v_shape = rows("0F0 0F1 3F0 3B0 3F1 3B1 0B0 0B1", "1F0 2F0 1F1 2F1 2B0 1B0 2B1 1B1")
    one_rank = rows("0F0 1F0 1B0 0B0")
    assert pipelab.simulate(one_rank, pipelab.Costs(latency=100)).makespan == 6
    near, far = (
        pipelab.simulate(v_shape, pipelab.Costs(latency=latency)).makespan for latency in (0, 1)
    )
    assert near < far


def test_waiting_and_transfer_are_kept_apart():
    timeline = pipelab.simulate(build("naive", 2, 1), pipelab.Costs(1, backward=2, latency=0.5))
    # rank 0: F0 0–1, then waits for 1B0, which ends at 4.5, and half a unit for its data.
    assert timeline.waiting.tolist() == [0, 3.5, 0, 0]
    assert timeline.transfer.tolist() == [0, 0.5, 0, 0]
    assert [(i.rank, i.start, i.end, i.cause) for i in timeline.idle] == [
        (0, 1, 4.5, "downstream-backward"),
        (0, 4.5, 5, "transfer"),
        (1, 0, 1.5, "warm-up"),
        (1, 4.5, 7, "cool-down"),
    ]
    assert timeline.critical_path == [0, 2, 3, 1]


def test_split_backwards_and_activations_in_halves():
    timeline = pipelab.simulate(rows("0F0 0F1 0I0 0W0 0I1 0W1"))
    assert timeline.makespan == 6
    assert timeline.bytes_held.tolist() == [1, 2, 2, 1.5, 1, 0.5]
    assert timeline.bytes_after.tolist() == [1, 2, 1.5, 1, 0.5, 0]
    assert timeline.metrics["peak_in_flight"] == [2]
    assert timeline.metrics["peak_in_flight_until_weight_grad"] == [2]


def test_a_pair_of_unequal_stages_costs_what_both_cost():
    """Both were counted as of the first one's stage."""
    schedule = pipelab.build("dualpipe", ranks=4, microbatches=8)
    costs = pipelab.Costs(forward=[1, 2, 3, 4], input_grad=[1, 2, 3, 4], weight_grad=[2, 4, 6, 8])
    total = pipelab.simulate(schedule, costs).compute.sum()
    assert total == 8 * (1 + 2 + 3 + 4) * 4  # each micro-batch passes each stage once


def test_an_overlapped_pair_shares_one_cell():
    schedule = rows("0F0 (0F1;0B0)OVERLAP_F_B 0B1")
    timeline = pipelab.simulate(schedule, pipelab.Costs(1, backward=2, overlap=2.5))
    assert timeline.makespan == 1 + 2.5 + 2
    assert timeline.started.tolist() == [0, 1, 1, 3.5]
    assert timeline.ended.tolist() == [1, 3.5, 3.5, 5.5]
    assert timeline.compute.tolist() == [1, 2.5, 0, 2]
    assert timeline.bytes_held.tolist() == [1, 2, 2, 1] and timeline.bytes_after.tolist() == [
        1,
        1,
        1,
        0,
    ]
    assert timeline.metrics["idle"] == [0]


def test_recompute_early_may_use_the_wait_for_the_gradient():
    costs = pipelab.Costs(1, backward=2, recompute=1)
    inside = pipelab.simulate(build("gpipe"), costs, recompute="in-backward")
    early = pipelab.simulate(build("gpipe"), costs, recompute="early")
    assert (inside.makespan, early.makespan) == (44, 41)
    assert [str(a) for a in early.schedule.actions[3]][8:12] == ["3R0", "3B0", "3R1", "3B1"]
    with pytest.raises(UnknownName, match="Did you mean 'early'"):
        pipelab.simulate(build(), costs, recompute="earlier")
    with pytest.raises(UsageError, match="already says where it recomputes"):
        pipelab.simulate(early.schedule, costs, recompute="early")


def test_optimizer_steps_take_their_time():
    timeline = pipelab.simulate(rows("0F0 0B0 0STEP0", "1F0 1B0 1STEP0"), pipelab.Costs(step=5))
    assert timeline.makespan == 6 + 5


def test_illegal_schedules_are_refused_with_the_reason():
    with pytest.raises(ScheduleError, match="0B0 comes before 0F0"):
        pipelab.simulate(rows("0B0 0F0"))


def test_a_pair_that_recomputes_takes_the_work_of_both_of_its_stages():
    """It took that of the first action's stage twice."""
    costs = pipelab.Costs(forward=[1, 2, 1, 1], backward=[2, 4, 2, 2], recompute=[1, 2, 1, 1])
    order = pipelab.build("dualpipe", ranks=4, microbatches=8)
    timeline = pipelab.simulate(order, costs, recompute="in-backward")
    assert timeline.compute.sum() == 8 * (1 + 2 + 1 + 1 + 2 + 4 + 2 + 2 + 1 + 2 + 1 + 1)
