"""The JavaScript: unit tests on the Node that Playwright carries, and the joined script."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from playwright._impl._driver import compute_driver_executable

import pipelab.widgets
from pipelab.plots.bundle import FRONTEND, bundle
from pipelab.plots.palette import LOOKS
from pipelab.widgets import Builder, Lab

NODE = compute_driver_executable()[0]
WIDGET = Path(pipelab.widgets.__file__).parent / "lab.js"
BUILDER = WIDGET.with_name("builder.js")
GUESS = WIDGET.with_name("guess.js")
CUTS = WIDGET.with_name("cuts.js")
MEMORY, SHAPES = WIDGET.with_name("memory.js"), WIDGET.with_name("shapes.js")
PLANNER = WIDGET.with_name("planner.js")
TRADEOFF, FAMILY = WIDGET.with_name("tradeoff.js"), WIDGET.with_name("family.js")
ALONE = (
    *("page.js", "builder.js", "guess.js", "labpage.js", "standin.js"),
    *("cuts.js", "cutrow.js", "recut.js", "memory.js", "tradeoff.js", "family.js"),
    *("shapes.js", "switches.js", "planner.js", "big.js"),
)
"""What the lab does not join: other entries."""
TESTS = sorted(Path(__file__).parent.glob("*.test.mjs"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_javascript(path):
    done = subprocess.run(
        [NODE, "--test", "--test-reporter=tap", path], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"^# pass (\d+)", done.stdout, re.MULTILINE)[1]) > 0


@pytest.mark.parametrize(
    "entry",
    [
        *(WIDGET, BUILDER, GUESS, CUTS, MEMORY, SHAPES, PLANNER, TRADEOFF, FAMILY),
        *(FRONTEND / "page.js", WIDGET.with_name("labpage.js")),
    ],
    ids=[
        *("lab", "builder", "guess", "cuts", "memory", "shapes", "planner"),
        *("tradeoff", "family"),
        *("page", "labpage"),
    ],
)
def test_joined_script_is_one_valid_module(entry, tmp_path):
    path = tmp_path / "joined.mjs"
    path.write_text(bundle(entry), encoding="utf-8")
    # --check finds a name that two files declare, which only the joined script would trip over
    done = subprocess.run([NODE, "--check", path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "import" not in re.findall(r"^\w+", path.read_text(), re.MULTILINE)


def test_the_front_end_tests_use_the_kinds_that_python_sends():
    script = 'import { looks } from "./looks.mjs"; console.log(JSON.stringify(looks));'
    done = subprocess.run(
        [NODE, "--input-type=module", "--eval", script],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    used = json.loads(done.stdout)
    sent = json.loads(json.dumps([look._asdict() for look in LOOKS.values()]))
    for look in sent:
        look["title"] = look["letter"]
    assert used == [{key: look[key] for key in used[0]} for look in sent]
    assert not re.search(r"\bkind\b *[<>=]+ *\d", (FRONTEND / "relations.js").read_text())


def test_joined_script_holds_every_file_once():
    script = bundle(WIDGET)
    for path in [*FRONTEND.glob("*.js"), *WIDGET.parent.glob("*.js")]:
        once = path.name not in ALONE
        assert script.count(path.read_text(encoding="utf-8").splitlines()[0]) == once, path.name


def test_widget_exports_render_and_nothing_else():
    assert re.findall(r"^export .*", Lab._esm, re.MULTILINE) == ["export default { render };"]
    assert re.findall(r"^export .*", Builder._esm, re.MULTILINE) == [
        "export default { render: renderBuilder };"
    ]


def test_every_control_keeps_jupyters_keys_out():
    """With a slider focused, JupyterLab's "d d" would delete the cell; only the focused element
    itself can stop it.
    """
    for path in [*FRONTEND.glob("*.js"), *WIDGET.parent.glob("*.js")]:
        if path.name != "dom.js":
            assert not re.search(
                r'element\("(input|select|button|summary|textarea)"',
                path.read_text(encoding="utf-8"),
            ), path.name
