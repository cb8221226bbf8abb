"""Typical mistakes: (name, what is replaced in the solution, the test that sees it, what its message says)."""

MISTAKES = [
    (
        "the graph is sent, too",
        [("output.detach(), output", "output, output")],
        "test_forward", "still carries its graph",
    ),
    (
        "no gradient is asked for what arrives",
        [("    received.requires_grad_()\n", "")],
        "test_gradient_across", "only if asked for it before the forward",
    ),
    (
        "the first part's backward ignores what came",
        [("kept.backward(gradient)", "kept.sum().backward()")],
        "test_gradients", "goes on with the gradient that came",
    ),
    (
        "the first part gets no backward",
        [("kept.backward(gradient)", "pass")],
        "test_gradients", "got no gradient",
    ),
    (
        "the boundary is one layer late",
        [("layers[:boundary]", "layers[:boundary + 1]"), ("layers[boundary:]", "layers[boundary + 1:]")],
        "test_split", "the first part holds layers 0 to boundary − 1",
    ),
    (
        "copies of the layers",
        [("from torch import nn", "import copy\n\nfrom torch import nn"),
         ("return nn.Sequential(*layers[:boundary])", "layers = copy.deepcopy(layers)\n    "
          "return nn.Sequential(*layers[:boundary])")],
        "test_split", "copies have weights of their own",
    ),
    (
        "one place for what is kept, whichever micro-batch it is",
        [("    return output.detach(), output\n", "    part.output = output\n    return output.detach(), part\n"),
         ("kept.backward(gradient)", "kept.output.backward(gradient, retain_graph=True)")],
        "test_two_in_flight", "is not the whole model's",
    ),
    (
        "what is received is sent back",
        [("return received.grad", "return received.detach()")],
        "test_gradient_across", "is not that of the loss for what was received",
    ),
]  # fmt: skip
