"""Typical mistakes: (name, what is replaced in the solution, the test that sees it, what its message says)."""

MISTAKES = [
    (
        "all m micro-batches with 1F1B, too",
        [('microbatches if schedule == "gpipe" else min(microbatches, ranks - rank)', "microbatches")],
        "test_in_flight", "That is GPipe",
    ),
    (
        "p − s, also of fewer micro-batches",
        [("min(microbatches, ranks - rank)", "ranks - rank")],
        "test_in_flight", "only m micro-batches",
    ),
    (
        "one too few",
        [("min(microbatches, ranks - rank)", "min(microbatches, ranks - rank - 1)")],
        "test_in_flight", "The one whose backward is next",
    ),
    (
        "one micro-batch only",
        [("one * in_flight(rank, len(sizes), microbatches, schedule)", "one")],
        "test_1f1b", "as many as are in flight",
    ),
    (
        "the loss forgotten",
        [('one += profile["loss"]["activation_bytes"]', "pass")],
        "test_1f1b", "The loss saves tensors, too",
    ),
    (
        "the inputs of all layers",
        [('one += layers[0]["saved_input_bytes"]', 'one += sum(layer["saved_input_bytes"] for layer in layers)')],
        "test_1f1b", "only the first layer's counts",
    ),
    (
        "what is handed on instead of what is saved",
        [('sum(layer["activation_bytes"] for layer in layers)', 'sum(layer["output_bytes"] for layer in layers)'),
         ('one += layers[0]["saved_input_bytes"]', "pass"), ('one += profile["loss"]["activation_bytes"]', "pass")],
        "test_gpipe", "Much more is saved inside",
    ),
    (
        "Adam keeps one number",
        [('"adam": 2', '"adam": 1')],
        "test_total", "2, 3 or 4 numbers",
    ),
    (
        "gradients forgotten",
        [("2 + STATES", "1 + STATES")],
        "test_total", "2, 3 or 4 numbers",
    ),
]  # fmt: skip
