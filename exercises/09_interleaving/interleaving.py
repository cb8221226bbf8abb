"""Exercise 09: the order of interleaved 1F1B, with its warm-up count."""


def warm_up(rank: int, ranks: int, stages_per_rank: int, microbatches: int) -> int:
    """Forwards on this rank before F and B take turns; microbatches is a multiple of ranks.

    >>> [warm_up(rank, 2, 2, 4) for rank in range(2)]
    [4, 2]
    """
    raise NotImplementedError("exercise 09: warm_up")


def interleaved_order(ranks: int, stages_per_rank: int, microbatches: int) -> list[list[str]]:
    """One row per rank; rank s holds the stages s, s + ranks, s + 2 · ranks, … A row holds 2 · v · m texts.

    >>> interleaved_order(2, 2, 2)[1]
    ['1F0', '1F1', '3F0', '3B0', '3F1', '3B1', '1B0', '1B1']
    """
    raise NotImplementedError("exercise 09: interleaved_order")
