"""Plans for a machine whose layers were timed, in numbers that can be followed by hand."""

import pytest

from pipelab.errors import UsageError
from pipelab.layout.planner import Layout, Measured, Transformer, estimate, plan
from pipelab.layout.planner.layer_seconds import Seconds

MODEL = Transformer("small", 4, 64, 4, vocabulary=96, sequence=16)
LAYER = Seconds(2.0, 3.0, 1.0)
PASSES = (Seconds(0.25, 0.0, 0.25), LAYER, Seconds(1.0, 0.5, 0.5))


def machine(**given):
    numbers = {
        "tflops": 1.0, "memory": 8.0, "memory_bandwidth": 1e12, "node_bandwidth": 1e12,
        "network_bandwidth": 1e12, "node_size": 2, "gemm": 1.0, "link": 1.0, "hop": 1e-9,
        "model": MODEL, "passes": {1: PASSES, 2: PASSES}, "collectives": (0.0, 0.0, 0.0),
    }  # fmt: skip
    return Measured("these workers", **(numbers | given))


def test_a_step_is_made_of_the_measured_passes():
    found = plan(MODEL, device=machine(), gpus=2, batch=8, fix={"pipeline": 2, "microbatch": 2})
    by_name = {(row.layout.schedule, row.layout.recompute): row.estimate for row in found.rows}
    first, last = 0.5 + 2 * 6.0, 2.0 + 2 * 6.0
    one = by_name["1f1b", "none"]
    assert one.seconds == pytest.approx(4 * last + first, rel=1e-6)  # m max + the others
    # Every forward of a layer once more.
    again = by_name["1f1b", "full"]
    assert again.seconds == pytest.approx(4 * (last + 4) + first + 4, rel=1e-6)
    zb = by_name["zb-h1", "none"]
    assert zb.seconds == pytest.approx(one.seconds - 2 * (0.25 + 2), rel=1e-6)
    assert any("measured on these workers" in sentence for sentence in one.assumptions)
    assert not any("TFLOP" in s or "16-bit peak" in s for s in one.assumptions)


@pytest.mark.parametrize(
    ("zero", "expected"),
    [(0, 4.0), (1, 1.0 + 2.0), (2, 4 * 2.0 + 1.0), (3, 4 * (1.0 + 1.0 + 2.0))],
)
def test_copies_take_what_their_collectives_took(zero, expected):
    count = MODEL.parameters
    collectives = (4.0 / count, 1.0 / count, 2.0 / count)  # all-reduce, gather, reduce-scatter
    layout = Layout(data=2, batch=8, microbatch=1, zero=zero, **machine().defaults())
    found = estimate(MODEL, layout, device=machine(collectives=collectives))
    assert found.seconds_by_part["data"] == pytest.approx(expected)


def test_it_plans_what_was_measured_and_no_more():
    found = plan(MODEL, device=machine(), gpus=2, batch=8)
    for row in found.rows:
        one = row.layout
        assert (one.tensor, one.precision, one.flash, one.overlap) == (1, "fp32", True, "none")
        assert one.microbatch in (1, 2)
    assert found.rejected["divided layers were not measured"] > 0
    assert found.rejected["micro-batch was not measured"] > 0
    for change, said in {
        "tensor": (2, "tensor = 1"),
        "microbatch": (4, "Micro-batches of 1, 2 samples"),
        "precision": ("bf16", "precision = fp32"),
    }.items():
        layout = Layout(**({"batch": 8, "precision": "fp32"} | {change: said[0]}))
        with pytest.raises(UsageError, match=said[1]):
            estimate(MODEL, layout, device=machine())
    with pytest.raises(UsageError, match="measured with the layers of small"):
        estimate("gpt", Layout(batch=8, precision="fp32"), device=machine())
    deeper = Transformer("deeper", 8, 64, 4, vocabulary=96, sequence=16)
    assert estimate(deeper, Layout(batch=8, precision="fp32"), device=machine()).seconds > 0
