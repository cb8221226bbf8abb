"""Why a rank stood idle: hand-made cases with known answers, and what holds for every schedule."""

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import pipelab
from pipelab.catalogue import build, entry, names
from pipelab.schedule import Kind
from pipelab.timeline.idle import CAUSES

quarters = st.integers(1, 40).map(lambda n: n / 4)
sizes = {
    "ranks": st.integers(1, 6),
    "microbatches": st.integers(1, 13),
    "stages_per_rank": st.sampled_from([None, 2, 4]),
}


def rows(*lines):
    return pipelab.Schedule.from_rows([line.split() for line in lines])


def reasons(timeline, rank):
    """(start, end, cause, the action that ended it, the action that could have run instead) of one
    rank's intervals.
    """

    def text(atom):
        return None if atom is None else str(timeline.schedule.atom(atom))

    return [
        (i.start, i.end, i.cause, text(i.ended_by), text(i.filler))
        for i in timeline.idle
        if i.rank == rank
    ]


def test_every_cause_but_a_gap():
    """Rank 1's forward costs three times rank 0's.

    On stages of the mean, 2 each, rank 0 would wait 2 + ½ for each B.
    """
    schedule = rows("0F0 0F1 0B0 0B1", "1F0 1B0 1F1 1B1")
    timeline = pipelab.simulate(schedule, pipelab.Costs(forward=[1, 3], backward=2, latency=0.25))
    assert reasons(timeline, 0) == [
        (2, 4.25, "downstream-backward", "0B0", None),
        (4.25, 6.25, "imbalance", "0B0", None),
        (6.25, 6.5, "transfer", "0B0", None),
        (8.5, 10.25, "downstream-backward", "0B1", None),
        (10.25, 11.25, "imbalance", "0B1", None),
        (11.25, 11.5, "transfer", "0B1", None),
    ]
    assert reasons(timeline, 1) == [
        (0, 1.25, "warm-up", "1F0", None),
        (11.25, 13.5, "cool-down", None, None),
    ]
    assert timeline.idle_by_cause == {
        "warm-up": [0, 1.25],
        "upstream-forward": [0, 0],
        "downstream-backward": [4, 0],
        "transfer": [0.5, 0],
        "imbalance": [3, 0],
        "barrier": [0, 0],
        "gap": [0, 0],
        "cool-down": [0, 2.25],
    }


def test_a_slow_stage_upstream():
    """Stages of the mean, 2 each, would never make rank 1 wait inside; and it could have run a
    backward meanwhile.
    """
    schedule = rows("0F0 0F1 0B0 0B1", "1F0 1F1 1B0 1B1")
    timeline = pipelab.simulate(schedule, pipelab.Costs(forward=[3, 1], backward=1))
    assert reasons(timeline, 1) == [
        (0, 3, "warm-up", "1F0", None),
        (4, 6, "imbalance", "1F1", "1B0"),
        (9, 10, "cool-down", None, None),
    ]


def test_an_f_could_have_filled_the_wait_and_then_nothing():
    timeline = pipelab.simulate(rows("0F0 0F1 0B0 0F2 0B1 0B2", "1F0 1B0 1F1 1B1 1F2 1B2"))
    assert reasons(timeline, 0) == [
        (2, 4, "downstream-backward", "0B0", "0F2"),
        (9, 10, "downstream-backward", "0B2", None),
    ]
    assert [i.forced for i in timeline.idle if i.rank == 0] == [False, True]


def test_a_w_could_have_filled_the_wait_once_its_i_had_run():
    timeline = pipelab.simulate(rows("0F0 0F1 0I0 0I1 0W0 0W1", "1F0 1F1 1I0 1W0 1I1 1W1"))
    assert reasons(timeline, 0) == [
        (2, 4, "downstream-backward", "0I0", None),
        (5, 6, "downstream-backward", "0I1", "0W0"),
    ]


