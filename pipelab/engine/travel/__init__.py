"""What travels between processes, with nothing lost: code, models, tensors, settings of torch.

In: objects. Out: bytes, and from them the same objects elsewhere.
"""
