"""The widget of shapes: its numbers are those by hand and of the simulator, its sentences true."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

import pipelab
from pipelab import Costs, Link, Mesh
from pipelab.errors import UnknownName, UsageError
from pipelab.layout.planner import MODELS
from pipelab.schedule import Kind
from pipelab.widgets import Goal
from pipelab.widgets.shape import SCHEDULES, Shape, factorizations
from pipelab.widgets.shape_words import decides, sentence

SHAPES = factorizations(8)
LLAMA = MODELS["llama-7b"]
BYTES = 2 * LLAMA.parameters
"""Of the weights, and of the gradients."""
ALONE = 6 * LLAMA.parameters * 64 * 4096 / (312e12 * 0.75)
"""Seconds of the batch on one device: 100."""


def units(seconds):
    return seconds / ALONE * 100


@pytest.mark.parametrize("workers", range(2, 17))
def test_every_shape_has_all_workers(workers):
    found = factorizations(workers)
    assert all(math.prod(sizes) == workers for sizes in found)
    every = [
        (d, p, workers // (d * p))
        for d in range(1, workers + 1)
        for p in range(1, workers + 1)
        if workers % (d * p) == 0
    ]
    assert sorted(found) == sorted(every)
    assert Shape(workers, batch=8 * workers).options()["shape"][0] == f"{workers}x1x1"


def test_copies_by_hand():
    """An all-reduce over 8: 14 α and 7/4 of the gradients."""
    one = Shape()
    reduce = units(14 * 10e-6 + 7 / 4 * BYTES / 300e9)
    assert one.time["total"] == pytest.approx(12.5 + reduce)
    assert one.time["data"] == pytest.approx(reduce)
    two = Shape(node=4)
    assert two.time["total"] == pytest.approx(12.5 + units(14 * 20e-6 + 7 / 4 * BYTES / 25e9))
    assert one.sent == {"data": pytest.approx(7 / 4 * BYTES), "pipeline": 0, "tensor": 0}
    three = Shape(zero=3)  # weights 2m times, gradients m times
    assert three.sent["data"] == pytest.approx(24 * 7 / 8 * BYTES)


def test_parts_of_layers_by_hand():
    """Two all-reduces of each layer in every F and every B: 64 of 8 samples."""
    message = 2 * 8 * 4096 * 4096
    for node, alpha, speed in ((8, 10e-6, 300e9), (4, 20e-6, 25e9)):
        shape = Shape(1, 1, 8, node=node)
        inside = units(64 * 14 * alpha + 7 / 4 * 64 * message / speed)
        assert shape.timeline.collective == pytest.approx(inside)
        assert shape.time["total"] == pytest.approx(12.5 + 16 * inside)
        assert shape.sent["tensor"] == pytest.approx(16 * 7 / 4 * 64 * message)


def test_a_pipeline_by_hand():
    """m = 8, p = 4: the law, with messages that are nearly at once."""
    shape = Shape(2, 4, 1, fast=1e9)
    law = 12.5 * (8 + 3) / 8
    assert shape.time["total"] == pytest.approx(law, rel=2e-3)
    assert shape.bubble == pytest.approx(3 / 11, rel=5e-3)
    message = 2 * 4 * 4096 * 4096
    assert shape.sent["pipeline"] == pytest.approx(16 * message), "an inner rank, both ways"
    assert Shape(4, 2, 1).sent["pipeline"] == pytest.approx(8 * 2 * 2 * 4096 * 4096)


@pytest.mark.parametrize("sizes", SHAPES, ids=str)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_the_same_as_the_simulator(sizes, schedule, zero):
    data, ranks, tensor = sizes
    shape = Shape(*sizes, zero=zero, schedule=schedule)
    v = 2 if schedule == "interleaved-1f1b" else 1
    work = 100 / 3 / (8 * v * 8)  # a third of 100, over 8 workers, v stages, 8 micro-batches
    samples = 64 // data // 8
    message, layers = 2 * samples * 4096 * 4096, 32 / (ranks * v)
    weights = [2 * layers * LLAMA.layer_parameters / tensor] * (ranks * v)
    weights[0] += 2 * LLAMA.embedding_parameters / tensor
    weights[-1] += 2 * LLAMA.head_parameters / tensor
    link = Link(units(10e-6), 300e9 / units(1))
    costs = Costs(
        forward=work, input_grad=work, weight_grad=work, link=link, message=message,
        weights=weights, data_link=link, tensor_link=link, tensor_calls=2 * layers,
        tensor_bytes=2 * layers * message,
    )  # fmt: skip
    built = pipelab.build(
        schedule, ranks=ranks, microbatches=8, stages_per_rank=v if v > 1 else None
    )
    mesh = Mesh(data, tensor, zero if data > 1 else 0)
    timeline = pipelab.simulate(built, costs, mesh=mesh)
    assert shape.time["total"] == pytest.approx(timeline.makespan, rel=1e-9)
    assert shape.bubble == pytest.approx(timeline.metrics["bubble_fraction"], abs=1e-9)
    assert sum(shape.time.values()) == pytest.approx(2 * shape.time["total"]), "the parts are all"
    estimate = pipelab.estimate("llama-7b", shape.layout, device="a100-80")
    assert shape.held["total"] == pytest.approx(estimate.bytes["total"], rel=1e-9)


@pytest.mark.parametrize("sizes", SHAPES, ids=str)
@pytest.mark.parametrize("node", [1, 2, 4])
def test_a_pipeline_is_drawn_as_it_is_in_the_mesh(sizes, node):
    """Also where some pipelines cross nodes and others do not."""
    shape = Shape(*sizes, zero=1, node=node)
    for worker in range(8):
        mine = shape.pipeline(worker)
        for rank, who in enumerate(shape.groups(worker)["pipeline"]):
            whole = shape.timeline
            for times in ("started", "ended"):
                expected = getattr(whole, times)[whole.rank == who]
                assert getattr(mine, times)[mine.rank == rank] == pytest.approx(expected)


def test_groups_cover_the_mesh_and_know_their_nodes():
    shape = Shape(2, 2, 2, node=4)
    assert shape.groups(5) == {"data": [1, 5], "pipeline": [5, 7], "tensor": [4, 5]}
    assert shape.crosses == {"data": True, "pipeline": False, "tensor": False}
    assert replace(shape, node=8).crosses == dict.fromkeys(("data", "pipeline", "tensor"), False)
    assert Shape(1, 1, 8, node=4).crosses["tensor"]


def test_bytes_sent_are_those_of_the_actions():
    """(d − 1)/d of each gather and sum, counted in the timeline of all workers."""
    for zero, rounds in ((0, 2), (1, 1), (2, 1), (3, 1)):
        shape = Shape(4, 2, 1, zero=zero, schedule="zb-h1")
        line = shape.timeline
        mine = line.rank == 1  # the last stage, whose head is as large as the embedding
        gathers, sums = (
            int(np.sum(mine & (line.kind == kind))) for kind in (Kind.UNSHARD, Kind.REDUCE_GRAD)
        )
        expected = 3 / 4 * (gathers + rounds * sums) * BYTES / 2
        assert shape.sent["data"] == pytest.approx(expected, rel=1e-4)


def test_zero_divides_as_the_paper_says():
    """Weights and gradients 2 bytes of a parameter each, the optimizer's 12; over 4 copies."""
    held = [one.held for one in Shape(4, 1, 2).stages_of_zero()]
    mine = LLAMA.parameters / 2
    for one, (w, g, k) in zip(
        held, ((2, 2, 12), (2, 2, 3), (2, 0.5, 3), (0.5, 0.5, 3)), strict=True
    ):
        layers = 2 * LLAMA.layer_parameters if w < 1 else 0  # two of them gathered, 2 bytes, by 2
        assert one["weights"] == pytest.approx(w * mine + layers, rel=1e-9)
        assert one["gradients"] == pytest.approx(g * mine)
        assert one["optimizer"] == pytest.approx(k * mine)
    assert [one.zero for one in Shape(1, 8, 1, zero=2).stages_of_zero()] == [2]


