"""Schedules drawn at random: whatever is legal runs, and its gradients are right."""

import random

import pytest
from torch.nn import functional

import pipelab
from pipelab import Action, Kind
from pipelab.schedule.action import Overlap
from pipelab.schedule.kinds import OF_MICROBATCH

from .conftest import batch, mlp


def drawn(seed):
    """A legal schedule: actions are run one by one, whichever is ready, and noted where they ran.

    Stages lie anywhere, each micro-batch goes through one of up to two copies, each backward is
    whole or split, some forwards are recomputed, and some neighbours of a rank share a cell.
    """
    draw = random.Random(seed)
    ranks, stages, microbatches, replicas = (draw.randint(1, n) for n in (3, 4, 5, 2))
    stages, replicas = max(stages, ranks), min(replicas, microbatches)
    home = {
        (c, s): s % ranks if s < ranks else draw.randrange(ranks)
        for c in range(replicas)
        for s in range(stages)
    }
    waiting = {}  # action -> what it needs
    for i in range(microbatches):
        c = i % replicas
        whole = [draw.random() < 0.5 for _ in range(stages)]
        for s in range(stages):
            mine = [Action(Kind.F, s - 1, i, c)] if s else []
            waiting[Action(Kind.F, s, i, c)] = mine
            kind = Kind.B if whole[s] else Kind.I
            after = [Action(Kind.F, s, i, c)]
            if s + 1 < stages:
                after.append(Action(Kind.B if whole[s + 1] else Kind.I, s + 1, i, c))
            if draw.random() < 0.3:
                waiting[Action(Kind.R, s, i, c)] = [Action(Kind.F, s, i, c)]
                after.append(Action(Kind.R, s, i, c))
            waiting[Action(kind, s, i, c)] = after
            if kind == Kind.I:
                waiting[Action(Kind.W, s, i, c)] = [Action(Kind.I, s, i, c)]
    rows, done = [[] for _ in range(ranks)], set()
    while len(done) < len(waiting):
        action = draw.choice(
            [a for a, needs in waiting.items() if a not in done and done.issuperset(needs)]
        )
        done.add(action)
        row = rows[home[action.replica, action.stage]]
        previous = row[-1] if row and isinstance(row[-1], Action) else None
        pair = {previous.kind, action.kind} if previous else set()
        if (
            pair in ({Kind.F, Kind.B}, {Kind.F, Kind.I})
            and previous not in waiting[action]
            and draw.random() < 0.5
        ):
            row[-1] = Overlap(previous, action)
        else:
            row.append(action)
    return pipelab.Schedule.from_rows(rows, name=f"drawn {seed}")


@pytest.mark.parametrize("seed", range(16))
def test_any_legal_schedule_runs(seed):
    schedule = drawn(seed)
    refusal = pipelab.check(schedule)
    if refusal:  # two cells may wait for each other where their four actions would not
        assert refusal.code == "deadlock" and schedule.overlaps
        pytest.skip("this one deadlocks, and is refused")
    x, y = batch(size=13)
    run = pipelab.run(
        mlp(6).double(), x.double(), y, functional.cross_entropy, schedule=schedule, steps=2
    )
    assert run.gradient_error <= 1e-12
    assert run.predicted.makespan > 0
    assert run.timeline.bytes_after[run.schedule.offsets[1:] - 1].max() == 0


def test_what_is_drawn_has_everything_in_it():
    schedules = [drawn(seed) for seed in range(16)]
    assert set.union(*(set(s.kinds) for s in schedules)) == set(OF_MICROBATCH)
    runnable = [s for s in schedules if pipelab.check(s) is None]
    assert len(runnable) > 10
    assert any(s.overlaps for s in runnable) and any(s.replicas > 1 for s in runnable)
    assert any(len(set(s.placement.values())) < s.stages for s in runnable)
