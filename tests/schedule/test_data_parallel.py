"""Where copies of a pipeline exchange what they share, and who a worker of a mesh is."""

import numpy as np
import pytest

import pipelab
from pipelab.catalogue import names
from pipelab.errors import UsageError
from pipelab.schedule import Kind, Mesh, Place, check, spread
from pipelab.schedule.kinds import COLLECTIVES

NO_FLUSH = {"pipedream", "pipedream-2bw"}


@pytest.mark.parametrize("name", sorted(names()))
def test_every_schedule_stays_legal_and_keeps_its_order(name):
    schedule = pipelab.build(name, ranks=4, microbatches=8)
    for zero in [0] if name in NO_FLUSH else range(4):
        for overlap in (True, False):
            for reshard in (True, False):
                made = schedule.with_data_parallel(zero=zero, overlap=overlap, reshard=reshard)
                assert check(made) is None
                own = ~np.isin(made.kind, tuple(COLLECTIVES))
                for column in ("kind", "stage", "microbatch", "replica"):
                    given = getattr(schedule, column)
                    assert np.array_equal(getattr(made, column)[own], given)


def test_how_often_they_meet():
    """ZeRO 1 once a step; 2 sums m times; 3 gathers for every F and every B as well."""
    schedule, m = pipelab.build("1f1b", ranks=2, microbatches=6), 6
    for zero, (unshard, reshard, reduce) in enumerate(
        [(0, 0, 1), (1, 0, 1), (1, 0, m), (2 * m, 2 * m, m)]
    ):
        made = schedule.with_data_parallel(zero=zero)
        for kind, count in (
            (Kind.UNSHARD, unshard),
            (Kind.RESHARD, reshard),
            (Kind.REDUCE_GRAD, reduce),
        ):
            assert (made.kind == kind).sum() == 2 * count
    kept = schedule.with_data_parallel(zero=3, reshard=False)
    assert (kept.kind == Kind.UNSHARD).sum() == (kept.kind == Kind.RESHARD).sum() == 2


def test_weights_are_there_again_for_a_recomputation_and_its_backward():
    row = pipelab.Schedule.from_rows([["0F0", "0F1", "0R0", "0B0", "0R1", "0B1"]])
    texts = [str(each) for each in row.with_data_parallel(zero=3).actions[0]]
    assert texts[6:11] == ["0UNSHARD", "0R0", "0B0", "0RESHARD", "0REDUCE_GRAD"]


def test_steps_inside_a_schedule_follow_the_sum():
    made = pipelab.build("pipedream", ranks=2, microbatches=4).with_data_parallel()
    kinds = made.kind.tolist()
    for at, kind in enumerate(kinds):
        assert kind != Kind.STEP or kinds[at - 1] == Kind.REDUCE_GRAD
    with pytest.raises(UsageError, match="zero=0"):
        pipelab.build("pipedream", ranks=2, microbatches=4).with_data_parallel(zero=1)


def test_workers_and_their_groups():
    """Tensor innermost, then the ranks of a pipeline, then the copies."""
    mesh = Mesh(data=2, tensor=2)
    places = [mesh.place(3, worker) for worker in range(12)]
    assert [mesh.worker(3, place) for place in places] == list(range(12))
    assert places[7] == Place(data=1, rank=0, tensor=1)
    assert mesh.tensor_group(3, places[7]) == [6, 7]
    assert mesh.data_group(3, places[7]) == [1, 7]
    assert mesh.pipeline_group(3, places[7]) == [7, 9, 11]


def test_the_schedule_of_all_workers():
    schedule = pipelab.build("dualpipe", ranks=4, microbatches=8)
    mesh = Mesh(2, 3)
    whole = spread(schedule, mesh)
    assert whole.ranks == 24
    for worker in range(24):
        low, high = schedule.slices[mesh.place(4, worker).rank]
        first, last = whole.slices[worker]
        assert np.array_equal(whole.microbatch[first:last], schedule.microbatch[low:high])
    assert spread(schedule, Mesh()) is schedule
    assert pipelab.simulate(whole).makespan == pipelab.simulate(schedule).makespan
