"""What crosses between ranks, in which order, and whether a transport can carry it.

    rank 0   0F0 ─┐ 0F1 ─┐      0B0 ◀┐          link 0 → 1: sends 0F0 0F1, uses 1F0 1F1
    rank 1        └▶1F0  └▶1F1  1B0 ─┘          link 1 → 0: sends 1B0, uses 0B0

Each direction of a pair of ranks is a link. ``check`` assumes links that take any number of
messages and hand out the one that is asked for (shared memory, or tags as MPI and gloo have them).
Two kinds of transport can do less:

"ordered"   No tags (NCCL): what is received next is what was sent first. A rank that uses messages
            in another order needs receives posted in the order of the sends, and a place to keep
            what it does not need yet.
"blocking"  A send returns only when the other side receives (MPI_Ssend, or torch's send on a full
            buffer). Two ranks that send to one another at the same moment wait for ever; torch and
            Megatron-LM pair such sends and receives.
"""

from typing import NamedTuple

import numpy as np

from ..errors import Refusal, UnknownName
from .check import check
from .refusals import refuse_at
from .schedule import Schedule

TRANSPORTS = ("tagged", "ordered", "blocking")
Event = tuple[str, int, int, int]
""""receive" or "send", the other rank, the atom that made the message, the atom it is for or of."""


class Link(NamedTuple):
    """One direction of a pair of ranks.

    sends: the atoms whose results it carries, in the order in which they are sent. uses: the atoms
    that need them, in the order in which they run. Both are int arrays of one length, not paired.
    """

    sends: np.ndarray
    uses: np.ndarray


def links(schedule: Schedule) -> dict[tuple[int, int], Link]:
    """(from rank, to rank) -> Link, for each pair between which anything passes."""
    producer, rank = schedule.producer, schedule.rank
    uses = np.flatnonzero(schedule.crosses)
    if not len(uses):
        return {}
    pair = rank[producer[uses]].astype(np.int64) * schedule.ranks + rank[uses]
    uses = uses[np.argsort(pair, kind="stable")]
    keys, starts = np.unique(np.sort(pair), return_index=True)
    groups = np.split(uses, starts[1:])
    return {
        divmod(int(key), schedule.ranks): Link(np.sort(producer[mine]), mine)
        for key, mine in zip(keys, groups, strict=True)
    }


def kept_back(schedule: Schedule) -> dict[tuple[int, int], int]:
    """How many messages the receiver of each link must keep at once.

    An ordered link brings them before their turn. 0 where messages are used in the order in which
    they are sent.
    """
    producer, most = schedule.producer, {}
    for pair, link in links(schedule).items():
        # The place of each message in the order of the sends, in the order in which it is used.
        place = np.searchsorted(link.sends, producer[link.uses])
        received = np.maximum.accumulate(place) + 1
        most[pair] = int((received - np.arange(1, len(place) + 1)).max())
    return most


def check_transport(schedule: Schedule, transport: str) -> Refusal | None:
    """Why a transport cannot carry the schedule's messages as they come, or None.

    transport: one of TRANSPORTS, described above. Raises UnknownName for any other.

    >>> from pipelab.catalogue import build
    >>> check_transport(build("1f1b", ranks=2, microbatches=2), "blocking").code
    'deadlock'
    """
    if transport not in TRANSPORTS:
        raise UnknownName("kind of transport", transport, TRANSPORTS)
    refusal = check(schedule)
    if refusal or transport == "tagged":
        return refusal
    return _out_of_order(schedule) if transport == "ordered" else _rendezvous(schedule)


def _out_of_order(schedule: Schedule) -> Refusal | None:
    producer = schedule.producer
    for (source, _), link in links(schedule).items():
        wrong = np.flatnonzero(producer[link.uses] != link.sends)
        if len(wrong):
            atom, first = int(link.uses[wrong[0]]), int(link.sends[wrong[0]])
            return refuse_at(
                schedule,
                atom,
                "order",
                str(schedule.atom(producer[atom])),
                f"needs {schedule.atom(producer[atom])} from rank {source}, which sends "
                f"{schedule.atom(first)} before it. A link without tags delivers in the order of "
                "the sends: receive in that order and keep what is not needed yet.",
            )
    return None


def _rendezvous(schedule: Schedule) -> Refusal | None:
    """Where ranks get stuck when a send and its receive meet, or wait.

    Each rank receives the inputs of a cell, computes, and sends its results.
    """
    events = _events(schedule)
    at = [0] * schedule.ranks
    moving = list(range(schedule.ranks))
    while moving:
        rank = moving.pop()
        while at[rank] < len(events[rank]):
            _, other, message, _ = events[rank][at[rank]]
            if at[other] >= len(events[other]) or events[other][at[other]][1:3] != (rank, message):
                break
            at[rank] += 1
            at[other] += 1
            moving.append(other)
    stuck = {
        rank: events[rank][at[rank]]
        for rank in range(schedule.ranks)
        if at[rank] < len(events[rank])
    }
    return _stuck(schedule, stuck) if stuck else None


def _stuck(schedule: Schedule, stuck: dict[int, Event]) -> Refusal:
    """The refusal that tells of the ring of ranks in which each waits for the next."""
    rank, ring = min(stuck), []
    while rank not in ring:
        ring.append(rank)
        rank = stuck[rank][1]
    ring = ring[ring.index(rank) :]
    lowest = ring.index(min(ring))
    ring = ring[lowest:] + ring[:lowest]
    sentences = []
    for rank in ring:
        verb, other, message, _ = stuck[rank]
        what = schedule.atom(message)
        side = f"to send {what} to" if verb == "send" else f"for {what} from"
        sentences.append(f"rank {rank} waits {side} rank {other}")
    return refuse_at(
        schedule,
        stuck[ring[0]][3],
        "deadlock",
        str(schedule.atom(stuck[ring[0]][2])),
        f"never gets on with sends that block until they are received: {', '.join(sentences)}. "
        "Send without waiting, or start such a send and receive together.",
    )


def _events(schedule: Schedule) -> list[list[Event]]:
    """What each rank receives and sends, in order."""
    producer, crosses = schedule.producer.tolist(), schedule.crosses.tolist()
    rank, heads = schedule.rank.tolist(), schedule.heads
    consumer = [-1] * len(rank)
    for atom in np.flatnonzero(schedule.crosses).tolist():
        consumer[producer[atom]] = atom
    events = []
    for low, high in schedule.slices:
        of_rank: list[Event] = []
        bounds = [*(low + np.flatnonzero(heads[low:high])).tolist(), high]
        for first, following in zip(bounds[:-1], bounds[1:], strict=True):
            for atom in range(first, following):
                if crosses[atom]:
                    of_rank.append(("receive", rank[producer[atom]], producer[atom], atom))
            for atom in range(first, following):
                if consumer[atom] >= 0:
                    of_rank.append(("send", rank[consumer[atom]], atom, atom))
        events.append(of_rank)
    return events
