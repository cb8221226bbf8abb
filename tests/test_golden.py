"""Numbers from the papers and from other people's simulators: tests/data/golden.csv (origin in
tests/data/README.md).
"""

import csv
import importlib
import pkgutil
from fractions import Fraction
from pathlib import Path

import pytest

import pipelab
from pipelab import catalogue
from pipelab.catalogue import names
from pipelab.catalogue.entry import Entry

ROWS = list(
    csv.DictReader((Path(__file__).parent / "data" / "golden.csv").read_text().splitlines())
)

ALMOST = {"g134": 2e-4}
"""Relative differences allowed to rows that depend on a search: ours finds another order, as its
module says.
"""


def _catalogue_name(row: dict) -> tuple[str, str | None]:
    name = row["schedule"].replace("interleaved_zero_bubble", "interleaved-zb")
    for suffix, mode in (("_recompute_in_backward", "in-backward"), ("_recompute_early", "early")):
        if name.endswith(suffix):
            return name.removesuffix(suffix).replace("_", "-"), mode
    return name.replace("_", "-"), None


def _known(row: dict) -> bool:
    return _catalogue_name(row)[0] in names()


def _number(text: str) -> float | None:
    return float(Fraction(text)) if text else None


@pytest.mark.parametrize(
    "row", list(filter(_known, ROWS)), ids=lambda row: f"{row['id']}-{row['schedule']}"
)
def test_golden(row):
    name, recompute = _catalogue_name(row)
    backward = _number(row["T_B_full"])
    if recompute == "in-backward":
        backward -= 1  # the file counts the recomputed forward inside B
    costs = pipelab.Costs(
        forward=_number(row["T_F"]),
        backward=backward,
        input_grad=_number(row["T_I"]),
        weight_grad=_number(row["T_W"]),
        overlap=_number(row["T_FB_overlap"]),
        latency=_number(row["T_comm"]) or 0,
        recompute=1 if recompute else 0,
    )
    ranks, microbatches, stages_per_rank = (
        int(row[c]) for c in ("devices", "microbatches", "chunks_per_device")
    )
    schedule = pipelab.build(
        name, ranks=ranks, microbatches=microbatches, stages_per_rank=stages_per_rank, costs=costs
    )
    metrics = pipelab.simulate(schedule, costs, recompute=recompute).metrics
    exact = ALMOST.get(row["id"], 1e-9)
    assert metrics["makespan"] == pytest.approx(_number(row["makespan"]), rel=exact)
    assert max(metrics["spans"]) == pytest.approx(_number(row["max_device_span"]), rel=exact)
    assert metrics["bubble_fraction"] == pytest.approx(
        float(row["idle_fraction"]), abs=max(1e-6, exact)
    )
    for column, key in (
        ("peak_inflight", "peak_in_flight"),
        ("peak_inflight_until_W", "peak_in_flight_until_weight_grad"),
    ):
        if row[column] and (name, column) != (
            "zb-2p",
            "peak_inflight_until_W",
        ):  # which W waits is the search's choice
            assert metrics[key] == [int(n) for n in row[column].split()]
    if row[
        "sim_bubble_rate"
    ]:  # the zero-bubble papers' where the backward is split, else idle / total
        assert metrics["bubble_rate"] == pytest.approx(
            float(row["sim_bubble_rate"]), abs=max(5e-5, exact)
        )


def test_the_rows_of_this_catalogue_are_all_there():
    assert sum(map(_known, ROWS)) == 128


WITHOUT = {"auto", "hanayo", "pipedream", "pipedream-2bw"}
"""Schedules with no published numbers that the simulator could be held to."""


def test_every_schedule_is_registered_and_has_a_golden_row():
    entries = []
    for module in pkgutil.iter_modules(catalogue.__path__, "pipelab.catalogue."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, Entry):
                entries.append(value.name)
    assert set(entries) == set(names())
    assert set(names()) - {_catalogue_name(row)[0] for row in ROWS} == WITHOUT
