"""Bad configs, overrides, prompts, settings, corpora, terminals and pilots: success, or an error of a few lines.

The cases are hypothesis strategies, which the tests draw from too: here nothing is shrunk, everything is counted.
"""

import gzip
import io
import os
import shutil
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from experiment.config import keys
from tests.torture.common import CONFIG, Tally, call, clean, shown, write_config

LINE = "to be or not to be\n"


def _zip() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("text.txt", LINE * 60)
    return held.getvalue()


ODD = [
    "", "0", "-1", "1e999", "nan", "-inf", "null", "true", "[]", "[1,", "{}", "x" * 500, "1_0", "0x10", "9" * 40,
    "0x" + "f" * 4000, "é", "‮abc", "\x1b[31m", "!!python/object/apply:os.system ['touch HACKED']",
    "!!python/name:os.system", "&a [*a]", "../..", "1.5", "3", "٣", "a\0b",
]  # fmt: skip
TEXTS = [
    "", "a", "Once", "\x1b[2J\x07", "\x00x", "\udcff", "مرحبا", "👩‍👩‍👧‍👦" * 20, "x " * 3000, "<script>",
    "FILE:", "FILE:/", "FILE:/nowhere", "FILE:\x1b[31m", "FILE:/dev/zero", "FILE:" + "a" * 5000,
]  # fmt: skip
ENCODINGS = ["utf-8", "utf-8", "utf-8", "ascii", "latin-1", "cp1252", "utf-16"]
SAMPLE_OPTIONS = [
    "prompt", "n_head", "run_seed", "seed", "num_samples", "max_new_tokens", "temperature", "top_k", "top_p", "device",
]  # fmt: skip
CORPORA = {
    "empty": b"",
    "one": b"a",
    "nul": b"\0" * 4000,
    "invalid": b"abc\xff\xfe" * 50,
    "escape": b"\x1b[31mred\x1b[0m " * 60,
    "arabic": "مرحبا بالعالم ".encode() * 40,
    "emoji": "👩‍👩‍👧 🎉 ".encode() * 60,
    "line": b"to be or not to be " * 530_000,
    "text": LINE.encode() * 60,
    "windows": ("\ufeff" + LINE * 60).replace("\n", "\r\n").encode(),
    "utf-16": (LINE * 60).encode("utf-16"),
    "latin-1": ("être ou ne pas être\n" * 60).encode("latin-1"),
    "ends": b"to be<|endoftext|>or not to be<|endoftext|>" * 40,
    "page": b"<!DOCTYPE html><p>" + LINE.encode() * 60,
    "packed": gzip.compress(LINE.encode() * 60),
    "archive": _zip(),
    "ids": bytes(range(0, 250, 2)) * 40,
    "rows.ndjson": b'{"text": "to be or not to be"}\n' * 60,
    "table.csv": b"id,text\n" + b'1,"to be, or not"\n' * 60,
    "table.tsv": b"text\tid\n" + b"to be or not\t1\n" * 60,
    "halves.jsonl": b'{"text": "to be \\ud800 or not to be"}\n' * 60,
    "chat.jsonl": b'{"text": [{"role": "user", "content": "to be"}, {"role": "x", "content": "or not"}]}\n' * 60,
    "rows.jsonl": b'{"text": "to be or not to be"}\n' * 60 + b"{",
    "table.parquet": b"PAR1" * 9,
}
PLACES = ("folder", "fifo", "loop", "dangling", "missing-*", "missing", "/dev/zero", "http://[::1", "no\0where")
"""What data.path can lead to besides a corpus."""


@dataclass(frozen=True)
class Case:
    """One call of a program. A Path stands for what has that name in the folder of the trial."""

    program: str
    argv: tuple
    content: bytes = b""  # of the file "given"
    encoding: str = "utf-8"  # of the terminal
    then: tuple["Case", ...] = ()  # where this one succeeds


def prepare(folder: Path) -> None:
    """What the cases need: a config, a folder trained by it, corpora and things that are none."""
    argv = [write_config(folder / "c.yaml", max_iters=2), "--out_dir", folder / "trained", "--device", "cpu"]
    assert call("train.py", *argv)[0] == 0
    for name, content in CORPORA.items():
        (folder / name).write_bytes(content)
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere")


def wrong(case: Case, folder: Path) -> str | None:
    """Carry out the case; what is wrong with how it ended, None where it ended as promised."""
    (folder / "given").write_bytes(case.content)
    shutil.rmtree(folder / "out", ignore_errors=True)
    return _wrong(case, folder)


