"""The front end's simulation is Python's: the same times and numbers for the same settings, out of
a message that was made with other costs.
"""

import csv
import json
import random
import subprocess
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
from playwright._impl._driver import compute_driver_executable

from pipelab import Schedule, simulate
from pipelab.catalogue import entry, names
from pipelab.errors import UsageError
from pipelab.plots.page import as_text
from pipelab.widgets import Lab, Settings, causes
from pipelab.widgets.panel import Panel
from pipelab.widgets.settings import HOLD, RECOMPUTE

NODE = compute_driver_executable()[0]
HERE = Path(__file__).parent
GOLDEN = HERE.parent / "data" / "golden.csv"
COSTS = ("forward", "input_grad", "weight_grad", "latency", "overhead", "stage_costs")


def message(settings, timeline):
    """What a lab with these settings sends to its picture."""
    return as_text(Lab._message(SimpleNamespace(settings=settings), timeline, 1.0))


def explanations(timeline):
    """Of one idle moment in each gap of at most 40, and of one that is none.

    The picture does not name the copy of the model ("@1").
    """
    gaps = [idle for idle in timeline.idle if idle.end - idle.start > 1e-6]
    gaps = gaps[:: len(gaps) // 40 + 1]
    found = []
    for rank, moment in [(g.rank, (g.start + g.end) / 2) for g in gaps] + [(0, -1.0)]:
        about = json.dumps(causes.explain(timeline, rank, moment))
        found.append({"rank": rank, "moment": moment, "about": json.loads(about.replace("@1", ""))})
    return found


def case(settings, schedule=None):
    """The settings, what Python says of them, and a message made with the default costs.

    schedule: instead of that of the settings.
    """
    plain = settings
    if schedule or not entry(settings.schedule).from_costs:
        defaults = {name: Settings.__dataclass_fields__[name].default for name in COSTS}
        plain = settings.with_changes(**defaults)
    before, timeline = plain.predict(), settings.predict()
    if schedule:
        before, timeline = (
            simulate(schedule, given.costs(schedule.stages)) for given in (plain, settings)
        )
    return {
        "name": settings.text,
        "base": message(plain, before),
        "settings": settings.to_dict(),
        "expected": {
            "message": message(settings, timeline),
            "started": timeline.started.tolist(),
            "ended": timeline.ended.tolist(),
            "causes": as_text(causes.causes(timeline)),
            "path": as_text(causes.critical_path(timeline)),
            "explanations": explanations(timeline),
        },
    }


def differences(cases, folder):
    path = folder / "cases.json"
    path.write_text(json.dumps({"words": causes.words(), "cases": cases}))
    done = subprocess.run(
        [NODE, HERE / "equal_to_python.mjs", path], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["differences"]


def rows():
    """The golden rows as settings; a pair's cost of its own is not one of them."""
    for row in csv.DictReader(GOLDEN.read_text().splitlines()):
        name = row["schedule"].replace("interleaved_zero_bubble", "interleaved-zb")
        name, _, way = name.partition("_recompute_")
        name, way = name.replace("_", "-"), way.replace("_", "-")
        if name not in names():
            continue
        weight_grad = float(Fraction(row["T_W"] or 0))
        if not weight_grad:  # the file counts a forward that runs again inside B
            weight_grad = (float(Fraction(row["T_B_full"])) - (way == "in-backward")) / 2
        yield Settings(
            name,
            ranks=int(row["devices"]),
            microbatches=int(row["microbatches"]),
            stages_per_rank=int(row["chunks_per_device"]),
            forward=float(Fraction(row["T_F"])),
            input_grad=float(Fraction(row["T_I"] or 0)) or weight_grad,
            weight_grad=weight_grad,
            latency=float(Fraction(row["T_comm"] or 0)),
            recompute=way or "none",
        )


def drawn(name, draw):
    """Settings by chance, possible or not."""
    count = draw.choice([1, 2, 2, 3, 4, 4, 6])
    factors = [draw.choice([0.5, 1, 1, 1.25, 2, 0.7]) for _ in range(draw.randint(1, 2 * count))]
    return Settings(
        name,
        ranks=count,
        microbatches=draw.choice([count, 2 * count, draw.randint(1, 12)]),
        stages_per_rank=draw.choice([0, 0, 1, 2, 3]),
        forward=draw.choice([1, 0.5, draw.uniform(0.1, 4)]),
        input_grad=draw.choice([1, 2, draw.uniform(0.1, 4)]),
        weight_grad=draw.choice([1, 0.25, draw.uniform(0.1, 4)]),
        latency=draw.choice([0, 0.5, 1, draw.uniform(0, 4)]),
        overhead=draw.choice([0, 0, 0.25, draw.uniform(0, 1)]),
        stage_costs=draw.choice([(), factors]),
        recompute=draw.choice(RECOMPUTE),
        hold=draw.choice(HOLD),
    )


def possible(name, draw, wanted):
    """So many possible cases of a schedule, by chance."""
    found = []
    while len(found) < wanted:
        with suppress(UsageError):
            found.append(case(drawn(name, draw)))
    return found


@pytest.mark.parametrize("name", names())
def test_costs_change_no_order_but_where_the_entry_says_so(name):
    """The front end keeps the order while a cost moves."""
    sizes = [{"ranks": p, "microbatches": m} for p, m in [(2, 4), (4, 4), (4, 8), (3, 7), (4, 16)]]
    moved = {"forward": 0.5, "input_grad": 3, "weight_grad": 0.25, "latency": 1.5, "overhead": 0.3}
    changed = False
    for size in sizes:
        settings = Settings(name, **size)
        if not settings.problem():
            changed |= settings.build() != settings.with_changes(**moved).build()
    assert changed == entry(name).from_costs
    described = next(found for found in Panel().catalogue if found["name"] == name)
    assert described["from_costs"] == entry(name).from_costs


def test_the_golden_rows_are_those_of_python(tmp_path):
    cases = [case(settings) for settings in rows()]
    assert len(cases) == 128
    assert differences(cases, tmp_path) == []


@pytest.mark.parametrize("name", names())
def test_any_schedule_with_any_costs_is_that_of_python(name, tmp_path):
    draw = random.Random(name)
    wanted = 6 if entry(name).searched else 40
    cases = possible(name, draw, wanted)
    assert differences(cases, tmp_path) == []


BY_HAND = [
    [
        "0F0 0F1 (0F2;0I0)OVERLAP_F_B 0I1 0I2 0W0 0W1 0W2",
        "1F0 1I0 1F1 1I1 1F2 1I2 1W0 1W1 1W2",
    ],
    [
        "0F0 0F1 0F2 0I1 0I0 (0I2;0F3)OVERLAP_F_B 0W1 0I3 0W0 0W2 0W3",
        "1F0 1F1 1F2 1I1 1I2 1W1 1W2 1I0 1F3 1I3 1W0 1W3",
    ],
]
"""Pairs that no schedule of the catalogue has: with an input gradient, which counts as a full
backward, and one that begins with it and is ready before a weight gradient.
"""


@pytest.mark.parametrize("rows", BY_HAND, ids=["second", "first"])
def test_an_input_gradient_in_a_pair(rows, tmp_path):
    schedule = Schedule.from_rows([row.split() for row in rows])
    settings = Settings(
        ranks=2,
        microbatches=schedule.microbatches,
        input_grad=1.5,
        weight_grad=0.75,
        latency=0.5,
        stage_costs=(2, 1),
    )
    assert differences([case(settings, schedule)], tmp_path) == []
