"""Typical mistakes: (name, what is replaced in the solution, the test that sees it, what its message says)."""

MISTAKES = [
    (
        "the weight gradient comes with I already",
        [("        return dy @ self.linear.weight\n",
          "        self._w(*self.pending[microbatch])\n        return dy @ self.linear.weight\n"),
         ("    def weight_gradient(self, microbatch):\n        x, dy = self.pending.pop(microbatch)\n",
          "    def weight_gradient(self, microbatch):\n        self.pending.pop(microbatch)\n\n    def _w(self, x, dy):\n")],
        "test_input_gradient", "The split is that it comes later",
    ),
    (
        "the gradient replaces what was in .grad",
        [("gradient if parameter.grad is None else parameter.grad + gradient", "gradient")],
        "test_in_flight", "add to .grad",
    ),
    (
        "the weight gradient of three dimensions keeps only the last batch",
        [("x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])", "(x[-1], dy[-1]) if x.dim() > 2 else (x, dy)")],
        "test_weight_gradient", "of more than two dimensions all but the last are rows",
    ),
    (
        "the bias's gradient forgotten",
        [("self._add(self.linear.bias, dy.sum(0))", "pass")],
        "test_weight_gradient", "bias.grad is None after W",
    ),
    (
        "the bias's gradient is the mean",
        [("dy.sum(0)", "dy.mean(0)")],
        "test_weight_gradient", "db = Σ dY",
    ),
    (
        "W takes the oldest, whichever micro-batch it is called for",
        [("self.pending.pop(microbatch)", "self.pending.pop(min(self.pending))")],
        "test_in_flight", "of just this one",
    ),
    (
        "only the last micro-batch is kept",
        [("self.x[microbatch] = x", "self.x = {i: x for i in range(9)}")],
        "test_in_flight", "add to .grad, of just this one",
    ),
    (
        "what is kept is never let go",
        [("self.pending.pop(microbatch)", "self.pending[microbatch]")],
        "test_memory", "keep it no longer",
    ),
    (
        "something is added to dX, as the bias is to y",
        [("return dy @ self.linear.weight\n", "return dy @ self.linear.weight + 1\n")],
        "test_input_gradient", "dX = dY · W",
    ),
]  # fmt: skip
