"""Every benchmark, one after the other: `make bench`. Names on the command line choose (`normalise worker`).

Each prints its ratios against peers measured in the same run and says which targets it met; the last lines sum up.
Exit status: how many missed a target.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
ALSO = {"normalise": ((), ("--all",))}
"""What a benchmark is run with, where it is run more than once."""


def main() -> int:
    known = sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))
    chosen = sys.argv[1:] or known
    if unknown := set(chosen) - set(known):
        sys.exit(f"no benchmark named {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    missed = []
    for name in chosen:
        print(f"\n== {name}", flush=True)
        for more in ALSO.get(name, ((),)):
            command = [sys.executable, "-m", f"tests.perf.bench_{name}", *more]
            if subprocess.run(command, check=False).returncode and name not in missed:
                missed.append(name)
    print(
        f"\n{len(chosen) - len(missed)} of {len(chosen)} benchmarks met their targets"
        + (f"; missed: {', '.join(missed)}" if missed else "")
    )
    return len(missed)


if __name__ == "__main__":
    sys.exit(main())
