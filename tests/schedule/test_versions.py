"""Which version of the weights an action uses, against the formulas of the papers."""

import pytest

from pipelab import Kind, Schedule, build
from pipelab.schedule.versions import versions


def seen(schedule):
    """(kind, stage, micro-batch) -> version."""
    keys = zip(
        schedule.kind.tolist(), schedule.stage.tolist(), schedule.microbatch.tolist(), strict=True
    )
    return dict(zip(keys, versions(schedule).tolist(), strict=True))


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_pipedream_stashes_p_minus_s_versions(ranks):
    """arXiv 1806.03377, section 3.3: a micro-batch of stage s comes back p − s − 1 steps after it
    went.
    """
    schedule = build("pipedream", ranks=ranks, microbatches=16)
    version = seen(schedule)
    for stage in range(ranks):
        lag = [
            i - version[Kind.B, stage, i] for i in range(16)
        ]  # micro-batch i's backward is followed by STEP i
        assert max(lag) == lag[-1] == ranks - stage - 1
        assert all(version[Kind.F, stage, i] == version[Kind.B, stage, i] for i in range(16))
        assert [version[Kind.STEP, stage, i] for i in range(16)] == list(range(1, 17))


@pytest.mark.parametrize(("ranks", "microbatches"), [(1, 4), (2, 8), (4, 12), (4, 4)])
def test_2bw_uses_the_version_before_its_batch(ranks, microbatches):
    """arXiv 2006.09503, section 2.1: micro-batch k (from 1) uses max(⌊(k−1)/m⌋ − 1, 0)."""
    version = seen(build("pipedream-2bw", ranks=ranks, microbatches=microbatches))
    for stage in range(ranks):
        for k in range(1, microbatches + 1):
            expected = max((k - 1) // ranks - 1, 0)
            assert version[Kind.F, stage, k - 1] == version[Kind.B, stage, k - 1] == expected


def test_without_steps_there_is_one_version():
    assert set(versions(build("zb-v", ranks=2, microbatches=4)).tolist()) == {0}


def test_stages_on_one_rank_count_for_themselves():
    rows = ["0F0 1F0 1B0 1STEP0 0B0 0STEP0 0F1 1F1 1I1 0I1 1W1 0W1 1STEP1 0STEP1".split()]
    version = seen(Schedule.from_rows(rows, weights="stashed"))
    assert [
        version[kind, stage, 1] for kind in (Kind.F, Kind.I, Kind.W, Kind.STEP) for stage in (0, 1)
    ] == [1] * 6 + [2] * 2
