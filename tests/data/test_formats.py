"""Lost if these fail: numbers, markup or another encoding taken for prose, silently; or a refusal with no way on."""

import bz2
import gzip
import io
import lzma
import re
import tarfile
import zipfile

import numpy as np
import pyarrow
import pytest

from data.config import DataConfig
from data.dataset import prepare
from data.sources import open_corpus
from errors import InputError
from tests.data.test_sources import documents, texts

TEXT = "The cat sat on the mat, near the café.\n" * 30
BYTES = TEXT.encode()


def zipped() -> bytes:
    with zipfile.ZipFile(made := io.BytesIO(), "w") as archive:
        archive.writestr("a.txt", TEXT)
    return made.getvalue()


def tarred() -> bytes:
    with tarfile.open(fileobj=(made := io.BytesIO()), mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
    return made.getvalue()


def ids(dtype: str, vocab_size: int) -> bytes:
    return np.random.default_rng(0).integers(0, vocab_size, 5000).astype(dtype).tobytes()


COMPRESSED = {
    "a.txt.gz": gzip.compress(BYTES),
    "no_ending": gzip.compress(BYTES[:500]) + gzip.compress(BYTES[500:]),
    "a.txt.zst": pyarrow.compress(BYTES, codec="zstd", asbytes=True),
    "a.txt.bz2": bz2.compress(BYTES),
    "a.txt.xz": lzma.compress(BYTES),
}
REFUSED = {
    "train.bin": (ids("<u2", 50257), "numbers, such as the token ids in nanoGPT's train.bin; .*input.txt"),
    "val.bin": (ids("<u2", 65), "numbers, such as the token ids"),
    "renamed.txt": (ids("<u2", 65), "numbers, such as the token ids"),
    "le.txt": (TEXT.encode("utf-16-le"), "UTF-16LE, not UTF-8; save it as UTF-8, or convert it: iconv -f UTF-16LE"),
    "be.txt": (TEXT.encode("utf-16-be"), "UTF-16BE, not UTF-8"),
    "mark.txt": (TEXT.encode("utf-16"), "UTF-16, not UTF-8"),
    "wide.txt": (TEXT.encode("utf-32"), "UTF-32, not UTF-8"),
    "zh.txt": ("日本語の文章。\n".encode("utf-16-le") * 40, "UTF-16LE, not UTF-8"),
    "latin.txt": (TEXT.encode("latin-1"), "not UTF-8: byte 0xe9 at offset 36 .*; save it as UTF-8"),
    "rows.jsonl": ('{"text": "a"}\n'.encode("utf-16") * 30, "UTF-16, not UTF-8"),
    "nul.txt": (BYTES * 200 + b"\0" + BYTES, f"no text: a NUL character at offset {200 * len(BYTES)}"),
    "a.pdf": (b"%PDF-1.7\n" + BYTES, r"a PDF; take its text out \(pdftotext"),
    "a.docx": (zipped(), "a zip archive, or a document in one .*; unpack it, or save its text"),
    "in.gz": (gzip.compress(zipped()), "a zip archive"),
    "a.tar.gz": (gzip.compress(tarred()), "a tar archive; unpack it"),
    "a.rtf": (rb"{\rtf1\ansi " + BYTES, "rich text"),
    "a.npy": (b"\x93NUMPY\1\0" + BYTES, "a NumPy array"),
    "table": (b"PAR1" + BYTES, "a Parquet file; give it a name that ends in .parquet"),
    "cut.gz": (gzip.compress(ids("<u2", 60000).hex().encode())[:900], "is damaged .*; fetch or make it again"),
    "wrong.gz": (gzip.compress(BYTES)[:-8] + bytes(8), "is damaged .*CRC"),
    "cut.zst": (pyarrow.compress(ids("<u2", 60000), codec="zstd", asbytes=True)[:900], "is damaged"),
    "cut.xz": (lzma.compress(BYTES)[:60], "is damaged"),
}


@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed_text_is_read_and_is_the_same_corpus(tmp_path, name):
    for file, content in (("plain.txt", BYTES), (name, COMPRESSED[name])):
        (tmp_path / file).write_bytes(content)
    assert texts(tmp_path / name) == [TEXT]
    plain, packed = (open_corpus(DataConfig(source="text", path=str(tmp_path / file))) for file in ("plain.txt", name))
    assert plain.fingerprint == packed.fingerprint


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_text_is_refused_by_its_right_name(tmp_path, name):
    content, said = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"^data.path: .*{name}.* {said}") as refusal:
        documents(open_corpus(DataConfig(source="text", path=str(tmp_path / name))))
    assert "\n" not in str(refusal.value)


def notes(tmp_path, content: bytes, **settings) -> tuple[str, list[str]]:
    """The text of a file's training split, and what is said of it."""
    (tmp_path / "a.txt").write_bytes(content)
    config = DataConfig(source="text", path=str(tmp_path / "a.txt"), tokenizer="char", **settings)
    dataset = prepare(config, tmp_path / "cache")
    return dataset.tokenizer.decode(dataset.train), dataset.notes


def test_a_byte_order_mark_before_the_text_is_left_out_and_one_inside_is_said(tmp_path):
    text, said = notes(tmp_path, b"\xef\xbb\xbf" + BYTES)
    assert TEXT.startswith(text)
    assert said == []
    assert "holds U+FEFF" in notes(tmp_path, BYTES + b"\xef\xbb\xbf" + BYTES)[1][0]


def test_windows_line_ends_are_said_and_can_be_left_out(tmp_path, caplog):
    windows = BYTES.replace(b"\n", b"\r\n")
    for _ in range(2):  # from the cache too
        text, said = notes(tmp_path, windows)
        assert "\r\n" in text
        assert "a.txt has line ends of Windows" in said[0]
        assert "data.line_ends: unix" in said[0]
    assert caplog.messages.count(said[0]) == 2
    text, said = notes(tmp_path, windows, line_ends="unix")
    assert "\r" not in text
    assert TEXT.startswith(text)
    assert said == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"text": "a row"}\n' * 40, "looks like JSON, and is read as text; name it .json or .jsonl"),
        (b"<!DOCTYPE html><html><body>" + BYTES, "is a web page, and its markup is read as text"),
        (BYTES + b"<|endoftext|>" + BYTES, "holds <|endoftext|>, .* data.separator: '<|endoftext|>'"),
    ],
)
def test_what_looks_like_another_format_is_said(tmp_path, content, said):
    assert re.search(said, notes(tmp_path, content)[1][0])
    assert notes(tmp_path, BYTES)[1] == []
