"""What a run measures: times that add up, memory to the byte, the paced law."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import pipelab

from .conftest import batch


def train(model, data, **options):
    options = {"schedule": "1f1b", "ranks": 4, "microbatches": 4} | options
    return pipelab.run(model, *data, functional.cross_entropy, **options)


def assert_follows(run):
    """Never faster than the law; a busy machine may be slower (the 1 % bar is a benchmark's)."""
    assert 0.995 * run.predicted.makespan <= run.metrics["makespan"] <= 2 * run.predicted.makespan


def test_waiting_transfer_and_compute_add_up_to_the_makespan(model, data):
    run = train(model, data, steps=2)
    assert len(run.timelines) == 2
    for timeline in run.timelines:
        assert timeline.source == "measured" and timeline.unit == "s"
        for rank in range(4):
            mine = timeline.rank == rank
            before = timeline.started[mine].min()
            after = timeline.makespan - timeline.ended[mine].max()
            parts = (
                timeline.compute[mine].sum()
                + timeline.waiting[mine].sum()
                + timeline.transfer[mine].sum()
            )
            assert parts + before + after == pytest.approx(timeline.makespan, rel=1e-9)
        assert (timeline.waiting >= 0).all() and (timeline.transfer >= 0).all()
        idle = sum(i.end - i.start for i in timeline.idle)
        assert idle == pytest.approx(sum(timeline.metrics["idle"]), rel=1e-9)
    assert run.metrics == run.timeline.metrics


def test_nothing_starts_before_what_it_needs_was_sent(model, data):
    timeline = train(model, data).timeline
    actions = list(
        zip(
            *(getattr(timeline, name).tolist() for name in ("kind", "stage", "microbatch")),
            strict=True,
        )
    )
    ended = dict(zip(actions, timeline.ended.tolist(), strict=True))
    for (kind, stage, microbatch), started in zip(actions, timeline.started.tolist(), strict=True):
        source = (kind, stage + (-1 if kind == pipelab.Kind.F else 1), microbatch)
        if source in ended:
            assert started >= ended[source]


def test_saved_bytes_are_exact():
    """Linear saves its input, ReLU its output: 8 samples × 16 floats each; the loss saves
    log-probabilities and targets.
    """
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU())
    x, y = batch(size=8)
    run = pipelab.run(model, x, x, functional.mse_loss, schedule="gpipe", ranks=2, microbatches=2)
    activation = 4 * 16 * 4  # samples of a micro-batch × width × bytes
    assert run.peak_activation_bytes[0] == 2 * (
        2 * activation
    )  # both micro-batches: Linear's input, ReLU's output
    held = run.timeline.bytes_held[run.timeline.rank == 0]
    assert held.tolist() == [2 * activation, 4 * activation, 4 * activation, 2 * activation]
    assert run.timeline.bytes_after[run.timeline.rank == 0][-1] == 0
    assert run.timeline.bytes_sent[0] == activation


def test_1f1b_keeps_less_than_gpipe(model, data):
    gpipe, one = (
        train(model, data, schedule=s, microbatches=8).peak_activation_bytes
        for s in ("gpipe", "1f1b")
    )
    assert one[0] == gpipe[0] // 2
    assert one[2] < gpipe[2] / 2


def test_costs_per_stage_feed_the_prediction(model, data):
    run = train(model, data, steps=3)
    assert len(run.costs.forward) == len(run.costs.backward) == 4
    assert min(run.costs.forward) > 0
    assert run.predicted.unit == "s" and run.predicted.source == "predicted"
    assert run.predicted.makespan == pytest.approx(
        pipelab.simulate(run.schedule, run.costs).makespan
    )


@pytest.mark.timing
def test_a_paced_run_follows_the_law(model, data):
    run = train(model, data, microbatches=6, pace=(0.02, 0.04), steps=2)
    assert run.predicted.makespan == pytest.approx((6 + 4 - 1) * 0.06)
    assert_follows(run)
    assert run.metrics["bubble_fraction"] == pytest.approx(
        run.predicted.metrics["bubble_fraction"], abs=0.15
    )
    assert (run.timeline.worked < run.timeline.compute).all()
    assert run.gradient_error <= 1e-5


