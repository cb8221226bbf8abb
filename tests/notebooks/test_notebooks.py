"""Every notebook of the course runs from top to bottom, and is kept in git without outputs."""

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def test_the_first_notebook_is_there():
    assert NOTEBOOKS[0].name == "00-start-here.ipynb"


def test_first_cell_says_what_a_reader_gets_and_needs(notebook):
    for word in ("You will be able to", "minutes", "Difficulty", "Needs"):
        assert word in notebook.cells[0].source


def test_no_outputs_and_no_widget_state_in_git(notebook):
    nbformat.validate(notebook)
    assert "widgets" not in notebook.metadata
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def test_links_to_pages_beside_it_lead_somewhere(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (NOTEBOOKS[0].parent / target).exists(), target


@pytest.mark.timeout(300)
def test_it_runs(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")  # the kernel of this environment, whatever the person has installed
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", store_widget_state=False)
    client.execute(cwd=os.fspath(NOTEBOOKS[0].parent))
    pictures = [o.data for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs if "data" in o]
    assert any("image/svg+xml" in data for data in pictures), "the lab also shows where there is no kernel"


def text_of(path):
    return "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)


def test_each_notebook_has_the_parts_of_a_lesson():
    for path in NOTEBOOKS:
        text = text_of(path)
        for part in ("guess(", "pipelab.lab(", "## ", "**Reading:**"):
            assert part in text, (path.name, part)
        if path != NOTEBOOKS[0]:
            for part in ("## A question first", "## Checkpoint", "## The formula card", "**Elsewhere:**", "pipelab.run("):
                assert part in text, (path.name, part)
        ids = [cell.id for cell in nbformat.read(path, as_version=4).cells]
        assert len(set(ids)) == len(ids)
