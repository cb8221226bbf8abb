"""Idle time for the canvas, and one gap in words."""

import re

import numpy as np
import pytest

from pipelab import Costs, Schedule, build, simulate
from pipelab.catalogue import entry, names
from pipelab.timeline.idle import CAUSES
from pipelab.widgets import Lab
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


@pytest.mark.parametrize("hold", ["batch", "microbatch"])
@pytest.mark.parametrize(
    "options",
    [
        {"schedule": "1f1b"},
        {"schedule": "1f1b", "latency": 1.0},
        {"schedule": "gpipe", "stage_costs": [1, 1, 2, 1]},
        {"schedule": "zb-h2", "microbatches": 12},
        {"schedule": "dualpipe"},
        {"schedule": "naive"},
    ],
    ids=str,
)
def test_what_is_said_to_help_does(options, hold):
    """Every move that is named is made in another lab, which must be faster by so much."""
    lab = Lab(hold=hold, **options)
    titles = {entry(name).title: name for name in names()}
    named = 0
    for cause in {idle.cause for idle in lab.timeline.idle}:
        idle = next(idle for idle in lab.timeline.idle if idle.cause == cause)
        remedy = lab.explain(idle.rank, (idle.start + idle.end) / 2).get("remedy", "")
        for words, before, after in re.findall(
            r"(?:: |; )([^;]+?) ([\d.]+) → ([\d.]+) \(", remedy.replace(", simulated", "")
        ):
            change = {"equal stages": {"stage_costs": []}}.get(words)
            if words in titles:
                change = {"schedule": titles[words], "stages_per_rank": 0}
            elif words.endswith("micro-batches"):
                change = {"microbatches": int(words.split()[0])}
            elif words.startswith("latency"):
                change = {"latency": float(words.split()[1])}
            if change is None:
                assert words.endswith("moved here")
                continue
            other = Lab(**(lab.settings.to_dict() | change))
            unit = 1 if hold == "batch" else other.microbatches
            assert float(after) == pytest.approx(other.timeline.makespan / unit, rel=0.01)
            assert float(after) < float(before)
            named += 1
    assert named


def test_a_gap_that_nothing_shortens_has_its_price():
    lab = Lab(schedule="zb-h2", ranks=2, microbatches=64, hold="batch")
    cool = [idle for idle in lab.timeline.idle if idle.cause == "cool-down"][0]
    remedy = lab.explain(cool.rank, (cool.start + cool.end) / 2)["remedy"]
    assert remedy.startswith("Nothing that was tried shortens the step. The gap is the price")


def test_an_overlap_waits_as_one():
    schedule = build("dualpipe", ranks=4, microbatches=8)
    timeline = simulate(schedule, Costs(latency=1))
    for found in timeline.idle:
        assert explain(timeline, found.rank, (found.start + found.end) / 2)["cause"] == found.cause


def test_nothing_to_explain_while_a_rank_works(timeline):
    assert explain(timeline, 0, 0.5) == {}
    alone = simulate(Schedule.from_rows([["0F0", "0B0"]]))
    assert explain(alone, 0, 1) == {}
