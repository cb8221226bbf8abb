"""Typical mistakes: (name, what is replaced in the solution, the test that sees it, what its message says)."""

MISTAKES = [
    (
        "one forward for each rank behind",
        [("2 * behind", "behind")],
        "test_warm_up", "Two for each rank behind",
    ),
    (
        "one micro-batch through all chunks before the next",
        [("range(0, microbatches, ranks)", "range(microbatches)"), ("range(first, first + ranks)", "[first]"),
         ("2 * behind + (stages_per_rank - 1) * ranks", "stages_per_rank * microbatches")],
        "test_makespan", "Some rank waits more than it has to",
    ),
    (
        "the chunks forgotten in the warm-up",
        [(" + (stages_per_rank - 1) * ranks)", ")")],
        "test_warm_up", "Each chunk but the first needs another p forwards",
    ),
    (
        "a group for every chunk",
        [("(stages_per_rank - 1) * ranks)", "stages_per_rank * ranks)")],
        "test_warm_up", "The first chunk needs none",
    ),
    (
        "no more than v · m forgotten",
        [("min(stages_per_rank * microbatches, 2 * behind", "max(0, 2 * behind")],
        "test_warm_up", "cannot send forward more than it has",
    ),
    (
        "the chunk is taken for the stage",
        [("chunk * ranks + rank", "chunk + stages_per_rank * rank"),
         ("(stages_per_rank - 1 - chunk) * ranks + rank", "stages_per_rank - 1 - chunk + stages_per_rank * rank")],
        "test_it_can_run", "longer the further in front",
    ),
    (
        "breadth first instead of groups",
        [("for first in range(0, microbatches, ranks)", "for first in [0]"),
         ("range(first, first + ranks)", "range(microbatches)"),
         ("2 * behind + (stages_per_rank - 1) * ranks", "stages_per_rank * microbatches")],
        "test_forwards", "That is breadth first",
    ),
    (
        "backwards with the first chunk first",
        [("(stages_per_rank - 1 - chunk) * ranks", "chunk * ranks"),
         ("2 * behind + (stages_per_rank - 1) * ranks", "stages_per_rank * microbatches")],
        "test_it_can_run", "Backwards take the last chunk first",
    ),
]  # fmt: skip
