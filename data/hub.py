"""Documents of a dataset, as the `datasets` library knows it: of the Hugging Face hub, or a folder of files.

The one idea: what is asked of a hub is answered once. Prepared tokens are found by the request, so that going on needs
no network; what the answer was (the commit) stands beside them. A folder on this machine is known by its content:
`datasets` says which of its files are which split, and they are read as any files of the user's.

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
from data.corpus import Chunk, chunked
from data.documents import Files, files_in
from data.fetch import PATIENCE, TIMEOUT, reason, within
from data.formats import File
from data.readers import ROWS, no_column, texts_of_rows
from errors import InputError, WorkError
from files import sha256

HELD_OUT = ("validation", "valid", "val", "dev", "test")  # names of splits to validate on, the first that is there


class Hub:
    """A dataset, opened when it is first read."""

    tagged = False
    n_chars = None

    def __init__(self, config: DataConfig):
        """Raises InputError where `config` names no dataset, or a folder that is not there."""
        self.config = config
        self._path = path = os.path.expanduser(config.path)
        self._local = os.path.isdir(path)
        asked = {key: getattr(config, key) for key in ("config", "split", "val_split", "column")}
        if self._local:
            if glob.has_magic(path):
                raise InputError(
                    f"data.path: {path}: `datasets` takes such a name for a pattern; rename it without []*?"
                )
            files = files_in(Path(path))
            if not files:
                raise InputError(f"data.path: {path} is empty; give a folder with the files of a dataset")
            asked["files"] = [[file.relative_to(path).as_posix(), sha256(file)] for file in files]
            if {File(file, file.name).kind for file in files} == {None} and any(".txt" in file.name for file in files):
                asked["whole"] = True  # each a document
        elif path.startswith(("/", ".", "~")) or path.count("/") > 1:
            raise InputError(f"data.path: no such folder: {path}; paths start from {os.getcwd()}")
        else:
            asked |= {"path": path, "revision": config.revision}
        self.fingerprint = hashlib.sha256(json.dumps(asked).encode()).hexdigest()

    @property
    def splits(self) -> tuple[str, ...]:
        return self._opened.splits

    @property
    def notes(self) -> list[str]:
        return self._opened.notes

    @property
    def origin(self) -> dict | None:
        return self._opened.origin

    def chunks(self, split: str = "train") -> Iterator[Chunk]:
        """Yield every row's text in order, leaving out the empty ones."""
        return self._opened.chunks(split)

    @cached_property
    def _opened(self) -> "Files | _Rows":
        import datasets

        datasets.logging.set_verbosity(datasets.logging.CRITICAL)
        if not sys.stderr.isatty():
            datasets.disable_progress_bars()
        with _complaints(self.config):
            return self._open()

    def _open(self) -> "Files | _Rows":
        import datasets
        from datasets.packaged_modules.csv.csv import Csv
        from datasets.packaged_modules.json.json import Json
        from datasets.packaged_modules.parquet.parquet import Parquet
        from datasets.packaged_modules.text.text import Text

        config, path = self.config, self._path
        if not self._local and not datasets.config.HF_HUB_OFFLINE:
            _reach(config)
        builder = datasets.load_dataset_builder(path, config.config, revision=config.revision)
        if datasets.config.HF_HUB_OFFLINE and not self._local:
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
        if self._local and isinstance(builder, Text | Json | Csv | Parquet):
            of = {part: [str(file) for file in builder.config.data_files[name]] for part, name in chosen.items()}
            files = {part: [File(Path(name), name) for name in names] for part, names in of.items()}
            return Files(config, files, self.fingerprint)
        origin = None if self._local else {"dataset": path, "config": builder.config.name, "commit": builder.hash}
        if not self._local and not config.streaming:
            builder.download_and_prepare()
            builder = _of_the_copy(builder, set(chosen.values()))
        return _Rows(config, _as_they_come(builder, chosen, config), origin)


class _Rows:
    """Rows of `datasets`, by split."""

    def __init__(self, config: DataConfig, rows: dict[str, Any], origin: dict | None):
        self.config, self.rows, self.origin = config, rows, origin
        self.splits = tuple(rows)
        self.notes: list[str] = []

    def chunks(self, split: str) -> Iterator[Chunk]:
        texts = texts_of_rows(self._each(split), self.config.path, self.config, self._note)
        with _complaints(self.config, reading=True):
            yield from chunked((text, True) for text in texts)

    def _note(self, message: str) -> None:
        if message not in self.notes:
            self.notes.append(message)

    def _each(self, split: str) -> Iterator[tuple[str, dict]]:
        n = 0
        for batch in self.rows[split].iter(batch_size=ROWS):
            names = list(batch)
            for values in zip(*batch.values(), strict=True):
                n += 1
                yield f"row {n}", dict(zip(names, values, strict=True))


def _of_the_copy(builder: Any, splits: set[str]) -> Any:
    """A builder that reads the files of the copy. (`as_dataset` maps them: their pages would stay in memory.)"""
    import datasets

    files = {name: [glob.escape(held["filename"]) for held in builder.as_dataset(name).cache_files] for name in splits}
    return datasets.load_dataset_builder("arrow", data_files=files)


def _as_they_come(builder: Any, splits: dict[str, str], config: DataConfig) -> dict[str, Any]:
    """The rows of each of `splits`, in bounded memory, with the column asked for alone where the format allows to leave
    the others aside: they need not be fetched, and may differ from row to row. Raises InputError where it is not there.
    """
    import datasets
    from datasets.packaged_modules.json.json import Json
    from datasets.packaged_modules.parquet.parquet import Parquet
    from pyarrow.dataset import ParquetFragmentScanOptions

    features, column = None, config.column
    for split in splits.values():
        rows = builder.as_streaming_dataset(split)
        names = list(rows.features if rows.features is not None else next(iter(rows), {}))
        column = config.column if config.column in names else config.column.partition(".")[0]
        if column not in names:
            raise no_column(config.column, config.path, names)
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
