"""Builds the kernels of cpu.cpp with the machine's C++ compiler, once a machine, and loads them.

The library is kept in the cache folder under a name of two checksums: of what it was built from, and of its own bytes,
so that a damaged one is seen and built again. It is put in place in one step: two first starts at once need no lock.
(torch.utils.cpp_extension loads what it finds unseen, and the lock of a build that was killed stops every later start.)
"""

import contextlib
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from files import cache_folder, link_or_copy, sha256
from machine import processor
from model.fast import cpu

log = logging.getLogger("headcount")

FLAGS = ("-O3", "-march=native", "-std=c++17", "-fopenmp", "-shared", "-fPIC")
PATIENCE = 300  # seconds for a compiler that needs four


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
    made_from = cpu.SOURCE.read_bytes() + repr((FLAGS, processor(), platform.machine())).encode()
    folder, key = cache_folder() / "kernels", hashlib.sha256(made_from).hexdigest()[:16]
    try:
        if not _load_kept(folder, key):
            _build(folder, key)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        raise NoKernel(f"no kernels for this CPU ({_reason(error)}{where})") from None


def _load_kept(folder: Path, key: str) -> bool:
    """Load the library that an earlier start built; False where there is none that is whole."""
    for library in folder.glob(f"cpu-{key}-*.so"):
        reason = "damaged"
        try:
            if library.stem.endswith(sha256(library)):
                cpu.load(library)
                return True
        except OSError as error:
            reason = _reason(error)
        log.warning(f"{library}: {reason}; building it again")
        with contextlib.suppress(OSError):
            library.unlink()
    return False


def _build(folder: Path, key: str) -> None:
    """Compile the library, keep it and load it. Raises NoKernel, and OSError where it cannot be loaded."""
    with tempfile.TemporaryDirectory(prefix="headcount-") as place:
        made = Path(place) / "cpu.so"
        _compile(made)
        kept = folder / f"cpu-{key}-{sha256(made)}.so"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            link_or_copy(made, kept, link=False)
            cpu.load(kept)
        except OSError as error:
            cpu.load(made)
            log.warning(f"{kept}: cannot be kept ({_reason(error)}); it is built again next time")


def _compile(library: Path) -> None:
    """Run CXX, or a compiler that is here. Raises NoKernel with its first complaint."""
    try:
        command = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise NoKernel(f"CXX is no command ({error})") from None
    command = command or [name for name in ("g++", "clang++") if shutil.which(name)][:1]
    if not command:
        raise NoKernel("no C++ compiler found: install g++ or clang++, or name one in CXX")
    full = [*command, *FLAGS, str(cpu.SOURCE), "-o", str(library)]
    try:
        done = subprocess.run(full, stdin=subprocess.DEVNULL, capture_output=True, errors="replace", timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise NoKernel(f"the C++ compiler {command[0]} did not finish in {PATIENCE} s") from None
    except OSError as error:
        raise NoKernel(f"the C++ compiler {command[0][:60]!r} does not run ({_reason(error)})") from None
    if done.returncode or not library.is_file():
        complaint = next((line for line in done.stderr.splitlines() if "error" in line), f"exit {done.returncode}")
        raise NoKernel(f"the C++ compiler {command[0]} failed: {complaint.strip()[:160]}")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
