"""python -m tests.torture --minutes 10 --seed 0 [--parts kills ranks damage input disk resources]"""

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

PARTS = {"kills": 0.25, "ranks": 0.1, "damage": 0.3, "input": 0.25, "disk": 0.05, "resources": 0.05}
LEAST = {"kills": 100, "ranks": 5, "damage": 500, "input": 2000, "disk": 1, "resources": 1}


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.torture", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=10, help="for all parts; the least counts are done in any case"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--iterations", type=int, default=10_000, help="of the training whose memory is watched")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="headcount-torture-") as name:
        os.environ["HEADCOUNT_CACHE"] = str(Path(name) / "cache")
        import torch

        torch.set_num_threads(1)
        from tests.torture import damage, disk, inputs, kills, ranks, resources
        from tests.torture.common import Tally

        tally = Tally()
        for part in options.parts:
            folder = Path(name) / part
            folder.mkdir()
            rng = random.Random(f"{options.seed} {part}")
            deadline = time.monotonic() + 60 * options.minutes * PARTS[part] / sum(PARTS[p] for p in options.parts)
            started = time.monotonic()
            if part == "kills":
                kills.kills(folder, rng, tally, deadline, LEAST[part])
            elif part == "ranks":
                ranks.ranks(folder, rng, tally, deadline, LEAST[part])
            elif part == "damage":
                damage.damages(folder, Path(name) / "cache", rng, tally, deadline, LEAST[part])
            elif part == "input":
                inputs.inputs(folder, options.seed, tally, deadline, LEAST[part])
            elif part == "disk":
                disk.disk(folder, tally)
            else:
                resources.checkpoints(folder, tally)
                resources.resources(folder, tally, options.iterations)
            print(f"{part}: {time.monotonic() - started:.0f} s", flush=True)
    for kind in ("kills", "damages", "bad inputs", "silent loads", "lost runs"):
        tally.counts.setdefault(kind, 0)
    print("\n".join(tally.notes))
    print("; ".join(f"{kind}: {n}" for kind, n in tally.counts.items()) + f"; {time.monotonic() - began:.0f} s")
    for broken in tally.broken[:20]:
        print("BROKEN", broken)
    return 1 if tally.broken else 0


if __name__ == "__main__":
    sys.exit(main())
