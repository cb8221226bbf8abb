"""Typical mistakes: (name, what is replaced in the solution, the test that sees it, what its message says)."""

MISTAKES = [
    (
        "all of the memory is used",
        [('one.bytes["total"] <= USABLE * machine.memory * 1e9', 'one.bytes["total"] <= machine.memory * 1e9')],
        "test_fits", "that can be used (85 %)",
    ),
    (
        "no pipelines",
        [("for p in divisors(gpus // t):", "for p in [1]:")],
        "test_best", "You lose most in",
    ),
    (
        "small micro-batches alone",
        [("product((1, 2, 4, 8, 16), (", "product((1, 2, 4), (")],
        "test_best", "You lose most in",
    ),
    (
        "no ZeRO",
        [("for zero in range(4) if d > 1 else (0,):", "for zero in (0,):")],
        "test_best", "You lose most in",
    ),
    (
        "the smallest, not the fastest",
        [("found.append((one.seconds, layout))", 'found.append((one.bytes["total"], layout))')],
        "test_near", "up to",
    ),
    (
        "some GPUs are left over",
        [("return ranked(model, machine, gpus, batch)[0][1]", 'return ranked(model, machine, gpus, batch)[0][1] | {"data": 1}')],
        "test_possible", "GPUs, not",
    ),
    (
        "pipelab's own search",
        [("return ranked(model, machine, gpus, batch)[0][1]",
          "return vars(pipelab.plan(model, device=machine, gpus=gpus, batch=batch).rows[0].layout)")],
        "test_possible", "closed while it is graded",
    ),
    (
        "pipelab's own search, by another way",
        [("import pipelab\n", "import pipelab\nfrom pipelab.layout.planner.plan import plan as found_elsewhere\n"),
         ("return ranked(model, machine, gpus, batch)[0][1]",
          "return vars(found_elsewhere(model, device=machine, gpus=gpus, batch=batch).rows[0].layout)")],
        "test_possible", "closed while it is graded",
    ),
    (
        "whatever is faster is needed",
        [("1.1 * min(with_one)", "min(with_one)"), ("1.1 * min(without)", "min(without)")],
        "test_needed", "nobody can tell them apart",
    ),
    (
        "the rival's largest part",
        [("part = max(lost, key=lambda name: lost[name])", "part = max(theirs.seconds_by_part, key=theirs.seconds_by_part.get)")],
        "test_defend", "the rival's largest part",
    ),
    (
        "all that the rival takes",
        [("return part, lost[part]", "return part, theirs.seconds_by_part[part]")],
        "test_defend", "not how much more than yours",
    ),
    (
        "seconds of what does not fit",
        [("if too_many > 0:", "if too_many > 1e12:")],
        "test_defend", "What does not fit has no seconds",
    ),
]  # fmt: skip
