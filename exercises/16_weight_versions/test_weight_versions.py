"""Exercise 16. Tables of versions; a stage against autograd; stages that train, against the weights that the engine reaches."""

import copy
import functools
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

import pipelab
from pipelab import Costs, Kind
from pipelab.grading.checks import NO_CATALOGUE, plain, sizes
from pipelab.grading.living import living
from pipelab.grading.remote import StudentError
from pipelab.model import split

READ = "Read again: notebook 09 (Asynchronous pipelines), section “Stashing”."
OWN = "the exercise is to find the versions yourself: this part of pipelab is closed while it is graded"
WITHOUT = NO_CATALOGUE | {"pipelab.schedule.versions": OWN, "pipelab.engine": OWN, "pipelab.simulator": OWN}
CASES = ((4, 8), (3, 12), (1, 4), (2, 2), (5, 5), (4, 3))
"""Ranks and micro-batches: ordinary ones, numbers of two digits, one stage, as many as ranks, fewer."""
LR = 0.1


def table_of(value, p, m, what):
    """The table as lists of pairs, whatever kind of sequence the pairs are."""
    rows = plain(value, list, what)
    assert len(rows) == p, f"{what} should have a row for each of the {p} stages, but has {len(rows)}."
    found = []
    for s, row in enumerate(rows):
        row = plain(row, list, f"row {s} of {what}")
        assert len(row) == m, f"Row {s} of {what} should have {m} pairs, one for each micro-batch, but has {len(row)}."
        for k, pair in enumerate(row):
            about = f"entry {k} of row {s} of {what}"
            assert type(pair) in (tuple, list) and len(pair) == 2, f"{about} should be a pair of versions, but is {pair!r}."
            for version in pair:
                plain(version, int, f"a version in {about}")
        found.append([tuple(pair) for pair in row])
    return found


def same_table(found, version, p, m, wrong):
    """Compare with version(s, k); wrong: functions (s, k) -> a pair, with what to think about."""
    hint = next((text for pair, text in wrong if found == [[pair(s, k) for k in range(m)] for s in range(p)]), "")
    for s, row in enumerate(found):
        for k, pair in enumerate(row):
            right = version(s, k)
            for name, got in zip(("forward", "backward"), pair):
                assert got == right, (
                    f"{p} ranks, stage {s}: the {name} of micro-batch {k} should use version {right}, but uses {got}.\n"
                    f"expected  {[version(s, j) for j in range(m)]}\n     got  {[p[name == 'backward'] for p in row]}\n{hint} {READ}"
                )


def twice(version):
    return lambda s, k: (version(s, k), version(s, k))


@pytest.mark.points(2, "PipeDream: which version each micro-batch uses")
def test_stashed(student, student_seed, case):
    for p, m in case.each(CASES, sizes(student_seed)):
        late = lambda s, k, p=p: max(0, k - (p - s - 1))
        wrong = [
            (lambda s, k, late=late: (late(s, k), k), "That is the newest version when the backward runs. A backward needs the weights of its forward."),
            (twice(lambda s, k: max(0, k - s)), "That counts from the wrong end: the last stage is never late, and stage 0 most of all."),
            (twice(lambda s, k, p=p: max(0, k - (p - s))), "One too many: p − s micro-batches are in flight on stage s, and this one is among them."),
            (twice(lambda s, k, p=p: max(0, k - (p - 1))), "That is vertical sync: all stages as late as stage 0. Here each takes its newest."),
            (twice(lambda s, k, p=p: k - (p - s - 1)), "There is no version before 0: the first forwards run before the first step."),
            (twice(lambda s, k: k), "That is training without a pipeline: stage s has sent p − s − 1 forwards ahead when a step is made."),
        ]
        with case:
            found = table_of(student.stashed(p, m), p, m, f"stashed({p}, {m})")
            same_table(found, late, p, m, wrong)


