"""Exercise 17. Numbers of workers against pipelab's mesh, bytes against those that runs in worker processes count."""

import random
from functools import lru_cache

import pytest
import torch

import pipelab
from pipelab.grading.checks import plain
from pipelab.model.gpt import gpt, next_character_loss
from pipelab.schedule import Mesh

READ = "Read again: notebook 10 (Three dimensions), section “ZeRO”."
WITHOUT = {"pipelab.engine": "the exercise is to predict it yourself: runs are closed while it is graded"}
MESHES = ((2, 2, 2), (2, 4, 2), (4, 2, 1), (1, 4, 3), (3, 2, 2))
"""Data, ranks, tensor."""


def own_meshes(seed):
    draw = random.Random(seed)
    return [(draw.randint(2, 4), draw.randint(2, 5), draw.randint(2, 4)) for _ in range(3)]


def workers(shape):
    return range(shape[0] * shape[1] * shape[2])


@pytest.mark.points(1, "where a worker stands")
def test_place(student, student_seed, case):
    for data, ranks, tensor in case.each(MESHES, own_meshes(student_seed)):
        mesh = Mesh(data, tensor)
        with case:
            for worker in workers((data, ranks, tensor)):
                what = f"place({worker}, {data}, {ranks}, {tensor})"
                found = plain(student.place(worker, data, ranks, tensor), tuple, what)
                right = tuple(mesh.place(ranks, worker))
                hints = {
                    (worker // tensor % data, worker // tensor // data, worker % tensor): "Between the parts of two layers come ranks, then copies: data is the outermost.",
                    (worker // ranks // tensor % data, worker % ranks, worker // ranks % tensor): "Tensor is the innermost: neighbours in number share a layer.",
                    (worker % data, worker // data % ranks, worker // data // ranks): "Tensor is the innermost: neighbours in number share a layer.",
                    right[::-1]: "The order is copy, rank, part.",
                }
                assert found == right, f"{what} should be {right}, but is {found}. {hints.get(found, '')} {READ}"


@pytest.mark.points(2, "who works together")
def test_group(student, student_seed, case):
    for data, ranks, tensor in case.each(MESHES, own_meshes(student_seed)):
        mesh = Mesh(data, tensor)
        with case:
            for worker in workers((data, ranks, tensor)):
                place = mesh.place(ranks, worker)
                groups = {"data": mesh.data_group(ranks, place), "pipeline": mesh.pipeline_group(ranks, place)}
                groups["tensor"] = mesh.tensor_group(ranks, place)
                for dimension, right in groups.items():
                    what = f"group({worker}, {data}, {ranks}, {tensor}, {dimension!r})"
                    found = plain(student.group(worker, data, ranks, tensor, dimension), list, what)
                    assert found == right, f"{what} should be {right}, but is {found}. {group_hint(found, right, worker, groups, place)} {READ}"


def group_hint(found, right, worker, groups, place):
    if found == [one for one in right if one != worker]:
        return "The worker itself belongs to its group."
    if sorted(found, key=str) == sorted(right, key=str):
        return "They are asked for in ascending order."
    other = next((name for name, members in groups.items() if found == members), "")
    if other:
        return f"That is the group along {other}: two coordinates are those of the worker, and one runs."
    if len(found) > len(right) and set(right) < set(found):
        return "Along one dimension only: the other two coordinates are those of the worker."
    return f"The worker is in copy {place.data}, at rank {place.rank}, and has part {place.tensor}."


def near(found, right, what, hints):
    """Within 1 %; hints: (a wrong number, what was forgotten)."""
    value = plain(found, float, what)
    if abs(value - right) <= 0.01 * right:
        return
    hint = next((text for other, text in hints if abs(value - other) <= 0.001 * max(other, 1)), "")
    raise AssertionError(f"{what} should be {right:,.0f} bytes, but is {value:,.0f}. {hint} {READ}")


@lru_cache(maxsize=None)
def counted_inside(blocks, width, tensor):
    """Bytes that a rank of nothing but blocks sends inside them, and the tokens."""
    torch.manual_seed(0)
    words = torch.randint(0, 12, (2, 8, 6))
    run = pipelab.run(
        gpt(layers=blocks + 2, width=width, vocabulary=12, sequence=6), *words, next_character_loss, schedule="1f1b",
        ranks=3, microbatches=2, tensor=tensor, partition=[1, blocks, 1], device="cpu",
    )
    return run.bytes_by_collective[tensor]["tensor"], words[0].numel()


@pytest.mark.points(1, "bytes inside the layers, as counted")
def test_inside(student, case):
    with case:
        found = student.inside(2, 48, 16, 1)
        assert found == 0, f"inside(2, 48, 16, 1) should be 0, but is {found}: one worker has nobody to send to, and among k workers each sends 2(k − 1)/k. {READ}"
    for blocks, width, tensor in case.each(((2, 16, 4), (3, 8, 2))):
        right, tokens = counted_inside(blocks, width, tensor)
        once, ring = blocks * tokens * width * 4, 2 * (tensor - 1) / tensor
        what = f"inside({blocks}, {tokens}, {width}, {tensor})"
        with case:
            near(student.inside(blocks, tokens, width, tensor), right, what, [
                (4 * once, "Of an all-reduce among k workers, each sends 2(k − 1)/k of the bytes."),
                (2 * once * ring, "Two all-reduces in the forward, and two more in the backward."),
                (4 * once * ring / 2, "An all-reduce is a reduce-scatter and a gather: 2(k − 1)/k."),
                (once * ring, "Each block has four all-reduces."),
                (once * ring, "A number has 4 bytes."),
                (4 * once * 2 * (tensor - 1), "Each of its steps carries a k-th: 2(k − 1)/k."),
            ])  # fmt: skip


RUNS = ((1, 2, 1, 4), (2, 4, 1, 2), (3, 2, 1, 4), (3, 4, 2, 4))
"""Stage of ZeRO, copies, stages per rank, micro-batches."""


@lru_cache(maxsize=None)
def counted(zero, data, stages_per_rank, microbatches):
    """(bytes of a worker's weights, bytes sent to copies, bytes held) of a real run."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(*(torch.nn.Linear(16, 16, bias=False) for _ in range(8)))
    x, y = torch.randn(2, 16, 16)
    run = pipelab.run(
        layers, x, y, torch.nn.functional.mse_loss, optimizer=torch.optim.Adam, ranks=2, microbatches=microbatches,
        schedule="interleaved-1f1b" if stages_per_rank > 1 else "1f1b",
        stages_per_rank=stages_per_rank if stages_per_rank > 1 else None, data=data, zero=zero, device="cpu",
    )  # fmt: skip
    bytes_sent, peak = run.bytes_by_collective[0], run.peak_bytes[0]
    weights = sum(layer.weight.nbytes for layer in layers) // 2
    kept = sum(peak[part] for part in ("weights", "gathered", "gradients", "optimizer"))
    return weights, bytes_sent["reduce_grad"] + bytes_sent["unshard"], kept


@pytest.mark.points(2, "bytes for the copies, as counted")
def test_sent(student, case):
    with case:
        near(student.sent(0, 2, 8, 1000), 1000, "sent(0, 2, 8, 1000)", [
            (500, "An all-reduce is a reduce-scatter and a gather: 2(k − 1)/k."),
            (8000, "Without ZeRO gradients are summed once a step, not after every micro-batch."),
            (2000, "What a worker has itself it does not send: (k − 1)/k."),
        ])  # fmt: skip
    for zero, data, stages_per_rank, m in case.each(RUNS):
        weights, right, _ = counted(zero, data, stages_per_rank, m)
        share = (data - 1) / data * weights
        what = f"sent({zero}, {data}, {m}, {weights})"
        wrong = {
            1: [(share, "Weights are gathered, too."), (4 * share, "A reduce-scatter is half of an all-reduce.")],
            2: [
                (2 * share, "ZeRO 2 sums gradients after every micro-batch: m times."),
                (m * share, "Weights are gathered, too."),
                (2 * m * share, "Weights are gathered once only: they are kept."),
            ],
            3: [
                (3 * share, "ZeRO 3 gathers and sums for every micro-batch: m times."),
                (2 * m * share, "Weights are gathered before every forward and before every backward: 2 m times."),
                ((m + 1) * share, "Weights are gathered before every forward and before every backward: 2 m times."),
                ((2 * m + 1) * share, "ZeRO 3 sums gradients after every micro-batch: m times."),
            ],
        }[zero]
        wrong += [(right / (data - 1) * data, "What a worker has itself it does not send: (k − 1)/k.")]
        with case:
            near(student.sent(zero, data, m, weights), right, what, wrong)


@pytest.mark.points(2, "bytes held, as counted")
def test_held(student, case):
    with case:
        near(student.held(0, 2, 1, 1000), 4000, "held(0, 2, 1, 1000)", [
            (3000, "Adam keeps two numbers for each weight."),
            (2000, "Without ZeRO nothing is divided among the copies."),
        ])  # fmt: skip
    for zero, data, stages_per_rank, m in case.each(RUNS):
        weights, _, right = counted(zero, data, stages_per_rank, m)
        what = f"held({zero}, {data}, {stages_per_rank}, {weights})"
        adam = weights * 2 / data
        divides = "Stage 1 divides the optimizer's state, 2 gradients, too, and 3 weights, too."
        wrong = [
            (4 * weights / data, "What is gathered is held, too, while it is used." if zero == 3 else divides),
            (right - adam / 2, "Adam keeps two numbers for each weight."),
            (right - adam, "Adam keeps two numbers for each weight."),
            (4 * weights, "What a stage of ZeRO divides is held in d-ths."),
            (4 * weights / data + weights, "One stage at a time is gathered: the weights of one of them."),
            (3 * weights + weights / data, divides),
        ]
        with case:
            near(student.held(zero, data, stages_per_rank, weights), right, what, wrong)


PLANS = (
    (2, 8, 1, 1000, 4000), (2, 8, 1, 1000, 3999), (2, 8, 1, 1000, 2999), (2, 8, 1, 1000, 2400), (8, 4, 4, 1000, 2300),
    (8, 4, 4, 1000, 1400), (8, 4, 4, 1000, 800), (8, 4, 4, 1000, 700), (2, 1, 1, 1000, 2999), (4, 1, 2, 1000, 10000),
    (8, 16, 1, 1000, 1400), (8, 16, 1, 1000, 1370),
)  # fmt: skip
"""Copies, micro-batches, stages per rank, bytes of weights, limit."""


def holds(zero, data, stages_per_rank, weights):
    whole = [1, 1, 1, 1 / data + 1 / stages_per_rank][zero]
    return weights * (whole + (1 / data if zero >= 2 else 1) + (2 / data if zero else 2))


def sends(zero, data, m, weights):
    return (2, 2, m + 1, 3 * m)[zero] * (data - 1) / data * weights


def own_plans(seed):
    draw = random.Random(seed)
    for _ in range(6):
        data, m, v = draw.choice((2, 4, 8)), draw.choice((1, 4, 16)), draw.choice((1, 2, 4))
        yield data, m, v, 1024, round(holds(draw.randrange(4), data, v, 1024)) + draw.choice((-3, 0, 3))


@pytest.mark.points(2, "the stage of ZeRO for a pipeline")
def test_choose(student, student_seed, case):
    for data, m, v, weights, limit in case.each(PLANS, own_plans(student_seed)):
        fits = [zero for zero in range(4) if holds(zero, data, v, weights) <= limit]
        right = min(fits, key=lambda zero: sends(zero, data, m, weights), default=None)
        what = f"choose({data}, {m}, {v}, {weights}, {limit})"
        with case:
            found = student.choose(data, m, v, weights, limit)
            hint = ""
            if found is not None:
                plain(found, int, what)
                if found not in fits:
                    full = f"{holds(found, data, v, weights):,.0f}" if found in range(4) else "nothing"
                    hint = f"ZeRO {found} holds {full} bytes, and {limit} fit."
                elif sends(found, data, m, weights) > sends(right, data, m, weights):
                    hint = f"ZeRO {found} fits, and sends {sends(found, data, m, weights):,.0f} bytes; ZeRO {right} fits, too, and sends {sends(right, data, m, weights):,.0f}."
                else:
                    hint = "Both send the same: then take the lower one, which divides less."
            elif right is not None:
                hint = f"ZeRO {right} holds {holds(right, data, v, weights):,.0f} bytes: exactly the limit still fits."
            assert found == right, f"{what} should be {right}, but is {found}. {hint} {READ}"
