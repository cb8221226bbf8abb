"""What workers of a mesh do together: gradients and weights of copies, and layers that are cut.

In: the groups of a worker, and its layers. Out: the same layers, cut, with collectives inside; and
what UNSHARD, RESHARD and REDUCE_GRAD do.
"""
