"""A GPT-2 in Hugging Face format, from a folder or the hub, as what to start from, to sample from and to look into.

Only config.json, safetensors and the tokenizer's JSON and text are ever read. A run's own folder is such a GPT-2 too;
its weights are then those of its newest undamaged checkpoint.
"""

import dataclasses
import hashlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from data.fetch import PATIENCE, TIMEOUT, reason, within
from errors import InputError
from experiment.config import Config, keys
from experiment.folder import refuse_pickle
from experiment.values import typed
from files import read_bytes, sha256
from model.config import ModelConfig

if TYPE_CHECKING:  # they import torch, which a mistake in the config need not wait for
    from data.tokenizers import Tokenizer
    from model.gpt import GPT

log = logging.getLogger("headcount")

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
HUB_FILES = ["config.json", "model*.safetensors", INDEX, "tokenizer*.json", "vocab.json", "merges.txt"]
GPT2_VOCABULARY = 50257


@dataclass(frozen=True)
class Pretrained:
    """A GPT-2's folder, as `open_pretrained` found it."""

    name: str
    folder: Path
    config: ModelConfig
    """Its own shape, its own head count included; block_size is its n_positions."""
    vocab_size: int

    @cached_property
    def files(self) -> list[Path]:
        """The safetensors files of its weights. Raises InputError where there are none, or not all."""
        if (self.folder / "checkpoints").is_dir():
            return [_good_checkpoint(self.folder) / WEIGHTS]
        if (self.folder / WEIGHTS).is_file():
            return [self.folder / WEIGHTS]
        if (self.folder / INDEX).is_file():
            shards = read_json(self.folder / INDEX).get("weight_map", {})
            names = sorted({str(name) for name in shards.values()}) if isinstance(shards, dict) else []
            if not names or any(Path(name).name != name for name in names):
                raise InputError(f"{self.folder / INDEX}: its weight_map does not name the files of this folder")
            for name in names:
                if not (self.folder / name).is_file():
                    raise InputError(f"{self.folder}: {name} is missing, which {INDEX} names; copy it too")
            return [self.folder / name for name in names]
        old = " (a pickle is never read: save it again with safetensors)" * any(self.folder.glob("*.bin"))
        raise InputError(f"{self.folder}: no {WEIGHTS} here{old}")

    def sha256(self) -> str:
        """One checksum over the files of its weights."""
        return hashlib.sha256("".join(sha256(file) for file in self.files).encode()).hexdigest()

    def tensors(self) -> dict:
        """Its weights by their Hugging Face names. Raises InputError where a file is damaged or is no GPT-2 for us."""
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        tensors = {}
        for file in self.files:
            try:
                tensors |= load_file(file)
            except SafetensorError as error:
                raise InputError(f"{file}: damaged, or not safetensors ({error})") from None
        head, wte = tensors.get("lm_head.weight"), tensors.get("transformer.wte.weight", tensors.get("wte.weight"))
        if head is not None and wte is not None and not torch.equal(head, wte):
            raise InputError(
                f"{self.folder}: lm_head.weight is not the token embedding; only tied weights can be loaded"
            )
        return tensors

    @property
    def n_head(self) -> int:
        return self.config.n_head

    def split(self, n_head: int) -> "Pretrained":
        """The same weights split into another number of heads. Raises InputError where it does not divide the width."""
        if n_head < 1 or self.config.n_embd % n_head:
            raise InputError(f"n_head {n_head} does not divide n_embd {self.config.n_embd} of {self.name}")
        name = self.name if n_head == self.n_head else f"{self.name}-h{n_head:02d}"
        return dataclasses.replace(self, name=name, config=dataclasses.replace(self.config, n_head=n_head))

    def tokenizer(self) -> "Tokenizer":
        """Its tokenizer: this project's own, else tokenizer.json, else vocab.json and merges.txt, else OpenAI's.

        OpenAI's where there is no file and the vocabulary has the size of GPT-2's.
        """
        from data.tokenizers import BPETokenizer, load_tokenizer
        from data.tokenizers.huggingface import HFTokenizer

        own = self.folder.parent / "tokenizer"
        if (self.folder / "checkpoints").is_dir() and own.is_dir():
            tokenizer = load_tokenizer(own)
        elif self.vocab_size == GPT2_VOCABULARY and not has_tokenizer(self.folder):
            tokenizer = BPETokenizer.of_tiktoken("gpt2")
        else:
            tokenizer = HFTokenizer.load(self.folder, self.vocab_size)
        if tokenizer.vocab_size > self.vocab_size:
            raise InputError(
                f"{self.folder}: its tokenizer has {tokenizer.vocab_size} tokens, config.json says {self.vocab_size}"
            )
        return tokenizer


def looks_pretrained(path: str) -> bool:
    """Whether `path` is a folder with a GPT-2 and no experiment, or no folder but shaped like a name on the hub."""
    folder = Path(path)
    if folder.exists():
        return (folder / "config.json").is_file() and not (folder / "config.yaml").exists()
    return path == "gpt2" or (_is_name(path) and not folder.parent.is_dir() and folder.parts[0] != "runs")


def open_pretrained(path: str) -> Pretrained:
    """The GPT-2 in a folder, or of that name on the hub (from its local copy where there is one).

    Raises:
        InputError: there is none, it cannot be fetched, or it is no GPT-2 that this network can be.
    """
    folder = Path(path)
    refuse_pickle(folder)
    if not folder.exists() and _is_name(path):
        folder = _fetch(path)
    if not (folder / "config.json").is_file():
        refuse_pickle(folder / "ckpt.pt")
        raise InputError(
            f"{path}: no GPT-2 in Hugging Face format here (no config.json); give a folder of save_pretrained, "
            "or a name on the hub such as openai-community/gpt2"
        )
    from model.gpt2 import model_config

    values = read_json(folder / "config.json")
    where, types = folder / "config.json", keys()
    vocab_size = typed("vocab_size", types["data.vocab_size"], values.get("vocab_size", GPT2_VOCABULARY), str(where))
    try:
        config = model_config(values)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None
    for name, key in (("n_layer", "n_layer"), ("n_embd", "n_embd"), ("n_positions", "block_size")):
        typed(name, types[f"model.{key}"], getattr(config, key), str(where))
    return Pretrained(path, folder, config, vocab_size)


