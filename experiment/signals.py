"""SIGINT and SIGTERM as a request to stop after the step that is being made."""

import signal


class Signals:
    """While active, SIGINT and SIGTERM only set `received`; a second one ends the program at once."""

    received: int | None = None

    def __enter__(self) -> "Signals":
        self.previous = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    @property
    def name(self) -> str:
        """The name of the signal that came: SIGINT or SIGTERM."""
        return signal.Signals(self.received).name

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: object) -> None:
        self.received = number
        for other in self.previous:
            signal.signal(other, signal.SIG_DFL)
