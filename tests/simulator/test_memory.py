"""Memory in bytes over time."""

import numpy as np
import pytest

import pipelab
from pipelab.catalogue import entry, names
from pipelab.errors import UsageError
from pipelab.simulator import Memory


def peaks(name, p=4, m=8, memory=None, **options):
    return pipelab.simulate(
        pipelab.build(name, ranks=p, microbatches=m), memory=memory, **options
    ).peak_bytes


def test_parts_sum_to_the_total_and_the_peak_says_what_it_is_made_of():
    memory = Memory(activations=100, weights=10, gradients=10, optimizer_state=20)
    found = peaks("gpipe", memory=memory)
    assert found["peak_bytes"] == [840.0] * 4
    assert found["peak_bytes_by_part"] == {
        "activations": [800.0] * 4, "weights": [10.0] * 4, "weight_versions": [0.0] * 4,
        "gradients": [10.0] * 4, "optimizer_state": [20.0] * 4,
    }  # fmt: skip
    found = peaks("1f1b", memory=memory)
    assert found["peak_bytes_by_part"]["activations"] == [400, 300, 200, 100]


def test_without_bytes_the_unit_is_activations():
    timeline = pipelab.simulate(pipelab.build("1f1b", ranks=4, microbatches=8))
    assert timeline.memory_unit == "activations" and timeline.memory == {}
    assert timeline.peak_bytes == {"peak_bytes": [4, 3, 2, 1], "peak_bytes_by_part": {}}


def test_stages_differ_and_ranks_hold_the_sum_of_theirs():
    memory = Memory(activations=0, weights=[1, 2, 4, 8], optimizer_state=[16, 32, 64, 128])
    schedule = pipelab.build("interleaved-1f1b", ranks=2, microbatches=2)
    found = pipelab.simulate(schedule, memory=memory).peak_bytes
    assert found["peak_bytes_by_part"]["weights"] == [1 + 4, 2 + 8]
    assert found["peak_bytes"] == [85, 170]
    # Two model copies: each rank of dualpipe holds a stage of either direction.
    found = pipelab.simulate(
        pipelab.build("dualpipe", ranks=2, microbatches=4), memory=Memory(weights=[3, 5])
    ).peak_bytes
    assert found["peak_bytes_by_part"]["weights"] == [8, 8]


def test_the_split_backward_gives_back_in_two_parts():
    schedule = pipelab.Schedule.from_rows([["0F0", "0F1", "0I0", "0W0", "0I1", "0W1"]])
    held = pipelab.simulate(schedule, memory=Memory(activations=10, weight_grad_share=0.3)).memory[
        "activations"
    ]
    assert np.allclose(held[0], [10, 20, 20, 13, 10, 3]) and np.allclose(
        held[1], [10, 20, 13, 10, 3, 0]
    )


def test_zero_bubble_memory_is_the_papers():
    """arXiv 2401.10241 section 2.3: ZB-H1 keeps (p − s) M_B + s M_W on rank s, ZB-H2 (2(p − s) − 1)
    M_B + 2s M_W.
    """
    p, share = 4, 0.25
    memory = Memory(activations=1, weight_grad_share=share)
    for name, in_flight, waiting in (
        ("zb-h1", [p - s for s in range(p)], [s for s in range(p)]),
        ("zb-h2", [2 * (p - s) - 1 for s in range(p)], [2 * s for s in range(p)]),
    ):
        found = peaks(name, p, 16, memory)["peak_bytes"]
        assert np.allclose(
            found, [f + share * w for f, w in zip(in_flight, waiting, strict=True)]
        ), name


@pytest.mark.parametrize("mode", ["in-backward", "early"])
def test_recomputation_keeps_only_the_input(mode):
    """GPipe section 2.3: the inputs of all micro-batches, and the activations of one."""
    found = peaks("gpipe", 4, 8, Memory(activations=100, inputs=7), recompute=mode)
    assert found["peak_bytes"] == [8 * 7 + 93] * 4


