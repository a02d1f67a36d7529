"""Files that are written whole or not at all, and read back only if they are what was written."""

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from errors import InputError, WorkError

CHECKSUM_LINE = "# sha256 of the lines above: "


def cache_folder() -> Path:
    """Where prepared data and measurements of the machine are kept: HEADCOUNT_CACHE, or ~/.cache/headcount."""
    return Path(os.environ.get("HEADCOUNT_CACHE") or Path.home() / ".cache" / "headcount")


def make_folder(path: Path, option: str) -> None:
    """Make the folder that `option` names. Raises InputError where a file is there, WorkError where it cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{option} {path}: a file is in the way of this folder; name another") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise
        raise WorkError(f"{option} {path}: cannot be made ({error.strerror}); name another") from None


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read its bytes. Raises OSError for a folder, and for a pipe or device, which might never end."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe that nobody writes to opens at once
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return open(handle, "rb")


def read_bytes(path: Path) -> bytes:
    """The content of a regular file. Raises OSError, as `open_regular` does."""
    with open_regular(path) as file:
        return file.read()


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file under another name, flush it to disk, and put it in place in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync(path.parent)


def write_json(path: Path, value: object) -> None:
    """Write indented JSON, whole or not at all; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def with_checksum(value: dict) -> str:
    """The value as JSON text that holds a checksum of itself."""
    content = json.dumps(value, sort_keys=True, allow_nan=False)
    return json.dumps({**value, "seal": _digest(content)}, indent=2) + "\n"


def write_checked(path: Path, value: dict) -> None:
    """Write JSON that `read_checked` can prove to be what was written, whole or not at all."""
    write_text(path, with_checksum(value))


def read_checked(path: Path) -> dict:
    """What `write_checked` wrote.

    Raises:
        ValueError: the file is not, to the byte, what was written.
        OSError: it cannot be read.
    """
    try:
        text = read_bytes(path).decode("utf-8")
        value = json.loads(text)
        value.pop("seal")
        if with_checksum(value) == text:
            return value
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise ValueError(f"{path.name} is damaged, or of another version")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def write_lines(path: Path, text: str) -> None:
    """Write lines of text with a last line, a comment, that holds their checksum; whole or not at all."""
    write_text(path, f"{text}{CHECKSUM_LINE}{_digest(text)}\n")


def read_lines(path: Path) -> str:
    """What `write_lines` wrote. Raises ValueError where it is not, to the byte, what was written."""
    text, line, digest = read_bytes(path).decode("utf-8").rpartition(CHECKSUM_LINE)
    if not line or digest != _digest(text) + "\n":
        raise ValueError(f"{path.name} is damaged, or of another version")
    return text


def remove_temporaries(folder: Path) -> None:
    """Remove what writers that were killed left under a temporary name. No other process may be writing here."""
    for left in folder.glob(".*.tmp"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill(folder)` fill a new folder beside `path`, flush every file, and put it in place of `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        fill(temporary)
        for file in temporary.iterdir():
            sync(file)
        sync(temporary)
        if path.is_dir() and not path.is_symlink():
            remove_folder(path)
        else:
            path.unlink(missing_ok=True)
        os.rename(temporary, path)
        sync(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def remove_folder(path: Path) -> None:
    """Remove a folder whole: a kill leaves it as it was, or under a temporary name, never half of it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.old.tmp")
    os.rename(path, aside)
    shutil.rmtree(aside)


def link_or_copy(source: Path, target: Path, link: bool = True) -> None:
    """Make `target` the same file as `source` (a copy where the file system has no links), in one step."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        if not link:
            raise OSError("a copy is asked for")
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
        sync(temporary)
    os.replace(temporary, target)
    sync(target.parent)


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
