"""One pipeline of a mesh is the timeline of the schedule that all of them repeat."""

from dataclasses import fields

import numpy as np
import pytest
import torch

import pipelab
from pipelab.catalogue import names
from pipelab.errors import UsageError
from pipelab.plots import plot, svg, view
from pipelab.schedule import Mesh
from pipelab.simulator import Memory

COSTS = pipelab.Costs(1, backward=2, latency=0.3, reduce_grad=2)
TABLES = ("kind", "stage", "microbatch", "replica", "cell", "offsets")


def require_same(one, alone):
    for name in TABLES:
        found, expected = getattr(one.schedule, name), getattr(alone.schedule, name)
        np.testing.assert_array_equal(found, expected)
    assert list(map(list, one.schedule.actions)) == list(map(list, alone.schedule.actions))
    for name in ("ranks", "stages", "replicas", "placement"):
        assert getattr(one.schedule, name) == getattr(alone.schedule, name)
    for field in fields(one):
        value, expected = getattr(one, field.name), getattr(alone, field.name)
        if isinstance(value, np.ndarray) and expected is not None:
            np.testing.assert_allclose(value, expected, err_msg=field.name)
    assert one.mesh == Mesh()


@pytest.mark.parametrize("name", sorted(set(names()) - {"pipedream", "pipedream-2bw"}))
def test_each_pipeline_is_the_one_that_is_repeated(name):
    schedule = pipelab.build(name, ranks=4, microbatches=8).with_data_parallel()
    alone = pipelab.simulate(schedule, COSTS)
    whole = pipelab.simulate(schedule, COSTS, mesh=Mesh(data=2, tensor=3))
    assert whole.schedule.ranks == 24
    for data, tensor in ((0, 0), (1, 0), (1, 2)):
        one = whole.pipeline(data, tensor)
        require_same(one, alone)
        assert not one.collective.any()
        assert one.metrics == alone.metrics
        assert one.idle_by_cause == alone.idle_by_cause
        assert one.critical_path == alone.critical_path


def test_memory_by_part_and_waits_for_processors_are_those_of_its_workers():
    schedule = pipelab.build("1f1b", ranks=2, microbatches=4)
    memory = Memory(activations=8, weights=16)
    whole = pipelab.simulate(schedule, COSTS, memory=memory, mesh=Mesh(2, 2))
    whole = pipelab.timeline.Timeline(
        **{f.name: getattr(whole, f.name) for f in fields(whole)} | {"queued": np.arange(8)}
    )
    one = whole.pipeline(data=1, tensor=1)
    assert one.queued.tolist() == [5, 7]
    assert one.peak_bytes == whole.pipeline().peak_bytes
    assert all(len(held) == len(one.kind) for held, _ in one.memory.values())


def test_a_timeline_without_a_mesh_is_its_own_pipeline():
    alone = pipelab.simulate(pipelab.build("gpipe", ranks=3, microbatches=4))
    require_same(alone.pipeline(), alone)


@pytest.mark.parametrize("options", [{"data": 2}, {"tensor": 1}, {"data": -1}, {"data": True}])
def test_a_pipeline_that_is_not_there_is_refused(options):
    whole = pipelab.simulate(pipelab.build("gpipe", ranks=2, microbatches=2), mesh=Mesh(data=2))
    with pytest.raises(UsageError, match=r"this mesh has \d along"):
        whole.pipeline(**options)


def test_every_picture_draws_a_pipeline_of_a_real_mesh():
    layers = torch.nn.Sequential(*(torch.nn.Linear(6, 6) for _ in range(4)))
    plan = {"0": "column", "1": "row", "2": "column", "3": "row"}
    x, y = torch.randn(2, 8, 6)
    run = pipelab.run(
        layers, x, y, torch.nn.functional.mse_loss, schedule="1f1b", ranks=2, microbatches=2,
        data=2, tensor=2, tensor_plan=plan, zero=2, timeout=20,
    )  # fmt: skip
    one = run.timeline.pipeline(data=1, tensor=0)
    assert one.schedule.ranks == 2 and one.collective_bytes.sum() > 0
    mine = np.isin(run.timeline.rank, [4, 6])
    np.testing.assert_array_equal(one.started, run.timeline.started[mine])
    assert "rank 1" in svg(one) and "rank 2" not in svg(one)
    assert plot(one) is not None and view(one)
    pipelab.check(one.schedule)
