"""Sessions of programs: found by an unguessable id, dropped when nobody calls them any more."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from unipixel.web.session import Session

ENDED = "This session has ended; upload again to go on."
MAX_SESSIONS = 64
IDLE_SECONDS = 3600.0


@dataclass(eq=False)
class Caller:
    """One session of the API: what it knows, and when it was last called. `lock` lets its calls in one by one."""

    session_id: str
    session: Session = field(default_factory=Session)
    used: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Callers:
    """Sessions by id, bounded in number and age; `drop(id)` is told of every one that goes."""

    def __init__(self, drop: Callable[[str], None], limit: int = MAX_SESSIONS, idle: float = IDLE_SECONDS) -> None:
        self._drop, self._limit, self._idle = drop, limit, idle
        self._callers: dict[str, Caller] = {}
        self._lock = threading.Lock()
        self._alarm: threading.Timer | None = None

    @contextmanager
    def open(self, session_id: str) -> Iterator[Caller]:
        """The session `session_id`, or a new one for ""; ValueError if there is none (any more)."""
        with self._lock:
            self._forget_idle()
            if not session_id:
                session_id = uuid.uuid4().hex
                self._forget(lambda caller, rank: rank <= len(self._callers) - self._limit)
                self._callers[session_id] = Caller(session_id)
            elif session_id not in self._callers:
                raise ValueError(ENDED)
            caller = self._callers[session_id]
            self._set_alarm()
        with caller.lock:
            if self._callers.get(session_id) is not caller:  # closed while this call was waiting
                raise ValueError(ENDED)
            caller.used = time.monotonic()
            yield caller
            caller.used = time.monotonic()

    def close(self, session_id: str) -> None:
        """Forget a session; ones that are not there are no matter."""
        with self._lock:
            if self._callers.pop(session_id, None):
                self._drop(session_id)

    def _set_alarm(self) -> None:
        """Look again when the longest unused session may have become idle: nobody else may ever call."""
        if self._alarm is None and self._callers:
            left = min(caller.used for caller in self._callers.values()) + self._idle - time.monotonic()
            self._alarm = threading.Timer(max(left, self._idle / 10), self._ring)
            self._alarm.daemon = True
            self._alarm.start()

    def _ring(self) -> None:
        with self._lock:
            self._alarm = None
            self._forget_idle()
            self._set_alarm()

    def _forget_idle(self) -> None:
        self._forget(lambda caller, rank: time.monotonic() - caller.used > self._idle)

    def _forget(self, unwanted: Callable[[Caller, int], bool]) -> None:
        """Drop sessions that nobody is calling; `unwanted` gets each with its rank, 0 for the longest unused."""
        oldest = sorted(self._callers.values(), key=lambda c: c.used)
        for caller in [c for rank, c in enumerate(oldest) if unwanted(c, rank) and not c.lock.locked()]:
            del self._callers[caller.session_id]
            self._drop(caller.session_id)
