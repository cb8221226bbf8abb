"""Typical mistakes: (name, what is replaced in the solution, the test that sees it, what its message says)."""

MISTAKES = [
    (
        "the losses are not scaled",
        [(" * (len(part) / len(x))", "")],
        "test_gradients", "each loss has to be scaled first",
    ),
    (
        "every micro-batch counts 1/m",
        [("(len(part) / len(x))", "(1 / microbatches)")],
        "test_gradients", "a shorter one has fewer samples",
    ),
    (
        "the mean of the means is returned",
        [("(len(part) / len(x))", "(1 / microbatches)")],
        "test_loss", "micro-batches of different sizes do not count alike",
    ),
    (
        "gradients set to zero before each micro-batch",
        [("        loss.backward()\n", "        model.zero_grad()\n        loss.backward()\n")],
        "test_gradients", "Only the last micro-batch counts",
    ),
    (
        "gradients set to zero at the start",
        [("    total = 0.0\n", "    model.zero_grad()\n    total = 0.0\n")],
        "test_grad_is_added_to", "What was in .grad before is gone",
    ),
    (
        "the gradient is scaled afterwards",
        [(" * (len(part) / len(x))", ""),
         ("    return total\n", "    for p in model.parameters():\n        p.grad /= microbatches\n"
          "    return total / microbatches\n")],
        "test_grad_is_added_to", "Something else than the scaled losses' backward changed .grad",
    ),
    (
        "torch.chunk, which rounds up",
        [("[size + 1] * rest + [size] * (microbatches - rest)",
          "[len(piece) for piece in torch.zeros(batch).chunk(microbatches)]")],
        "test_sizes", "That is torch.chunk",
    ),
    (
        "the tail is left out",
        [("[size + 1] * rest + [size] * (microbatches - rest)", "[size] * microbatches")],
        "test_sizes", "that are left over belong to the batch",
    ),
    (
        "merged along a new dimension",
        [("torch.cat(list(pieces))", "torch.stack([piece[0] for piece in pieces])")],
        "test_split_and_merge", "join along the first dimension",
    ),
]  # fmt: skip
