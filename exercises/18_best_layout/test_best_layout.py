"""Exercise 18. Layouts against the planner's search, with a band; the defence against what the planner says."""

import random
from dataclasses import replace
from functools import lru_cache

import pytest

import pipelab
from pipelab.errors import PipelabError
from pipelab.grading.checks import plain
from pipelab.layout.planner import DEVICES, MODELS, Layout, Transformer

READ = "Read again: notebook 11 (Choosing, and the real frameworks), section “Three jobs”."
WITHOUT = {"pipelab.layout:plan": "the exercise is to search yourself: pipelab's planner is closed while it is graded"}
JOBS = (
    ("llama-8b", "a100-40", 25, 32, 64), ("llama-70b", "h100", 3, 64, 256), ("gpt-22b", "a100-40", 12.5, 32, 128),
    ("gpt-1.3b", "a100-80", 3, 32, 256), ("gpt-3", "h200", 6, 64, 64), ("llama-7b", "h100", 25, 32, 64),
)  # fmt: skip
"""Model, device, the network's GB/s, GPUs, batch."""
KEYS = {"tensor": 1, "pipeline": 1, "data": 1, "stages_per_rank": 1, "microbatch": 1, "zero": 0, "schedule": "1f1b", "recompute": "none"}
SCHEDULES = ("1f1b", "zb-h1", "interleaved-1f1b", "gpipe")
USABLE, BAND, NEAR = 0.85, 1.10, 1.25
ACTIONS = 400_000
ADVICE = {
    "activations": "Activations shrink with tensor, with smaller micro-batches, and with recomputation; not with more ranks alone.",
    "optimizer": "ZeRO 1 divides the optimizer's state among the copies, and costs nothing.",
    "gradients": "Tensor and pipeline divide gradients, and so does ZeRO 2.",
    "weights": "Tensor and pipeline divide the weights, and so does ZeRO 3.",
    "logits": "Tensor and smaller micro-batches make the logits smaller.",
}
CURES = {
    "bubble": "A bubble gets smaller with fewer ranks, more micro-batches for each copy, ZB-H1 or interleaving.",
    "tensor": "Sharing layers costs collectives for every micro-batch: does tensor leave the node, or is it larger than it has to be?",
    "data": "Copies sum their gradients once a step; ZeRO 2 and 3 move bytes for every micro-batch. Fewer copies, or a lower ZeRO, send less.",
    "recompute": "Recomputation costs a forward: use it only where nothing faster fits without.",
    "pipeline": "Every boundary between ranks costs a transfer there and back: fewer ranks or stages per rank have fewer.",
    "compute": "Larger micro-batches and fewer parts of a layer keep a GPU busier.",
    "optimizer": "ZeRO and more parts divide the optimizer's work.",
}


def job(name, device, network, gpus, batch):
    machine = replace(DEVICES[device], name=f"{device}, network {network:g} GB/s", network_bandwidth=network)
    return MODELS[name], machine, gpus, batch


@lru_cache(maxsize=None)
def planned(model, machine, gpus, batch):
    return pipelab.plan(model, device=machine, gpus=gpus, batch=batch, flash=True)


def own_jobs(seed, count=2):
    """A model and a cluster of the student's own; only those for which there is a choice of layouts."""
    draw = random.Random(seed)
    while count:
        layers, heads = draw.choice((24, 32, 40, 48)), draw.choice((16, 32, 48))
        model = Transformer("your model", layers, 128 * heads, heads, sequence=draw.choice((2048, 4096)))
        device, network = draw.choice(("a100-40", "a100-80", "h100")), draw.choice((3, 6, 12.5, 25, 50))
        machine = replace(DEVICES[device], name=f"{device}, network {network:g} GB/s", network_bandwidth=network)
        found = model, machine, draw.choice((8, 16, 32)), draw.choice((64, 128, 256))
        try:
            choices = len(planned(*found).rows)
        except PipelabError:
            continue
        if choices >= 20:
            count -= 1
            yield found


def told(job):
    model, machine, gpus, batch = job
    return (
        f"{model.name} ({model.layers} layers, hidden {model.hidden}, {model.heads} heads) on {gpus} × {machine.name}, "
        f"{machine.memory:g} GB each, batch {batch}"
    )


