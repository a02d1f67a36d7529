"""Lost if these fail: a program that hangs on a dead network, or half a file taken for a corpus."""

import json
import os
import socket
import time
from http.server import BaseHTTPRequestHandler

import pytest

from data import fetch
from data.config import DataConfig, check_data
from data.dataset import prepare
from data.fetch import download, raw_address, within
from data.sources import open_corpus
from data.tokenizers import BPETokenizer
from errors import InputError
from tests.data.hub import serve
from tests.data.test_sources import documents

TEXT = "caf\u00e9\r\nau lait\n" * 500


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADCOUNT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "downloads"


class Files(BaseHTTPRequestHandler):
    """/text.txt and /rows.jsonl; /short.txt breaks off; /moved.txt is elsewhere; all else is missing."""

    asked: list[str]

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.asked.append(self.path)
        body = TEXT.encode()
        if self.path == "/rows.jsonl?download=true":
            body = "".join(json.dumps({"story": line}) + "\n" for line in ("one", "two")).encode()
        elif self.path == "/moved.txt":
            self.send_response(302)
            self.send_header("Location", "/text.txt")
            self.end_headers()
            return
        elif self.path in ("/page", "/as_text"):
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8" if self.path == "/page" else "text/plain")
            self.end_headers()
            self.wfile.write(b"\n<!DOCTYPE html><html><body>" + body)
            return
        elif self.path not in ("/text.txt", "/short.txt"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: 1000 if self.path == "/short.txt" else None])


@pytest.fixture
def server():
    handler = type("Handler", (Files,), {"asked": []})
    with serve(handler) as address:
        handler.address = address
        yield handler


def text(path: str, **settings) -> DataConfig:
    config = DataConfig(source="text", path=path, **settings)
    check_data(config)
    return config


def test_an_address_gives_the_file_byte_for_byte_and_is_asked_once(server):
    for _ in range(2):
        assert documents(open_corpus(text(f"{server.address}/text.txt"))) == [TEXT]
    assert server.asked == ["/text.txt"]


def test_a_damaged_copy_in_the_cache_is_fetched_again_and_that_is_said(server, cache, caplog):
    address = f"{server.address}/text.txt"
    file = download(address)
    held = file.read_bytes()
    for content in (held[:-1], held.replace(held[:1], b"#", 1)):
        file.write_bytes(content)
        assert download(address).read_bytes() == held
        assert f"the copy of {address}" in caplog.messages[-1]
    file.with_suffix(".json").unlink()
    assert download(address).read_bytes() == held
    assert server.asked == ["/text.txt"] * 4


def test_a_copy_on_this_machine_is_the_same_corpus(server, tmp_path):
    (tmp_path / "copy.txt").write_bytes(TEXT.encode())
    there = prepare(text(f"{server.address}/text.txt", tokenizer="char"))
    assert prepare(text(str(tmp_path / "copy.txt"), tokenizer="char")).hash == there.hash


def test_redirections_and_rows(server):
    assert documents(open_corpus(text(f"{server.address}/moved.txt"))) == [TEXT]
    rows = text(f"{server.address}/rows.jsonl?download=true", column="story")
    assert documents(open_corpus(rows)) == ["one", "two"]


@pytest.mark.parametrize("path", ["/page", "/as_text"])
def test_a_page_about_a_text_is_not_taken_for_the_text(server, path):
    for _ in range(2):  # a copy that is kept, too
        with pytest.raises(InputError, match=f"data.path: .*{path} answers with a web page, .* the raw file"):
            open_corpus(text(server.address + path))


def test_the_address_of_the_text_itself_is_named_where_it_is_known():
    for page, raw in {
        "https://github.com/o/r/blob/main/a/b.txt?plain=1": "https://raw.githubusercontent.com/o/r/main/a/b.txt",
        "https://huggingface.co/datasets/o/d/blob/main/a.txt": "https://huggingface.co/datasets/o/d/resolve/main/a.txt",
        "https://gist.github.com/someone/0a1b": "https://gist.githubusercontent.com/someone/0a1b/raw",
        "https://www.gutenberg.org/ebooks/1342": "https://www.gutenberg.org/cache/epub/1342/pg1342.txt",
    }.items():
        assert raw_address(page) == f"the text itself is at {raw}"
    assert "raw file" in raw_address("https://example.org/a.txt")


def test_a_transfer_that_breaks_off_leaves_nothing(server, cache):
    with pytest.raises(InputError, match=r"cannot fetch .*short.txt"):
        download(f"{server.address}/short.txt")
    assert list(cache.iterdir()) == []


