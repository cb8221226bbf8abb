"""Exercise 08. The file is read, checked, simulated and run for real; the targets of memory and time are enforced."""

import pytest

import pipelab
from pipelab import Kind
from pipelab.grading.checks import in_flight, legal, text_of, trains
from pipelab.grading.remote import NoResult, NotStarted

READ = "Read again: notebook 03 (1F1B and the memory wall), section “The memory wall”."
RANKS, MICROBATCHES, CAP, TARGET, OBVIOUS = 4, 6, 3, 30, 36
HINTS = {
    "missing": f"Every rank runs each of the {MICROBATCHES} micro-batches forward and back once. {READ}",
    "duplicate": f"Every rank runs each of the {MICROBATCHES} micro-batches forward and back once. {READ}",
    "wrong-rank": f"Row s is rank s, which holds stage s: its cells begin with s. {READ}",
    "out-of-range": f"Micro-batches are numbered from 0. {READ}",
    "order": f"A backward needs its own forward first. {READ}",
    "deadlock": f"Ranks wait for one another in a circle; follow it in the grid. {READ}",
}


@pytest.fixture
def schedule(student_file):
    """The schedule in the file, if it can run and is of the right size."""
    if not student_file.exists():
        raise NoResult("missing", "hand_built.csv is missing: hand it in under that name")
    lines = text_of(student_file).splitlines()
    rows = [line for line in lines if line.strip() and not line.startswith("#")]
    if not rows:
        raise NotStarted("exercise 08: hand_built.csv")
    rows = [[cell.strip() for cell in row.split(",") if cell.strip()] for row in rows]
    assert len(rows) == RANKS, f"hand_built.csv should have a row for each of the {RANKS} ranks, but has {len(rows)}. {READ}"
    schedule = legal(rows, MICROBATCHES, HINTS)
    assert schedule.kinds <= {Kind.F, Kind.B}, f"F and B only: this exercise's times are those of full backwards. {READ}"
    return schedule


@pytest.mark.points(1, "it can run: every action once, on its rank, free of deadlock")
def test_it_can_run(schedule):
    assert schedule.stages == RANKS, f"Rank s holds stage s: {RANKS} stages, not {schedule.stages}. {READ}"


@pytest.mark.points(2, "memory: at most three in flight on every rank")
def test_memory(schedule):
    for rank in range(RANKS):
        in_flight(schedule, rank, CAP, f"Before the next F, a B has to give its memory back. {READ}")


@pytest.mark.points(3, "makespan 30 within that memory")
def test_makespan(schedule, credit):
    for rank in range(RANKS):
        in_flight(schedule, rank, CAP, f"The time counts only within the memory: 1F1B is shorter, and holds more. {READ}")
    found = pipelab.simulate(schedule).makespan
    if found < OBVIOUS:
        credit(0.3 + 0.3 * (OBVIOUS - found) / (OBVIOUS - TARGET), f"Shorter than {OBVIOUS}, which the obvious orders take.")
    text = (
        "Look where rank 0 waits for a gradient: it comes sooner if the last rank goes back at once, and if the ranks between let "
        "a backward pass before a forward that nobody waits for."
    )
    assert found <= TARGET, f"The makespan should be {TARGET}, but is {found:g}. {text} {READ}"


@pytest.mark.points(1, "it trains a model in worker processes")
def test_it_trains(schedule):
    trains(schedule)
