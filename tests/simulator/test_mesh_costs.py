"""What collectives take, by hand; and the timeline of all workers of a mesh."""

import pytest

import pipelab
from pipelab import Costs
from pipelab.schedule import Kind, Mesh
from pipelab.simulator import Link


def schedule(name="1f1b"):
    return pipelab.build(name, ranks=4, microbatches=8)


def test_a_mesh_without_links_takes_the_time_of_its_pipeline():
    timeline = pipelab.simulate(schedule(), mesh=Mesh(2, 2))
    assert timeline.makespan == 33
    assert timeline.schedule.ranks == len(timeline.metrics["spans"]) == 16
    assert timeline.metrics["bubble_fraction"] == pytest.approx(3 / 11)
    assert timeline.data.tolist() == sorted(timeline.data.tolist())
    assert set(timeline.tensor.tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("zero", "more"),
    [
        # α = 0.5, 12 bytes at 4 a second, 3 copies: a round takes 2 · 0.5 + 2/3 · 12/4 = 3
        (0, 2 * 3),  # an all-reduce is two rounds
        (1, 3 + 3),  # weights before, gradients behind
        (2, 3 + 8 * 3),  # gradients of each micro-batch
        (3, 8 * 3 * 3),  # weights of each F and each B, too
    ],
)
def test_one_stage_by_hand(zero, more):
    alone = pipelab.build("gpipe", ranks=1, microbatches=8)
    costs = Costs(weights=12, data_link=Link(0.5, 4))
    assert pipelab.simulate(alone, costs, mesh=Mesh(3, 1, zero)).makespan == 24 + more


def test_overlapped_gradients_hide_in_the_bubble():
    """Rank 3 has done its last backward long before rank 0: its sum costs nothing."""
    one = schedule()
    costs = Costs(reduce_grad=(0, 0, 0, 5))
    assert pipelab.simulate(one, costs, mesh=Mesh(2)).makespan == 33
    costs = Costs(reduce_grad=(5, 0, 0, 0))
    assert pipelab.simulate(one, costs, mesh=Mesh(2)).makespan == 38
    two = pipelab.build("interleaved-1f1b", ranks=4, microbatches=8, stages_per_rank=2)
    late = two.with_data_parallel(overlap=False)
    costs = Costs(reduce_grad=3)
    spans = [pipelab.simulate(s, costs, mesh=Mesh(2)).makespan for s in (two, late)]
    assert spans[0] <= spans[1]


def test_what_passes_inside_a_layer_makes_f_and_i_longer_and_never_w():
    split = schedule("zb-h1")
    costs = Costs(
        input_grad=1, weight_grad=1, tensor_bytes=4, tensor_calls=2, tensor_link=Link(0.1, 8)
    )
    timeline = pipelab.simulate(split, costs, mesh=Mesh(tensor=2))
    more = 2 * 2 * 0.1 + 4 / 8  # two calls of two steps each, and once the bytes
    for kind, length in ((Kind.F, 1 + more), (Kind.I, 1 + more), (Kind.W, 1)):
        assert timeline.compute[timeline.kind == kind] == pytest.approx(length)


def test_given_durations_stay():
    costs = Costs(reduce_grad=7, weights=12, data_link=Link(0.5, 4))
    timeline = pipelab.simulate(schedule(), costs, mesh=Mesh(2))
    assert set(timeline.compute[timeline.kind == Kind.REDUCE_GRAD].tolist()) == {7}
