"""Pipelines without a flush: weights of several versions, and that they learn all the same."""

import copy
import functools

import pytest
import torch
from torch.nn import functional

import pipelab
from pipelab import Kind
from pipelab.engine.stage.stash import Stash
from pipelab.model import workload
from pipelab.schedule.versions import versions

from .conftest import batch, mlp

SGD = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9)


def train(schedule, model=None, data=None, **options):
    options = {"optimizer": SGD} | options
    return pipelab.run(
        model or mlp(4), *(data or batch()), functional.cross_entropy, schedule=schedule, **options
    )


def by_hand(model, data, schedule, steps, loss_fn=functional.cross_entropy):
    """The same on the unsplit model: each stage of a micro-batch computes with the weights of its
    version.

    A micro-batch runs forward and back in one go, on copies of the layers, when its version of
    every stage is there.
    """
    inputs, targets = (t.tensor_split(schedule.microbatches) for t in data)
    stages = [torch.nn.Sequential(*(model[i] for i in part)) for part in
              torch.arange(len(model)).tensor_split(schedule.stages)]  # fmt: skip
    stages = copy.deepcopy(stages)
    optimizers = [SGD(stage.parameters()) for stage in stages]
    keys = zip(
        schedule.kind.tolist(), schedule.stage.tolist(), schedule.microbatch.tolist(), strict=True
    )
    version = dict(zip(keys, versions(schedule).tolist(), strict=True))
    batches = 1 + max(k for kind, _, k in version if kind == Kind.STEP)
    every = schedule.microbatches // batches
    for _ in range(steps):
        history = [[copy.deepcopy(stage)] for stage in stages]
        for k in range(schedule.microbatches):
            used = [history[s][version[Kind.F, s, k]] for s in range(schedule.stages)]
            for stage in used:
                stage.zero_grad()
            value = inputs[k]
            for stage in used:
                value = stage(value)
            (loss_fn(value, targets[k]) * (len(inputs[k]) / len(data[0]))).backward()
            for stage, source in zip(stages, used, strict=True):
                for live, p in zip(stage.parameters(), source.parameters(), strict=True):
                    live.grad = p.grad.clone() if live.grad is None else live.grad + p.grad
            if (k + 1) % every == 0:
                for s, (stage, optimizer) in enumerate(zip(stages, optimizers, strict=True)):
                    optimizer.step()
                    optimizer.zero_grad()
                    history[s].append(copy.deepcopy(stage))
    return {
        f"{i}.{name}": value
        for i, layer in enumerate(layer for stage in stages for layer in stage)
        for name, value in layer.state_dict().items()
    }


@pytest.mark.parametrize("name", ["pipedream", "pipedream-2bw"])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_training_equals_the_same_versions_by_hand_to_the_bit(name, ranks):
    model, data = mlp(4), batch(size=24)
    run = train(name, model, data, ranks=ranks, microbatches=8, steps=2)
    expected = by_hand(model, data, run.schedule, steps=2)
    assert run.state_dict.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(run.state_dict[key], value), key


def test_the_versions_that_were_used_are_in_the_trace():
    run = train("pipedream", ranks=3, microbatches=6)
    timeline = run.timeline
    mine = (timeline.stage == 0) & (timeline.kind == Kind.B)
    assert timeline.version[mine].tolist() == [0, 0, 0, 1, 2, 3]
    assert timeline.version[(timeline.stage == 2) & (timeline.kind == Kind.F)].tolist() == [
        0,
        1,
        2,
        3,
        4,
        5,
    ]
    assert timeline.to_json()["events"]["version"] == timeline.version.tolist()
    assert run.gradient_error is None
    assert (
        run.gradient_note
        == "nothing to compare with: micro-batches of one step saw weights of several versions"
    )


def test_splitting_and_recomputing_use_the_version_of_the_forward():
    rows = [
        "0F0 0F1 0B0 0STEP0 0R1 0I1 0W1 0STEP1".split(),
        "1F0 1I0 1F1 1W0 1STEP0 1B1 1STEP1".split(),
    ]
    mixed = pipelab.Schedule.from_rows(rows, name="mixed", weights="stashed")
    plain = pipelab.Schedule.from_rows(
        ["0F0 0F1 0B0 0STEP0 0B1 0STEP1".split(), "1F0 1F1 1B0 1STEP0 1B1 1STEP1".split()],
        weights="stashed",
    )
    states = [train(schedule, optimizer=SGD).state_dict for schedule in (mixed, plain)]
    assert all(torch.equal(states[0][key], value) for key, value in states[1].items())


