"""Every schedule of the registry: legal, complete, within its bounds, and as its source orders it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pipelab
from pipelab.catalogue import build, entry, names
from pipelab.errors import UnknownName, UsageError
from pipelab.schedule import Kind, check

sizes = {"ranks": st.integers(1, 9), "microbatches": st.integers(1, 17)}
durations = st.floats(0.01, 100, allow_nan=False)


@given(name=st.sampled_from(names()), **sizes)
@settings(max_examples=150, deadline=None)
def test_every_action_once_and_legal(name, ranks, microbatches):
    schedule = build(name, ranks=ranks, microbatches=microbatches)
    assert check(schedule) is None
    atoms = {(int(k), int(s), int(m)) for k, s, m in zip(schedule.kind, schedule.stage, schedule.microbatch)}
    expected = {(int(k), s, m) for k in (Kind.F, Kind.B) for s in range(ranks) for m in range(microbatches)}
    assert atoms == expected and len(schedule.kind) == len(expected)
    assert schedule.name == name and schedule.placement == {(0, s): s for s in range(ranks)}


@given(name=st.sampled_from(names()), f=durations, b=durations, latency=st.floats(0, 10), **sizes)
@settings(max_examples=150, deadline=None)
def test_happens_before_and_lower_bounds(name, f, b, latency, ranks, microbatches):
    timeline = pipelab.simulate(
        build(name, ranks=ranks, microbatches=microbatches), pipelab.Costs(f, backward=b, latency=latency)
    )
    actions = list(zip(*(getattr(timeline, name).tolist() for name in ("kind", "stage", "microbatch"))))
    end = dict(zip(actions, timeline.ended.tolist()))
    for (kind, stage, microbatch), start in zip(actions, timeline.started.tolist()):
        needed = end.get((kind, stage - 1 if kind == Kind.F else stage + 1, microbatch))
        assert needed is None or start >= needed + latency - 1e-9
    one_microbatch = ranks * (f + b) + 2 * (ranks - 1) * latency
    assert timeline.makespan >= max(one_microbatch, microbatches * (f + b)) * (1 - 1e-9)
    metrics = timeline.metrics
    busy = ranks * microbatches * (f + b)
    assert sum(metrics["idle"]) == pytest.approx(ranks * timeline.makespan - busy, abs=1e-6 * timeline.makespan)
    assert sum(i.end - i.start for i in timeline.idle) == pytest.approx(sum(metrics["idle"]), abs=1e-6 * timeline.makespan)
    path = timeline.critical_path
    assert timeline.ended[path[-1]] == timeline.ended.max()
    assert timeline.started[path[0]] == 0
    gaps = [timeline.started[b] - timeline.ended[a] for a, b in zip(path, path[1:])]
    assert all(gap == pytest.approx(0, abs=1e-6) or gap == pytest.approx(latency, abs=1e-6) for gap in gaps)


@given(f=durations, b=durations, **sizes)
@settings(max_examples=80, deadline=None)
def test_closed_forms(f, b, ranks, microbatches):
    """GPipe and 1F1B: (m + p − 1)(F + B); naive: m·p·(F + B). Peaks: m, min(m, p − s), 1."""
    costs = pipelab.Costs(f, backward=b)
    spans = {"gpipe": microbatches + ranks - 1, "1f1b": microbatches + ranks - 1, "naive": microbatches * ranks}
    peaks = {
        "gpipe": [microbatches] * ranks,
        "1f1b": [min(microbatches, ranks - s) for s in range(ranks)],
        "naive": [1] * ranks,
    }
    for name, units in spans.items():
        metrics = pipelab.simulate(build(name, ranks=ranks, microbatches=microbatches), costs).metrics
        assert metrics["makespan"] == pytest.approx(units * (f + b))
        assert metrics["peak_in_flight"] == peaks[name] == metrics["peak_in_flight_until_weight_grad"]
    if ranks > 1:
        assert pipelab.simulate(build("gpipe", ranks=ranks, microbatches=microbatches), costs).metrics[
            "bubble_overhead"
        ] == pytest.approx((ranks - 1) / microbatches)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("1f1b", ["F0 F1 F2 F3 B0 F4 B1 F5 B2 F6 B3 F7 B4 B5 B6 B7", "F0 B0 F1 B1 F2 B2 F3 B3 F4 B4 F5 B5 F6 B6 F7 B7"]),
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
    with pytest.raises(UnknownName, match=r"no schedule 'gpipe2'. Did you mean 'gpipe'\? Valid names: naive, gpipe, 1f1b"):
        build("gpipe2", ranks=1, microbatches=1)
    for counts, text in (
        ({"ranks": 0, "microbatches": 1}, "0 ranks are impossible; the number of ranks is a whole number, 1 or more"),
        ({"ranks": 1, "microbatches": -3}, "-3 micro-batches are impossible"),
        ({"ranks": 1, "microbatches": 2.5}, "2.5 micro-batches"),
        ({"ranks": 1, "microbatches": True}, "True micro-batches"),
        ({"ranks": 2, "microbatches": 2, "stages_per_rank": 2}, "one stage per rank, not 2"),
    ):
        with pytest.raises(UsageError, match=text):
            build("gpipe", **counts)
    assert entry("gpipe").problem(4, 8) is None
    assert all(entry(n).title and entry(n).summary and entry(n).source for n in names())
