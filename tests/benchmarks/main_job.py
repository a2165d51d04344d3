"""The main job on the built-in digits, in a new folder with an empty home: seconds, and accuracy on the test split.

    python tests/benchmarks/main_job.py [--seeds 3] [FLAG...]

Further flags go to main.py.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MAIN = Path(__file__).parents[2] / "main.py"


def main() -> None:
    """Print a line for each seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    arguments, rest = parser.parse_known_args()
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, str(MAIN), "--model", "mobilenetv2", "--finetune", "--seed", str(seed), *rest]
            start = time.monotonic()
            subprocess.run(command, cwd=folder, env={**os.environ, "HOME": folder}, check=True, capture_output=True)
            seconds = time.monotonic() - start
            (card,) = Path(folder).glob("saved_models/*/1/assets.extra/card.json")
            top1 = json.loads(card.read_text())["test_metrics"]["top1"]
            print(
                f"seed {seed}: {seconds:.0f} s, test top-1 {top1['value']:.1%} "
                f"(95% interval {top1['low']:.1%} to {top1['high']:.1%})",
                flush=True,
            )


if __name__ == "__main__":
    main()
