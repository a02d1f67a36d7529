"""Builds the kernels of model/fast/cpu.cpp with the machine's C++ compiler, once a machine, and loads it.

What was built is kept in the cache folder under the checksum of its source, flags and processor, with its own checksum
beside it. Only what we own, what nobody else can write and what has that checksum is loaded, and the very file that was
checked; anything else is built again, in a folder that nobody else can write. Where the cache cannot be written, it is
built at every start, which takes seconds.
"""

import contextlib
import hashlib
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

from files import cache_folder, read_checked, sync, with_checksum
from machine import processor
from model.fast import cpu

log = logging.getLogger("headcount")

FLAGS = ("-O3", "-march=native", "-std=c++17", "-fopenmp", "-shared", "-fPIC")
PATIENCE = 300  # seconds for a compiler that needs three


class NoKernel(Exception):
    """There is no kernel here; the message says why."""


def have_kernel() -> bool:
    """Build the kernels if need be and load them; where that cannot be, warn: PyTorch's are slower."""
    try:
        load_kernel()
    except NoKernel as error:
        log.warning(f"{error}; attention by PyTorch's kernel, which takes two to three times as long")
        return False
    return True


def load_kernel() -> None:
    """Build the kernels if need be, and let model.fast.cpu use them. Raises NoKernel."""
    if cpu.loaded():
        return
    text = cpu.SOURCE.read_bytes()
    key = hashlib.sha256(text + repr((FLAGS, processor(), platform.machine())).encode()).hexdigest()[:16]
    library = cache_folder() / "kernels" / f"cpu-{key}.so"
    try:
        try:
            _load_ours(library)
        except (FileNotFoundError, NotADirectoryError):
            _build(library)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            log.warning(f"{library}: cannot be trusted ({reason}); building it again")
            _build(library)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        raise NoKernel(f"no kernels for this CPU ({error.strerror or error}{where})") from None


def _load_ours(library: Path) -> None:
    """Load the library. Raises OSError or ValueError where it is not, to the byte and by its owner, what we built."""
    seal = library.with_suffix(".json")
    with _owned(library) as file, _owned(seal):
        if read_checked(seal) != {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}:
            raise ValueError("damaged")
        opened = Path(f"/proc/self/fd/{file.fileno()}")  # what was checked, whatever the name leads to by now
        cpu.load(opened if opened.exists() else library)


def _owned(path: Path) -> BinaryIO:
    """A file opened to be read. Raises OSError where it is a link, ValueError where others could have written it."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    facts = os.fstat(handle)
    if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o022:
        os.close(handle)
        raise ValueError(f"{path.name} is not ours alone")
    return os.fdopen(handle, "rb")


def _build(library: Path) -> None:
    """Compile the library, keep it and load it. Raises NoKernel, and OSError where it cannot be loaded."""
    command = _compiler()
    with tempfile.TemporaryDirectory(prefix="headcount-") as folder:  # nobody else can write there
        made = Path(folder) / library.name
        _compile([*command, *FLAGS, str(cpu.SOURCE), "-o", str(made)])
        if not made.is_file():
            raise NoKernel(f"{command[0]} made no library; name a C++ compiler in CXX")
        content = made.read_bytes()
        try:
            library.parent.mkdir(parents=True, exist_ok=True)
            _sweep(library.parent)
            _put(library.with_suffix(".json"), with_checksum({"sha256": hashlib.sha256(content).hexdigest()}).encode())
            _put(library, content)
            _load_ours(library)
        except (OSError, ValueError) as error:
            with contextlib.suppress(OSError):
                library.unlink(missing_ok=True)
            cpu.load(made)
            reason = getattr(error, "strerror", None) or error
            log.warning(f"{library}: cannot be kept ({reason}); it is built again next time")


def _put(path: Path, content: bytes) -> None:
    """Write a file that only we can read and write, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync(path.parent)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _compiler() -> list[str]:
    """CXX with its arguments, or a compiler that is here. Raises NoKernel."""
    named = os.environ.get("CXX", "")
    try:
        command = shlex.split(named)
    except ValueError:
        raise NoKernel(f"CXX is no command ({named[:60]!r})") from None
    command = command or [name for name in ("g++", "clang++") if shutil.which(name)][:1]
    if not command:
        raise NoKernel("no C++ compiler found: install g++ or clang++, or name one in CXX")
    if not shutil.which(command[0]):
        raise NoKernel(f"no C++ compiler {command[0][:60]!r}, which CXX names")
    return command


def _compile(command: list[str]) -> None:
    """Run the compiler. Raises NoKernel with its first complaint."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise NoKernel(f"{command[0]} did not finish in {PATIENCE} s") from None
    if done.returncode:
        how = f"exit {done.returncode}" if done.returncode > 0 else f"killed by signal {-done.returncode}"
        reason = next((line for line in done.stderr.splitlines() if "error" in line), how)
        raise NoKernel(f"{command[0]} failed: {reason.strip()[:160]}")


def _sweep(folder: Path) -> None:
    """Remove what writers that were killed more than a day ago left behind."""
    for left in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - left.lstat().st_mtime > 86400:
                left.unlink()
