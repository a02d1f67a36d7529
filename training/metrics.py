"""metrics.jsonl: what a run measured, a line a logged step."""

import json
import math
from typing import Any

from experiment.folder import METRICS, Run, verified
from files import write_text
from training.loggers import Loggers


class Metrics:
    """metrics.jsonl of one run: a line a logged step."""

    def __init__(self, run: Run, iteration: int, loggers: Loggers):
        """Begin with the lines of the checkpoint of step `iteration`, which `loggers` get too, as every line after."""
        run.path.mkdir(parents=True, exist_ok=True)
        self.path = run.path / METRICS
        kept = (
            verified(run.path / "checkpoints" / f"iter-{iteration:06d}", METRICS).decode("utf-8") if iteration else ""
        )
        write_text(self.path, kept)
        self.run, self.loggers = run, loggers
        loggers.begin(run, [json.loads(line) for line in kept.splitlines()])

    def write(self, line: dict) -> None:
        line = finite(line)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
        self.loggers.write(self.run, line)


def finite(value: Any) -> Any:
    """The value with null in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
