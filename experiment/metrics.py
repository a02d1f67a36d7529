"""metrics.jsonl: what a run measured, a line a logged step."""

import json
import math

from experiment.folder import Run
from experiment.loggers import Loggers
from files import write_text


class Metrics:
    """metrics.jsonl of one run: a line a logged step."""

    def __init__(self, run: Run, iteration: int, loggers: Loggers):
        """Keep the lines up to `iteration`; the steps after it will be made again. `loggers` get every line too."""
        run.path.mkdir(parents=True, exist_ok=True)
        self.path = run.path / "metrics.jsonl"
        kept = []
        if self.path.exists() and iteration:
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    if json.loads(line)["iter"] > iteration:
                        break
                except (ValueError, KeyError):
                    break  # a line cut short by a kill: all good ones stand before it
                kept.append(line + "\n")
        write_text(self.path, "".join(kept))
        self.run, self.loggers = run, loggers
        loggers.begin(run, [json.loads(line) for line in kept])

    def write(self, line: dict) -> None:
        finite = {key: _finite(value) for key, value in line.items()}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(finite, allow_nan=False) + "\n")
        self.loggers.write(self.run, finite)


def _finite(value):
    """The value with null in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
