"""SIGINT and SIGTERM as a request to stop after the step that is being made; a second one ends the program at once.

Python runs a handler of its own only between two steps of the interpreter, which may be seconds into a large product or
half a minute into a compilation. So a thread counts the signals, which the system writes into a pipe as they come.
"""

import os
import signal
import sys
import threading

from errors import Interrupted
from training.ranks import leads, started_by_torchrun

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """While active, SIGINT and SIGTERM only set `received`; a second one ends the program with 128 plus its number."""

    received: int | None = None
    nothing_to_save: str | None = None
    """Where everything is in a checkpoint already: what to say before a first signal ends the program at once."""

    def __enter__(self) -> "Signals":
        self.previous = {}
        if threading.current_thread() is not threading.main_thread():
            return self  # Python lets only the main thread have handlers
        self.previous = {number: signal.signal(number, self._note) for number in NUMBERS}
        readable, self.pipe = os.pipe()
        os.set_blocking(self.pipe, False)
        self.previous_pipe = signal.set_wakeup_fd(self.pipe, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(readable,), daemon=True).start()
        return self

    @staticmethod
    def interrupted(where: str, number: int) -> Interrupted:
        """What to raise once everything is saved."""
        return Interrupted(f"{signal.Signals(number).name} {where}; the same command goes on from here", 128 + number)

    def __exit__(self, *_: object) -> None:
        if self.previous:
            signal.set_wakeup_fd(self.previous_pipe)
            os.close(self.pipe)  # which ends the thread
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: object) -> None:
        self.received = self.received or number

    def _watch(self, readable: int) -> None:
        with open(readable, "rb", buffering=0) as pipe:
            count = 0
            while byte := pipe.read(1):
                if byte[0] not in NUMBERS:
                    continue
                count += 1
                if count == 1 and self.nothing_to_save is not None:
                    if leads():
                        print(f"\n{signal.Signals(byte[0]).name} {self.nothing_to_save}", file=sys.stderr, flush=True)
                    os._exit(128 + byte[0])
                if count == 2 and not started_by_torchrun():  # which passes on what the terminal sent already
                    os._exit(128 + byte[0])
