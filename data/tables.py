"""Documents that are rows: datasets of the Hugging Face hub, folders of their files, and .jsonl, .json and .parquet
files, all through the `datasets` library.

The one idea: what is asked of a hub is answered once. Prepared tokens are found by the request, so that going on needs
no network; what the answer was (the commit) stands beside them. Files on this machine are known by their content.

Nothing of a dataset is ever executed: `datasets` runs no code of a repository, and is not asked to.
"""

import glob
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from data.config import DataConfig
from data.fetch import PATIENCE, TIMEOUT, reason, within
from data.sources import Piece, digest, fingerprint, in_pieces
from errors import InputError, WorkError

HELD_OUT = ("validation", "valid", "val", "dev", "test")  # names of splits to validate on, the first that is there
ROWS = 100  # read at a time


class Table:
    """A corpus of rows, opened when it is first read."""

    tagged = False
    n_chars = None

    def __init__(self, config: DataConfig, fingerprint: str, files: list[Path] | None = None, kind: str | None = None):
        self.config = config
        self.fingerprint = fingerprint
        self._files = files
        self._kind = kind

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._opened[0])

    @property
    def origin(self) -> dict | None:
        return self._opened[1]

    def pieces(self, split: str = "train") -> Iterator[Piece]:
        """Yield every row's text in order, leaving out the empty ones."""
        column, row = self.config.column, 0
        rows = self._opened[0][split]
        with _complaints(self.config, reading=True):
            for batch in rows.iter(batch_size=ROWS):
                for text in batch[column]:
                    if text is not None and not isinstance(text, str):
                        raise InputError(
                            f"data.column: row {row} of {column!r} holds {type(text).__name__}, not text; "
                            "give a column of text"
                        )
                    row += 1
                    if text:
                        yield from in_pieces([text])

    @cached_property
    def _opened(self) -> tuple[dict[str, Any], dict | None]:
        """({"train": rows, "val": rows where they are named}, what the hub's answer was)."""
        import datasets

        datasets.logging.set_verbosity(datasets.logging.CRITICAL)
        if not sys.stderr.isatty():
            datasets.disable_progress_bars()
        with _complaints(self.config):
            if not self._files:
                return self._open_dataset()
            loader = "parquet" if self._kind == ".parquet" else "json"
            builder = datasets.load_dataset_builder(loader, data_files=[glob.escape(str(file)) for file in self._files])
            return _as_they_come(builder, {"train": "train"}, self.config.column), None

    def _open_dataset(self) -> tuple[dict[str, Any], dict | None]:
        import datasets

        config, path = self.config, os.path.expanduser(self.config.path)
        local = os.path.isdir(path)
        if not local and not datasets.config.HF_HUB_OFFLINE:
            _reach(config)
        builder = datasets.load_dataset_builder(path, config.config, revision=config.revision)
        if datasets.config.HF_HUB_OFFLINE and not local:
            _same_copy(config, builder)
        names = [str(name) for name in builder.config.data_files or builder.info.splits or ()]
        chosen = {"train": config.split}
        if config.val_split == "auto":
            named = next((name for name in HELD_OUT if name in names and name != config.split), None)
        else:
            named = config.val_split
        chosen |= {"val": named} if named else {}
        for key, name in (("split", config.split), ("val_split", named or config.split)):
            if name not in names:
                raise InputError(f"data.{key}: {path} has no split {name!r}; it has {', '.join(names)}")
        origin = None if local else {"dataset": path, "config": builder.config.name, "commit": builder.hash}
        if not local and not config.streaming:
            builder.download_and_prepare()
            builder = _of_the_copy(builder, set(chosen.values()))
        return _as_they_come(builder, chosen, config.column), origin


def open_dataset(config: DataConfig) -> Table:
    """The dataset that `config` names: on the hub, or a folder of files. Raises InputError where the folder is not."""
    path = os.path.expanduser(config.path)
    asked = {key: getattr(config, key) for key in ("config", "split", "val_split", "column")}
    if os.path.isdir(path):
        if glob.has_magic(path):
            raise InputError(f"data.path: {path}: `datasets` takes such a name for a pattern; rename it without []*?")
        files = sorted(file for file in Path(path).rglob("*") if file.is_file() and not _hidden(file, Path(path)))
        if not files:
            raise InputError(f"data.path: {path} is empty; give a folder with the files of a dataset")
        asked["files"] = [[file.relative_to(path).as_posix(), digest(file)] for file in files]
    elif path.startswith(("/", ".", "~")) or path.count("/") > 1:
        raise InputError(f"data.path: no such folder: {path}; paths start from {os.getcwd()}")
    else:
        asked |= {"path": path, "revision": config.revision}
    return Table(config, hashlib.sha256(json.dumps(asked).encode()).hexdigest())


def open_files(files: list[Path], kind: str, config: DataConfig) -> Table:
    """The rows of files of one kind, .jsonl, .json or .parquet. Raises InputError where one cannot be read."""
    return Table(config, fingerprint([kind, config.column, *map(digest, files)]), files, kind)


