"""A notebook as a page of nbconvert: still pictures, and words for what cannot be shown."""

import nbformat
import pytest
from ipywidgets import Widget
from nbconvert import HTMLExporter
from traitlets.config import Config

import pipelab
from pipelab.widgets import builder

WIDGETS = {
    "lab": (lambda: pipelab.lab("1f1b", ranks=3, microbatches=4), "image/svg+xml"),
    "builder": (lambda: builder("1f1b", ranks=2, microbatches=2), "image/svg+xml"),
    "guess": (lambda: pipelab.guess("03-time"), "text/html"),
    "memory": (lambda: pipelab.memory("llama-7b"), "text/html"),
}


def page(widget, **config):
    """The page of a notebook with one output, saved with the state of its widgets."""
    data, _ = widget._repr_mimebundle_()
    output = nbformat.v4.new_output("display_data", data=data)
    cell = nbformat.v4.new_code_cell("widget", outputs=[output])
    state = Widget.get_manager_state(widgets=[widget])
    metadata = {"widgets": {"application/vnd.jupyter.widget-state+json": state}}
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata=metadata)
    return HTMLExporter(config=Config(config)).from_notebook_node(notebook)[0]


@pytest.mark.parametrize("name", WIDGETS)
def test_the_flag_of_the_readme_gives_still_pictures(name):
    make, kind = WIDGETS[name]
    widget = make()
    text = page(widget, ClearMetadataPreprocessor={"enabled": True})
    assert "widget-view" not in text
    if kind == "image/svg+xml":
        assert "data:image/svg+xml" in text or "<svg" in text
    else:
        data, _ = widget._repr_mimebundle_()
        assert data["text/html"][:60] in text
