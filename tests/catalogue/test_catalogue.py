"""Every schedule of the registry: legal, complete, within its bounds, and as its source orders
it.
"""

from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import pipelab
from pipelab.catalogue import build, entry, names
from pipelab.errors import UnknownName, UsageError
from pipelab.schedule import Kind, check

BOTH_WAYS = ("chimera", "dualpipe")
sizes = {
    "ranks": st.integers(1, 8),
    "microbatches": st.integers(1, 17),
    "stages_per_rank": st.sampled_from([None, 1, 2, 3, 4]),
}
durations = st.floats(0.01, 100, allow_nan=False)


def possible(name, **counts):
    """The schedule, for counts that it can have."""
    assume(entry(name).problem(**counts) is None)
    return build(name, **counts)


@given(name=st.sampled_from(names()), **sizes)
@settings(max_examples=400, deadline=None)
def test_every_action_once_and_legal(name, ranks, microbatches, stages_per_rank):
    schedule = possible(
        name, ranks=ranks, microbatches=microbatches, stages_per_rank=stages_per_rank
    )
    assert check(schedule) is None
    assert (schedule.name, schedule.ranks, schedule.microbatches) == (name, ranks, microbatches)
    assert schedule.stages_per_rank == (stages_per_rank or entry(name).stages_per_rank)
    done = {}
    columns = schedule.kind.tolist(), schedule.stage.tolist(), schedule.microbatch.tolist()
    for kind, stage, microbatch in zip(*columns, strict=True):
        if kind != Kind.STEP:
            done.setdefault((stage, microbatch), []).append(kind)
    assert set(done) == {(s, i) for s in range(schedule.stages) for i in range(microbatches)}
    assert all(
        sorted(kinds) in ([Kind.F, Kind.B], [Kind.F, Kind.I, Kind.W]) for kinds in done.values()
    )
    assert schedule.stages == ranks * (1 if name in BOTH_WAYS else schedule.stages_per_rank)


@given(name=st.sampled_from(names()), f=durations, b=durations, latency=st.floats(0, 10), **sizes)
@settings(max_examples=300, deadline=None)
def test_happens_before_and_lower_bounds(name, f, b, latency, ranks, microbatches, stages_per_rank):
    schedule = possible(
        name, ranks=ranks, microbatches=microbatches, stages_per_rank=stages_per_rank
    )
    timeline = pipelab.simulate(schedule, pipelab.Costs(f, backward=b, latency=latency))
    forward, backward = {}, {}
    names = ("kind", "stage", "microbatch", "rank", "started", "ended")
    columns = (getattr(timeline, name).tolist() for name in names)
    for kind, stage, microbatch, rank, start, end in zip(*columns, strict=True):
        if kind == Kind.F:
            forward[stage, microbatch] = rank, start, end
        elif kind in (Kind.B, Kind.I):
            backward[stage, microbatch] = rank, start, end
    for done, step in ((forward, -1), (backward, 1)):
        for (stage, microbatch), (rank, start, _) in done.items():
            if (stage + step, microbatch) in done:
                its_rank, _, its_end = done[stage + step, microbatch]
                assert start >= its_end + (latency if rank != its_rank else 0) - 1e-9
    scale = timeline.makespan
    assert scale >= schedule.stages * (f + b / 2) - 1e-6 * scale
    busy = timeline.compute_per_rank
    assert scale >= busy.max() * (1 - 1e-9)
    metrics = timeline.metrics
    assert sum(metrics["idle"]) == pytest.approx(ranks * scale - busy.sum(), abs=1e-6 * scale)
    assert sum(i.end - i.start for i in timeline.idle) == pytest.approx(
        sum(metrics["idle"]), abs=1e-6 * scale
    )
    path = timeline.critical_path
    assert timeline.ended[path[-1]] == timeline.ended.max()
    assert timeline.started[path[0]] == 0
    for before, after in pairwise(path):
        gap = timeline.started[after] - timeline.ended[before]
        assert gap == pytest.approx(0, abs=1e-6 * scale) or gap == pytest.approx(
            latency, abs=1e-6 * scale
        )
    if not timeline.schedule.overlaps:
        assert timeline.bytes_after[schedule.offsets[1:] - 1] == pytest.approx(
            [0] * ranks, abs=1e-9
        )
        assert timeline.bytes_held.min() >= 0