def _wrong(case: Case, folder: Path) -> str | None:
    argv = [folder / a if isinstance(a, Path) else a for a in case.argv]
    status, out, err = call(case.program, *argv, encoding=case.encoding)
    found = clean(status, err, allowed=(0, 2))
    if not found and status and not any(part.strip() for part in err.split(":")[1:]):
        found = f"an error that names nothing: {err!r}"
    if not found and "--json" not in argv and not shown(out):
        found = "control characters on stdout"
    if (folder / "HACKED").exists() or Path("HACKED").exists():
        found = "code was run"
    if not found and status == 0:
        return next(filter(None, (_wrong(following, folder) for following in case.then)), None)
    return found and f"{case.program} {[str(a)[:60] for a in case.argv]} {case.content[:60]!r}: {found}"


plausible = st.sampled_from(["1", "2", "4", "8", "16", "0.1", "1e-3", "true", "null", "auto", "1,4", "char", "bf16"])
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30), st.sampled_from(ODD)
)  # fmt: skip
values = st.one_of(scalars, st.lists(scalars, max_size=3), st.dictionaries(st.text(max_size=5), scalars, max_size=2))
names = st.sampled_from([*keys(), *SAMPLE_OPTIONS, "train.nothing", "sweep.n_embd", "model", "x", ""])


@st.composite
def overrides(draw: st.DrawFn) -> Case:
    """Any value of any key on the command line, and of several at once."""
    argv = [f"--{draw(names)}={draw(plausible | values)}" for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3])))]
    return Case("train.py", (Path("c.yaml"), *argv, "--describe"))


@st.composite
def configs(draw: st.DrawFn) -> Case:
    """Configs with a wrong value, a piece replaced, or nothing in them that is one."""
    text = yaml.safe_dump(CONFIG)
    how = draw(st.sampled_from([0, 0, 0, 1, 2, 3, 4]))
    if how == 0:
        section, name = draw(st.sampled_from([key for key in keys() if "." in key])).split(".")
        value = draw(st.one_of(st.integers(1, 64), st.floats(0, 1), values))
        text = yaml.safe_dump(CONFIG | {section: CONFIG[section] | {name: value}})
    elif how == 1:  # not as YAML writes it
        text = yaml.safe_dump(CONFIG | {draw(st.sampled_from(["name", "model", "sweep", "x"])): draw(st.integers())})
        text += f"\n{draw(st.sampled_from(['train', 'data', 'model', 'name']))}: {draw(st.sampled_from(ODD))}"
    elif how == 2:
        place = draw(st.integers(0, len(text)))
        text = text[:place] + draw(st.sampled_from(ODD)) + text[place + draw(st.integers(0, 30)) :]
    elif how == 3:
        text = draw(st.text(max_size=80))
    else:
        return Case("train.py", (Path("given"), "--describe"), draw(st.binary(max_size=80)))
    return Case("train.py", (Path("given"), "--describe"), text.encode("utf-8", "replace"))


@st.composite
def samplings(draw: st.DrawFn) -> Case:
    """Any prompt with any setting."""
    place = draw(
        st.sampled_from([Path("trained")] * 6 + [Path("folder"), Path("fifo"), Path("loop"), "no\x1b[31mwhere"])
    )
    argv = [place, "--max_new_tokens", draw(st.sampled_from(["1", "3"])), "--device", "cpu"]
    if draw(st.booleans()):
        argv.append(f"--prompt={draw(st.one_of(st.text(max_size=40), st.sampled_from(TEXTS)))}")
    for _ in range(draw(st.integers(0, 2))):
        value = draw(
            st.one_of(st.integers(-3, 5), st.floats(0, 1), st.floats(), st.text(max_size=8), st.sampled_from(ODD))
        )
        argv.append(f"--{draw(st.sampled_from(SAMPLE_OPTIONS))}={value}")  # of the same option, the last one counts
    more = draw(st.sampled_from([(), ("--json",), ("--greedy",)]))
    return Case("sample.py", (*argv, *more), encoding=draw(st.sampled_from(ENCODINGS)))


@st.composite
def comparisons(draw: st.DrawFn) -> Case:
    """Folders that are none, and references that were not run."""
    place = draw(st.sampled_from([Path("trained"), Path("folder"), Path("fifo"), Path("c.yaml"), "\x1b[31m", "*", ""]))
    argv = (place, f"--reference={draw(st.one_of(plausible, st.integers(), st.sampled_from(ODD)))}", "--quick")
    return Case("compare.py", argv + draw(st.sampled_from([(), ("--json",), (f"--out={draw(st.sampled_from(ODD))}",)])))


