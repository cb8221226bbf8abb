"""What a rank is given: its program, what it exchanges, its part of the batch, how to train.

In: a Schedule, a Recipe, layers that share parameters. Out: the parts of a RankJob.
"""
