"""Right, and unlike the others: the graph of a forward is the stash, and a step puts new parameters into the module."""

import torch


def stashed(ranks, microbatches):
    """Each stage's own order, with a counter of its steps."""
    table = []
    for behind in reversed(range(ranks)):
        ahead = min(behind, microbatches)
        row = [[0, 0] for _ in range(ahead)]
        for steps in range(microbatches - ahead):
            row.append([steps, steps])
        table.append(row)
    return table


def double_buffered(ranks, microbatches):
    batches = [0] + list(range(microbatches // ranks))
    return [[[batches[k // ranks]] * 2 for k in range(microbatches)] for s in range(ranks)]


class StashingStage:
    def __init__(self, stage, lr):
        self.module, self.rate, self.graphs, self.gradients = stage, lr, {}, {}

    def _places(self):
        for prefix, owner in self.module.named_modules():
            for name, parameter in list(owner.named_parameters(recurse=False)):
                yield owner, prefix, name, parameter

    def forward(self, microbatch, x):
        x = x.clone().requires_grad_()
        y = self.module(x)
        names = [(prefix, name) for _, prefix, name, _ in self._places()]
        self.graphs[microbatch] = x, y, names, [p for *_, p in self._places()]
        return y

    def backward(self, microbatch, dy):
        x, y, names, parameters = self.graphs.pop(microbatch)
        dx, *found = torch.autograd.grad([y], [x] + parameters, [dy])
        for key, gradient in zip(names, found):
            self.gradients.setdefault(key, []).append(gradient)
        return dx

    def step(self):
        for owner, prefix, name, old in list(self._places()):
            moved = old.detach() - self.rate * sum(self.gradients.pop((prefix, name), [0]))
            setattr(owner, name, torch.nn.Parameter(moved))