def test_what_cannot_be_fetched_names_the_mend(server, monkeypatch):
    with pytest.raises(InputError, match=r"cannot fetch .*/missing \(status 404\)\ngive a copy .*--data.path FILE"):
        download(f"{server.address}/missing")
    with pytest.raises(InputError, match=r"\(connection refused\)"):
        download("http://127.0.0.1:9/a.txt")
    with pytest.raises(InputError, match=r"cannot fetch http://"):
        download("http:///nowhere")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(fetch, "TIMEOUT", 0.2)
        with pytest.raises(InputError, match=r"\(no answer\)"):
            download(f"http://127.0.0.1:{silent.getsockname()[1]}/a.txt")


def test_waiting_is_bounded():
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match=r"no answer in 0.1 s"):
        within(0.1, lambda: time.sleep(30))
    assert time.monotonic() - begun < 10
    assert within(10, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        within(10, lambda: 1 / 0)


def tiktoken_file(monkeypatch, tmp_path, call) -> None:
    """Let tiktoken's reading of its files be `call`, as on a machine that does not hold them."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "tiktoken"))
    monkeypatch.setattr("tiktoken.registry.ENCODINGS", {})
    monkeypatch.setattr("requests.get", call)


def refuse(*_, **__):
    raise ConnectionError("Name or service not known")


@pytest.mark.parametrize(("call", "why"), [(refuse, "no such host, or no network"), (time.sleep, "no answer")])
def test_a_tokenizer_that_cannot_be_fetched_names_the_way_out(monkeypatch, tmp_path, call, why):
    tiktoken_file(monkeypatch, tmp_path, call if call is refuse else lambda *_, **__: time.sleep(5))
    monkeypatch.setattr("data.tokenizers.bpe.PATIENCE", 0.3)
    with pytest.raises(InputError) as refusal:
        prepare(DataConfig(n_stories=5, tokenizer="o200k_base"))
    assert f"data.tokenizer: o200k_base needs tiktoken's file of it, which cannot be had ({why})" in str(refusal.value)
    assert "TIKTOKEN_CACHE_DIR" in str(refusal.value)
    assert "data.tokenizer: bpe" in str(refusal.value)
    assert str(refusal.value).count("\n") == 1


def test_gpt2_is_read_from_the_folder_that_the_environment_names(monkeypatch, tmp_path):
    """GPT-2's two files, here of 260 tokens, in TIKTOKEN_CACHE_DIR under the names that tiktoken gives them."""
    import hashlib

    import tiktoken.load
    from tiktoken_ext import openai_public

    from data.tokenizers.export import byte_names

    tiktoken_file(monkeypatch, tmp_path, refuse)
    names = byte_names()
    order = sorted(range(256), key=lambda byte: (len(names[byte].encode()) > 2 or ord(names[byte]) >= 256, byte))
    merges = [("t", "h"), ("\u0120", "th"), ("\u0120th", "e")]
    vocabulary = {names[byte]: i for i, byte in enumerate(order)}
    vocabulary |= {a + b: 256 + i for i, (a, b) in enumerate(merges)}
    files = {
        "vocab.bpe": "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges),
        "encoder.json": json.dumps(vocabulary),
    }
    for name, content in files.items():
        address = f"https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/{name}"
        file = tmp_path / "tiktoken" / hashlib.sha1(address.encode()).hexdigest()
        file.parent.mkdir(exist_ok=True)
        file.write_text(content, encoding="utf-8")
    monkeypatch.setattr(tiktoken.load, "check_hash", lambda *_: True)  # these are not GPT-2's own
    monkeypatch.setattr("tiktoken.core.Encoding.__init__", _any_size(tiktoken.core.Encoding.__init__))
    monkeypatch.setattr("tiktoken.registry.ENCODING_CONSTRUCTORS", {"gpt2": openai_public.gpt2})

    tokenizer = BPETokenizer.of_tiktoken("gpt2")
    assert (tokenizer.eot, tokenizer.vocab_size) == (50256, 50257)
    assert tokenizer.encode("in the") == [vocabulary["i"], vocabulary["n"], vocabulary["\u0120the"]]
    assert tokenizer.decode([*tokenizer.encode("in the"), 40000, tokenizer.eot]) == "in the<|endoftext|>"
    dataset = prepare(DataConfig(n_stories=20, tokenizer="gpt2"))
    assert dataset.train.dtype == "uint16"
    assert dataset.train[0] == 50256
    assert os.listdir(dataset.folder / "tokenizer")
    assert prepare(DataConfig(n_stories=20, tokenizer="gpt2")).tokenizer.encode("the") == tokenizer.encode("the")


def _any_size(init):
    """Encoding.__init__ without its check that there are 50257 tokens."""

    def made(self, *arguments, explicit_n_vocab=None, **settings):
        init(self, *arguments, **settings)

    return made
