"""Who runs a setup: the driver of the pool's workers, or processes of torchrun, and their watch.

In: a Setup. Out: the results of all ranks and their traces.
"""
