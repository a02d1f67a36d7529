"""Where documents come from, by `data.source`: the generated tales, files, an installed package, a dataset."""

import glob
import importlib.util
import os
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data.config import DataConfig
from data.corpus import Chunk, Corpus, hash_of
from data.documents import files_in, open_files
from data.fetch import download, is_address
from data.formats import File
from data.hub import Hub
from errors import InputError
from files import sha256

TALES_SOURCE = ("__init__", "grammar", "lexicon", "templates")  # the files that shape a story
KEPT_STORIES = 50_000  # about 80 MB; telling a story takes longer than all else that is done to it


@dataclass(frozen=True)
class Tales:
    """`n_stories` generated stories, each a document with its relations tagged."""

    n_stories: int
    fingerprint: str
    told: list[Chunk] = field(default_factory=list, repr=False)
    splits = ("train",)
    tagged = True
    n_chars = None  # not known before they are told
    origin = None
    notes = ()

    def chunks(self, split: str = "train") -> Iterator[Chunk]:
        """Yield every story, in order; up to KEPT_STORIES are told once and kept in memory."""
        from data import tales

        if self.told:
            return iter(self.told)
        telling = (Chunk(story.text, True, story.spans) for story in tales.stories(self.n_stories))
        return telling if self.n_stories > KEPT_STORIES else self._keep(telling)

    def _keep(self, telling: Iterator[Chunk]) -> Iterator[Chunk]:
        told = []
        for chunk in telling:
            told.append(chunk)
            yield chunk
        self.told[:] = told


def open_corpus(config: DataConfig) -> Corpus:
    """Find and check the corpus that `config` asks for. Raises InputError where there is none, or it cannot be read."""
    if config.source == "tales":
        if config.n_stories < 2:
            raise InputError(f"data.n_stories: {config.n_stories} is too few to train and validate on; at least 2")
        source = [sha256(Path(__file__).with_name("tales") / f"{name}.py") for name in TALES_SOURCE]
        return Tales(config.n_stories, hash_of(source))
    if config.source == "hub":
        return Hub(config)
    if config.source == "package":
        return open_files(config, {"train": _package(config.path)})
    files = {"train": _find(config.path, "path")}
    if config.val_path is not None:
        files["val"] = _find(config.val_path, "val_path")
    return open_files(config, files)


def _find(path: str, key: str) -> list[File]:
    """The files that `path` names, sorted: one, those in a folder, or those that a glob (`*`, `?`, `[]`, `**`) matches;
    what an address holds is fetched."""
    if is_address(path):
        try:
            urllib.parse.urlsplit(path)
        except ValueError as error:
            raise InputError(f"data.{key}: {path} is no address ({error}); give one, or a file") from None
        return [File(download(path), path, key)]
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        found = files_in(Path(path))
        if not found:
            raise InputError(f"data.{key}: {path} is an empty folder; give one with files of text")
    elif os.path.lexists(path) or not glob.has_magic(path):
        found = [path]
    else:
        found = sorted(name for name in glob.glob(path, recursive=True) if not os.path.isdir(name))
        if not found:
            raise InputError(f"data.{key}: no file matches {path}; paths start from {os.getcwd()}")
    return [File(Path(name), str(name), key) for name in found]


def _package(name: str) -> list[File]:
    """The Python sources of an installed package, sorted by their place in it. The package is not imported."""
    try:
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
    found = [(file.relative_to(folder).parts, file) for folder in folders for file in folder.rglob("*.py")]
    files = [file for _, file in sorted(found) if file.is_file()]
    if spec and not folders and (spec.origin or "").endswith(".py"):
        files = [Path(spec.origin)]
    if not files:
        raise InputError(
            f"data.path: no installed package named {name!r} has Python sources; give one's import name, such as torch"
        )
    return [File(file, str(file)) for file in files]
