"""Measurements of a run, kept beside it: taken once, and again when the weights, the measure or its settings change.

    h04-seed0/analysis/heads.json      {"key": {"version", "settings", "weights"}, "value": …, checksum}

What is damaged or made otherwise is measured again; a folder that cannot be written costs only the next start's time.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import InputError
from experiment.checkpoint import WEIGHTS, good_iterations
from experiment.folder import Run, checkpoint_iteration, refuse_links
from files import read_checked, write_checked

log = logging.getLogger("headcount")


@dataclass(frozen=True)
class Kept:
    """Where a measurement of a run is kept, and what it has to have been made from to count."""

    file: Path
    key: dict[str, Any]

    @classmethod
    def of(cls, run: Run, weights: str, name: str, version: int, settings: dict) -> "Kept":
        """weights: their checksum. version: of the measure, raised when it would give other values.

        Raises InputError where the run's folder is a link.
        """
        file = run.path / "analysis" / f"{name}.json"
        refuse_links(run.path, file.parent)
        key = {"version": version, "settings": settings, "weights": weights}
        return cls(file, json.loads(json.dumps(key)))  # as it is read back: lists for tuples

    def read(self) -> Any:
        """The value; None where there is none of this key."""
        try:
            kept = read_checked(self.file)
            return kept["value"] if kept["key"] == self.key else None
        except (OSError, KeyError):
            return None  # none yet
        except ValueError as error:
            log.warning(f"{self.file}: {error}; passed over, and measured again")
            return None

    def write(self, value: Any) -> None:
        """Keep plain JSON values, where the folder can be written."""
        try:
            self.file.parent.mkdir(exist_ok=True)
            write_checked(self.file, {"key": self.key, "value": value})
        except OSError as error:
            log.warning(f"{self.file}: cannot be kept ({error.strerror}); it is measured again next time")


def weights_checksum(run: Run) -> str:
    """SHA-256 of the weights in the newest good checkpoint. Raises InputError where there is none."""
    good = good_iterations(run)
    for folder in run.checkpoints():
        if checkpoint_iteration(folder) in good:
            return json.loads((folder / "state.json").read_text(encoding="utf-8"))["sha256"][WEIGHTS]
    raise InputError(f"{run.path}: not trained yet; run train.py with its config first")
