import torch
from torch.func import functional_call


def stashed(ranks, microbatches):
    def version(stage, k):
        return max(0, k - (ranks - stage - 1))

    return [[(version(s, k), version(s, k)) for k in range(microbatches)] for s in range(ranks)]


def double_buffered(ranks, microbatches):
    def version(k):
        return max(0, k // ranks - 1)

    return [[(version(k), version(k)) for k in range(microbatches)] for _ in range(ranks)]


class StashingStage:
    def __init__(self, stage, lr):
        self.stage, self.lr, self.stash = stage, lr, {}
        self.sum = {name: torch.zeros_like(p) for name, p in stage.named_parameters()}

    def forward(self, microbatch, x):
        weights = {n: p.detach().clone().requires_grad_() for n, p in self.stage.named_parameters()}
        x = x.detach().requires_grad_()
        self.stash[microbatch] = weights, x
        return functional_call(self.stage, weights, (x,)).detach()

    def backward(self, microbatch, dy):
        weights, x = self.stash.pop(microbatch)
        y = functional_call(self.stage, weights, (x,))
        dx, *gradients = torch.autograd.grad(y, [x, *weights.values()], dy)
        for name, gradient in zip(weights, gradients):
            self.sum[name] += gradient
        return dx

    @torch.no_grad()
    def step(self):
        for name, p in self.stage.named_parameters():
            p -= self.lr * self.sum[name]
            self.sum[name].zero_()