def _of_the_copy(builder: Any, splits: set[str]) -> Any:
    """A builder that reads the files of the copy. (`as_dataset` maps them: their pages would stay in memory.)"""
    import datasets

    files = {name: [glob.escape(held["filename"]) for held in builder.as_dataset(name).cache_files] for name in splits}
    return datasets.load_dataset_builder("arrow", data_files=files)


def _as_they_come(builder: Any, splits: dict[str, str], column: str) -> dict[str, Any]:
    """The rows of each of `splits`, in bounded memory, with that column alone where the format allows to leave the
    others aside: they need not be fetched, and may differ from row to row. Raises InputError where it is not there."""
    import datasets
    from datasets.packaged_modules.json.json import Json
    from datasets.packaged_modules.parquet.parquet import Parquet
    from pyarrow.dataset import ParquetFragmentScanOptions

    features = None
    for split in splits.values():
        rows = builder.as_streaming_dataset(split)
        _check_column(rows, column)
        features = features or rows.features
    if isinstance(builder, Parquet):  # it would else hold row groups as tables and, in the end, the whole file
        builder.config.batch_size, builder.config.columns = ROWS, [column]
        builder.config.fragment_scan_options = ParquetFragmentScanOptions(pre_buffer=False)
    elif isinstance(builder, Json) and features is not None:
        cast = builder._cast_table

        def alone(table: Any, **how: Any) -> Any:
            return cast(table.select([name for name in table.column_names if name == column]), **how)

        builder._cast_table = alone
        builder.info.features = datasets.Features({column: features[column]})
    return {part: builder.as_streaming_dataset(split) for part, split in splits.items()}


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _reach(config: DataConfig) -> None:
    """Ask the hub for the dataset once, with a short wait; `datasets` itself would try again and again."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        within(PATIENCE, lambda: HfApi().dataset_info(config.path, revision=config.revision, timeout=TIMEOUT))
    except HFValidationError:
        raise InputError(f"data.path: {config.path!r} is no name of a dataset; give owner/name, or a folder") from None
    except GatedRepoError:
        raise InputError(
            f"data.path: {config.path} asks for its terms to be accepted: do so on its page, then run `hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise InputError(f"data.revision: {config.path} has no branch, tag or commit {config.revision!r}") from None
    except RepositoryNotFoundError:
        raise InputError(
            f"data.path: the hub has no dataset {config.path!r} that you may read; check the name (owner/name), "
            "or run `hf auth login` for a private one"
        ) from None
    except Exception as error:
        raise _unreachable(config, error) from None


def _unreachable(config: DataConfig, error: Exception) -> InputError:
    import datasets

    others = "give a folder of its files as data.path, or choose data.source: package, text or tales"
    if datasets.config.HF_HUB_OFFLINE:
        return InputError(
            f"data.path: HF_HUB_OFFLINE is set, and `datasets` keeps no copy of {config.path} here\n"
            f"unset it where there is a network, {others}"
        )
    return InputError(
        f"data.path: cannot reach the hub for {config.path} ({reason(error)})\n"
        f"set HF_HUB_OFFLINE=1 to use the copy that `datasets` keeps, {others}"
    )


def _same_copy(config: DataConfig, builder: Any) -> None:
    """Offline, `datasets` takes the copy it has, of whatever subset and commit: raise InputError if it is another."""
    if config.config is None and builder.config.name != "default":
        raise InputError(f"data.config: HF_HUB_OFFLINE is set, name the subset; a copy here is {builder.config.name!r}")
    if config.revision not in (None, builder.hash):
        raise InputError(
            f"data.revision: HF_HUB_OFFLINE is set, and the copy here is of commit {builder.hash}, "
            f"not {config.revision!r}; leave it out to take that"
        )


def _check_column(rows: Any, column: str) -> None:
    """Raise InputError unless the rows have that column, and it may hold text."""
    features = rows.features
    names = list(features if features is not None else next(iter(rows), {}))
    if column not in names:
        raise InputError(f"data.column: there is no column {column!r}; the columns are {', '.join(names) or 'none'}")
    kind = getattr((features or {}).get(column), "dtype", "string")
    if kind in ("string", "large_string", "string_view", "json", "null"):
        return
    raise InputError(f"data.column: {column!r} holds {kind}, not text; the columns are {', '.join(names)}")


NETWORK = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "huggingface_hub", "aiohttp")


@contextmanager
def _complaints(config: DataConfig, reading: bool = False) -> Iterator[None]:
    """Errors of `datasets` as errors of a line or two; a network that fails while `reading` is nobody's input."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, ConnectionError | TimeoutError) or type(cause).__module__.split(".")[0] in NETWORK:
            if reading:
                raise WorkError(
                    f"the hub was lost while reading {config.path} ({reason(cause)}); the same command goes on"
                ) from None
            raise _unreachable(config, cause) from None
        text = " ".join(f"{cause}".split())[:240] or type(cause).__name__
        if "BuilderConfig" in text or "Config name" in text:
            raise InputError(f"data.config: {text}") from None
        raise InputError(f"data.path: cannot read {config.path}: {text}") from None
