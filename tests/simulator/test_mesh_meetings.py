"""Workers of a mesh wait for one another: against a simulation that plays every step by itself.

It has no arrays and shares nothing with the simulator but the order of each rank's actions.
"""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pipelab
from pipelab import Costs, Link, Mesh, Nodes
from pipelab.errors import UsageError
from pipelab.schedule import Kind

NAMES = ("gpipe", "1f1b", "zb-h1", "interleaved-1f1b")
WORK = {"F": 1.0, "B": 2.5, "I": 1.5, "W": 1.0}
WEIGHTS, MESSAGE, PASSED = 6.0, 2.0, 3.0


class Play:
    """Workers that do one action after the other, as soon as they can.

    times: of each (worker, number of its action): start, end, and what it computes alone.
    """

    def __init__(self, schedule, mesh, nodes, slowdown, calls):
        self.schedule, self.mesh, self.nodes = schedule, mesh, nodes
        self.slowdown, self.calls = slowdown, calls
        self.rows = [list(row) for row in schedule.actions]
        self.home = {a.stage: rank for rank, row in enumerate(self.rows) for a in row}
        self.places = list(product(range(mesh.data), range(schedule.ranks), range(mesh.tensor)))
        self.times, self.mail, self.free = {}, {}, dict.fromkeys(self.places, 0.0)
        self.link_free, self.done = {}, dict.fromkeys(self.places, 0)
        moved = True
        while moved:
            moved = any([self.advance(place) for place in self.places])
        assert all(self.done[place] == len(self.rows[place[1]]) for place in self.places)

    def worker(self, place):
        return self.places.index(place)

    def link(self, places):
        found = {self.worker(place) // self.nodes.size for place in places}
        return self.nodes.inside if len(found) == 1 else self.nodes.between

    def ready(self, place):
        """When a worker could begin its next action, or None."""
        copy, rank, part = place
        action = self.rows[rank][self.done[place]]
        key = copy, part, action.kind, action.stage, action.microbatch
        end = self.schedule.stages - 1
        if action.stage != {Kind.F: 0, Kind.B: end, Kind.I: end}.get(action.kind, action.stage):
            return max(self.free[place], self.mail[key]) if key in self.mail else None
        return self.free[place]

    def advance(self, place):
        """Let a worker, or all of a group, do the next action. Whether they could."""
        (copy, rank, part), i = place, self.done[place]
        if i == len(self.rows[rank]):
            return False
        action, group = self.rows[rank][i], [place]
        if action.kind in (Kind.UNSHARD, Kind.REDUCE_GRAD):
            group = [(each, rank, part) for each in range(self.mesh.data)]
        elif action.kind in (Kind.F, Kind.B, Kind.I):
            group = [(copy, rank, each) for each in range(self.mesh.tensor)]
        if any(self.done[each] != i for each in group):
            return False
        begins = [self.ready(each) for each in group]
        if None in begins:
            return False
        alone = [WORK.get(action.kind.name, 0) * self.slowdown[self.worker(e)] for e in group]
        if action.kind in (Kind.UNSHARD, Kind.REDUCE_GRAD):
            begins, now = [max(begins)] * len(group), [max(begins)] * len(group)
            rounds = 2 if action.kind == Kind.REDUCE_GRAD and not self.mesh.zero else 1
            for _ in range(rounds):
                now = [each + self.ring(group, WEIGHTS) for each in now]
        elif len(group) == 1:
            now = [begins[0] + alone[0]]
        else:
            now = begins
            for _ in range(self.calls):
                came = [t + work / self.calls for t, work in zip(now, alone, strict=True)]
                now = [max(came) + 2 * self.ring(group, PASSED / self.calls)] * len(group)
        for member, *what in zip(group, begins, now, alone, strict=True):
            self.finish(member, i, action, *what)
        return True

    def ring(self, group, size):
        """One round over a ring: k − 1 steps of a k-th of the bytes."""
        link = self.link(group)
        return (len(group) - 1) * (link.latency + size / len(group) / link.bandwidth)

    def finish(self, place, i, action, begin, end, alone):
        copy, rank, part = place
        self.times[self.worker(place), i] = begin, end, alone
        self.free[place], self.done[place] = end, i + 1
        step = {Kind.F: 1, Kind.B: -1, Kind.I: -1}.get(action.kind)
        stage = None if step is None else action.stage + step
        if stage not in self.home:
            return
        key, there = (copy, part, action.kind, stage, action.microbatch), self.home[stage]
        self.mail[key] = end
        if there != rank:
            link, way = self.link([place, (copy, there, part)]), (place, there)
            sent = max(end, self.link_free.get(way, 0.0)) + MESSAGE / link.bandwidth
            self.link_free[way] = sent
            self.mail[key] = sent + link.latency


def links():
    return st.builds(Link, st.floats(0, 0.5), st.floats(1, 50))


@given(data=st.data())
@settings(max_examples=120, deadline=None)
def test_as_if_every_step_were_played(data):
    draw = data.draw
    name, ranks = draw(st.sampled_from(NAMES)), draw(st.integers(1, 3))
    copies, parts = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    microbatches = ranks * draw(st.integers(1, 2))
    zero = draw(st.integers(0, 3)) if copies > 1 else 0
    mesh, calls = Mesh(copies, parts, zero), draw(st.integers(1, 3))
    nodes = Nodes(draw(st.integers(1, 8)), inside=draw(links()), between=draw(links()))
    count = mesh.workers(ranks)
    slowdown = draw(st.lists(st.floats(0.5, 3), min_size=count, max_size=count))
    schedule = pipelab.build(name, ranks=ranks, microbatches=microbatches)
    if copies > 1:
        schedule = schedule.with_data_parallel(
            zero=zero, overlap=draw(st.booleans()), reshard=draw(st.booleans())
        )
    costs = Costs(
        WORK["F"], backward=WORK["B"], input_grad=WORK["I"], weight_grad=WORK["W"],
        nodes=nodes, weights=WEIGHTS, message=MESSAGE, slowdown=slowdown, tensor_bytes=PASSED,
        tensor_calls=calls,
    )  # fmt: skip
    timeline = pipelab.simulate(schedule, costs, mesh=mesh)
    played = Play(schedule, mesh, nodes, slowdown, calls).times
    started, ended, alone = np.array([played[key] for key in sorted(played)]).T
    assert timeline.started == pytest.approx(started)
    assert timeline.ended == pytest.approx(ended)
    of_work = timeline.schedule.of_microbatch
    if parts > 1:
        inside = (ended - started - alone)[of_work]
        assert timeline.collective[of_work] == pytest.approx(inside, abs=1e-6)
        assert not timeline.collective[~of_work].any()
    rest = timeline.makespan - timeline.compute_per_rank - timeline.transfer_per_rank
    assert timeline.wait_per_rank == pytest.approx(rest, abs=1e-6)
    assert sum(map(sum, timeline.idle_by_cause.values())) == pytest.approx(
        sum(timeline.metrics["idle"]), abs=1e-6
    )


def two_copies(**costs):
    one = pipelab.build("gpipe", ranks=1, microbatches=4)
    return pipelab.simulate(one, Costs(**costs), mesh=Mesh(2))


def test_a_slow_copy_delays_the_others_at_the_sum_alone():
    """4 micro-batches of 3, or of 6 on the slow copy; the sum takes 5."""
    timeline = two_copies(reduce_grad=5, slowdown=(1, 2))
    assert timeline.metrics["spans"] == [29, 29]
    fast, slow = np.flatnonzero(timeline.kind == Kind.REDUCE_GRAD)
    assert timeline.asked[fast] == 12 and timeline.sent[fast] == timeline.started[fast] == 24
    assert timeline.waiting[[fast, slow]].tolist() == [12, 0]
    assert timeline.compute[[fast, slow]].tolist() == [5, 5]
    assert timeline.idle_by_cause["barrier"] == [12, 0]
    assert timeline.transfer.sum() == 0
    assert timeline.critical_path == list(range(9, 18)), "the slow copy decides"


def test_a_slow_part_is_waited_for_inside_its_actions():
    """F takes 1 and 3, with an all-reduce of 2 · 0.25 behind each half."""
    one = pipelab.build("gpipe", ranks=1, microbatches=1)
    costs = Costs(backward=1, slowdown=(1, 3), tensor_calls=2, tensor_link=Link(0.25))
    timeline = pipelab.simulate(one, costs, mesh=Mesh(tensor=2))
    assert timeline.compute.tolist() == [4, 4, 4, 4]
    assert timeline.collective.tolist() == [3, 3, 1, 1]
    assert timeline.critical_path == [2, 3]


def test_a_late_input_delays_those_who_share_the_layer():
    """Worker 3 gets its input over the network, worker 2 does not: both end F together."""
    table = np.zeros((4, 4))
    table[1, 3] = 10
    two = pipelab.build("gpipe", ranks=2, microbatches=1)
    timeline = pipelab.simulate(two, Costs(latency=table.tolist()), mesh=Mesh(tensor=2))
    first = timeline.schedule.offsets[2:4]
    assert timeline.started[first].tolist() == [1, 11]
    assert timeline.ended[first].tolist() == [12, 12]
    assert timeline.collective[first].tolist() == [10, 0]


def test_each_group_takes_the_link_of_its_own_members():
    """Nodes of 4, ranks of 3 parts: workers 0 1 2 are on one node, 3 4 5 on two."""
    nodes = Nodes(4, inside=Link(0), between=Link(1))
    two = pipelab.build("gpipe", ranks=2, microbatches=1)
    timeline = pipelab.simulate(two, Costs(nodes=nodes), mesh=Mesh(tensor=3))
    assert nodes.leave([3, 4, 5]) and not nodes.leave([0, 1, 2])
    rank = timeline.rank // 3
    assert timeline.collective[rank == 0].max() == 0 + 1, "B of part 0 comes over the network"
    four = 2 * (3 - 1)
    assert timeline.compute[(rank == 1) & (timeline.kind == Kind.B)] == pytest.approx(2 + four)
    # copies of one rank: 0 and 3 share a node, 1 and 4 do not
    copies = pipelab.simulate(
        pipelab.build("gpipe", ranks=3, microbatches=1), Costs(nodes=nodes), mesh=Mesh(2)
    )
    sums = copies.kind == Kind.REDUCE_GRAD
    assert copies.compute[sums].tolist() == [0, 2, 2, 0, 2, 2]


def test_sums_behind_or_beside_the_backward():
    """A rank does one thing at a time: what follows a sum waits for it, and for the slow copy."""
    two = pipelab.build("interleaved-1f1b", ranks=2, microbatches=2, stages_per_rank=2)
    costs = Costs(reduce_grad=(0, 0, 0, 7), slowdown=(1, 1, 1, 1.5))
    spans = {}
    for overlap in (True, False):
        schedule = two.with_data_parallel(overlap=overlap)
        spans[overlap] = pipelab.simulate(schedule, costs, mesh=Mesh(2)).makespan
    assert spans[True] > spans[False], "summed early, the last stage's gradients hold others up"


def test_what_cannot_be():
    nodes = Nodes(2, Link(), Link())
    with pytest.raises(UsageError, match="nodes say which link every transfer takes"):
        Costs(nodes=nodes, data_link=Link())
    with pytest.raises(UsageError, match="nodes say which link every transfer takes"):
        Costs(nodes=nodes, latency=1)
    with pytest.raises(UsageError, match="size is 0; it is how many workers a node has"):
        Nodes(0, Link(), Link())
    with pytest.raises(UsageError, match="slowdown is -1; a factor is"):
        Costs(slowdown=-1)
    with pytest.raises(UsageError, match="slowdown is of 3 ranks, but there are 2"):
        two_copies(slowdown=(1, 1, 1))
