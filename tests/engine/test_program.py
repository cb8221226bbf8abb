"""What each rank sends and receives, known from the schedule alone."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import pipelab
from pipelab.catalogue import build, names
from pipelab.engine.job.exchange import plan_exchange
from pipelab.engine.job.program import messages, program
from pipelab.model import split

from .conftest import batch, mlp


@pytest.mark.parametrize("name", names())
def test_every_message_is_sent_once_and_received_once_by_whom_it_is_for(name):
    schedule = build(name, ranks=4, microbatches=8)
    programs = [program(schedule, rank) for rank in range(4)]
    sent = {
        each.message_out: (rank, each.to)
        for rank in range(4)
        for each in programs[rank]
        if each.to is not None
    }
    received = {
        each.message_in: rank
        for rank in range(4)
        for each in programs[rank]
        if each.message_in is not None
    }
    assert len(sent) == sum(
        each.to is not None for instructions in programs for each in instructions
    )
    assert {message: to for message, (_, to) in sent.items()} == received
    assert all(source != to for source, to in sent.values())
    assert all(0 <= message < messages(schedule) for message in sent)


def layers_of(model, schedule):
    parts = [list(part._modules.items()) for part in split(model, schedule.stages)]
    return [[(0, name, module) for name, module in part] for part in parts]


def test_what_is_exchanged_after_a_step_has_numbers_and_an_order_of_its_own():
    schedule, model = build("chimera", ranks=2, microbatches=4), mlp(4)
    exchange = plan_exchange(layers_of(model, schedule), schedule, meet=False)
    assert [shared.holders for shared in exchange.shared] == [((0, 0), (1, 1)), ((0, 1), (1, 0))]
    assert exchange.shared[0].names == (("0.0.weight", "0.0.bias", "1.0.weight", "1.0.bias"),) * 2
    numbers = [transfer.message for transfer in exchange.transfers()]
    assert len(set(numbers)) == len(numbers) == 2 + 2 + 2
    assert min(numbers) >= messages(schedule) and max(numbers) < exchange.total
    assert [(t.source, t.target) for t in exchange.transfers()] == [(0, 1), (1, 0)] + [
        (1, 0),
        (0, 1),
    ] * 2


def test_a_model_of_its_own_needs_no_exchange():
    schedule = build("1f1b", ranks=4, microbatches=4)
    exchange = plan_exchange(layers_of(mlp(4), schedule), schedule, meet=False)
    assert exchange.transfers() == [] and exchange.total == messages(schedule)


def test_copies_that_nothing_but_their_gradients_connects():
    """Plain data parallelism, as a schedule: neither rank may overtake the other by more than a
    step.
    """
    torch.manual_seed(0)
    schedule = pipelab.Schedule.from_rows([["0F0", "0B0"], ["0F1@1", "0B1@1"]], name="two copies")
    model, seen = (
        nn.Sequential(nn.Linear(16, 4)).double(),
        lambda step: (batch(seed=step)[0].double(), batch(seed=step)[1]),
    )
    run = pipelab.run(
        model, seen, None, functional.cross_entropy, schedule=schedule, steps=40,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    )  # fmt: skip
    trainer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(40):
        trainer.zero_grad()
        x, y = seen(step)
        functional.cross_entropy(model(x), y).backward()
        trainer.step()
    torch.testing.assert_close(run.state_dict, dict(model.state_dict()))
    assert run.gradient_error <= 1e-12


def test_a_microbatch_in_both_copies_is_refused():
    schedule = pipelab.Schedule.from_rows([["0F0", "0B0"], ["0F0@1", "0B0@1"]], name="twice")
    with pytest.raises(
        pipelab.PipelabError, match="Micro-batch 0 goes through both copies of the model"
    ):
        pipelab.run(mlp(1), *batch(), functional.cross_entropy, schedule=schedule)
