"""The goals of the course's labs: not met at the start, and met by what they show or ask for.

The labs are those of the notebooks: their cells are read, and run here.
"""

import json
import re
from pathlib import Path

import pytest

import pipelab
from pipelab.course import lessons, store
from pipelab.course.lab_goals import all_goals, goals
from pipelab.errors import UnknownName
from pipelab.layout import LayerProfile, Profile
from pipelab.widgets import builder

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
BUILT = {
    "00-build": "gpipe",
    "01-build": "gpipe",
    "02-build": "gpipe",
    "03-build": "1f1b",
    "04-build": "interleaved-1f1b",
    "05-drop": "zb-h1",
    "08-order": "eager-1f1b",
    "09-flush": "1f1b",
}
"""Goals that a person builds: a schedule that meets them."""
CUT = {
    ("06-balance", 0): {"sizes": [4, 4, 4, 2]},
    ("06-balance", 1): {"way": "best"},
    ("07-fit", 2): {"model": "gpt-3", "device": "h100", "ranks": 96, "recompute": "full"},
}
"""Goals that a person reaches with other widgets: what meets them."""


def layer(seconds, output=64):
    return LayerProfile("0 Layer", *[seconds / 3] * 3, 4096, 0, output, 1000, 100, 50)


def profiled(*layers):
    loss = LayerProfile("loss", 0, 0, 0, 128, 0, 4, 0, 0, 0)
    return Profile("cpu", "float32", 4, layers, loss, input_bytes=64)


MEASURED = {
    "profile": profiled(layer(0.001), *[layer(0.002)] * 12, layer(0.011)),
    "waist": profiled(*[layer(0.001)] * 6, layer(0.001, output=2), *[layer(0.001)] * 3),
    "link": pipelab.Link(bandwidth=64 / 0.02),
    "job": None,
}
"""What notebooks measure before they make a lab, and the model that it trains."""


def labs_of_the_course():
    """slug -> the expression of a notebook that makes the lab with these goals."""
    found = {}
    for lesson in lessons(NOTEBOOKS.parent):
        cells = json.loads((NOTEBOOKS / lesson.file).read_text(encoding="utf-8"))["cells"]
        for cell in cells:
            text = "".join(cell["source"])
            if cell["cell_type"] != "code":
                continue
            makers = r"pipelab\.(?:lab|cuts|memory|planner)"
            for slug in re.findall(r'goals="([^"]+)"', text):
                made = re.search(rf"(?:{makers}|builder)\((?:[^()]|\([^()]*\))*\)", text)
                found[slug] = made[0]
    return found


LABS = labs_of_the_course()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Goals are kept in the current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_goal_stands_in_a_notebook_and_in_the_table():
    listed = [slug for lesson in lessons(NOTEBOOKS.parent) for slug in lesson.goals]
    assert sorted(LABS) == sorted(all_goals()) == sorted(listed)
    with pytest.raises(UnknownName, match="02-fill"):
        goals("02-fil")


def lab_of(slug):
    return eval(LABS[slug], {"pipelab": pipelab, "builder": builder} | MEASURED)


@pytest.mark.parametrize("slug", LABS)
def test_each_goal_is_open_until_it_is_done(slug, here):
    lab = lab_of(slug)
    for i, goal in enumerate(lab.goals):
        lab.goal = i
        assert not lab.goals[i]["reached"], f"{goal['text']!r} is met before anything is done"
        if goal["how"]:
            lab.show_goal()
        elif (slug, i) in CUT:
            lab.apply(**CUT[slug, i])
        elif slug in BUILT:
            if i == 0 and len(lab.goals) > 1:
                waste_time(lab)
            else:
                finish(lab, BUILT[slug])
        else:
            assert ["run", "=", "done"] in goal["when"]
            lab.progress = lab.progress | {"state": "done"}
            lab._tick()
        assert lab.goals[i]["reached"], goal["text"]
        assert goal["why"]
    kept = store.read(here / "guesses.json")[slug]
    assert kept == {"reached": list(range(len(lab.goals))), "of": len(lab.goals)}
    again = lab_of(slug)
    assert all(goal["reached"] for goal in again.goals), "what was reached is there the next day"
    lab.close()
    again.close()


def waste_time(widget):
    """Complete a builder so that it fits and is slow: everything one micro-batch after another."""
    while not widget.construction.complete:
        legal = [action for row in widget.grid["legal"] for action in row]
        slow = min(legal, key=lambda a: (int(re.search(r"\d+$", a)[0]), a))
        widget.place(slow)


def finish(widget, name):
    """Build the schedule of that name: with the builder's own counts."""
    ranks = len(widget.construction.rows)
    order = pipelab.build(name, ranks=ranks, microbatches=widget.settings.microbatches)
    widget.load(order.to_csv())
