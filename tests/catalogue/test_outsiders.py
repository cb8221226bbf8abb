"""Action for action what other people's generators produce: torch's, and files of the zero-bubble
authors.
"""

from pathlib import Path

import pytest

from pipelab.catalogue import build, entry, names
from pipelab.schedule import read_csv
from pipelab.schedule.csv import unreadable_by_torch

FILES = Path(__file__).parents[1] / "data" / "schedules"


@pytest.mark.parametrize(
    ("file", "name", "counts"),
    [
        ("sail_v_half_4rank_12mb", "v-half", (4, 12)),
        ("sail_v_half_8rank_24mb", "v-half", (8, 24)),
        ("sail_v_min_4rank_12mb", "v-min", (4, 12)),
        ("sail_v_min_8rank_24mb", "v-min", (8, 24)),
        ("torch_dualpipev_4rank_10mb", "dualpipe-v", (4, 10)),
        ("torch_zb1p_2rank_2stagep_compute", "interleaved-zb", (2, 8)),
    ],
)
def test_files(file, name, counts):
    ranks, microbatches = counts
    assert build(name, ranks=ranks, microbatches=microbatches) == read_csv(FILES / f"{file}.csv")


@pytest.fixture(scope="module")
def torch_orders():
    return pytest.importorskip("torch.distributed.pipelining._schedule_visualizer").get_schedule_ops


CASES = [
    ("Interleaved1F1B", "interleaved-1f1b", (2, 3)),
    ("LoopedBFS", "looped-bfs", (2, 3)),
    ("InterleavedZeroBubble", "interleaved-zb", (2, 3)),
    ("ZBVZeroBubble", "zb-v", (2,)),
    ("DualPipeV", "dualpipe-v", (2,)),
    ("GPipe", "gpipe", (1,)),
]


@pytest.mark.parametrize(("theirs", "ours", "per_rank"), CASES)
def test_torchs_own_generators(torch_orders, theirs, ours, per_rank):
    compared = 0
    for ranks in (1, 2, 3, 4, 6, 8):
        for microbatches in (1, 2, 3, 4, 5, 6, 8, 10, 12, 16):
            for stages_per_rank in per_rank:
                rounds = max(1, microbatches // ranks)
                if ours.startswith("interleaved") and microbatches % rounds:
                    continue  # torch refuses; we end with a short group, as Megatron-LM does
                if ours == "dualpipe-v" and microbatches < 2 * ranks:
                    continue
                if ours == "gpipe" and microbatches < ranks:
                    continue  # torch 2.9 refuses
                expected = torch_orders(theirs, ranks, microbatches, stages_per_rank)
                schedule = build(
                    ours, ranks=ranks, microbatches=microbatches, stages_per_rank=stages_per_rank
                )
                for rank, row in enumerate(schedule.actions):
                    assert [str(a) for a in row] == [
                        str(a)
                        for a in expected[rank]
                        if a is not None
                        and "_" not in str(a).split(")")[-1].replace("OVERLAP_F_B", "")
                    ]
                compared += 1
    assert compared >= 15


def torch_runs(path, schedule):
    """Loads a CSV with torch's own runtime class, lowers it, and simulates its communication; the
    simulated schedule.
    """
    from torch.distributed.pipelining import schedules

    runtime = object.__new__(
        schedules._PipelineScheduleRuntime
    )  # without stages: loading and lowering need none
    runtime.pipeline_order, runtime._defer_pp_recv = {}, False
    runtime.pp_group_size, runtime._num_stages = schedule.ranks, schedule.stages
    runtime._n_microbatches, runtime._stages = schedule.microbatches, []
    runtime.stage_index_to_group_rank = {
        stage: rank for (_, stage), rank in schedule.placement.items()
    }
    runtime._load_csv(path, format="compute_only")
    home = runtime.stage_index_to_group_rank.__getitem__
    if schedule.overlaps:  # torch lowers them, but cannot simulate them
        return runtime.pipeline_order_with_comms
    # torch's simulation does not know the UNSHARD that torch's own lowering adds, so it gets sends
    # and receives alone.
    lowered = schedules._add_send_recv(runtime.pipeline_order, home, schedule.stages)
    return schedules._simulate_comms_compute(lowered, home, schedule.stages)


def torch_reads(name):
    schedule = build(name, ranks=2, microbatches=4)
    return unreadable_by_torch(schedule) is None


@pytest.mark.parametrize("name", list(filter(torch_reads, names())))
def test_torch_loads_lowers_and_simulates_our_files(tmp_path, torch_orders, name):
    for ranks, microbatches in ((2, 4), (4, 8), (4, 2)):
        if entry(name).problem(ranks, microbatches):
            continue
        schedule = build(name, ranks=ranks, microbatches=microbatches)
        path = tmp_path / f"{name}.csv"
        path.write_text(schedule.to_csv())
        simulated = torch_runs(path, schedule)
        assert len(simulated) == ranks
        # 1 F&B cell counts once there, twice here; torch merges an I with the W right after it into
        # one B.
        assert (
            sum(1 for row in simulated.values() for a in row if a is not None)
            >= len(schedule.kind) / 2
        )
