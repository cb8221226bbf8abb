"""Exercise 04: the GPipe order."""


def gpipe_order(ranks: int, microbatches: int) -> list[list[str]]:
    """One row per rank: all forwards, then all backwards, both from micro-batch 0 upwards. Rank r holds stage r.

    ranks, microbatches: at least 1. A row holds 2 × microbatches texts.

        >>> gpipe_order(2, 3)
        [['0F0', '0F1', '0F2', '0B0', '0B1', '0B2'], ['1F0', '1F1', '1F2', '1B0', '1B1', '1B2']]
    """
    raise NotImplementedError("exercise 04: gpipe_order")
