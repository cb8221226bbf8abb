"""In a real kernel: models defined in cells, edits, and the interrupt of a running cell."""

import pytest

nbclient = pytest.importorskip("nbclient", reason="the test needs a notebook's kernel")
nbformat = pytest.importorskip("nbformat", reason="the test needs a notebook's kernel")

DEFINE = """
import os, time, psutil, torch, pipelab
from torch import nn
torch.manual_seed(0)
class Scale(nn.Module):
    def forward(self, x):
        time.sleep(WAIT)
        return x * {factor}
WAIT = 0
model = [nn.Linear(4, 4), Scale(), nn.Linear(4, 4)]
x = torch.ones(4, 4)
def train():
    square = lambda o, t: ((o - t) ** 2).mean()
    return pipelab.run(model, x, x, square, schedule="1f1b", ranks=3, microbatches=2)
run = train()
print(run.gradient_error <= 1e-5, run.losses[0])
"""
STALL = "WAIT = 3600\ntrain()"
AFTER = """
WAIT = 0
print(train().gradient_error <= 1e-5, len(psutil.Process().children(recursive=True)))
"""


@pytest.mark.timeout(180)
def test_cells_edits_and_interrupts():
    cells = [DEFINE.format(factor=1), DEFINE.format(factor=2), STALL, AFTER]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(
        notebook, timeout=40, interrupt_on_timeout=True, allow_errors=True, kernel_name="python3"
    )
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            client.timeout = 5 if cell.source == STALL else 40
            client.execute_cell(cell, index)
    first, second, stalled, after = notebook.cells
    texts = [cell.outputs[0].text.split() for cell in (first, second)]
    assert texts[0][0] == texts[1][0] == "True"
    assert texts[0][1] != texts[1][1], "the edited cell's class is the one that runs"
    assert [output.ename for output in stalled.outputs if output.output_type == "error"] == [
        "KeyboardInterrupt"
    ]
    assert after.outputs[0].text.split() == ["True", "1"], "works again; only the server is left"
