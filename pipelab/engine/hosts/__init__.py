"""Where ranks live: workers of a pool, or processes of torchrun, and the driver that watches them.

In: a Setup. Out: the results of all ranks and their traces.
"""
