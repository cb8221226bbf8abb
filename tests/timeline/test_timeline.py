import json

import pytest

import pipelab


@pytest.fixture
def timeline():
    return pipelab.simulate(
        pipelab.build("1f1b", ranks=4, microbatches=8), pipelab.Costs(latency=0.25)
    )


def test_the_three_bubbles():
    """One case where they differ: staggered ranks that never wait inside their span."""
    schedule = pipelab.Schedule.from_rows(["0F0 0F1 0B0 0B1".split(), "1F0 1B0 1F1 1B1".split()])
    metrics = pipelab.simulate(schedule, pipelab.Costs(1, backward=1)).metrics
    assert metrics["makespan"] == 6 and metrics["spans"] == [6, 4]
    assert metrics["idle"] == [2, 2]
    assert metrics["bubble_fraction"] == 4 / 12
    assert metrics["bubble_overhead"] == 4 / 8
    assert metrics["bubble_rate"] == pytest.approx(1 - 4 / 6)


def test_keys_are_the_contract(timeline):
    assert list(timeline.metrics) == [
        "schedule",
        "ranks",
        "stages",
        "stages_per_rank",
        "microbatches",
        "makespan",
        "spans",
        "idle",
        "bubble_fraction",
        "bubble_overhead",
        "bubble_rate",
        "peak_in_flight",
        "peak_in_flight_until_weight_grad",
    ]
    json.dumps(timeline.metrics)


def test_parts_add_up_to_the_makespan_on_every_rank(timeline):
    total = timeline.compute_per_rank + timeline.transfer_per_rank + timeline.wait_per_rank
    assert total == pytest.approx([timeline.makespan] * 4)
    for rank in range(4):
        mine = timeline.rank == rank
        before, after = timeline.started[mine].min(), timeline.makespan - timeline.ended[mine].max()
        inside = (timeline.compute + timeline.transfer + timeline.waiting)[mine].sum()
        assert before + inside + after == pytest.approx(timeline.makespan)


def test_memory_steps(timeline):
    times, values = timeline.memory_steps(0)
    assert values.max() == 4 and values[-1] == 0
    assert (times[1:] >= times[:-1]).all()


def test_chrome_trace(timeline):
    trace = json.loads(json.dumps(timeline.to_chrome()))
    spans = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    assert len(spans) == 64 and {e["name"] for e in spans} >= {"0F0", "3B7"}
    assert max(e["ts"] + e["dur"] for e in spans) == pytest.approx(timeline.makespan * 1e3)
    counters = [e["args"]["activations"] for e in trace["traceEvents"] if e["ph"] == "C"]
    assert max(counters) == 4


def test_json_has_every_column(timeline):
    data = json.loads(json.dumps(timeline.to_json()))
    assert len(data["events"]["started"]) == 64 and data["events"]["kind"][0] == "F"
    assert data["metrics"] == timeline.metrics