def layout_of(found, job, what):
    """The Layout of a dict, if it is one of those that are asked for."""
    plain(found, dict, what)
    for key, value in found.items():
        assert key in KEYS, f"{what} has {key!r}; a layout has {', '.join(KEYS)}. {READ}"
        plain(value, type(KEYS[key]), f"{key} of {what}")
    schedule = found.get("schedule", "1f1b")
    assert schedule in SCHEDULES, f"{what}: the schedule is {schedule!r}; it is one of {', '.join(SCHEDULES)}. {READ}"
    return Layout(batch=job[3], flash=True, sequence_parallel=found.get("tensor", 1) > 1, **found)


def possible(found, job):
    """The estimate of a layout that can be."""
    what = f"your layout for {told(job)}"
    layout = layout_of(found, job, what)
    sizes = layout.pipeline * layout.stages_per_rank * layout.data * layout.microbatch
    actions = 3 * layout.pipeline * layout.stages_per_rank * (job[3] * layout.pipeline * layout.stages_per_rank // max(1, sizes))
    assert actions <= ACTIONS, f"{what} has {actions:,} actions, too many to be simulated here. {READ}"
    try:
        return pipelab.estimate(job[0], layout, device=job[1], gpus=job[2])
    except PipelabError as error:
        raise AssertionError(f"{what} cannot be. {error} {READ}") from None


def sizes(found):
    """A layout in a few words, without what is as it is if nothing is said."""
    whole = KEYS | found
    shown = [key for key in KEYS if whole[key] != KEYS[key] or (key == "schedule" and whole["pipeline"] > 1)]
    return ", ".join(f"{key} {whole[key]}" for key in shown) or "one GPU"


@pytest.fixture(scope="module")
def chosen():
    """What the student's file chooses for a job: four tests look at it, and a search takes its time."""
    known = {}

    def choose(student, job):
        if job not in known:
            known[job] = student.best(*job)
        return known[job]

    return choose


def fitting(found, job):
    """The estimate of a layout that can be, and fits."""
    one = possible(found, job)
    held, usable = one.bytes["total"], USABLE * job[1].memory * 1e9
    most = max((name for name in one.bytes if name != "total"), key=one.bytes.get)
    assert held <= usable, (
        f"Your layout for {told(job)} does not fit: {sizes(found)}. Its fullest GPU holds {held:,} bytes, {held - usable:,.0f} more "
        f"than the {usable:,.0f} that can be used (85 %). {one.bytes[most] / 1e9:.1f} GB of them are {most}. {ADVICE[most]} {READ}"
    )
    return one


def not_slower(found, job, factor):
    one, right = fitting(found, job), planned(*job).rows[0].estimate
    lost = {part: seconds - right.seconds_by_part[part] for part, seconds in one.seconds_by_part.items()}
    part = max(lost, key=lost.get)
    assert one.seconds <= factor * right.seconds, (
        f"Your layout for {told(job)} fits, and takes {one.seconds:.2f} s a step: {sizes(found)}. The search has one that takes "
        f"{right.seconds:.2f} s; up to {factor * right.seconds:.2f} s counts here. You lose most in {part}, {lost[part]:.2f} s. "
        f"{CURES[part]} {READ}"
    )


@pytest.mark.points(2, "a layout that can be, on all GPUs")
def test_possible(student, student_seed, case, chosen):
    for each in case.each(map(lambda one: job(*one), JOBS), own_jobs(student_seed)):
        with case:
            possible(chosen(student, each), each)


@pytest.mark.points(3, "it fits")
def test_fits(student, student_seed, case, chosen):
    for each in case.each(map(lambda one: job(*one), JOBS), own_jobs(student_seed)):
        with case:
            fitting(chosen(student, each), each)


@pytest.mark.points(2, "within 25 % of the search's best")
def test_near(student, student_seed, case, chosen):
    for each in case.each(map(lambda one: job(*one), JOBS), own_jobs(student_seed)):
        with case:
            not_slower(chosen(student, each), each, NEAR)


@pytest.mark.points(3, "as good as the search's best")
def test_best(student, student_seed, case, chosen):
    for each in case.each(map(lambda one: job(*one), JOBS), own_jobs(student_seed)):
        with case:
            not_slower(chosen(student, each), each, BAND)


def best_seconds(job, wanted):
    """Of the fastest rows, with a pipeline or without."""
    return min((row.estimate.seconds for row in planned(*job).rows if wanted(row.layout.pipeline)), default=None)


@pytest.mark.points(2, "whether a pipeline is needed")
def test_needed(student, student_seed, case):
    for each in case.each(map(lambda one: job(*one), JOBS), own_jobs(student_seed)):
        right = planned(*each).pipeline_needed["answer"]
        with_one, without = best_seconds(each, lambda p: p > 1), best_seconds(each, lambda p: p == 1)
        ratio = max(with_one, without) / min(with_one, without) if with_one and without else None
        if ratio and 1.08 < ratio < 1.12 and each[0].name == "your model":
            continue  # too near to the border to be asked
        with case:
            what = f"needed(...) for {told(each)}"
            found = plain(student.needed(*each), str, what)
            numbers = f"the best with a pipeline takes {_seconds(with_one)}, the best without {_seconds(without)}"
            hint = "More than 10 % decides; below that nobody can tell them apart." if right == "optional" else ""
            if right != "optional" and found == "optional":
                hint = "That is more than 10 % apart."
            assert found == right, f"{what} should be {right!r}, but is {found!r}: {numbers}. {hint} {READ}"


def _seconds(value):
    return "(none fits)" if value is None else f"{value:.2f} s"


def rivals(job):
    """Layouts that somebody would propose instead, of those that can be, with the search's best."""
    gpus, rows = job[2], planned(*job).rows
    node = min(job[1].node_size, gpus)
    proposed = [
        {"data": gpus},
        {"data": gpus, "zero": 3, "recompute": "full"},
        {"tensor": gpus, "recompute": "full"},
        {"tensor": node, "data": gpus // node, "zero": 1, "recompute": "full"},
        {"pipeline": gpus, "recompute": "full"},
        {"pipeline": 4, "data": gpus // 4, "zero": 3, "recompute": "full"},
        {key: getattr(rows[1].layout, key) for key in KEYS},
        {key: getattr(rows[-1].layout, key) for key in KEYS},
    ]
    for one in proposed:
        layout = Layout(batch=job[3], flash=True, sequence_parallel=one.get("tensor", 1) > 1, **one)
        try:
            theirs = pipelab.estimate(job[0], layout, device=job[1], gpus=gpus)
        except PipelabError:
            continue
        most = max(seconds - rows[0].estimate.seconds_by_part[part] for part, seconds in theirs.seconds_by_part.items())
        if theirs.fits == "no" or most > 0.002 * rows[0].estimate.seconds:  # else nothing is lost
            yield one, theirs


@pytest.mark.points(3, "why a rival's layout loses")
def test_defend(student, student_seed, case):
    for each in case.each(map(lambda one: job(*one), JOBS), own_jobs(student_seed)):
        row = planned(*each).rows[0]
        mine, best, usable = {key: getattr(row.layout, key) for key in KEYS}, row.estimate, USABLE * each[1].memory * 1e9
        with case:
            for rival, theirs in rivals(each):
                what = f"defend(...) for {told(each)}, yours {sizes(mine)}, the rival's {sizes(rival)},"
                found = plain(student.defend(*each, dict(mine), dict(rival)), tuple, what)
                assert len(found) == 2, f"{what} is a pair: what, and how much. {READ}"
                part, amount = plain(found[0], str, f"the first of {what}"), plain(found[1], float, f"the second of {what}")
                over = theirs.bytes["total"] - usable
                lost = {name: seconds - best.seconds_by_part[name] for name, seconds in theirs.seconds_by_part.items()}
                most = max(lost.values())
                if over > 0:
                    assert part == "memory", (
                        f"{what} should begin with 'memory', but does with {part!r}: the rival's fullest GPU holds "
                        f"{theirs.bytes['total']:,} bytes, and {usable:,.0f} can be used. What does not fit has no seconds. {READ}"
                    )
                    hint = "Of the memory, 85 % can be used." if abs(amount - over) > 1e6 and abs(amount - (over + usable - each[1].memory * 1e9)) < 1e6 else ""
                    assert abs(amount - over) <= 1e6, f"{what} should say {over:,.0f} bytes too many, but says {amount:,.0f}. {hint} {READ}"
                    continue
                hint = "That is the rival's largest part; asked is the part in which it takes most more than yours." if part == max(theirs.seconds_by_part, key=theirs.seconds_by_part.get) else ""
                said = lost.get(part)
                assert said is not None, f"{what} begins with {part!r}; the rival fits, so a part of seconds_by_part is asked: {', '.join(lost)}. {READ}"
                assert said >= most - 1e-6, (
                    f"{what} names {part}, in which the rival takes {said:+.3f} s; in {max(lost, key=lost.get)} it takes {most:+.3f} s. {hint} {READ}"
                )
                hint = "That is all that the rival takes in it, not how much more than yours." if abs(amount - theirs.seconds_by_part[part]) < 1e-6 else ""
                assert abs(amount - said) <= max(1e-6, 0.001 * abs(said)), f"{what} should say {said:.3f} s in {part}, but says {amount:.3f}. {hint} {READ}"
