"""Typical mistakes: (name, what is replaced in the solution, the test that sees it, what its message says)."""

MISTAKES = [
    (
        "the backward's version is the newest",
        [("(version(s, k), version(s, k)) for", "(version(s, k), k) for")],
        "test_stashed", "A backward needs the weights of its forward",
    ),
    (
        "stages counted from the wrong end",
        [("k - (ranks - stage - 1)", "k - stage")],
        "test_stashed", "the last stage is never late",
    ),
    (
        "one too late",
        [("ranks - stage - 1", "ranks - stage")],
        "test_stashed", "this one is among them",
    ),
    (
        "vertical sync",
        [("ranks - stage - 1", "ranks - 1")],
        "test_stashed", "That is vertical sync",
    ),
    (
        "2BW with the newest version",
        [("k // ranks - 1", "k // ranks")],
        "test_double_buffered", "the newest may not be there yet",
    ),
    (
        "2BW counted from 1",
        [("k // ranks - 1", "(k - 1) // ranks - 1")],
        "test_double_buffered", "The paper counts micro-batches from 1",
    ),
    (
        "the backward runs with the newest weights",
        [("        weights, x = self.stash.pop(microbatch)\n",
          "        _, x = self.stash.pop(microbatch)\n"
          "        weights = {n: p.detach().clone().requires_grad_() for n, p in self.stage.named_parameters()}\n")],
        "test_backward", "not those that steps have made since",
    ),
    (
        "nothing is copied, and the step changes the weights in place",
        [("{n: p.detach().clone().requires_grad_() for n, p in self.stage.named_parameters()}",
          "dict(self.stage.named_parameters())"),
         ("        self.stash[microbatch] = weights, x\n        return functional_call(self.stage, weights, (x,)).detach()",
          "        y = functional_call(self.stage, weights, (x,))\n        self.stash[microbatch] = weights, x, y\n        return y.detach()"),
         ("        weights, x = self.stash.pop(microbatch)\n        y = functional_call(self.stage, weights, (x,))\n",
          "        weights, x, y = self.stash.pop(microbatch)\n")],
        "test_backward", "torch has noticed",
    ),
    (
        "the step moves the old version instead of the newest",
        [("            self.sum[name] += gradient\n", "            self.sum[name] += gradient\n        self.used = weights\n"),
         ("            p -= self.lr * self.sum[name]\n", "            p.copy_(self.used[name] - self.lr * self.sum[name])\n")],
        "test_backward", "the weights that move are the newest",
    ),
    (
        "only the last gradient counts",
        [("self.sum[name] += gradient", "self.sum[name] = gradient.clone()")],
        "test_several_before_a_step", "as a sum",
    ),
    (
        "gradients are never used up",
        [("            self.sum[name].zero_()\n", "")],
        "test_several_before_a_step", "used up with it",
    ),
    (
        "every version is kept",
        [("self.stash.pop(microbatch)", "self.stash[microbatch]")],
        "test_memory", "Let the others go",
    ),
]  # fmt: skip
