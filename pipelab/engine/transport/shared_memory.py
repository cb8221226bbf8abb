"""Tensors between ranks: two verbs, send and receive with a deadline.

A message is one tensor under a number that both sides derive from the schedule. Its slot in shared
memory says where the data lies, its dtype and shape; so there is no agreement on shapes beforehand,
and uneven micro-batches just work. The sender copies once, into its arena; the receiver reads in
place and says when it is done, after which the block is reused. A tuple of tensors goes as one
message each, the first of which says how many there are.

    sender    copy into a block ▸ fill the slot ▸ set its sequence ▸ a byte into the receiver's pipe
    receiver  sequence there? ▸ view of the block ▸ … ▸ consumed

Slots have one writer each, so nothing is locked, and there is no queue that could fill up and block
both sides.
"""

import os
import select
import struct
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch

from ..record.board import Board
from .protocol import CODES, DTYPES, MAX_DIMS, Arrival, require_sendable

_HEADER = struct.Struct(
    f"<qqHhi {MAX_DIMS}q dd"
)  # offset, elements, dtype, parts, dims, shape, planned, sent
_SEQUENCE = struct.Struct("<q")
_CONSUMED_AT, _HEADER_AT = 8, 16


class SharedMemoryTransport:
    """Between processes of one host.

    wake: the write end of every rank's pipe; inbox: the read end of this rank's.
    """

    carrier: str = "shared memory"
    grain: ClassVar[int] = 64  # bytes of which blocks are multiples

    def __init__(self, board: Board, rank: int, wake: Sequence[int], inbox: int):
        self._board, self._memory, self._wake, self._inbox = board, board.memory, wake, inbox
        self._top, self._limit = board.arena(rank), board.arena(rank) + board.arena_bytes
        self._free: dict[int, list[int]] = defaultdict(list)  # size -> offsets
        self._lent: deque[tuple[int, int, int, int]] = deque()  # message, sequence, offset, size
        self._poll = select.poll()
        self._poll.register(inbox, select.POLLIN)

    def send(
        self,
        to: int,
        message: int,
        sequence: int,
        tensor: torch.Tensor,
        planned: float,
        parts: int = 0,
    ) -> None:
        """Hand a tensor to rank ``to`` and return at once.

        Raises TypeError for what cannot be sent.
        """
        tensor = tensor.detach()
        require_sendable(tensor)
        size = -(-max(tensor.nbytes, 1) // self.grain) * self.grain
        offset = self._block(size)
        count = tensor.numel()
        if count:
            block = torch.frombuffer(self._memory, dtype=tensor.dtype, count=count, offset=offset)
            block.view(tensor.shape).copy_(tensor)
        slot = self._board.slot(message)
        shape = tuple(tensor.shape) + (0,) * (MAX_DIMS - tensor.dim())
        _HEADER.pack_into(
            self._memory,
            slot + _HEADER_AT,
            offset,
            count,
            CODES[tensor.dtype],
            parts,
            tensor.dim(),
            *shape,
            planned,
            time.perf_counter(),
        )
        _SEQUENCE.pack_into(self._memory, slot, sequence)
        self._lent.append((message, sequence, offset, size))
        self.wake_up([to])

    def wake_up(self, ranks: list[int]) -> None:
        """Let some ranks look again whether what they wait for is there."""
        for rank in ranks:
            try:
                os.write(self._wake[rank], b"\0")
            except BlockingIOError:
                pass  # its pipe is full of wake-ups already

    def wait_until(
        self, there: Callable[[], bool], deadline: float, patience: float = 60.0
    ) -> None:
        """Wait for something in shared memory that others write before they wake this rank.

        patience: seconds after which it looks again unless it was woken. Raises TimeoutError at
        ``deadline`` (on the clock of ``time.perf_counter``).
        """
        while not there():
            left = deadline - time.perf_counter()
            if left <= 0:
                raise TimeoutError
            if self._poll.poll(min(left, patience) * 1000):
                os.read(self._inbox, 4096)

    def exchange_block(self, offset: int, size: int, needed: int) -> tuple[int, int]:
        """A block of at least ``needed`` bytes for one that is too small: its offset and size."""
        if size:
            self._free[size].append(offset)
        size = 1 << max(needed - 1, self.grain - 1).bit_length()
        return self._block(size), size

    def receive(self, message: int, sequence: int, deadline: float) -> Arrival:
        """Wait for a message and return a view of it, valid until ``consumed``.

        Raises TimeoutError at ``deadline`` (on the clock of ``time.perf_counter``).
        """
        slot = self._board.slot(message)
        self.wait_until(lambda: _SEQUENCE.unpack_from(self._memory, slot)[0] == sequence, deadline)
        offset, count, code, parts, dims, *rest = _HEADER.unpack_from(
            self._memory, slot + _HEADER_AT
        )
        shape, (planned, sent) = rest[:dims], rest[MAX_DIMS:]
        dtype = DTYPES[code]
        if count:
            block = torch.frombuffer(self._memory, dtype=dtype, count=count, offset=offset)
            tensor = block.view(shape)
        else:
            tensor = torch.empty(shape, dtype=dtype)
        return Arrival(tensor, sent, planned, parts)

    def consumed(self, message: int, sequence: int) -> None:
        """The received tensor is no longer needed: the sender may reuse its memory."""
        _SEQUENCE.pack_into(self._memory, self._board.slot(message) + _CONSUMED_AT, sequence)

    def was_consumed(self, message: int, sequence: int) -> bool:
        """Whether the receiver no longer needs a tensor."""
        slot = self._board.slot(message)
        return bool(_SEQUENCE.unpack_from(self._memory, slot + _CONSUMED_AT)[0] >= sequence)

    def _block(self, size: int) -> int:
        """An offset with ``size`` free bytes: a block that came back, or the next new one."""
        for _ in range(len(self._lent)):
            message, sequence, offset, lent = self._lent.popleft()
            if self.was_consumed(message, sequence):
                self._free[lent].append(offset)
                if lent == size:
                    break
            else:
                self._lent.append((message, sequence, offset, lent))
        if self._free[size]:
            return self._free[size].pop()
        offset, self._top = self._top, self._top + size
        if self._top > self._limit:
            raise MemoryError(
                f"more than {self._board.arena_bytes >> 20} MiB of tensors are under way from one "
                "rank"
            )
        return offset