def test_a_synchronous_schedule_with_its_steps_inside_is_ordinary_training():
    rows = ["0F0 0F1 0B0 0B1 0STEP0".split(), "1F0 1B0 1F1 1B1 1STEP0".split()]
    inside = train(pipelab.Schedule.from_rows(rows, name="steps inside"), steps=3).state_dict
    after = train("gpipe", ranks=2, microbatches=2, steps=3).state_dict
    assert all(torch.equal(inside[key], value) for key, value in after.items())


def test_a_version_goes_when_nobody_can_need_it():
    for keep, expected in (
        (1, [[0], [0, 1], [0, 1, 2], [1, 2], [2]]),
        (2, [[0], [0, 1], [0, 1, 2], [1, 2], [1, 2]]),
    ):
        stash, kept = Stash([torch.nn.Linear(2, 2)], keep), []
        kept.append(sorted(stash._versions))
        stash.hold(0)
        stash.stepped()
        kept.append(sorted(stash._versions))
        stash.hold(1)
        stash.stepped()
        kept.append(sorted(stash._versions))
        for version in (0, 1):
            stash.collect(version)
            kept.append(sorted(stash._versions))
        assert kept == expected


def test_2bw_never_keeps_more_than_two_versions_and_pipedream_p_minus_s(monkeypatch):
    """Counted along the schedule, with the stash that the engine uses."""
    for name, keep, bound in (("pipedream", 1, lambda s: 4 - s), ("pipedream-2bw", 2, lambda s: 2)):
        schedule = pipelab.build(name, ranks=4, microbatches=16)
        version = versions(schedule)
        for stage in range(4):
            stash, most = Stash([torch.nn.Linear(2, 2)], keep), 0
            for atom in range(schedule.offsets[stage], schedule.offsets[stage + 1]):
                kind = schedule.kind[atom]
                if kind == Kind.F:
                    stash.hold(version[atom])
                elif kind == Kind.B:
                    stash.collect(version[atom])
                else:
                    stash.stepped()
                most = max(most, len(stash._versions))
            assert most == bound(stage), (name, stage)


@pytest.mark.parametrize("name", ["pipedream", "pipedream-2bw"])
def test_on_real_text_the_loss_falls_as_in_synchronous_training(name):
    job = workload("gpt", layers=4, width=32, batch=16)

    def curve(schedule, lr):
        return pipelab.run(
            job.model,
            job.batches,
            None,
            job.loss_fn,
            schedule=schedule,
            ranks=4,
            microbatches=8,
            steps=12,
            optimizer=functools.partial(torch.optim.Adam, lr=lr),
        ).losses

    stale, flushed = curve(name, 0.002), curve("1f1b", 0.003)
    assert stale[-1] < 0.75 * stale[0] and flushed[-1] < 0.75 * flushed[0]
    assert stale != flushed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"schedule": "pipedream", "optimizer": None},
            "pipedream steps the optimizer between micro-batches (STEP), so it",
        ),
        (
            {"schedule": "pipedream", "clip": 1.0},
            "clip needs the gradients of all stages at one moment",
        ),
        (
            {"schedule": pipelab.Schedule.from_rows(["0F0 0F1 0B0 0STEP0 0B1 0STEP1".split()])},
            "Stage 0 steps its optimizer between 0F1 and 0B1, which must use the same weights: "
            "the schedule needs weights='stashed'",
        ),
        (
            {
                "schedule": pipelab.Schedule.from_rows(
                    ["0F0 0F1 0F2 0F3 0B0 0STEP0 0B1 0STEP1 0B2 0STEP2 0B3 0STEP3".split()],
                    weights="double",
                )
            },
            "0F2 needs version 1 of its weights, but at that place stage 0 keeps 0 and 0",
        ),
    ],
)
def test_what_cannot_run_without_a_flush(options, message):
    named = isinstance(options["schedule"], str)
    with pytest.raises(pipelab.PipelabError) as caught:
        train(**({"ranks": 2, "microbatches": 4} if named else {}) | options)
    assert message in str(caught.value)


def test_stages_that_share_weights_cannot_step_at_times_of_their_own():
    model = mlp(4)
    model[2][0].weight = model[0][0].weight
    for ranks in (1, 2):
        if ranks == 1:
            rows = ["0F0 1F0 1B0 1STEP0 0B0 0STEP0".split()]
        else:
            rows = ["0F0 0B0 0STEP0".split(), "1F0 1B0 1STEP0".split()]
        with pytest.raises(
            pipelab.PipelabError,
            match="used by more than one stage.*steps the optimizer of each stage",
        ):
            train(pipelab.Schedule.from_rows(rows), model)
