"""A kind is a row of one table, and whoever speaks of kinds reads that row."""

from dataclasses import fields

import pytest

from pipelab import Costs, Kind, Schedule, simulate
from pipelab.engine.job import program, torch_handover
from pipelab.launcher.arguments import COST_FLAGS, name_of
from pipelab.plots import svg, view
from pipelab.plots.bundle import FRONTEND
from pipelab.plots.palette import LOOKS
from pipelab.schedule.csv import OURS
from pipelab.schedule.kinds import COLLECTIVES, KINDS, OF_MICROBATCH, sending
from pipelab.timeline.text import IDLE, PAIR, draw
from pipelab.widgets.construction import Construction

ALL = "0UNSHARD 0F0 0F1 0R0 0B0 0I1 0W1 0RESHARD 0REDUCE_GRAD 0STEP0"
"""A schedule of one rank with every kind."""


def test_a_row_stands_at_the_number_of_its_kind():
    assert [row.kind for row in KINDS] == list(Kind)
    assert [kind.value for kind in Kind] == list(range(len(Kind)))  # in traces: never renumbered
    assert Kind.F == 0 and Kind.STEP == 5 and Kind.REDUCE_GRAD == 8


@pytest.mark.parametrize("row", KINDS, ids=lambda row: row.kind.name)
def test_every_consumer_knows_the_kind(row):
    schedule = Schedule.from_rows([ALL.split()])
    assert row.kind in schedule.kinds
    text = f"0{row.kind.name}{'' if row.numbered is None else 0}"
    assert text in ALL or row.kind in (Kind.I, Kind.W)
    assert row.cost in {field.name for field in fields(Costs)}
    durations = {"forward": 1, "backward": 2, "input_grad": 1, "weight_grad": 1, row.cost: 3}
    timeline = simulate(schedule, Costs(**durations))
    assert (timeline.compute[timeline.kind == row.kind] == 3).all()
    assert f"{row.letter}{row.look.sign} {row.title}" in draw(timeline, 200)
    assert f"{row.letter} {row.title}" in svg(timeline)
    assert LOOKS[row.kind].letter == view(timeline)["looks"][row.kind]["letter"] == row.letter
    if row.look.pattern:
        hatches = (FRONTEND / "colour.js").read_text(encoding="utf-8")
        shape = row.look.pattern.replace("\\", "\\\\")
        assert f'"{shape}": (pen)' in hatches or f"{shape}: (pen)" in hatches


def test_letters_signs_and_costs_tell_the_kinds_apart():
    for mark in ("letter", "cost", "title"):
        assert len({getattr(row, mark) for row in KINDS}) == len(KINDS)
    signs = [row.look.sign for row in KINDS]
    assert len({*signs, PAIR, IDLE}) == len(KINDS) + 2


def test_every_cost_has_a_flag():
    options = {"recompute", "step"}  # --recompute-time and --step-time: flags of what adds them
    assert {row.cost for row in KINDS} <= {name_of(flag) for flag in COST_FLAGS} | options


def test_what_others_take_from_the_table_is_what_it_was():
    assert {Kind.R, Kind.STEP} == OURS
    assert {Kind.F, Kind.B, Kind.I, Kind.W} == torch_handover._CAN
    assert program._PASSES_ON == (Kind.F, Kind.B, Kind.I)
    assert (sending("down"), sending("up")) == ((Kind.F,), (Kind.B, Kind.I))
    assert OF_MICROBATCH | COLLECTIVES | {Kind.STEP} == set(Kind)
    with pytest.raises(ValueError, match="only F, B, I and W"):
        Construction.of(Schedule.from_rows(["0UNSHARD 0F0 0B0".split()]))