def test_a_w_is_named_before_an_f_that_takes_memory():
    timeline = pipelab.simulate(
        rows("0F0 0F1 0I0 0I1 0F2 0W0 0W1 0I2 0W2", "1F0 1F1 1I0 1W0 1I1 1W1 1F2 1I2 1W2")
    )
    assert reasons(timeline, 0)[:2] == [
        (2, 4, "downstream-backward", "0I0", "0F2"),
        (5, 6, "downstream-backward", "0I1", "0W0"),
    ]


def test_a_recomputation_could_have_used_the_wait():
    timeline = pipelab.simulate(
        rows("0F0 0F1 0B0 0R1 0B1", "1F0 1B0 1F1 1B1"), pipelab.Costs(recompute=1)
    )
    assert reasons(timeline, 0)[0] == (2, 4, "downstream-backward", "0B0", "0R1")


def test_nothing_is_moved_across_an_optimizer_step():
    timeline = pipelab.simulate(
        rows("0F0 0B0 0STEP0 0F1 0B1 0STEP1", "1F0 1B0 1STEP0 1F1 1B1 1STEP1")
    )
    assert reasons(timeline, 0)[0] == (1, 4, "downstream-backward", "0B0", None)


def test_an_overlapped_pair_waits_for_the_later_of_its_two_inputs():
    """1F1's input was there at 2, 2B0's comes at 6: the cell begins with an F and waits for a
    backward.
    """
    schedule = rows(
        "0F0 0F1 3F0 3B0 3F1 3B1 0B0 0B1", "1F0 2F0 (1F1;2B0)OVERLAP_F_B 2F1 2B1 1B0 1B1"
    )
    timeline = pipelab.simulate(schedule)
    before_the_pair = [
        i for i in timeline.idle if i.rank == 1 and i.ended_by == timeline.schedule.offsets[1] + 2
    ]
    assert [(i.start, i.end, i.cause) for i in before_the_pair] == [(3, 6, "downstream-backward")]
    slow = pipelab.simulate(
        schedule, pipelab.Costs(forward=1, backward=[2, 2, 2, 4])
    )  # the mean is 2.5
    assert [i[1:4] for i in slow.idle if i.rank == 1 and i.end in (6.5, 8)] == [
        (3, 6.5, "downstream-backward"),
        (6.5, 8, "imbalance"),
    ]


def test_a_gap_of_a_measured_timeline():
    """What the rank did between two actions, before it asked, is a gap: no order of actions would
    have used it.
    """
    timeline = pipelab.simulate(rows("0F0 0F1 0B0 0B1"))
    later = {
        name: getattr(timeline, name) + [0, 0.5, 0.5, 0.5]
        for name in ("asked", "sent", "arrived", "started", "ended")
    }
    assert reasons(replace(timeline, **later), 0) == [(1, 1.5, "gap", "0F1", None)]


@given(
    data=st.data(), name=st.sampled_from(names()), latency=st.sampled_from([0, 0.25, 3.3]), **sizes
)
@settings(max_examples=200, deadline=None)
def test_idle_and_actions_fill_the_makespan_of_every_rank(
    data, name, latency, ranks, microbatches, stages_per_rank
):
    """To the last bit: each interval begins where the action or interval before it ended.

    No cause is counted twice.
    """
    assume(entry(name).problem(ranks, microbatches, stages_per_rank) is None)
    schedule = build(name, ranks=ranks, microbatches=microbatches, stages_per_rank=stages_per_rank)
    per_stage = st.lists(st.floats(0, 10), min_size=schedule.stages, max_size=schedule.stages)
    costs = pipelab.Costs(
        forward=data.draw(per_stage), backward=data.draw(per_stage), latency=latency
    )
    timeline = pipelab.simulate(schedule, costs)
    begin, finish = timeline.started.min(), timeline.ended.max()
    for rank in range(ranks):
        mine = timeline.rank == rank
        spans = zip(timeline.started[mine], timeline.ended[mine], strict=True)
        parts = {(start, end) for start, end in spans if end > start}
        idle = [(i.start, i.end) for i in timeline.idle if i.rank == rank]
        at = begin
        for start, end in sorted([*parts, *idle]):
            assert start == at
            at = end
        assert at == finish
        total = sum(timeline.idle_by_cause[cause][rank] for cause in CAUSES)
        assert total == pytest.approx(timeline.metrics["idle"][rank], abs=1e-9 * max(finish, 1))
    assert {i.cause for i in timeline.idle} <= set(CAUSES) - {"gap"}


