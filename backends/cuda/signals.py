"""Ctrl-C while a call is queued: it is listened to where the call may end, and else when it is done."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class uninterrupted:  # noqa: N801 - it is read as a statement
    """Holds Ctrl-C back inside of the block: `listen` lets it in, and so does the end of the block, unless an error ends it."""

    def __enter__(self) -> uninterrupted:
        self._before: Any = None
        self._frame: FrameType | None = None
        self._came = self._holds = False
        if threading.current_thread() is threading.main_thread():
            self._before = signal.getsignal(signal.SIGINT)
            if callable(self._before):
                signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came, self._frame = True, frame

    def hold(self) -> None:
        """From here on listen no more."""
        self._holds = True

    def listen(self) -> None:
        """Let Ctrl-C end the block if it came."""
        if self._came and not self._holds:
            self._came = False
            self._before(signal.SIGINT, self._frame)

    def __exit__(self, kind: Any, *rest: object) -> None:
        if callable(self._before):
            signal.signal(signal.SIGINT, self._before)
        self._holds = False
        if kind is None:
            self.listen()
