"""Errors that a user can cause and mend, and the one place where the programs turn them into an exit status.

Exit status, the same for train.py, sample.py and compare.py:
0 done · 1 failed while working · 2 bad usage, configuration or input · 130 / 143 interrupted after a checkpoint.
"""

import argparse
import errno
import logging
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, TextIO


def printable(text: str) -> str:
    """The text with control characters and half surrogates shown as escapes, so that a terminal obeys none of them."""
    return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


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
        raise InputError(f"{message} (see {self.prog} --help)")


def guard(program: str, main: Callable[[Sequence[str]], None], argv: Sequence[str]) -> int:
    """Run `main(argv)`; print an expected error as `program: message` on stderr and return the exit status."""
    try:
        if any("\0" in argument for argument in argv):
            raise InputError("an argument holds a NUL character, which no name and no value can")
        main(argv)
        sys.stdout.flush()
    except (InputError, WorkError, Interrupted) as error:
        print(printable(f"{program}: {error}"), file=sys.stderr)
        return error.status
    except (MemoryError, RecursionError) as error:
        print(f"{program}: {'out of memory' if isinstance(error, MemoryError) else 'nested too deep'}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away (`| head`)
        sys.stderr.close()
        return 1
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            print(
                printable(f"{program}: {str(error.filename)[:60]}…: too long a name; give a shorter one"),
                file=sys.stderr,
            )
            return 2
        name = error.filename2 or error.filename  # of two, the first is the temporary one
        where = f" {name}" if name else ""
        print(printable(f"{program}: {error.strerror or error}:{where}"), file=sys.stderr)
        return 1
    return 0