@given(name=st.sampled_from(names()), f=quarters, i=quarters, w=quarters, latency=quarters, **sizes)
@settings(max_examples=200, deadline=None)
def test_causes_sum_exactly_and_equal_stages_have_no_imbalance(
    name, f, i, w, latency, ranks, microbatches, stages_per_rank
):
    assume(entry(name).problem(ranks, microbatches, stages_per_rank) is None)
    schedule = build(name, ranks=ranks, microbatches=microbatches, stages_per_rank=stages_per_rank)
    timeline = pipelab.simulate(
        schedule, pipelab.Costs(f, input_grad=i, weight_grad=w, latency=latency)
    )
    causes = timeline.idle_by_cause
    assert list(causes) == list(CAUSES)
    assert [sum(column) for column in zip(*causes.values(), strict=True)] == timeline.metrics[
        "idle"
    ]  # quarters: no rounding
    assert causes["imbalance"] == [0] * ranks


@given(data=st.data(), name=st.sampled_from(names()), latency=quarters, **sizes)
@settings(max_examples=150, deadline=None)
def test_a_wait_is_forced_if_and_only_if_nothing_else_was_ready(
    data, name, latency, ranks, microbatches, stages_per_rank
):
    """Against plain search over the actions behind the wait, each with its inputs."""
    assume(entry(name).problem(ranks, microbatches, stages_per_rank) is None)
    schedule = build(name, ranks=ranks, microbatches=microbatches, stages_per_rank=stages_per_rank)
    assume(
        schedule.replicas == 1
    )  # with two, no rank's first action need wait, and the latency need not show
    per_stage = st.lists(quarters, min_size=schedule.stages, max_size=schedule.stages)
    costs = pipelab.Costs(data.draw(per_stage), backward=data.draw(per_stage), latency=latency)
    timeline = pipelab.simulate(schedule, costs)
    atoms = [schedule.atom(i) for i in range(len(schedule.kind))]
    where = {(a.kind, a.stage, a.microbatch): i for i, a in enumerate(atoms)}

    def ready(i):
        kind, stage, microbatch, _ = atoms[i]
        over = stage - 1 if kind == Kind.F else stage + 1
        needs = {Kind.F: [], Kind.B: [Kind.F], Kind.I: [Kind.F], Kind.W: [Kind.I]}[kind]
        times = [timeline.ended[where[k, stage, microbatch]] for k in needs]
        if kind in (Kind.F, Kind.B, Kind.I):
            brings = [Kind.F] if kind == Kind.F else [Kind.B, Kind.I]
            sources = [where[k, over, microbatch] for k in brings if (k, over, microbatch) in where]
            times += [
                timeline.ended[s] + (latency if timeline.rank[s] != timeline.rank[i] else 0)
                for s in sources
            ]
        return max(times, default=0)

    for interval in timeline.idle:
        behind = []
        if interval.ended_by is not None:
            cell, stop = schedule.cell[interval.ended_by], schedule.offsets[interval.rank + 1]
            cells = {}
            for i in range(interval.ended_by, stop):
                if atoms[i].kind == Kind.STEP:
                    break
                if schedule.cell[i] != cell:
                    cells.setdefault(schedule.cell[i], []).append(i)
            behind = [
                members[0]
                for members in cells.values()
                if all(ready(i) < interval.end for i in members)
            ]
        assert interval.forced == (not behind)
        assert interval.forced or interval.filler in behind
