"""Code from the cache folder runs in the user's name: only what this program built there may be loaded."""

import hashlib
import os
from pathlib import Path

import pytest

from experiment import kernel
from experiment.kernel import NoKernel, have_kernel, load_kernel
from files import sealed
from model import cpu

TRUE, EVIL = b"what the compiler made", b"planted"


@pytest.fixture
def loads(tmp_path, monkeypatch) -> list[bytes]:
    """The contents of every library that was loaded; no compiler and no loader has a part in it."""
    monkeypatch.setenv("HEADCOUNT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cpu, "_library", None)
    monkeypatch.setattr(kernel, "_compiler", lambda: ["g++"])
    monkeypatch.setattr(kernel, "_compile", lambda command: Path(command[-1]).write_bytes(TRUE))
    found = []
    monkeypatch.setattr(cpu, "load", lambda path: found.append(path.read_bytes()))
    return found


def built(tmp_path) -> tuple[Path, Path]:
    load_kernel()
    (library,) = (tmp_path / "cache" / "kernels").glob("*.so")
    return library, library.with_suffix(".json")


def plant(library: Path, seal: Path) -> None:
    """Another library, whose checksum fits."""
    library.write_bytes(EVIL)
    seal.write_text(sealed({"sha256": hashlib.sha256(EVIL).hexdigest()}))


def as_link(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))
    file.symlink_to("elsewhere")


PLANTED = {
    "a library that others can write": lambda library, seal: library.chmod(0o666),
    "a checksum that others can write": lambda library, seal: seal.chmod(0o660),
    "a link for a library": lambda library, seal: as_link(library),
    "a link for a checksum": lambda library, seal: as_link(seal),
    "a pipe for a library": lambda library, seal: (library.unlink(), os.mkfifo(library)),
    "a pipe for a checksum": lambda library, seal: (seal.unlink(), os.mkfifo(seal)),
    "no checksum": lambda library, seal: seal.unlink(),
    "a checksum of another": lambda library, seal: seal.write_text(sealed({"sha256": "0" * 64})),
    "no JSON": lambda library, seal: seal.write_bytes(b"\xff{"),
    "a list": lambda library, seal: seal.write_text("[]"),
}


@pytest.mark.parametrize("what", PLANTED)
def test_what_was_planted_is_never_loaded_but_built_again(tmp_path, loads, what):
    library, seal = built(tmp_path)
    plant(library, seal)
    PLANTED[what](library, seal)
    loads.clear()
    said = []
    load_kernel(said.append)
    load_kernel(said.append)
    assert loads == [TRUE, TRUE]
    told = [line for line in said if "building it again" in line]
    assert len(told) == len(said) == (0 if what == "no checksum" else 1)


def test_the_library_of_another_user_is_never_loaded(tmp_path, loads, monkeypatch):
    library, seal = built(tmp_path)
    plant(library, seal)
    loads.clear()
    load_kernel()
    assert loads == [EVIL]  # of the same user it is: this test could fail
    loads.clear()
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    said = []
    load_kernel(said.append)
    assert loads == [TRUE]
    assert "is not ours alone" in said[0]


def test_where_nothing_can_be_kept_what_was_built_is_used_and_that_is_said(tmp_path, loads):
    (tmp_path / "cache").write_text("a file where the folder has to be")
    said = []
    load_kernel(said.append)
    assert loads == [TRUE]
    assert len(said) == 1
    assert "cannot be kept" in said[0]


def test_a_full_disk_leaves_no_half_library(tmp_path, loads, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    said = []
    load_kernel(said.append)
    assert loads == [TRUE]
    assert "No space left on device" in said[0]
    assert list((tmp_path / "cache" / "kernels").iterdir()) == []


def test_a_library_that_cannot_be_loaded_is_not_kept(tmp_path, loads, monkeypatch):
    def refuse(path):
        raise OSError("invalid ELF header")

    monkeypatch.setattr(cpu, "load", refuse)
    said = []
    assert not have_kernel(said.append)
    assert "invalid ELF header" in said[0]
    assert not list((tmp_path / "cache").rglob("*.so"))


@pytest.mark.parametrize(
    ("compiler", "why"),
    [
        ("no-such-wrapper g++", "no C++ compiler 'no-such-wrapper'"),
        ("'g++", "CXX is no command"),
        ("true", "made no library"),
        ("sh -c 'kill -9 $$'", "killed by signal 9"),
    ],
)
def test_a_compiler_of_no_use_is_said_in_one_line(tmp_path, monkeypatch, compiler, why):
    monkeypatch.setenv("HEADCOUNT_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", compiler)
    monkeypatch.setattr(cpu, "_library", None)
    with pytest.raises(NoKernel) as error:
        load_kernel()
    assert why in str(error.value)
    assert "\n" not in str(error.value)


def test_a_compiler_with_arguments_is_run_with_them(monkeypatch):
    monkeypatch.setenv("CXX", "env -u NOTHING 'g++'")
    monkeypatch.setattr("shutil.which", lambda name: name)
    assert kernel._compiler() == ["env", "-u", "NOTHING", "g++"]