def training(path: Path | str, *more: str, content: bytes = b"") -> Case:
    """A step of training on a corpus of text."""
    argv = (Path("c.yaml"), "--data.source", "text", "--data.path", path, "--train.max_iters", "1", *more)
    return Case("train.py", (*argv, "--out_dir", Path("out"), "--device", "cpu"), content)


@st.composite
def corpora(draw: st.DrawFn) -> Case:
    """Any bytes, any text, the corpora above, and paths that lead to none."""
    tokenizer = draw(st.sampled_from(["char", "bpe"]))
    kind = draw(st.sampled_from(["bytes", "text", "text", "named", "named", "place"]))
    path, content = Path("given"), b""
    if kind == "bytes":
        content = draw(st.binary(max_size=400))
    elif kind == "text":
        content = (draw(st.text(min_size=5, max_size=200)) * 40).encode()
    elif kind == "named":
        path = Path(draw(st.sampled_from(list(CORPORA))))
        tokenizer = "char" if path.name == "line" else tokenizer
    else:
        path = draw(st.sampled_from(PLACES))
        path = path if path.startswith(("/", "http")) else Path(path)
    size = draw(st.sampled_from(["257", "257", "258", "60000"]))
    more = draw(st.sampled_from([(), (), (), ("--data.max_chars", "400"), ("--data.max_tokens", "30")]))
    more += draw(st.sampled_from([(), ("--data.val_fraction", "0.3")]))
    more += draw(
        st.sampled_from([(), (), *(("--data.separator", s) for s in ("line", "blank", "or", "<|endoftext|>"))])
    )
    return training(path, "--data.tokenizer", tokenizer, "--data.vocab_size", size, *more, content=content)


@st.composite
def pilots(draw: st.DrawFn) -> Case:
    """A few steps of a network of any shape on any corpus, however bad, and its comparison and samples."""
    width = draw(st.sampled_from([2, 6, 16]))
    heads = draw(st.lists(st.sampled_from([h for h in (1, 2, 3, 4, 6) if width % h == 0]), min_size=1, unique=True))
    chosen = {
        "model.n_embd": width,
        "model.n_layer": draw(st.integers(1, 2)),
        "model.block_size": draw(st.sampled_from([1, 3, 4, 16])),
        "model.dropout": draw(st.sampled_from([0, 0, 0.5])),
        "sweep.n_head": ",".join(map(str, sorted(heads))),
        "sweep.seed": draw(st.sampled_from(["0", "4", "0,1"])),
        "sweep.learning_rate": draw(st.sampled_from(["1e-3", "10", "1e9", "1e-3,1e9"])),
        "train.max_iters": draw(st.sampled_from([1, 2, 5])),
        "train.eval_interval": draw(st.sampled_from([1, 9])),
        "train.warmup_iters": draw(st.sampled_from([0, 3])),
    }
    corpus = draw(st.sampled_from([None, None, "text", "windows", "arabic", "emoji", "packed", "table.csv"]))
    if corpus:
        chosen |= {"data.source": "text", "data.path": Path(corpus), "data.tokenizer": "char"}
    argv = [part for key, value in chosen.items() for part in (f"--{key}", value)]
    compared = Case("compare.py", (Path("out"), "--device", "cpu"), encoding=draw(st.sampled_from(ENCODINGS)))
    sampled = Case("sample.py", (Path("out"), "--max_new_tokens", "2", "--num_scored", "2", "--device", "cpu"))
    argv = (Path("c.yaml"), *argv, "--out_dir", Path("out"), "--device", "cpu")
    return Case("train.py", argv, encoding=draw(st.sampled_from(ENCODINGS)), then=(compared, sampled))


SHARES: list[tuple[Callable[[], st.SearchStrategy[Case]], float]] = [
    (overrides, 0.3),
    (configs, 0.3),
    (samplings, 0.25),
    (comparisons, 0.05),
    (corpora, 0.08),
    (pilots, 0.02),
]


def inputs(folder: Path, number: int, tally: Tally, deadline: float, least: int) -> None:
    """At least `least` bad inputs of all kinds, each in this process; `number` seeds what is drawn."""
    prepare(folder)
    done = 0
    while done < least or time.monotonic() < deadline:
        for strategy, share in SHARES:
            number += 1
            done += _draw(strategy(), number, max(1, round(share * least / 5)), folder, tally)


def _draw(strategy: st.SearchStrategy[Case], number: int, count: int, folder: Path, tally: Tally) -> int:
    """Carry out `count` cases; how many there were."""
    done = 0

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(strategy)
    def carry_out(case: Case) -> None:
        nonlocal done
        done += 1
        tally.counts["bad inputs"] += 1
        if found := wrong(case, folder):
            tally.fail("unclear ends", found)

    carry_out()
    return done
