"""What passes between a judge and a room: frames on a socket, and plain data as JSON."""

import base64
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

LENGTH = struct.Struct("<q")
DEEPEST, MOST, LONGEST = 40, 1_000_000, 2000
"""Levels and items of an answer, and characters of an error's text."""
LARGEST = 100_000_000
"""Bytes of an answer."""


class TooMuch(ValueError):
    """An answer larger than any right one."""


def encode(
    value: Any, handle: Callable[[Any], Any], left: Iterator[int] | None = None, depth: int = 0
) -> Any:
    """Plain data in a form that JSON takes.

    Args:
        value: what is sent.
        handle: makes that form of what is not plain.
        left: a step for each thing that may still come.
        depth: how many lists this one lies in.
    """
    left = left or iter(range(MOST))
    if depth > DEEPEST or next(left, None) is None:
        raise TooMuch(f"it returned more than {MOST:,} things, or lists in lists in lists …")
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        return {"int": hex(value)}
    if kind is float:
        return {"float": value.hex()}
    if kind in (list, tuple):
        return {kind.__name__: [encode(each, handle, left, depth + 1) for each in value]}
    if kind is dict:
        pairs = [
            [encode(k, handle, left, depth + 1), encode(v, handle, left, depth + 1)]
            for k, v in value.items()
        ]
        return {"dict": pairs}
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy and isinstance(value, numpy.generic):
        return encode(value.item(), handle, left, depth + 1)
    if torch and kind in (torch.Tensor, torch.nn.Parameter):
        return _encode_tensor(value)
    return handle(value)


def _encode_tensor(tensor: Any) -> Any:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return {
        "tensor": base64.b64encode(flat.numpy().tobytes()).decode(),
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "requires_grad": tensor.requires_grad,
    }


def decode(value: Any, handle: Callable[[int, str], Any]) -> Any:
    """The inverse of ``encode``. Raises ValueError and the like for what it cannot have made.

    handle: makes something of a number and the name of a type.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    (kind, content), *more = value.items()
    if kind == "int":
        return int(content, 16)
    if kind == "float":
        return float.fromhex(content)
    if kind in ("list", "tuple"):
        parts = [decode(part, handle) for part in content]
        return parts if kind == "list" else tuple(parts)
    if kind == "dict":
        return {decode(k, handle): decode(v, handle) for k, v in content}
    if kind == "tensor":
        return _decode_tensor(content, dict(more))
    if kind == "handle":
        return handle(int(content), str(value["type"]))
    raise ValueError(kind)


def _decode_tensor(content: str, about: dict[str, Any]) -> Any:
    import torch

    data, dtype = bytearray(base64.b64decode(content)), getattr(torch, about["dtype"])
    flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
    tensor = flat.reshape(about["shape"])
    return tensor.requires_grad_() if about["requires_grad"] else tensor


def shortened(text: str, longest: int = LONGEST) -> str:
    """A text, or its first and last part if it is too long."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n… ({len(text) - 2 * half:,} characters) …\n{text[-half:]}"


def clean(text: str) -> str:
    """A text that can be stored and shown: no control characters, no halves of characters."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(c for c in text if c in "\t\n" or (c.isprintable() or c in " \u00a0"))


def send(line: socket.socket, data: bytes) -> None:
    """Send a message: its length, then itself."""
    line.sendall(LENGTH.pack(len(data)) + data)


def receive(line: socket.socket) -> bytes | None:
    """The next message; None at the end."""
    header = _read(line, LENGTH.size)
    return None if header is None else _read(line, LENGTH.unpack(header)[0])


def _read(line: socket.socket, count: int) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        more = line.recv(min(count - len(data), 1 << 20))
        if not more:
            return None
        data += more
    return bytes(data)
