"""What watching a study costs: the driver's CPU seconds with every surface, and with none.

The same small study in turn, on a real pseudo-terminal, so that the live view is drawn, with Ray's
dashboard on, so that metrics are exported. Training is in other processes: what the driver takes
more is the surfaces' part.
"""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from study.record import read_record
from tests.terminals import Terminal

STUDY = "--dataset digits --samples 8 --epochs 4 --confirm-seeds 0 --precision float32"
PAIRS = 2
DRIVER = """
import resource, sys
import study.driver
from study.run import main
if sys.argv.pop() == "off":
    study.driver._surfaces = lambda *_: []
main()
used = resource.getrusage(resource.RUSAGE_SELF)
with open(sys.argv[-1] + ".txt", "w") as file:
    file.write(str(used.ru_utime + used.ru_stime))
"""


def run(folder: Path, surfaces: str) -> tuple[float, float]:
    """CPU seconds of the driver, and core-seconds of the trials."""
    name = f"{surfaces}-{len(list(folder.iterdir()))}"
    results = folder / name
    options = [*STUDY.split(), "--name", "study", "--results-dir", str(results)]
    terminal = Terminal(120)
    driver = terminal.start([sys.executable, "-c", DRIVER, *options, surfaces], Path(), None)
    if driver.wait():
        raise subprocess.CalledProcessError(driver.returncode, STUDY)
    terminal.close()
    seconds = float(Path(f"{results}.txt").read_text())
    spent = read_record(results / "study").seconds()
    return seconds, sum(stage["core"] for name, stage in spent.items() if name != "wall")


def main() -> None:
    """Print the table."""
    differences = []
    print("driver's CPU seconds    all surfaces    none    core-seconds of trials")
    with tempfile.TemporaryDirectory() as folder:
        for number in range(PAIRS):
            on, trials = run(Path(folder), "on")
            off, _ = run(Path(folder), "off")
            differences.append((on - off) / trials)
            print(f"pair {number + 1:>15}{on:>20.2f}{off:>8.2f}{trials:>26.1f}", flush=True)
    print(f"surfaces take {statistics.median(differences):.1%} of the core time of trials (median)")


if __name__ == "__main__":
    main()
