"""metrics.jsonl: what a run measured, a line a logged step."""

import json
import math
from typing import Any

from experiment.checkpoint import checkpoint_folder
from experiment.folder import METRICS, Run, verified
from files import write_text
from training.loggers import Loggers


class Metrics:
    """metrics.jsonl of one run, whose lines `loggers` get too."""

    def __init__(self, run: Run, loggers: Loggers):
        self.run, self.loggers = run, loggers

    def restart(self, iteration: int) -> None:
        """Write the file anew with the lines of the checkpoint of step `iteration`: later steps are made again."""
        self.run.path.mkdir(parents=True, exist_ok=True)
        kept = verified(checkpoint_folder(self.run, iteration), METRICS).decode("utf-8") if iteration else ""
        write_text(self.run.path / METRICS, kept)
        self.loggers.begin(self.run, [json.loads(line) for line in kept.splitlines()])

    def write(self, line: dict) -> None:
        """Add a line."""
        line = finite(line)
        with open(self.run.path / METRICS, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
        self.loggers.write(self.run, line)


def finite(value: Any) -> Any:
    """The value with null in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
