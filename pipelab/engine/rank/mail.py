"""The mail of one rank: values in and out, and where the rank stands meanwhile.

    receive  every part of a value, by one deadline     send  every part of a value
    release  its memory, when it has been used          stand  for whoever watches

A value of several tensors travels as a message each, the first of which says how many there are.
"""

import struct
import time

from ..job.rank_job import RankJob
from ..job.values import MAX_PARTS, Alone, Value
from ..record.board import Board
from ..transport.protocol import Arrival, Transport

_STATUS = struct.Struct("<4d")


class Mail:
    """What a rank sends and receives, step by step.

    job: of this rank. Its pipeline is one of those of the mesh: messages are numbered from its own
    first one, and ranks are workers of it.
    """

    def __init__(self, job: RankJob, transport: Transport, board: Board):
        self.rank = job.rank
        self._transport, self._board = transport, board
        self._messages, self._timeout = job.sizes["messages"] // MAX_PARTS, job.recipe.limit
        self._first, self._workers = job.first_message, job.pipeline
        self._first_atom = job.first_atom
        self._status_at = 8 * board.status.shape[1] * job.worker
        self._step = self._sequence = 0
        self._atom = -1

    def begin_step(self, step: int) -> None:
        """From now on, messages and the rank's place are those of this step."""
        self._step = step
        self._sequence += 1

    def stand(self, atom: int, phase: float) -> None:
        """Say where this rank stands. atom: -1 outside of the schedule's actions."""
        self._atom = atom if atom < 0 else self._first_atom + atom
        self.stand_in(phase)

    def stand_in(self, phase: float) -> None:
        """Say what this rank does in the action where it stands."""
        now = time.perf_counter()
        _STATUS.pack_into(self._board.memory, self._status_at, self._step, self._atom, phase, now)

    def receive(self, message: int, who: object) -> tuple[Value, Arrival]:
        """Wait for all parts of a value. who: waits for it, in words.

        Raises TimeoutError when they have not come in time.
        """
        deadline = time.perf_counter() + self._timeout
        try:
            last = first = self._transport.receive(self._part(message, 0), self._sequence, deadline)
            tensors = [first.tensor]
            for k in range(1, first.parts):
                last = self._transport.receive(self._part(message, k), self._sequence, deadline)
                tensors.append(last.tensor)
        except TimeoutError:
            raise TimeoutError(f"{who} waited {self._timeout:g} s for its input") from None
        return Value(tensors) if first.parts else Alone(tensors), last

    def send(self, to: int, message: int, value: Value, planned: float = 0.0) -> int:
        """Send a value to rank ``to``. Returns its bytes.

        planned: when its maker meant to be done (paced mode).
        """
        parts, sent = 0 if value.alone else len(value), 0
        for k, tensor in enumerate(value):
            part = self._part(message, k)
            worker = self._workers[to]
            self._transport.send(worker, part, self._sequence, tensor, planned, parts)
            sent += tensor.nbytes
        return sent

    def release(self, message: int, parts: int) -> None:
        """A received value is no longer needed: its memory may be used again."""
        for k in range(parts):
            self._transport.consumed(self._part(message, k), self._sequence)

    def _part(self, message: int, k: int) -> int:
        """The number of a value's part."""
        return self._first + message + k * self._messages
