"""What comes over a network: a bounded wait for an answer, and files from addresses, fetched once and kept."""

import hashlib
import logging
import os
import re
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from errors import InputError, WorkError
from files import cache_folder, read_checked, sha256, write_checked

log = logging.getLogger("headcount")

TIMEOUT = 10  # seconds, to connect and between two packets
PATIENCE = 25  # seconds, for a first answer, looking up a name and all
BLOCK = 1 << 20  # bytes


def within(seconds: float, call: Callable[[], Any]) -> Any:
    """What `call()` returns or raises; TimeoutError where it has not come back by then (and goes on by itself)."""
    outcome: list = []

    def run() -> None:
        try:
            outcome.append((call(), None))
        except Exception as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TimeoutError(f"no answer in {seconds:g} s")
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


def is_address(path: str) -> bool:
    return path.lower().startswith(("http://", "https://"))


RAW = (
    (r"https?://github\.com/([^/]+/[^/]+)/blob/(.+)", r"https://raw.githubusercontent.com/\1/\2"),
    (r"(https?://huggingface\.co/.+)/blob/(.+)", r"\1/resolve/\2"),
    (r"(https?://gitlab\.com/.+/-)/blob/(.+)", r"\1/raw/\2"),
    (r"https?://gist\.github\.com/([^/]+/\w+)/?", r"https://gist.githubusercontent.com/\1/raw"),
    (r"https?://pastebin\.com/(\w+)", r"https://pastebin.com/raw/\1"),
    (r"https?://(?:www\.)?gutenberg\.org/ebooks/(\d+)/?", r"https://www.gutenberg.org/cache/epub/\1/pg\1.txt"),
)
"""Addresses of pages that show a text, and of the text itself."""


def raw_address(address: str) -> str:
    """What to do about an address that answers with a page: the address of the text, where that is known."""
    plain = address.partition("?")[0].partition("#")[0]
    for page, raw in RAW:
        if re.fullmatch(page, plain):
            return f"the text itself is at {re.sub(page, raw, plain)}"
    return "give the address of the text itself (the page's link to the raw file), or save it and give the file"


def download(address: str, progress: bool = True) -> Path:
    """The file at `address`, in the cache; it is fetched where it is not there as it came, and never again.

    Raises InputError where it cannot be fetched, WorkError where the cache cannot be written. A transfer that breaks
    off leaves nothing.
    """
    import requests
    from tqdm import tqdm

    folder = cache_folder() / "downloads"
    file = folder / hashlib.sha256(address.encode()).hexdigest()
    seal = file.with_suffix(".json")
    if file.exists():
        try:
            if read_checked(seal) == {"address": address, "sha256": sha256(file)}:
                return file
            raise ValueError("not as it came")
        except (OSError, ValueError) as error:
            log.warning(f"the copy of {address} in {folder} is damaged ({error}); fetching it again")
    temporary = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with within(PATIENCE, lambda: requests.get(address, stream=True, timeout=TIMEOUT)) as answer:
            answer.raise_for_status()
            if answer.headers.get("Content-Type", "").partition(";")[0].strip().lower() == "text/html":
                raise InputError(f"data.path: {address} answers with a web page, not with text; {raw_address(address)}")
            handle, temporary = tempfile.mkstemp(prefix=".", dir=folder)
            # a length is of the bytes as sent, which may be compressed
            size = (
                None if "Content-Encoding" in answer.headers else int(answer.headers.get("Content-Length", 0)) or None
            )
            bar = tqdm(desc="downloading", total=size, unit="B", unit_scale=True, disable=None if progress else True)
            with open(handle, "wb") as target, bar:
                for block in answer.iter_content(BLOCK):
                    target.write(block)
                    bar.update(len(block))
                received = target.tell()
        if size is not None and received != size:
            raise requests.ConnectionError(f"the transfer ended after {received} of {size} bytes")
        write_checked(seal, {"address": address, "sha256": sha256(Path(temporary))})
        os.replace(temporary, file)
    except (requests.RequestException, TimeoutError, ValueError) as error:
        raise InputError(
            f"data.path: cannot fetch {address} ({reason(error)})\n"
            "give a copy on this machine, --data.path FILE, or a corpus that needs no network, --data.source tales"
        ) from None
    except OSError as error:
        raise WorkError(
            f"cannot write to the cache folder {folder}: {error.strerror}; make room, or set HEADCOUNT_CACHE to another"
        ) from None
    finally:
        if temporary and os.path.exists(temporary):
            os.remove(temporary)
    return file


def reason(error: Exception) -> str:
    """What went wrong with the network, in a few words."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return f"status {status}"
    text = f"{type(error).__name__}: {error}"
    signs = {
        "imed out": "no answer",
        "Timeout": "no answer",
        "resolve": "no such host, or no network",
        "not known": "no such host, or no network",
        "name resolution": "no such host, or no network",
        "refused": "connection refused",
        "nreachable": "no network",
        "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set",
    }
    return next((said for sign, said in signs.items() if sign in text), " ".join(text.split())[:160])