def test_what_decides():
    assert decides(Shape()).startswith("Little is lost: a batch takes 12.7, and 100 / 8 = 12.5")
    far = decides(Shape(1, 1, 8, node=4))
    assert far == "tensor = 8 leaves the node: its all-reduces take 43.1 of 55.6."
    near = decides(Shape(1, 1, 8))
    assert near.startswith("tensor = 8 decides") and near.endswith("they stay inside a node.")
    assert decides(Shape(zero=3, node=4)) == (
        "ZeRO 3 decides: every forward and backward gathers weights between nodes. Copies exchange "
        "for 25 of 37.5."
    )
    assert "after each of 8 micro-batches" in decides(Shape(zero=2, node=4))
    assert "they sum gradients and gather weights" in decides(Shape(zero=1, node=4))
    assert "they sum gradients between nodes" in decides(Shape(node=4))
    waits = decides(Shape(1, 8, 1))
    assert waits == "The bubble decides: a worker waits for 11 of 23.5. 8 micro-batches are few " \
        "for 8 ranks."  # fmt: skip
    assert "few" not in decides(Shape(2, 4, 1, microbatches=16, schedule="gpipe"))
    slow = Shape(1, 8, 1, node=1, slow=1.0)
    assert decides(slow) == (
        "Messages between stages decide: without them a batch would take 23.4, not 38.8."
    )