def put_pretrained(path: str, model: "GPT") -> None:
    """Put the weights of the GPT-2 at `path` into every run of a stack. Raises InputError where they do not fit."""
    source = open_pretrained(path)
    tensors = source.tensors()
    for row in range(len(model.n_head)):
        put(source.folder, model, row, tensors)


def put(folder: Path, model: "GPT", row: int, tensors: dict) -> None:
    """Copy tensors that come from `folder` into row `row` of a stack. Raises InputError where they do not fit."""
    from model.gpt2 import load_gpt2_tensors

    try:
        load_gpt2_tensors(model, row, tensors)
    except ValueError as error:
        raise InputError(f"{folder}: {error}") from None


def other_split(source: Pretrained, n_head: Sequence[int]) -> str | None:
    """What to say where head counts are not the GPT-2's own; None where they are."""
    others = [heads for heads in n_head if heads != source.config.n_head]
    if not others:
        return None
    return (
        f"{source.name} was trained with H = {source.config.n_head}: H = {', '.join(map(str, others))} has the same "
        "weights, another split, so its heads are not heads that training made"
    )


def apply_init(values: dict, given: Pretrained) -> dict:
    """A config's values by dotted key over the shape of the GPT-2 that its runs start from."""
    keys = ["n_layer", "n_embd", "bias", "activation", "block_size"] + ["n_head"] * (not values.get("sweep.n_head"))
    return {f"model.{key}": getattr(given.config, key) for key in keys} | values


def check_init(model: ModelConfig, given: Pretrained) -> None:
    """Raises InputError where a key of the config contradicts the GPT-2 to start from."""
    for key in ("n_layer", "n_embd", "bias", "activation"):
        own, held = getattr(model, key), getattr(given.config, key)
        if own != held:
            raise InputError(
                f"model.{key} {own} contradicts --init {given.name}, which has {held}; leave the key out, "
                f"or give --model.{key} {held}"
            )
    if model.block_size > given.config.block_size:
        raise InputError(
            f"model.block_size {model.block_size} is longer than that of --init {given.name}; "
            f"at most {given.config.block_size} (less is cropped)"
        )


def given_tokenizer(config: Config) -> "Tokenizer | None":
    """The tokenizer that data.tokenizer: init stands for; None where it is another. Raises InputError."""
    return open_pretrained(config.model.init).tokenizer() if config.data.tokenizer == "init" else None


def check_vocabulary(given: Pretrained, tokenizer: "Tokenizer") -> None:
    """Raises InputError where the ids of the corpus's tokenizer do not mean what they mean to the GPT-2."""
    if tokenizer.vocab_size != given.vocab_size:
        raise InputError(
            f"--init {given.name} has a vocabulary of {given.vocab_size} tokens, the corpus's tokenizer has "
            f"{tokenizer.vocab_size}; they must be the same: data.tokenizer: init takes it from there"
        )
    if has_tokenizer(given.folder):
        theirs = given.tokenizer()
        for i in range(given.vocab_size):
            if tokenizer.decode([i]) != theirs.decode([i]) and i not in (tokenizer.eot, theirs.eot):
                raise InputError(
                    f"--init {given.name}: its tokenizer is another than the corpus's (token {i} is "
                    f"{theirs.decode([i])!r} there and {tokenizer.decode([i])!r} here); "
                    "data.tokenizer: init takes it from there"
                )


def has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json"))


def read_json(path: Path) -> dict:
    """A JSON object from a file. Raises InputError."""
    try:
        values = json.loads(read_bytes(path).decode("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: missing") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: not JSON") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: not a JSON object")
    return values


def _good_checkpoint(folder: Path) -> Path:
    """The newest undamaged checkpoint of a run's folder. Raises InputError where there is none."""
    from experiment.checkpoint import verify

    found = [p for p in (folder / "checkpoints").glob("iter-*") if re.fullmatch(r"iter-\d+", p.name)]
    for checkpoint in sorted(found, key=lambda p: int(p.name[5:]), reverse=True):
        try:
            verify(checkpoint)
            return checkpoint
        except ValueError as error:
            log.warning(f"{checkpoint}: {error}; passed over")
    raise InputError(f"{folder / 'checkpoints'}: no undamaged checkpoint")


def _is_name(path: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", path) is not None


def _fetch(name: str) -> Path:
    """The folder of the hub's files of that name; of the local copy where the hub does not answer.

    Raises:
        InputError: there is neither.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

    why = None
    try:  # the library asks an unreachable hub again and again, for minutes: not so here
        within(PATIENCE, lambda: HfApi().model_info(name, timeout=TIMEOUT))
    except RepositoryNotFoundError:
        why = "it has no such model that you may read"
    except Exception as error:
        why = reason(error)
    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES, local_files_only=why is not None))
    except LocalEntryNotFoundError:
        raise InputError(
            f"{name}: no such folder, no local copy of that name, and the hub did not give it ({why}); give a "
            "folder of save_pretrained,\nor set HF_HOME to a cache that holds it, downloaded where there is a network"
        ) from None
    except OSError as error:
        raise InputError(f"{name}: the download from the hub failed ({type(error).__name__}); run it again") from None
