"""What others compute of the same: the unsplit model in plain torch, and torch's own runtime.

In: layers, weights and a batch, or a RankJob. Out: gradients, or rows of a trace, to compare with.
"""
