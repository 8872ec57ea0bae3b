"""One computation at a time, answers that can be stopped, and events handed over ten times a second.

A turn computes in its own thread, so that the page reacts to Stop at once even while the model is inside a long step;
the thread keeps its place until it has really ended, and the next turn waits for that.
"""

from __future__ import annotations

import contextvars
import queue
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from unipixel.web.gpu import TurnDone, WireEvent, forget_stop, register_stop

TICK = 0.1  # seconds between two updates of the page
QUEUE_SIZE = 32  # computations that may wait
FULL = "Too many people are asking right now; please try again in a moment."
GRACE = 0.4  # seconds a stopped model gets to end by itself and hand over what it has


class Waiting(int):
    """How many computations are ahead of this one."""


class Line:
    """A queue with one place at the counter: first come, first served; `limit` may wait, more are refused."""

    def __init__(self, limit: int = QUEUE_SIZE) -> None:
        self.limit = limit
        self._tickets: deque[object] = deque()
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._tickets)

    @property
    def guests(self) -> int:
        """How many may be in one event at once: who is served, all who wait, and who is told that it is full."""
        return self.limit + 2

    def ahead(self, ticket: object) -> int:
        with self._changed:
            return self._tickets.index(ticket) if ticket in self._tickets else 0

    @contextmanager
    def place(self, ticket: object, give_up: Callable[[], bool]) -> Iterator[bool]:
        """Wait for the counter and keep it; gives False, without it, once `give_up()` says so.

        Raises ValueError with one sentence when too many are waiting already.
        """
        with self._changed:
            if len(self._tickets) > self.limit:
                raise ValueError(FULL)
            self._tickets.append(ticket)
        try:
            yield self._wait(ticket, give_up)
        finally:
            with self._changed:
                self._tickets.remove(ticket)
                self._changed.notify_all()

    def _wait(self, ticket: object, give_up: Callable[[], bool]) -> bool:
        with self._changed:
            while self._tickets[0] is not ticket:
                if give_up():
                    return False
                self._changed.wait(TICK)
        return not give_up()


@dataclass(eq=False)
class RunningTurn:
    """A turn in progress. `stop` asks the model to end; `dropped` says that nobody wants the outcome any more."""

    turn_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    stop: threading.Event = field(default_factory=threading.Event)
    dropped: bool = False


class RunningTurns:
    """The turn in progress of each session."""

    def __init__(self) -> None:
        self._turns: dict[str, RunningTurn] = {}
        self._lock = threading.Lock()

    def busy(self, owner: str) -> bool:
        return owner in self._turns

    @contextmanager
    def open(self, owner: str) -> Iterator[RunningTurn]:
        """Note a new turn of `owner`, dropping one that may still run, until the block ends."""
        self.drop(owner)
        turn = RunningTurn()
        with self._lock:
            self._turns[owner] = turn
        register_stop(turn.turn_id, turn.stop)
        try:
            yield turn
        finally:
            turn.stop.set()
            forget_stop(turn.turn_id)
            with self._lock:
                if self._turns.get(owner) is turn:
                    del self._turns[owner]

    def stop(self, owner: str) -> None:
        """Ask the turn of `owner` to end and keep what it has."""
        with self._lock:
            if owner in self._turns:
                self._turns[owner].stop.set()

    def drop(self, owner: str) -> None:
        """End the turn of `owner` and throw away its outcome."""
        with self._lock:
            if owner in self._turns:
                turn = self._turns.pop(owner)
                turn.dropped = True
                turn.stop.set()


def run_events(
    start: Callable[[], Iterator[WireEvent]], turn: RunningTurn, line: Line
) -> Iterator[list[WireEvent] | Waiting]:
    """Compute `start()` in a thread and hand its events over in batches, about ten times a second.

    While others compute, `Waiting` says how many. After a stop the iteration ends within `GRACE` seconds, with the
    model's own `TurnDone` if it came in time. An exception of the computation is raised here.
    """
    outbox: queue.SimpleQueue[WireEvent | BaseException | None] = queue.SimpleQueue()
    gone = threading.Event()  # the consumer has left: end at the next event

    def work() -> None:
        try:
            with line.place(turn, turn.stop.is_set) as admitted:
                if admitted:
                    _forward(start(), outbox, gone)
            outbox.put(None)
        except BaseException as error:  # raised again in the consumer's thread
            outbox.put(error)

    # ZeroGPU finds the visitor's request in a context variable: the thread needs a copy of the context.
    threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True).start()
    try:
        yield from _batches(outbox, turn, line)
    finally:
        gone.set()


def _forward(events: Iterator[WireEvent], outbox: queue.SimpleQueue, gone: threading.Event) -> None:
    try:
        for event in events:
            outbox.put(event)
            if gone.is_set():
                break
    finally:
        if isinstance(events, Generator):
            events.close()  # in this thread, at once: on ZeroGPU this is what ends the worker


def _batches(outbox: queue.SimpleQueue, turn: RunningTurn, line: Line) -> Iterator[list[WireEvent] | Waiting]:
    stopped_at: float | None = None
    ended = False
    while not ended:
        batch, ended = _drain(outbox)
        if batch:
            yield batch
        elif ahead := line.ahead(turn):
            yield Waiting(ahead)
        if turn.stop.is_set():
            stopped_at = stopped_at or time.monotonic()
            ended = ended or time.monotonic() - stopped_at > GRACE
        ended = ended or any(isinstance(event, TurnDone) for event in batch)


def _drain(outbox: queue.SimpleQueue) -> tuple[list[WireEvent], bool]:
    """Everything that arrives within one tick, and whether that was the end."""
    batch: list[WireEvent] = []
    until = time.monotonic() + TICK
    while (left := until - time.monotonic()) > 0:
        try:
            item = outbox.get(timeout=left)
        except queue.Empty:
            break
        if item is None:
            return batch, True
        if isinstance(item, BaseException):
            raise item
        batch.append(item)
    return batch, False
