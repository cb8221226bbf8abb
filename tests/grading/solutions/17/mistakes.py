"""Typical mistakes: (name, what is replaced in the solution, the test that sees it, what its message says)."""

MISTAKES = [
    (
        "ranks innermost",
        [("rest, part = divmod(worker, tensor)\n    copy, rank = divmod(rest, ranks)",
          "rest, rank = divmod(worker, ranks)\n    copy, part = divmod(rest, tensor)")],
        "test_place", "Tensor is the innermost",
    ),
    (
        "the group along the wrong dimension",
        [('if dimension == "data":', 'if dimension == "pipeline":'),
         ('    if dimension == "pipeline":\n        return [(copy', '    if dimension == "data":\n        return [(copy')],
        "test_group", "That is the group along",
    ),
    (
        "a group without the worker itself",
        [("for t in range(tensor)]", "for t in range(tensor) if t != part]")],
        "test_group", "itself belongs to its group",
    ),
    (
        "every all-reduce sends all",
        [("width * 4 * 2 * (tensor - 1) / tensor", "width * 4")],
        "test_inside", "each sends 2(k − 1)/k",
    ),
    (
        "the backward's all-reduces forgotten",
        [("return 4 * blocks", "return 2 * blocks")],
        "test_inside", "two more in the backward",
    ),
    (
        "ZeRO 2 sums once",
        [("microbatches if zero >= 2 else 1", "microbatches if zero >= 3 else 1")],
        "test_sent", "ZeRO 2 sums gradients after every micro-batch",
    ),
    (
        "ZeRO 3 gathers before forwards only",
        [("2 * microbatches if zero == 3", "microbatches if zero == 3")],
        "test_sent", "before every forward and before every backward",
    ),
    (
        "what is gathered is not held",
        [("weights / stages_per_rank if zero == 3 else 0", "0")],
        "test_held", "What is gathered is held, too",
    ),
    (
        "Adam keeps one number",
        [("2 * weights / data if zero >= 1 else 2 * weights", "weights / data if zero >= 1 else weights")],
        "test_held", "Adam keeps two numbers",
    ),
    (
        "the stage that holds least",
        [("min(fits, key=lambda zero: sent(zero, data, microbatches, weights))",
          "min(fits, key=lambda zero: held(zero, data, stages_per_rank, weights))")],
        "test_choose", "fits, too, and sends",
    ),
]  # fmt: skip
