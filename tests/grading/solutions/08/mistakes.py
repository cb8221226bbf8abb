"""Typical mistakes: (name, what is replaced in the solution, the test that sees it, what its message says)."""

MISTAKES = [
    (
        "four in flight on the first rank, as 1F1B",
        [("0F2,0B0,0F3,0B1,0F4,0B2,0F5,0B3", "0F2,0F3,0B0,0F4,0B1,0F5,0B2,0B3")],
        "test_memory", "a B has to give its memory back",
    ),
    (
        "shorter, with more memory than there is",
        [("0F2,0B0,0F3,0B1,0F4,0B2,0F5,0B3", "0F2,0F3,0B0,0F4,0B1,0F5,0B2,0B3")],
        "test_makespan", "The time counts only within the memory",
    ),
    (
        "1F1B on the ranks between",
        [("1B0,1B1,1F3,1B2,1F4,1F5,1B3,1B4,1B5", "1B0,1F3,1B1,1F4,1B2,1F5,1B3,1B4,1B5")],
        "test_makespan", "Look where rank 0 waits for a gradient",
    ),
    (
        "the last micro-batch forgotten",
        [(f",{s}{kind}5", "") for s in range(4) for kind in "FB"],
        "test_it_can_run", "6 were asked for",
    ),
    (
        "a backward before its forward",
        [("3F0,3B0", "3B0,3F0")],
        "test_it_can_run", "its own forward first",
    ),
    (
        "the last rank waits for a second forward that comes only after the first backward",
        [("0F0,0F1,0F2,0B0", "0F0,0B0,0F1,0F2"), ("3F0,3B0,3F1,3B1", "3F0,3F1,3B0,3B1")],
        "test_it_can_run", "wait for one another in a circle",
    ),
    (
        "the stage of another rank",
        [("2F5", "1F5")],
        "test_it_can_run", "Row s is rank s",
    ),
]  # fmt: skip
