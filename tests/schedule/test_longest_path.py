import numpy as np
import pytest

from pipelab.catalogue import build, entry, names
from pipelab.schedule import Schedule, graph, longest_path


@pytest.mark.parametrize("name", names())
def test_both_ways_of_computing_it_agree(name, monkeypatch):
    for ranks, microbatches in ((1, 4), (4, 8), (6, 12)):
        if entry(name).problem(ranks, microbatches):
            continue
        schedule = build(name, ranks=ranks, microbatches=microbatches)
        duration = np.random.default_rng(0).uniform(0.5, 2, len(schedule.kind))
        narrow = longest_path.longest_path(schedule, duration, 0.25)
        monkeypatch.setattr(graph, "WIDE", 0)
        again = build(name, ranks=ranks, microbatches=microbatches)
        wide = longest_path.longest_path(again, duration, 0.25)
        monkeypatch.undo()
        assert narrow.complete and wide.complete
        assert np.array_equal(narrow.started, wide.started) and np.array_equal(
            narrow.ended, wide.ended
        )


@pytest.mark.parametrize("wide", [0, 10**9])
def test_a_deadlock_leaves_the_rest_unreached(monkeypatch, wide):
    monkeypatch.setattr(graph, "WIDE", wide)
    stuck = Schedule.from_rows(["0F0 0B0 0F1 0B1".split(), "1F1 1F0 1B0 1B1".split()])
    path = longest_path.longest_path(stuck)
    assert not path.complete
    assert not longest_path.finishes(stuck)
    assert path.ended[0] == 1 and np.isnan(path.ended[1:]).all()


def test_nobody_can_even_start(monkeypatch):
    monkeypatch.setattr(graph, "WIDE", 0)
    stuck = Schedule.from_rows(["1F0 0F0 0B0 1B0".split()])
    assert not longest_path.finishes(stuck) and not longest_path.longest_path(stuck).complete
