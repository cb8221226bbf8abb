"""What happened: shared memory that ranks write and the driver reads.

In: stamps of each action. Out: the board, and from its trace a Timeline and measured costs.
"""