def test_advice_is_counted_before_it_is_given():
    seen = set()
    for sizes in SHAPES:
        for zero in (0, 1):
            shape = Shape(*sizes, zero=zero)
            found = re.search(r"(ZeRO|\d+) (\d|micro-batches) would do", sentence(shape))
            if not found:
                assert shape.fits != "no" or "would hold" in sentence(shape)
                continue
            first, second = found.groups()
            change = {"zero": int(second)} if first == "ZeRO" else {"microbatches": int(first)}
            assert shape.fits == "no" and replace(shape, **change).fits == "yes"
            seen.update(change)
    assert seen == {"zero", "microbatches"}
    assert sentence(Shape(1, 8, 1, zero=1)).endswith(
        "There is one copy: ZeRO has nothing to divide."
    )


def test_switches_move_the_picture():
    view = pipelab.shapes(8, node=4)
    before = view.picture
    view.shape = "2x2x2"
    assert view.picture != before and view.columns == 4
    assert [one["value"] for one in view.numbers] == ["15", "10.9 %", "70 GB"]
    assert view.facts["tensor"] == 2 and view.facts["fullest"] == pytest.approx(70.0, abs=0.1)
    view.worker = 5
    assert (
        'aria-pressed="true" aria-label="worker 5: copy 1, rank 0, part 1, node 1"' in view.picture
    )
    assert "The pipeline of worker 5: copy 1, part 1" in view.picture
    four = "worker 4: copy 1, rank 0, part 0, node 1; tensor group"
    assert view.picture.count(four) == 2, "for eyes and for ears"
    view.microbatches = 32
    view.shape = "8x1x1"
    assert view.microbatches == 8, "8 samples of a copy"
    view.apply(shape="1x1x8", zero=3)
    assert view.said.startswith("tensor = 8 leaves the node: ")
    assert view.choice.mesh.zero == 0
    with pytest.raises(UnknownName, match="2x2x2"):
        view.shape = "2x2x3"
    with pytest.raises(UsageError, match="8 workers, 0 to 7"):
        view.worker = 8


def test_an_impossible_switch_keeps_the_picture_and_says_why():
    view = pipelab.shapes(6, shape=(6, 1, 1))
    before = view.picture
    view.shape = "2x3x1"
    assert view.problem == view.said == "32 layers do not divide by 3 stages."
    assert view.picture == before and "fits" not in view.facts
    view.shape = "3x2x1"
    assert not view.problem


def test_goals_tick():
    goal = Goal("Fit.", {"fits": "= yes", "time": "< 13"}, {"zero": 1}, "why")
    view = pipelab.shapes(goals=[goal])
    assert not view.goals[0]["reached"]
    view.show_goal()
    assert view.goals[0]["reached"]


def test_a_viewer_without_a_kernel_sees_the_mesh_and_reads_the_words():
    data, _ = pipelab.shapes(8, shape="4x2x1", zero=1)._repr_mimebundle_()
    picture, text = data["image/svg+xml"], data["text/html"]
    assert "<style" not in picture and picture.count("data-worker=") == 8
    assert (
        "Chosen is worker 0: copy 0, rank 0, part 0, node 0; data group: workers 0, 2, 4, 6"
        in picture
    )
    assert "8 workers: data 4 × ranks 2 × tensor 1, ZeRO 1, 1F1B, 8 micro-batches a copy." in text
    assert "The bubble decides: " in text and "time per batch: 14.1 (" in text
    assert "Simulated, not measured." in text
    assert "the mean worker&#x27;s 14.1: work 12.5 + copies 0.0745 + idle 1.57" in picture


@pytest.mark.parametrize("workers", [2, 7, 16])
def test_every_shape_is_drawn(workers):
    view = pipelab.shapes(workers)
    for name in view.choice.options()["shape"]:
        view.shape = name
        if not view.problem:
            assert view.picture.count("data-worker=") == workers
            assert "nan" not in view.picture and 'width="-' not in view.picture


def test_what_is_refused():
    with pytest.raises(UsageError, match="whole number from 2 to 16"):
        pipelab.shapes(1)
    with pytest.raises(UsageError, match=r"product is the 4 workers: 4x1x1, 2x2x1"):
        pipelab.shapes(4, shape=(3, 1, 1))
    with pytest.raises(UnknownName, match="Did you mean 'llama-7b'"):
        pipelab.shapes(8, model="llama-7")
    with pytest.raises(UnknownName, match="a100-80"):
        pipelab.shapes(8, device="a100")
    with pytest.raises(UnknownName, match="microbatches"):
        pipelab.shapes(8, microbatch=4)
    with pytest.raises(UnknownName, match="gpipe"):
        pipelab.shapes(8, schedule="naive")
    with pytest.raises(UnknownName, match="zero"):
        pipelab.shapes(8, zero=4)
    with pytest.raises(UsageError, match="does not divide into 8 copies × 3 micro-batches"):
        pipelab.shapes(8, microbatches=3)
    with pytest.raises(UsageError, match="slow is 0; it is a speed"):
        pipelab.shapes(8, slow=0)
    with pytest.raises(UsageError, match="node is 0; it is a whole number"):
        pipelab.shapes(8, node=0)
    with pytest.raises(UsageError, match="batch is 1.5"):
        pipelab.shapes(8, batch=1.5)
