"""Measurements of a run, kept beside it: taken once, and again when the weights, the measure or its settings change.

    h04-seed0/analysis/heads.json      {"key": {"version", "settings", "weights"}, "value": …, "seal"}

What is damaged or made otherwise is measured again; a folder that cannot be written costs only the next start's time.
"""

import json
import logging
from collections.abc import Callable

from errors import InputError
from experiment.checkpoint import WEIGHTS, good_iterations
from experiment.folder import Run, checkpoint_iteration, refuse_links
from files import read_checked, write_checked

log = logging.getLogger("headcount")


def cached(
    run: Run,
    name: str,
    version: int,
    settings: dict,
    measure: Callable[[], dict],
) -> dict:
    """The value of `measure()`, plain JSON values, from the run's folder where it was kept with the same key.

    version: of the measure; raised when it would give another value for the same settings.
    Raises InputError where the run has no good checkpoint, and where its folder is a link.
    """
    file = run.path / "analysis" / f"{name}.json"
    refuse_links(run.path, file.parent)
    key = {"version": version, "settings": settings, "weights": weights_checksum(run)}
    key = json.loads(json.dumps(key))  # as it is read back: lists for tuples
    try:
        kept = read_checked(file)
        if kept["key"] == key:
            return kept["value"]
    except (OSError, KeyError):
        pass  # none yet
    except ValueError as error:
        log.warning(f"{file}: {error}; passed over, and measured again")
    value = json.loads(json.dumps(measure()))
    try:
        file.parent.mkdir(exist_ok=True)
        write_checked(file, {"key": key, "value": value})
    except OSError as error:
        log.warning(f"{file}: cannot be kept ({error.strerror}); it is measured again next time")
    return value


def weights_checksum(run: Run) -> str:
    """SHA-256 of the weights in the newest good checkpoint. Raises InputError where there is none."""
    good = good_iterations(run)
    for folder in run.checkpoints():
        if checkpoint_iteration(folder) in good:
            return json.loads((folder / "state.json").read_text(encoding="utf-8"))["sha256"][WEIGHTS]
    raise InputError(f"{run.path}: not trained yet; run train.py with its config first")
