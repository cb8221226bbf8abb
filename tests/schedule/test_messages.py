"""The order of messages on each link, and what transports make of it."""

import numpy as np
import pytest

import pipelab
from pipelab.catalogue import entry, names
from pipelab.errors import UnknownName
from pipelab.schedule import check_transport, links
from pipelab.schedule.messages import kept_back


def build(name, ranks=2, microbatches=2):
    return pipelab.build(name, ranks=ranks, microbatches=microbatches)


def rows(*lines):
    return pipelab.Schedule.from_rows([line.split() for line in lines])


def texts(schedule, atoms):
    return " ".join(str(schedule.atom(i)) for i in atoms)


def test_links_of_two_ranks():
    schedule = build("1f1b")
    found = {
        pair: tuple(texts(schedule, column) for column in link)
        for pair, link in links(schedule).items()
    }
    assert found == {(0, 1): ("0F0 0F1", "1F0 1F1"), (1, 0): ("1B0 1B1", "0B0 0B1")}
    assert links(build("gpipe", ranks=1)) == {}


@pytest.mark.parametrize("name", names())
def test_every_message_is_sent_once_and_used_once(name):
    known = entry(name)
    for p, m in ((2, 4), (4, 8), (4, 12)):
        if known.problem(p, m):
            continue
        schedule = known.build(p, m)
        producer = schedule.producer
        crossing = (producer >= 0) & (schedule.rank[producer] != schedule.rank)
        found = links(schedule)
        assert sum(len(link.sends) for link in found.values()) == crossing.sum()
        for (source, sink), link in found.items():
            assert set(producer[link.uses]) == set(link.sends)
            assert set(schedule.rank[link.sends]) == {source} and set(schedule.rank[link.uses]) == {
                sink
            }
            assert (np.diff(link.sends) > 0).all() and (np.diff(link.uses) > 0).all()
        # An ordered transport that posts its receives in the order of the sends carries every
        # schedule.
        assert all(0 <= kept < m * known.stages_per_rank for kept in kept_back(schedule).values())
        assert (check_transport(schedule, "ordered") is None) == (
            not any(kept_back(schedule).values())
        )


def test_on_a_v_messages_overtake_one_another():
    """There, forwards of one arm and gradients of the other share a link."""
    late = {
        name
        for name in names()
        if not entry(name).problem(4, 12) and any(kept_back(entry(name).build(4, 12)).values())
    }
    assert late == {"zb-v", "v-half", "v-min", "dualpipe-v", "hanayo"}


def test_an_order_that_needs_a_place_to_keep_messages():
    schedule = rows("0F0 0F1 0B1 0B0", "1F1 1F0 1B1 1B0")
    assert pipelab.check(schedule) is None and kept_back(schedule) == {(0, 1): 1, (1, 0): 0}
    refusal = check_transport(schedule, "ordered")
    assert (refusal.code, refusal.rank, refusal.step, refusal.action, refusal.needs) == (
        "order",
        1,
        0,
        "1F1",
        "0F1",
    )
    assert refusal.message.splitlines()[0] == (
        "Rank 1, step 0: 1F1 needs 0F1 from rank 0, which sends 0F0 before it. A link without "
        "tags delivers in the order of the sends: receive in that order and keep what is not "
        "needed yet."
    )


def test_blocking_sends_deadlock_in_1f1b_and_not_in_gpipe():
    """Section "why blocking sends deadlock": in the steady state both neighbours want to send
    first.
    """
    assert check_transport(build("gpipe", 4, 8), "blocking") is None
    assert check_transport(build("naive", 4, 8), "blocking") is None
    refusal = check_transport(build("1f1b"), "blocking")
    assert (refusal.code, refusal.rank, refusal.step, refusal.action) == ("deadlock", 0, 1, "0F1")
    assert refusal.message.splitlines()[0] == (
        "Rank 0, step 1: 0F1 never gets on with sends that block until they are received: rank 0 "
        "waits to send 0F1 to rank 1, rank 1 waits to send 1B0 to rank 0. Send without waiting, "
        "or start such a send and receive together."
    )


def test_an_illegal_schedule_is_refused_for_what_it_is():
    stuck = rows("0B0 0F0", "1F0 1B0")
    for transport in ("tagged", "ordered", "blocking"):
        assert check_transport(stuck, transport).code == "order"
    with pytest.raises(
        UnknownName, match="no kind of transport 'tcp'. Valid names: tagged, ordered, blocking"
    ):
        check_transport(stuck, "tcp")
