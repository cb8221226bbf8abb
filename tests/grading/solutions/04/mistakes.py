"""Typical mistakes: (name, what is replaced in the solution, the test that sees it, what its message says)."""

MISTAKES = [
    (
        "last in, first out",
        [("return rows", "return [row[:microbatches] + row[microbatches:][::-1] for row in rows]")],
        "test_first_in_first_out", "The backwards are last in, first out",
    ),
    (
        "each micro-batch forward and back before the next",
        [("rows.append(forwards + backwards)", "rows.append([a for pair in zip(forwards, backwards) for a in pair])")],
        "test_forwards_first", "lets the ranks behind it run dry",
    ),
    (
        "each micro-batch forward and back: the makespan",
        [("rows.append(forwards + backwards)", "rows.append([a for pair in zip(forwards, backwards) for a in pair])")],
        "test_makespan", "one micro-batch after the other",
    ),
    (
        "micro-batches counted from 1",
        [("range(microbatches)", "range(1, microbatches + 1)")],
        "test_it_can_run", "numbered from 0",
    ),
    (
        "the last micro-batch left out",
        [("range(microbatches)", "range(max(1, microbatches - 1))")],
        "test_it_can_run", "were asked for: 0 to",
    ),
    (
        "every rank has the actions of stage 0",
        [("for rank in range(ranks):", "for rank in [0] * ranks:")],
        "test_it_can_run", "Rank r holds stage r",
    ),
    (
        "the backwards forgotten",
        [("rows.append(forwards + backwards)", "rows.append(forwards)")],
        "test_it_can_run", "one F and one B on every rank",
    ),
    (
        "the rows in reverse: the first rank holds the last stage",
        [("return rows", "return rows[::-1]")],
        "test_it_can_run", "Rank r holds stage r",
    ),
]  # fmt: skip
