"""Truncations and bit flips in every file: seen, said, and never silently loaded."""

import random
import shutil
import time
from pathlib import Path

from model.fast import cpu
from tests.torture.common import Tally, call, clean, results, write_config


def prepare(folder: Path) -> tuple[Path, Path, dict]:
    """A finished experiment; (its config, its folder, its results)."""
    config = write_config(folder / "config.yaml")
    status, _, err = call("train.py", config, "--out_dir", folder / "good", "--device", "cpu")
    assert status == 0, err
    return config, folder / "good", results(folder / "good")


def harm(file: Path, rng: random.Random) -> str:
    """Cut the file short, or flip one of its bits; what was done, in words."""
    content = bytearray(file.read_bytes())
    place = rng.randrange(len(content))
    if rng.random() < 0.3:
        content = content[:place]
        what = f"cut at {place}"
    else:
        bit = rng.randrange(8)
        content[place] ^= 1 << bit
        what = f"bit {bit} of byte {place} flipped"
    file.unlink()  # a copy may be linked to the original
    file.write_bytes(content)
    return what


def damages(folder: Path, cache: Path, rng: random.Random, tally: Tally, deadline: float, least: int) -> None:
    """Damage one file at a time, then use it: the results are the true ones, or nothing is given."""
    config, good, truth = prepare(folder)
    kinds = [["sample.py", "--max_new_tokens", "5", "--json", "--device", "cpu"], ["compare.py", "--json"]]
    true_output = [call(kind[0], good, *kind[1:])[1].replace(str(good), "X") for kind in kinds]
    written_anew = (".lock", "report.json", "report.html")
    relative = sorted(
        p.relative_to(good)
        for p in good.rglob("*")
        if p.is_file() and p.name not in written_anew and "figures" not in p.parts and p.stat().st_size
    )
    cached = sorted(p for p in cache.rglob("*") if p.is_file() and p.stat().st_size)
    done = 0
    while done < least or time.monotonic() < deadline:
        done += 1
        work = folder / "damaged"
        shutil.rmtree(work, ignore_errors=True)
        if cached and rng.random() < 0.15:
            _cache(rng.choice(cached), config, folder, truth, rng, tally)
            continue
        shutil.copytree(good, work, ignore=shutil.ignore_patterns("figures", "report.*"))
        file = rng.choice(relative)
        what = f"{file}: {harm(work / file, rng)}"
        tally.counts["damages"] += 1
        place = rng.choice([0, 0, 0, 1]) if rng.random() < 0.5 else None  # comparing draws for seconds
        if place is not None:  # sample and compare: the true output, or an error, or a word of what was passed over
            kind = kinds[place]
            status, out, err = call(kind[0], work, *kind[1:])
            if wrong := clean(status, err):
                tally.fail("unclear ends", f"{kind[0]} {what}: {wrong}")
            told = "passed over" in err or f"{file.name} is damaged" in err
            if status == 0 and out.replace(str(work), "X") != true_output[place] and not told:
                tally.fail("silent loads", f"{kind[0]} {what}")
        status, out, err = call("train.py", config, "--out_dir", work, "--device", "cpu")
        if wrong := clean(status, err):
            tally.fail("unclear ends", f"train.py {what}: {wrong}")
        elif status == 0:
            told = any(word in out for word in ("passed over", "put back"))
            same = results(work).keys() == truth.keys() and _same(results(work), truth, alone=told)
            if not same:
                tally.fail("silent loads", f"train.py {what}")
            elif not told and "analysis" not in file.parts and (work / file).read_bytes() != (good / file).read_bytes():
                tally.fail("silent loads", f"train.py said nothing of {what}")


def _same(ours: dict, truth: dict, alone: bool) -> bool:
    """Bit for bit; of runs that were made again without their companions, the steps and the shapes."""
    if not alone:
        return ours == truth
    return all(ours[n][0] == truth[n][0] and ours[n][1].keys() == truth[n][1].keys() for n in truth)


def _cache(file: Path, config: Path, folder: Path, truth: dict, rng: random.Random, tally: Tally) -> None:
    """Damage a cached file (tokens, kernels) and train anew: it is built again, and the results are the true ones."""
    held = file.read_bytes()
    what = f"cache {file.name}: {harm(file, rng)}"
    if file.parent.name == "kernels":
        cpu._library = None  # as at the start of a program
    tally.counts["damages"] += 1
    target = folder / "damaged"
    status, out, err = call("train.py", config, "--out_dir", target, "--device", "cpu")
    if wrong := clean(status, err):
        tally.fail("unclear ends", f"{what}: {wrong}")
    elif status == 0 and (results(target) != truth or "building it again" not in out + err):
        tally.fail("silent loads", what)
    if not file.exists() or file.read_bytes() != held:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(held)