@pytest.mark.points(2, "2BW: the version before the one of its batch")
def test_double_buffered(student, student_seed, case):
    own = ((p, p * (1 + m % 4)) for p, m in sizes(student_seed + 1))
    for p, m in case.each(((4, 12), (3, 12), (1, 4), (2, 2), (5, 10)), own):
        version = lambda s, k, p=p: max(0, k // p - 1)
        wrong = [
            (twice(lambda s, k, p=p: k // p), "That is the version that its batch would have with a flush. 2BW takes the one before: the newest may not be there yet."),
            (lambda s, k, p=p, version=version: (version(s, k), k // p), "A backward uses the weights of its forward; two versions are kept for that."),
            (twice(lambda s, k, p=p: max(0, k - (p - s - 1))), "That is PipeDream, with a step after every backward. 2BW steps once for p of them."),
            (twice(lambda s, k, p=p: max(0, (k - 1) // p - 1)), "The paper counts micro-batches from 1, here they count from 0."),
            (twice(lambda s, k, p=p: k // p - 1), "There is no version before 0."),
        ]
        with case:
            found = table_of(student.double_buffered(p, m), p, m, f"double_buffered({p}, {m})")
            same_table(found, version, p, m, wrong)


def parts(seed, count=3):
    """Draw (a part of a model in double precision, the sizes of its input and output)."""
    draw = random.Random(seed)
    for number in range(count):
        torch.manual_seed(seed % 2**31 + number)
        a, b, c = draw.sample(range(2, 8), 3)
        yield nn.Sequential(nn.Linear(a, b), nn.Tanh(), nn.Linear(b, c)).double(), a, c


class Twin:
    """What a stage that stashes should do."""

    def __init__(self, part):
        self.part, self.versions = part, [{n: p.detach().clone() for n, p in part.named_parameters()}]
        self.kept, self.sum = {}, {n: 0 for n in self.versions[0]}

    def output(self, x, version=-1):
        weights = {n: w.clone().requires_grad_() for n, w in self.versions[version].items()}
        x = x.clone().requires_grad_()
        return x, weights, functional_call(self.part, weights, (x,))

    def forward(self, k, x):
        self.kept[k] = self.output(x)
        return self.kept[k][2].detach()

    def backward(self, k, dy):
        x, weights, y = self.kept.pop(k)
        dx, *grads = torch.autograd.grad(y, [x, *weights.values()], dy)
        self.sum = {n: self.sum[n] + g for n, g in zip(weights, grads)}
        return dx

    def step(self):
        self.versions.append({n: w - LR * self.sum[n] for n, w in self.versions[-1].items()})
        self.sum = {n: 0 for n in self.sum}


def equal(value, right, what, hint):
    value = plain(value, torch.Tensor, what).detach()
    assert value.shape == right.shape, f"{what} should have shape {tuple(right.shape)}, but has {tuple(value.shape)}. {hint} {READ}"
    assert torch.allclose(value, right, rtol=1e-7, atol=1e-10), f"{what} is not what it should be. {hint} {READ}"


def backward(stage, k, dy, what):
    try:
        return stage.call("backward", k, dy)
    except StudentError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        raise AssertionError(
            f"{error}\n{what}: a step has changed the very weights that this backward needs, and torch has noticed. Keep a copy for "
            f"each micro-batch in flight, or let a step make new tensors. {READ}"
        ) from None


def weights_are(there, right, what, hint):
    state = there.gradients().keys()
    for name in right:
        assert name in state, f"{what}: the module has no parameter {name} any more."
        *path, last = name.split(".")
        found = there
        for part in path:
            found = there.guest.do(getattr, found, part)
        equal(there.guest.do(getattr, found, last).value(), right[name], f"{what}, {name}", hint)


@pytest.mark.points(2, "a backward uses the weights of its forward")
def test_backward(student, guest, student_seed, case):
    for part, inputs, outputs in case.each(parts(20), parts(student_seed)):
        with case:
            twin, there = Twin(copy.deepcopy(part)), guest.put(part)
            stage = student.StashingStage.keep(there, LR)
            late = "A backward uses the weights of its own forward, not those that steps have made since."
            for k in range(3):
                x = torch.randn(4, inputs).double()
                equal(stage.call("forward", k, x), twin.forward(k, x), f"y of micro-batch {k}", "A forward uses the newest weights.")
            for k, steps in ((0, 1), (2, 1), (1, 2)):
                dy = torch.randn(4, outputs).double()
                what = f"dx of micro-batch {k}"
                dx, right = backward(stage, k, dy, what), twin.backward(k, dy)
                equal(dx, right, what, late if len(twin.versions) > 1 else "It is the gradient of the stage's input.")
                hint = "A step makes newest − lr · (sum of the gradients since the last step)."
                if len(twin.versions) > 1:
                    hint += " The gradients are of an old version; the weights that move are the newest."
                for step in range(steps):
                    stage.call("step")
                    twin.step()
                    if step:
                        hint = "Without a backward since the last step, a step changes nothing."
                    weights_are(there, twin.versions[-1], f"the newest weights after the step for micro-batch {k}", hint)
            x = torch.randn(4, inputs).double()
            equal(stage.call("forward", 3, x), twin.forward(3, x), "y after four steps", "A forward uses the newest weights.")


@pytest.mark.points(1, "gradients of several backwards add up until the step")
def test_several_before_a_step(student, guest, student_seed, case):
    for part, inputs, outputs in case.each(parts(21, 2), parts(student_seed + 1, 1)):
        with case:
            twin, there = Twin(copy.deepcopy(part)), guest.put(part)
            stage = student.StashingStage.keep(there, LR)
            for k in range(4):
                x, dy = torch.randn(3, inputs).double(), torch.randn(3, outputs).double()
                stage.call("forward", k, x)
                twin.forward(k, x)
                backward(stage, k, dy, f"dx of micro-batch {k}")
                twin.backward(k, dy)
                if k % 2:
                    stage.call("step")
                    twin.step()
                    hint = "The gradients of all backwards since the last step count, as a sum."
                    if k > 1:
                        hint = "The gradients of a step are used up with it: the next one begins with none."
                    weights_are(there, twin.versions[-1], f"the weights after step {k // 2} of two backwards each", hint)


def events(schedule):
    """(kind, stage, number) of all actions, in an order in which one after another can run."""
    timeline = pipelab.simulate(schedule, Costs(1, backward=2))
    order = np.argsort(timeline.started, kind="stable")
    return [(Kind(timeline.kind[i]), int(timeline.stage[i]), int(timeline.microbatch[i])) for i in order]


def problem(p, m, seed):
    """(a model of p stages, its batch)"""
    torch.manual_seed(seed % 2**31)
    widths = [5, *[6] * (p - 1), 3]
    layers = [nn.Sequential(nn.Linear(a, b), nn.Tanh()) for a, b in zip(widths, widths[1:])]
    return nn.Sequential(*layers).double(), torch.randn(2 * m, 5).double(), torch.randn(2 * m, 3).double()


def drive(student, guest, schedule, model, inputs, targets, seen=lambda action: None):
    """Let the student's stages train, one action after another; the modules that stay there."""
    m = schedule.microbatches
    there = [guest.put(part) for part in split(copy.deepcopy(model), schedule.stages)]
    stages = [student.StashingStage.keep(part, LR) for part in there]
    down, up = dict(enumerate(inputs.tensor_split(m))), {}
    pieces, last = targets.tensor_split(m), schedule.stages - 1
    for kind, s, k in events(schedule):
        if kind == Kind.STEP:
            stages[s].call("step")
        elif kind == Kind.F:
            y = plain(stages[s].call("forward", k, down[k]), torch.Tensor, f"y of {s}F{k}").detach()
            down[k] = y
            if s == last:
                y = y.requires_grad_()
                (nn.functional.mse_loss(y, pieces[k]) * (len(pieces[k]) / len(targets))).backward()
                up[k] = y.grad
        else:
            up[k] = plain(backward(stages[s], k, up[k], f"{s}B{k}"), torch.Tensor, f"dx of {s}B{k}").detach()
        seen((kind, s, k))
    return there


@pytest.mark.points(2, "stages that train as the engine's own")
def test_it_trains(student, guest, case):
    for p, m in case.each(((3, 7),)):
        with case:
            model, inputs, targets = problem(p, m, 22 + p)
            schedule = pipelab.build("pipedream", ranks=p, microbatches=m)
            there = drive(student, guest, schedule, model, inputs, targets)
            run = pipelab.run(
                model, inputs, targets, nn.functional.mse_loss, schedule=schedule, device="cpu",
                optimizer=functools.partial(torch.optim.SGD, lr=LR),
            )
            for s, part in enumerate(there):
                right = {f"{s}.{n}": w for n, w in split(model, p)[s][0].state_dict().items()}
                what = f"after {m} steps on {p} ranks stage {s}"
                weights_are(part, {name: run.state_dict[name] for name in right}, what, "pipelab's engine trains with stashed weights, too.")


@pytest.mark.points(1, "a version goes when nobody needs it")
def test_memory(student, guest, case):
    for p, m in case.each(((3, 10),)):
        with case:
            model, inputs, targets = problem(p, m, 24 + p)
            schedule = pipelab.build("pipedream", ranks=p, microbatches=m)
            twins = [Twin(part) for part in split(copy.deepcopy(model), p)]
            history = versions_of(schedule, twins, inputs, targets)

            def seen(action):
                kind, s, k = action
                if kind != Kind.STEP or k not in (m // 2, m - 1):
                    return
                held = guest.do(living, history[s]).value()
                assert len(held) <= p - s + 1, (
                    f"Stage {s} of {p} still holds the versions {held} of its weights. At most {p - s} are in use there: one for each "
                    f"micro-batch in flight, and the newest. Let the others go. {READ}"
                )

            drive(student, guest, schedule, model, inputs, targets, seen)


def versions_of(schedule, twins, inputs, targets):
    """For each stage the first weight in all its versions, as arrays of numpy."""
    m = schedule.microbatches
    down, up, pieces = dict(enumerate(inputs.tensor_split(m))), {}, targets.tensor_split(m)
    for kind, s, k in events(schedule):
        if kind == Kind.STEP:
            twins[s].step()
        elif kind == Kind.F:
            down[k] = twins[s].forward(k, down[k])
            if s == len(twins) - 1:
                y = down[k].clone().requires_grad_()
                (nn.functional.mse_loss(y, pieces[k]) * (len(pieces[k]) / len(targets))).backward()
                up[k] = y.grad
        else:
            up[k] = twins[s].backward(k, up[k])
    return [[next(iter(version.values())).numpy() for version in twin.versions] for twin in twins]
