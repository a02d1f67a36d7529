"""Builds the kernels of model/cpu.cpp with the machine's C++ compiler, once a machine, and loads it.

What was built is kept in the cache folder under the checksum of its source, flags and processor, with its own checksum
beside it: another user's or a damaged library is never loaded, but built again.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from experiment.device import processor
from files import cache_folder, read_sealed, sha256, write_sealed
from model import cpu

FLAGS = ("-O3", "-march=native", "-std=c++17", "-fopenmp", "-shared", "-fPIC")


class NoKernel(Exception):
    """There is no kernel here; the message says why."""


def have_kernel(say: Callable[[str], object]) -> bool:
    """Build the kernels if need be and let model.cpu use them; where that cannot be, say so: PyTorch's are slower."""
    try:
        load_kernel()
    except NoKernel as error:
        say(f"{error}; attention by PyTorch's kernel, which takes two to three times as long")
        return False
    return True


def load_kernel() -> None:
    """Build the kernels if need be, and let model.cpu use them. Raises NoKernel."""
    if cpu.loaded():
        return
    text = cpu.SOURCE.read_bytes()
    key = hashlib.sha256(text + repr((FLAGS, processor(), platform.machine())).encode()).hexdigest()[:16]
    library = cache_folder() / "kernels" / f"cpu-{key}.so"
    try:
        if not _ours(library):
            _build(library)
        cpu.load(library)
    except OSError as error:
        raise NoKernel(f"no kernels for this CPU ({error})") from None


def _ours(library: Path) -> bool:
    """Whether this is what we built: by its checksum, its owner, and nobody else being able to write it."""
    try:
        facts = library.stat()
        return (
            facts.st_uid == os.getuid()
            and not facts.st_mode & 0o022
            and read_sealed(library.with_suffix(".json")) == {"sha256": sha256(library)}
        )
    except (OSError, ValueError):
        return False


def _build(library: Path) -> None:
    compiler = os.environ.get("CXX") or next((name for name in ("g++", "clang++") if shutil.which(name)), None)
    if compiler is None:
        raise NoKernel("no C++ compiler found: install g++ or clang++, or name one in CXX")
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / library.name
        command = [compiler, *FLAGS, str(cpu.SOURCE), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            reason = next((line for line in done.stderr.splitlines() if "error" in line), f"exit {done.returncode}")
            raise NoKernel(f"{compiler} failed: {reason.strip()[:160]}")
        made.chmod(0o755)
        write_sealed(library.with_suffix(".json"), {"sha256": sha256(made)})
        os.replace(made, library)
