"""Idle time for the canvas, and one gap in words."""

import numpy as np
import pytest

from pipelab import Costs, Schedule, build, simulate
from pipelab.timeline.idle import CAUSES
from pipelab.widgets.causes import LOOKS, causes, critical_path, explain


@pytest.fixture
def timeline():
    return simulate(build("1f1b", ranks=4, microbatches=8), Costs(latency=0.5))


def test_every_cause_has_its_own_look():
    assert list(LOOKS) == list(CAUSES)
    assert len({(look.colour, look.pattern) for look in LOOKS.values()}) == len(LOOKS)
    for look in LOOKS.values():  # waiting for a backward was amber, as a backward is
        for colour in (look.colour, look.dark):
            channels = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
            assert max(channels) - min(channels) <= 24, look


def test_intervals_sum_to_the_totals(timeline):
    message = causes(timeline, 10)
    table = np.frombuffer(message["intervals"], np.float32).reshape(-1, 4)
    for i, cause in enumerate(CAUSES):
        mine = table[table[:, 3] == i]
        assert (mine[:, 2] - mine[:, 1]).sum() == pytest.approx(
            sum(message["totals"][cause]), rel=1e-5, abs=1e-5
        )
    idle = np.sum(list(message["totals"].values()), axis=0)
    assert idle == pytest.approx(10 * np.array(timeline.metrics["idle"]))


def test_the_critical_path_ends_at_the_makespan(timeline):
    steps = np.frombuffer(critical_path(timeline)["steps"], np.float32).reshape(-1, 3)
    assert steps[0, 1] == 0
    assert steps[-1, 2] == pytest.approx(timeline.makespan)
    assert len(steps) == len(timeline.critical_path)


def test_warm_up_and_cool_down(timeline):
    first = explain(timeline, 3, 0.1)
    assert (first["cause"], first["start"], first["ended"]) == ("warm-up", 0, "Ended by 3F0.")
    assert "has to come through the ranks before it" in first["why"]
    assert "interleaving" in first["remedy"]
    last = explain(timeline, 3, timeline.makespan - 0.01)
    assert (last["cause"], last["choice"]) == (
        "cool-down",
        "Forced: no action of this rank is left.",
    )


def test_a_wait_names_what_it_waits_for_and_what_could_have_run(timeline):
    waits = [i for i in timeline.idle if i.cause == "downstream-backward"]
    wait = next(i for i in waits if not i.forced)
    about = explain(timeline, wait.rank, (wait.start + wait.end) / 2)
    filler = str(timeline.schedule.atom(wait.filler))
    assert f"which rank {wait.rank + 1} had not finished" in about["why"]
    assert (
        about["choice"]
        == f"A choice: {filler} was ready and could have run here. It would take memory for one "
        "more micro-batch."
    )
    assert about["remedy"].startswith(f"Move {filler} here")
    moving = next(i for i in timeline.idle if i.cause == "transfer")
    assert (
        "is on its way from rank"
        in explain(timeline, moving.rank, (moving.start + moving.end) / 2)["why"]
    )


def test_imbalance_is_told_from_an_ordinary_wait():
    uneven = simulate(
        build("1f1b", ranks=3, microbatches=6), Costs(forward=[1, 1, 2], backward=[2, 2, 4])
    )
    found = next(i for i in uneven.idle if i.cause == "imbalance")
    about = explain(uneven, found.rank, (found.start + found.end) / 2)
    assert "costs more than the mean" in about["why"]
    assert about["remedy"].startswith("Move")


def test_an_overlap_waits_as_one():
    schedule = build("dualpipe", ranks=4, microbatches=8)
    timeline = simulate(schedule, Costs(latency=1))
    for found in timeline.idle:
        assert explain(timeline, found.rank, (found.start + found.end) / 2)["cause"] == found.cause


def test_nothing_to_explain_while_a_rank_works(timeline):
    assert explain(timeline, 0, 0.5) == {}
    alone = simulate(Schedule.from_rows([["0F0", "0B0"]]))
    assert explain(alone, 0, 1) == {}
