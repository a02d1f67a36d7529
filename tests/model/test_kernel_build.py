"""The kernels are built once, a damaged library is never loaded, and without a compiler training still starts.

The compiler is called once for the module and its library copied from then on: compiling takes seconds.
"""

import shutil
from pathlib import Path

import pytest

from model.fast import build, cpu


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    """A library as the compiler makes it."""
    made = tmp_path_factory.mktemp("made") / "cpu.so"
    try:
        build._compile(made)
    except build.NoKernel as reason:
        pytest.skip(f"no kernel here: {reason}")
    return made


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache folder, in a process that has loaded nothing yet."""
    monkeypatch.setenv("HEADCOUNT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cpu, "_library", None)
    return tmp_path / "cache"


@pytest.fixture
def compiled(library, monkeypatch) -> list[Path]:
    """What was compiled, from `library` in place of by the compiler."""
    calls = []
    monkeypatch.setattr(build, "_compile", lambda made: (calls.append(made), shutil.copyfile(library, made)))
    return calls


def start_again(monkeypatch) -> bool:
    monkeypatch.setattr(cpu, "_library", None)
    return build.have_kernel()


def test_a_second_start_compiles_nothing(cache, compiled, monkeypatch, caplog):
    assert build.have_kernel()
    assert start_again(monkeypatch)
    assert len(compiled) == 1
    assert not caplog.messages


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_a_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("harm", [cut, flip_a_bit, lambda _: b""])
def test_a_damaged_library_is_told_and_built_again(cache, compiled, library, monkeypatch, caplog, harm):
    build.load_kernel()
    (kept,) = (cache / "kernels").glob("*.so")
    kept.unlink()  # in this process it is in use
    kept.write_bytes(harm(library.read_bytes()))
    assert start_again(monkeypatch)
    assert len(compiled) == 2
    assert kept.read_bytes() == library.read_bytes()
    assert [line.endswith("damaged; building it again") for line in caplog.messages] == [True]


def test_another_source_or_processor_is_another_library(cache, compiled, monkeypatch):
    """A cache folder may be shared by machines whose processors know different instructions."""
    build.load_kernel()
    monkeypatch.setattr(build, "processor", lambda: "another")
    assert start_again(monkeypatch)
    assert len(compiled) == len(list((cache / "kernels").glob("*.so"))) == 2


def test_where_the_cache_cannot_be_written_the_kernels_work_and_a_line_says_so(cache, compiled, monkeypatch, caplog):
    cache.write_text("a file where the folder should be")
    assert build.have_kernel()
    (said,) = caplog.messages
    assert "cannot be kept" in said
    assert start_again(monkeypatch)
    assert len(compiled) == 2


def test_a_library_that_cannot_be_loaded_is_a_line_and_no_kernel(cache, monkeypatch, caplog):
    monkeypatch.setattr(build, "_compile", lambda made: made.write_bytes(b"no library"))
    assert not build.have_kernel()
    assert "no kernels for this CPU" in caplog.messages[-1]


@pytest.mark.parametrize(
    ("compiler", "what"),
    [
        ("no-such-compiler -x", "no-such-compiler"),
        ("false", "false failed"),
        ("true", "true failed"),
        (None, "install g++"),
    ],
)
def test_without_a_compiler_it_is_said_in_one_line(cache, monkeypatch, caplog, compiler, what):
    if compiler:
        monkeypatch.setenv("CXX", compiler)
    else:
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setenv("PATH", str(cache))
    assert not build.have_kernel()
    (said,) = caplog.messages
    assert what in said
    assert "\n" not in said
    assert "PyTorch's kernel" in said
