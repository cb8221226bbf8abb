"""The plan of one rank in paced mode, by its clock: waits may last longer, never shorter."""

import time

from pipelab.engine.rank.pace import Pace


def test_an_action_lasts_as_long_as_planned_and_lateness_does_not_add_up():
    pace = Pace({0: 0.1, 1: 0.1}, latency=0.0)
    pace.begin_step()
    began = time.perf_counter()
    pace.begin(0, None, 0.0)
    first = pace.finish()
    assert began + 0.1 <= first <= time.perf_counter()
    time.sleep(0.01)  # late, but by less than half an action
    pace.begin(1, None, 0.0)
    assert pace.finish() == first + 0.1
    pace.begin(0, None, 0.0)
    time.sleep(0.17)  # later than the plan can bear
    assert pace.finish() > first + 0.26


def test_after_a_step_those_that_end_with_it_are_let_wake_up():
    pace = Pace({0: 0.02}, latency=0.0)
    pace.begin_step()
    pace.begin(0, None, 0.0)
    ended = pace.finish()
    pace.end_step()
    assert time.perf_counter() >= ended + 0.01
    raw = Pace(None, latency=0.0)
    raw.begin(0, None, 0.0)
    raw.finish()
    raw.end_step()


def test_an_input_arrives_after_the_latency():
    pace = Pace({0: 0.01}, latency=0.03)
    planned = time.perf_counter() + 0.01
    pace.begin_step()
    pace.begin(0, planned, planned)
    assert time.perf_counter() >= planned + 0.03
