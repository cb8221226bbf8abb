"""Right, and unlike the others: a list of copies, and dW as a sum of outer products, row by row."""

import torch


class SplitLinear(torch.nn.Module):
    def __init__(self, linear):
        super().__init__()
        self.linear = linear
        self.kept = []

    @torch.no_grad()
    def forward(self, microbatch, x):
        self.kept.append([microbatch, x.clone(), None])
        return self.linear(x)

    @torch.no_grad()
    def input_gradient(self, microbatch, dy):
        entry = next(entry for entry in self.kept if entry[0] == microbatch)
        entry[2] = dy.clone()
        return torch.tensordot(dy, self.linear.weight, dims=1)

    @torch.no_grad()
    def weight_gradient(self, microbatch):
        entry = next(entry for entry in self.kept if entry[0] == microbatch)
        self.kept = [other for other in self.kept if other is not entry]
        for parameter in self.linear.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for x, dy in zip(entry[1].reshape(-1, entry[1].shape[-1]), entry[2].reshape(-1, entry[2].shape[-1])):
            self.linear.weight.grad += torch.outer(dy, x)
            if self.linear.bias is not None:
                self.linear.bias.grad += dy
