"""Bad configs, overrides, prompts, settings and corpora: success, or an error of a few lines, never a traceback."""

import os
import random
import shutil
import time
from pathlib import Path

import yaml

from experiment.config import keys
from tests.torture.common import CONFIG, Tally, call, clean, write_config

VALUES = [
    "", "0", "-1", "1e999", "nan", "-inf", "null", "true", "[]", "[1,", "{}", "x" * 500, "1_0", "0x10", "9" * 40,
    "é", "‮abc", "\x1b[31m", "!!python/object/apply:os.system ['touch HACKED']", "&a [*a]", "../..", "1.5", "3",
]  # fmt: skip
TEXTS = [
    "", "a", "Once", "\x1b[2J\x07", "\x00x", "\udcff", "مرحبا", "👩‍👩‍👧‍👦" * 20, "x " * 3000, "<script>",
    "FILE:", "FILE:/", "FILE:/nowhere", "FILE:\x1b[31m",
]  # fmt: skip
SAMPLE_OPTIONS = [
    "prompt", "n_head", "run_seed", "seed", "num_samples", "max_new_tokens", "temperature", "top_k", "top_p", "device",
]  # fmt: skip
CORPORA = {
    "empty": b"",
    "one": b"a",
    "nul": b"\0" * 400,
    "invalid": b"abc\xff\xfe" * 50,
    "escape": b"\x1b[31mred\x1b[0m " * 60,
    "arabic": "مرحبا بالعالم ".encode() * 40,
    "emoji": "👩‍👩‍👧 🎉 ".encode() * 60,
    "line": b"to be or not to be " * 530_000,
    "text": b"to be or not to be\n" * 60,
}


def inputs(folder: Path, rng: random.Random, tally: Tally, deadline: float, least: int) -> None:
    """At least `least` bad inputs of every kind, each in this process."""
    trained = folder / "trained"
    call("train.py", write_config(folder / "c.yaml", max_iters=2), "--out_dir", trained, "--device", "cpu")
    for name, content in CORPORA.items():
        (folder / name).write_bytes(content)
    (folder / "folder").mkdir(exist_ok=True)
    if not (folder / "fifo").exists():
        os.mkfifo(folder / "fifo")
    done = 0
    while done < least or time.monotonic() < deadline:
        done += 1
        kind = rng.choices(["override", "yaml", "sample", "compare", "corpus"], [4, 4, 4, 1, 0.15])[0]
        program, argv = _case(kind, folder, trained, rng)
        status, out, err = call(program, *argv)
        tally.counts["bad inputs"] += 1
        wrong = clean(status, err, allowed=(0, 2))
        if not wrong and "\x1b" in out and "--json" not in argv:
            wrong = "an escape sequence on stdout"
        if wrong:
            tally.fail("unclear ends", f"{program} {[str(a)[:60] for a in argv]}: {wrong}")
    if (folder / "HACKED").exists() or Path("HACKED").exists():
        tally.fail("code run", "a YAML tag")


def _case(kind: str, folder: Path, trained: Path, rng: random.Random) -> tuple[str, list]:
    config = folder / "c.yaml"
    if kind == "override":
        key = rng.choice([*keys(), "train.nothing", "sweep.n_embd", "x"])
        return "train.py", [config, f"--{key}", rng.choice(VALUES), "--describe"]
    if kind == "yaml":
        bad = folder / "bad.yaml"
        text = yaml.safe_dump(CONFIG)
        how = rng.randrange(4)
        if how == 0:  # a piece replaced
            place = rng.randrange(len(text))
            text = text[:place] + rng.choice(VALUES) + text[place + rng.randrange(30) :]
        elif how == 1:
            section, name = rng.choice([key for key in keys() if "." in key]).split(".")
            text = f"{section}: {{{name}: {rng.choice(VALUES)}}}"
        elif how == 2:
            text = rng.choice(VALUES) + "\n" + rng.choice(VALUES)
        else:
            text = "".join(chr(rng.randrange(1, 0x500)) for _ in range(rng.randrange(80)))
        bad.write_bytes(text.encode("utf-8", "replace"))
        return "train.py", [bad, "--describe"]
    if kind == "sample":
        argv = [
            rng.choice([trained, trained, trained, folder, "no\x1b[31mwhere"]),
            "--max_new_tokens",
            rng.choice([1, 3]),
        ]
        option = rng.choice(SAMPLE_OPTIONS)
        value = rng.choice(TEXTS) if option == "prompt" else rng.choice(["1", "2", "0.5", *VALUES])
        return "sample.py", [*argv, f"--{option}={value}"]
    if kind == "compare":
        return "compare.py", [rng.choice([folder, "\x1b[31m", trained]), f"--reference={rng.choice(VALUES)}", "--json"]
    target = folder / "corpus"
    shutil.rmtree(target, ignore_errors=True)
    path = folder / rng.choice([*CORPORA, "folder", "fifo", "missing-*", "missing"])
    tokenizer = "char" if path.name == "line" else rng.choice(["char", "bpe"])
    values = ["--data.source", "text", "--data.path", path, "--data.tokenizer", tokenizer, "--train.max_iters", "1"]
    return "train.py", [config, *values, "--data.vocab_size", "258", "--out_dir", target, "--device", "cpu"]