@given(f=durations, b=durations, ranks=st.integers(1, 8), microbatches=st.integers(1, 17))
@settings(max_examples=80, deadline=None)
def test_closed_forms(f, b, ranks, microbatches):
    """GPipe and 1F1B: (m + p − 1)(F + B); naive: m·p·(F + B).

    Peaks: m, min(m, p − s), 1; eager 1F1B min(m, 2(p − s) − 1).
    """
    costs = pipelab.Costs(f, backward=b)
    fill = microbatches + ranks - 1
    spans = {"gpipe": fill, "1f1b": fill, "eager-1f1b": fill, "naive": microbatches * ranks}
    peaks = {
        "gpipe": [microbatches] * ranks,
        "1f1b": [min(microbatches, ranks - s) for s in range(ranks)],
        "eager-1f1b": [min(microbatches, 2 * (ranks - s) - 1) for s in range(ranks)],
        "naive": [1] * ranks,
    }
    for name, units in spans.items():
        metrics = pipelab.simulate(
            build(name, ranks=ranks, microbatches=microbatches), costs
        ).metrics
        assert metrics["makespan"] == pytest.approx(units * (f + b))
        assert (
            metrics["peak_in_flight"] == peaks[name] == metrics["peak_in_flight_until_weight_grad"]
        )
        if name != "naive":
            assert metrics["bubble_overhead"] == pytest.approx((ranks - 1) / microbatches)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "1f1b",
            [
                "F0 F1 F2 F3 B0 F4 B1 F5 B2 F6 B3 F7 B4 B5 B6 B7",
                "F0 B0 F1 B1 F2 B2 F3 B3 F4 B4 F5 B5 F6 B6 F7 B7",
            ],
        ),
        ("gpipe", ["F0 F1 F2 F3 F4 F5 F6 F7 B0 B1 B2 B3 B4 B5 B6 B7"] * 2),
        ("naive", ["F0 B0 F1 B1 F2 B2 F3 B3 F4 B4 F5 B5 F6 B6 F7 B7"] * 2),
    ],
)
def test_orders_of_the_first_and_last_of_four_ranks(name, expected):
    """1F1B: Megatron-LM, arXiv 2104.04473, figure 4, device 1."""
    actions = build(name, ranks=4, microbatches=8).actions
    for rank, order in ((0, expected[0]), (3, expected[1])):
        assert [str(a) for a in actions[rank]] == [f"{rank}{a}" for a in order.split()]


def test_unknown_names_and_impossible_counts():
    with pytest.raises(
        UnknownName,
        match=r"no schedule 'gpipe2'. Did you mean 'gpipe'\? Valid names: naive, gpipe, 1f1b",
    ):
        build("gpipe2", ranks=1, microbatches=1)
    assert entry("gpipe").problem(4, 8) is None
    assert all(entry(n).title and entry(n).summary and entry(n).source for n in names())