@pytest.mark.timing
def test_latency_is_a_planned_delay(model, data):
    run = train(model, data, ranks=2, microbatches=4, pace=(0.01, 0.02), latency=0.03)
    assert run.predicted.metrics["makespan"] == pytest.approx(
        pipelab.simulate(run.schedule, pipelab.Costs(0.01, backward=0.02, latency=0.03)).makespan
    )
    assert_follows(run)
    raw = train(model, data, ranks=2, microbatches=1, latency=0.1)
    assert raw.metrics["makespan"] > 0.2


@pytest.mark.timing
def test_pace_by_stage_and_kind(model, data):
    pace = pipelab.Costs(forward=[0.01, 0.03], backward=[0.02, 0.06])
    run = train(model, data, ranks=2, microbatches=3, pace=pace)
    slow = run.timeline.compute[(run.timeline.stage == 1) & (run.timeline.kind == pipelab.Kind.F)]
    assert np.median(slow) > 0.02
    assert_follows(run)


def test_a_pace_the_machine_cannot_keep_is_refused_with_one_it_can():
    model = nn.Sequential(*(nn.Linear(1024, 1024) for _ in range(2)))
    x = torch.randn(512, 1024)
    with pytest.raises(
        pipelab.PipelabError, match=r"cannot keep that pace.*It can keep forward .* ms.*pace=\("
    ):
        pipelab.run(
            model,
            x,
            x,
            functional.mse_loss,
            schedule="gpipe",
            ranks=2,
            microbatches=2,
            pace=(0.001, 0.002),
        )


def test_events_stream_while_it_runs(model, data):
    events = []
    run = train(model, data, steps=2, on_event=events.append)
    assert len(events) == 2 * len(run.schedule.kind)
    assert {e.step for e in events} == {0, 1}
    assert all(e.ended >= e.started for e in events)


def test_snapshot_of_a_run_in_progress(model, data):
    run = pipelab.start(
        model,
        *data,
        functional.cross_entropy,
        schedule="gpipe",
        ranks=2,
        microbatches=4,
        pace=(0.1, 0.2),
    )
    assert run.predicted.makespan == pytest.approx(1.5)
    seen = set()
    while not run.done:
        seen.add(len(run.snapshot()["columns"]["rank"]))
    run.wait()
    assert len(seen) > 3 and max(seen) <= 16
    final = run.snapshot()
    assert len(final["columns"]["started"]) == 16 and final["columns"]["started"].min() == 0
    assert final["losses"] == run.losses


def test_snapshots_fill_up_within_every_step(model):
    run = pipelab.start(
        model,
        lambda step: batch(seed=step),
        None,
        functional.cross_entropy,
        schedule="1f1b",
        ranks=2,
        microbatches=4,
        steps=3,
        pace=(0.04, 0.08),
    )
    seen = {step: set() for step in range(3)}
    while not run.done:
        now = run.snapshot()
        seen[now["step"]].add(len(now["columns"]["rank"]))
        time.sleep(0.005)  # a loop without rest would starve the thread that follows the workers
    run.wait()
    assert all(len(counts) > 4 for counts in seen.values()), seen


def test_a_run_counts_the_time_in_which_no_processor_was_free():
    """Four ranks that compute at once, beside others, on this machine's processors."""
    layers = [torch.nn.Linear(256, 256) for _ in range(4)]
    x = torch.randn(64, 256)
    run = pipelab.run(
        layers, x, x, torch.nn.functional.mse_loss, schedule="gpipe", ranks=4, microbatches=4,
        steps=3, device="cpu", workers="processes",
    )  # fmt: skip
    if not Path("/proc/thread-self/schedstat").exists():
        assert run.timeline.queued is None
        return
    for timeline in run.timelines:
        assert timeline.queued.shape == (4,) and (timeline.queued >= 0).all()
    parts = pipelab.timeline.gap(run.timeline, run.predicted)
    whole = sum(parts[name][0] for name in ("compute", "transfer", "waiting", "overhead"))
    assert whole + parts["processors"][0] == pytest.approx(parts["total"][0])
