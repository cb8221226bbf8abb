"""Exercise 06: the 1F1B order."""


def one_f_one_b(ranks: int, microbatches: int) -> list[list[str]]:
    """One row per rank, rank s with stage s: warm-up, then F and B in turn, then the backwards that are left.

    ranks, microbatches: at least 1, in any relation. A row holds 2 × microbatches texts.

        >>> one_f_one_b(2, 3)
        [['0F0', '0F1', '0B0', '0F2', '0B1', '0B2'], ['1F0', '1B0', '1F1', '1B1', '1F2', '1B2']]
    """
    raise NotImplementedError("exercise 06: one_f_one_b")
