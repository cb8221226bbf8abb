"""From the arguments of ``run`` to a checked setup, and from that to a job for each rank.

In: a model, data, a loss, a Schedule, a Recipe. Out: a Setup; nothing in it can fail to start.
"""
