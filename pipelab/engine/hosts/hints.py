"""What to add to the errors of workers that alone would mislead."""

_LATE = (
    "CUDA reports an error when it is next asked for something, so it may have happened before, "
    "and on another rank of the same GPU. Often a target or an index is out of range. The same run "
    "with device='cpu' shows where."
)
_TWO_DEVICES = (
    "Layers move to the device of their rank with their parameters and buffers, and so does a loss "
    "that is a module. A tensor that a function or a plain attribute holds stays where it was: "
    "register it (self.register_buffer), or move it where it is used (tensor.to(output.device))."
)


def hint(kind: str, text: str) -> str:
    """What to add to an error of this kind and text: a paragraph, or nothing."""
    if kind == "AcceleratorError" or text.startswith("CUDA error"):
        return f"\n{_LATE}"
    if "Expected all tensors to be on the same device" in text:
        return f"\n{_TWO_DEVICES}"
    return ""
