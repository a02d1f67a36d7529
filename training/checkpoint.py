"""Checkpoints as training writes, restores and removes them; experiment/checkpoint.py reads them.

A checkpoint belongs to a run, not to the stack it trained in. It is written whole or not at all, and two are kept.
"""

import json
import logging
import shutil
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from errors import InputError, WorkError
from experiment.checkpoint import FILES, MOMENTS, WEIGHTS, State, checkpoint_folder, verify
from experiment.folder import METRICS, Run, checkpoint_iteration, refuse_links, verified
from files import link_or_copy, read_bytes, read_checked, remove_folder, sha256, write_checked, write_folder, write_json
from model.gpt import GPT
from model.gpt2 import gpt2_config, gpt2_tensors, load_gpt2_tensors
from training.optimizer import StackedAdamW

log = logging.getLogger("headcount")

KEEP = 2


def save(run: Run, model: GPT, optimizer: StackedAdamW, row: int, state: State, eot: int | None) -> None:
    """Write the run, which is row `row` of the stack, as it stands; keep this checkpoint and the one before."""
    target = checkpoint_folder(run, state.iteration)
    config = gpt2_config(model, row, eot)

    def fill(folder: Path) -> None:
        save_file(gpt2_tensors(model, row), folder / WEIGHTS, metadata={"format": "pt"})
        save_file(optimizer.moments(row), folder / MOMENTS)
        shutil.copyfile(run.path / METRICS, folder / METRICS)
        checksums = {name: sha256(folder / name) for name in FILES}
        write_checked(folder / "state.json", {**asdict(state), "config": config, "sha256": checksums})

    refuse_links(run.path, run.path / "checkpoints")
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        write_folder(target, fill)
        write_json(run.path / "config.json", config)
        link_or_copy(target / WEIGHTS, run.path / WEIGHTS)
        for old in run.checkpoints()[KEEP:]:
            remove_folder(old)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise WorkError(
            f"{target}: cannot write the checkpoint: {reason}; "
            "make room, and the same command goes on from the last good one"
        ) from None


def load_row(run: Run, model: GPT, optimizer: StackedAdamW, row: int, iteration: int) -> State:
    """Put the checkpoint of step `iteration`, found good before, into row `row` of the stack; 0 needs none.

    Raises:
        InputError: the checkpoint does not fit the model.
    """
    if iteration == 0:
        return State()
    folder = checkpoint_folder(run, iteration)
    try:
        state = verify(folder)
        load_gpt2_tensors(model, row, load_file(folder / WEIGHTS))
        optimizer.load_moments(row, load_file(folder / MOMENTS), state.iteration)
    except ValueError as error:
        raise InputError(f"{folder}: does not fit this config: {error}") from None
    return state


def remove_newer(run: Run, iteration: int) -> None:
    """Remove checkpoints of later steps: they are damaged, or not common to the stack, and are made again."""
    refuse_links(run.path, run.path / "checkpoints")
    for newer in run.checkpoints():
        if checkpoint_iteration(newer) > iteration:
            remove_folder(newer)


def put_back(run: Run, iteration: int) -> None:
    """Make the run's own files those of its checkpoint of step `iteration`, its newest good one, where they are not."""
    remove_newer(run, iteration)
    folder = checkpoint_folder(run, iteration)
    config = read_checked(folder / "state.json")["config"]
    wanted = {WEIGHTS: read_bytes(folder / WEIGHTS), METRICS: verified(folder, METRICS)}
    wanted["config.json"] = (json.dumps(config, indent=2) + "\n").encode()
    for name, content in wanted.items():
        file = run.path / name
        if file.is_file() and not file.is_symlink() and file.read_bytes() == content:
            continue
        log.warning(f"{file}: not that of {folder.name}; put back")
        if name == "config.json":
            write_json(file, config)
        else:  # metrics grow: never a link
            link_or_copy(folder / name, file, link=name == WEIGHTS)