@pytest.mark.parametrize(
    ("name", "counts", "text"),
    [
        (
            "gpipe",
            (0, 1),
            "0 ranks are impossible; the number of ranks is a whole number, 1 or more",
        ),
        ("gpipe", (1, -3), "-3 micro-batches are impossible"),
        ("gpipe", (1, 2.5), "2.5 micro-batches"),
        ("gpipe", (1, True), "True micro-batches"),
        (
            "gpipe",
            (10**6, 10**6),
            "2,000,000,000,000 actions or more are too many to hold in memory; at most 100,000,000",
        ),
        ("gpipe", (2, 2, 2), "gpipe has one stage per rank, not 2"),
        ("zb-v", (2, 2, 3), "zb-v has two stages per rank, one on each arm of the V, not 3"),
        (
            "dualpipe",
            (4, 8, 4),
            "one stage of each direction per rank, which is two by construction, not 4",
        ),
        ("dualpipe", (3, 8), "an even number of ranks, not 3"),
        ("dualpipe", (4, 6), "at least 2 × ranks = 8, not 6"),
        ("dualpipe-v", (4, 7), "at least 2 × ranks = 8 micro-batches, not 7"),
        ("chimera", (4, 6), r"in units of ranks \(4, 8, 12, …\), not 6"),
        ("chimera", (5, 5), "an even number of ranks, not 5"),
        ("zb-2p", (4, 4, 2), "has one stage per rank, not 2"),
        ("hanayo", (4, 4, 3), "an even number of stages per rank"),
        ("auto", (4, 4, 3), "auto searches one stage per rank, or two in a V, not 3"),
        (
            "auto",
            (1000, 1000),
            "among schedules of up to 100,000 actions, and these sizes make 3,000,000",
        ),
        ("pipedream-2bw", (4, 6), r"in multiples of ranks \(4, 8, 12, …\), not 6"),
    ],
)
def test_constraints_say_what_is_possible(name, counts, text):
    ranks, microbatches, *rest = counts
    with pytest.raises(UsageError, match=text):
        build(
            name, ranks=ranks, microbatches=microbatches, stages_per_rank=rest[0] if rest else None
        )


@pytest.mark.parametrize(("waves", "fraction"), [(1, 1 / 3), (2, 0.2131), (4, 0.1193)])
def test_hanayo_is_near_the_papers_closed_form(waves, fraction):
    """(2P − 2)/(3PW + P − 1) at m = P gives .400, .222, .118; the greedy order .333, .213, .119."""
    metrics = pipelab.simulate(
        build("hanayo", ranks=4, microbatches=4, stages_per_rank=2 * waves)
    ).metrics
    assert metrics["bubble_fraction"] == pytest.approx(fraction, abs=1e-4)


def test_asynchronous_pipelines_step_without_a_flush():
    schedule = build("pipedream", ranks=4, microbatches=12)
    assert schedule.weights == "stashed"
    timeline = pipelab.simulate(schedule)
    assert timeline.metrics["peak_in_flight"] == [4, 3, 2, 1]
    steady = [
        i
        for i in timeline.idle
        if i.cause not in ("warm-up", "cool-down") and 12 < i.start < i.end < 36
    ]
    assert sum(i.end - i.start for i in steady if i.rank == 3) == 0
    double = build("pipedream-2bw", ranks=4, microbatches=12)
    assert double.weights == "double"
    assert [str(a) for a in double.actions[3] if a.kind == Kind.STEP] == [
        "3STEP0",
        "3STEP1",
        "3STEP2",
    ]


@given(name=st.sampled_from(names()), **sizes)
@settings(max_examples=100, deadline=None)
def test_csv_round_trip(name, ranks, microbatches, stages_per_rank):
    schedule = possible(
        name, ranks=ranks, microbatches=microbatches, stages_per_rank=stages_per_rank
    )
    again = pipelab.Schedule.from_csv(schedule.to_csv())
    assert again.actions[0][0] == schedule.actions[0][0] and again.placement == dict(
        schedule.placement
    )
    assert check(again) is None and again.to_csv() == schedule.to_csv()


@given(
    name=st.sampled_from(["zb-1p", "zb-2p"]),
    ranks=st.integers(1, 6),
    microbatches=st.integers(1, 14),
    f=durations,
    i=durations,
    w=durations,
    latency=st.floats(0, 5),
)
@settings(max_examples=120, deadline=None)
def test_automatic_schedules_keep_their_memory_for_any_costs(
    name, ranks, microbatches, f, i, w, latency
):
    costs = pipelab.Costs(f, input_grad=i, weight_grad=w, latency=latency)
    schedule = build(name, ranks=ranks, microbatches=microbatches, costs=costs)
    assert check(schedule) is None
    metrics = pipelab.simulate(schedule, costs).metrics
    assert max(metrics["peak_in_flight"]) <= (1 if name == "zb-1p" else 2) * ranks
    unequal = pipelab.Costs([f] * ranks, input_grad=i, weight_grad=w)
    with pytest.raises(UsageError, match="one cost per kind, not one per stage"):
        build(name, ranks=ranks, microbatches=microbatches, costs=unequal)
