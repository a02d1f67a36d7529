"""Errors that a user can cause and mend, and the one place where the programs turn them into an exit status.

Exit status, the same for train.py, sample.py and compare.py:
0 done · 1 failed while working · 2 bad usage, configuration or input · 130 / 143 interrupted after a checkpoint.
"""

import argparse
import difflib
import errno
import io
import logging
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn, TextIO

KEPT = "\n\u00a0\u3000\u200c\u200d"
"""Characters that Python does not call printable and texts need: line ends, two spaces, two joiners of letters."""


def printable(text: str) -> str:
    """The text with control characters and half surrogates shown as escapes, so that a terminal obeys none of them."""
    return "".join(c if c.isprintable() or c in KEPT else c.encode("unicode_escape").decode() for c in text)


class _Handler(logging.Handler):
    """Writes a record's message as a line of text above whatever tqdm bar is drawn."""

    def __init__(self, stream: TextIO):
        super().__init__()
        self.stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        text = record.getMessage()
        tqdm.write(printable(f"warning: {text}" if record.levelno >= logging.WARNING else text), file=self.stream)


def log_to(stream: TextIO) -> None:
    """Let the project's messages be lines on `stream`, and no other library's."""
    log = logging.getLogger("headcount")
    log.handlers = [_Handler(stream)]
    log.setLevel(logging.INFO)


class InputError(Exception):
    """Bad usage, configuration or input. The message is one or two lines: what is wrong, by name, and the mend."""

    status = 2


class WorkError(Exception):
    """Something failed while working (a full disk, no memory). The message is one or two lines, with the mend."""

    status = 1


class Interrupted(Exception):
    """A signal ended the work after a checkpoint; `status` is 128 plus the signal's number."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


class ArgumentParser(argparse.ArgumentParser):
    """argparse's parser, whose complaints are InputErrors of one line."""

    def error(self, message: str) -> NoReturn:
        kind, _, extra = message.partition("unrecognized arguments: ")
        if not kind and extra and not extra.startswith("-"):
            raise InputError(f"{extra}: belongs to no option; a path or text with spaces needs quotes, 'like this'")
        if extra:
            self.meant(extra, self._option_string_actions)
        raise InputError(f"{message} (see {self.prog} --help)")

    def meant(self, argument: str, names: Iterable[str]) -> None:
        """Raises InputError where an argument that is unknown is near one of these: --top-k is as near as --topk."""
        spelled = {name.replace("-", "_"): name for name in names}
        near = difflib.get_close_matches(re.split("[= ]", argument)[0].replace("-", "_"), spelled, 1, 0.75)
        if near:
            raise InputError(
                f"unrecognized arguments: {argument} (did you mean {spelled[near[0]]}? see {self.prog} --help)"
            )


def guard(program: str, main: Callable[[Sequence[str]], None], argv: Sequence[str]) -> int:
    """Run `main(argv)`; print an expected error as `program: message` on stderr and return the exit status.

    A terminal or file that cannot show a character gets `?` or an escape in its place; a closed one gets nothing.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, io.StringIO())
    for stream, way in ((sys.stdout, "replace"), (sys.stderr, "backslashreplace")):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=way)
    try:
        if any("\0" in argument for argument in argv):
            raise InputError("an argument holds a NUL character, which no name and no value can")
        main(argv)
        sys.stdout.flush()
        return 0
    except ModuleNotFoundError as error:
        print(
            f"{program}: this Python ({sys.executable}) has no {error.name}; run ./setup.sh once, and then start it "
            f"so: .venv/bin/python {program}",
            file=sys.stderr,
        )
        return 1
    except BrokenPipeError:  # the reader of our output went away (`| head`)
        sys.stderr.close()
        return 1
    except (InputError, WorkError, Interrupted, MemoryError, RecursionError, KeyboardInterrupt, OSError) as error:
        message, status = _told(error)
        print(printable(f"{program}: {message}"), file=sys.stderr)
        return status


def _told(error: BaseException) -> tuple[str, int]:
    """An expected error as a line, and its exit status."""
    if isinstance(error, InputError | WorkError | Interrupted):
        return str(error), error.status
    if isinstance(error, OSError):
        if error.errno == errno.ENAMETOOLONG:
            return f"{str(error.filename)[:60]}…: too long a name; give a shorter one", 2
        name = error.filename2 or error.filename  # of two, the first is the temporary one
        return f"{error.strerror or error}" + (f": {name}" if name else ""), 1
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
    return ("out of memory" if isinstance(error, MemoryError) else "nested too deep"), 1