def test_gradients_live_from_the_first_weight_gradient_to_the_step():
    schedule = pipelab.build("zb-h1", ranks=1, microbatches=1)
    timeline = pipelab.simulate(
        schedule, memory=Memory(activations=0, gradients=5), optimizer="local", steps=2
    )
    assert [str(schedule.atom(i))[1] for i in range(3)] == ["F", "I", "W"]
    assert timeline.memory["gradients"][0].tolist() == [0, 0, 5, 5, 0, 0, 5, 5]
    assert timeline.memory["gradients"][1].tolist() == [0, 0, 5, 0, 0, 0, 5, 0]


def test_weight_versions():
    """PipeDream section 3.3: rank s of p keeps p − s versions; 2BW (arXiv 2006.09503 section 3.1)
    two everywhere.
    """
    memory = Memory(activations=0, weights=10)
    timeline = pipelab.simulate(pipelab.build("pipedream", ranks=4, microbatches=12), memory=memory)
    assert timeline.peak_bytes["peak_bytes_by_part"]["weight_versions"] == [30, 20, 10, 0]
    held, after = timeline.memory["weight_versions"]
    last = timeline.schedule.offsets[1:] - 1
    assert after[last].tolist() == [0, 0, 0, 0] and held.min() >= 0
    timeline = pipelab.simulate(
        pipelab.build("pipedream-2bw", ranks=4, microbatches=12), memory=memory
    )
    assert set(timeline.memory["weight_versions"][0].tolist()) == {10.0}


@pytest.mark.parametrize("name", names())
def test_every_schedule_gives_all_of_it_back(name):
    known = entry(name)
    p, m = (4, 8) if not known.problem(4, 8) else (2, 4)
    memory = Memory(
        activations=3, inputs=1, weights=2, gradients=2, optimizer_state=4, weight_grad_share=0.4
    )
    timeline = pipelab.simulate(known.build(p, m), memory=memory)
    last = timeline.schedule.offsets[1:] - 1
    assert np.allclose(timeline.memory["activations"][1][last], 0)
    assert np.allclose(sum(held for held, _ in timeline.memory.values()), timeline.bytes_held)
    assert np.allclose(sum(after for _, after in timeline.memory.values()), timeline.bytes_after)
    assert min(level.min() for both in timeline.memory.values() for level in both) >= -1e-9
    assert (
        timeline.peak_bytes["peak_bytes"]
        == np.maximum.reduceat(timeline.bytes_held, timeline.schedule.offsets[:-1]).tolist()
    )


def test_chrome_stacks_the_parts():
    timeline = pipelab.simulate(
        pipelab.build("gpipe", ranks=2, microbatches=2), memory=Memory(activations=2, weights=3)
    )
    counters = [e for e in timeline.to_chrome()["traceEvents"] if e["ph"] == "C"]
    assert counters[0]["name"] == "rank 0 bytes"
    assert counters[0]["args"] == {
        "activations": 2, "weights": 3, "weight_versions": 0, "gradients": 0, "optimizer_state": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"weights": -1}, "weights is -1; an amount of memory is a finite number, 0 or more."),
        ({"activations": [1, float("inf")]}, "activations is inf; an amount of memory"),
        (
            {"weight_grad_share": 1.5},
            "weight_grad_share is 1.5; it is the part, 0 to 1, of the activations that W needs.",
        ),
        ({"weight_grad_share": [0.5, 0.5]}, "it is the part, 0 to 1"),
    ],
)
def test_impossible_memory(given, text):
    with pytest.raises(UsageError) as error:
        Memory(**given)
    assert text in str(error.value)


def test_what_w_needs_can_be_an_amount_and_gradients_wait_with_it():
    schedule = pipelab.Schedule.from_rows([["0F0", "0F1", "0I0", "0W0", "0I1", "0W1"]])
    memory = Memory(activations=[10], deferred_activations=[3], deferred_gradients=[5])
    held, after = pipelab.simulate(schedule, memory=memory).memory["activations"]
    assert held.tolist() == [10, 20, 25, 18, 15, 8]
    assert after.tolist() == [10, 20, 18, 10, 8, 0]
