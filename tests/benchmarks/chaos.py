"""`python -m tests.benchmarks.chaos [SEED [KILLS]]`: a study on a cluster of three nodes through
twenty random kills, beside the same study in peace; see `tests/chaos.py` for what is killed. About
half an hour.
"""

import logging
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from buckets import bucket
from chaos import KINDS, USUAL, Chaos
from clusters import environment
from commands import untimed
from drivers import Place, Slower, ray_head

KILLS = 20
LONG = USUAL.replace("--samples 6 ", "--samples 140 ")
"""Long enough for all of them."""


def main(seed: int = 0, kills: int = KILLS) -> None:
    """Print what was killed, and whether both studies came to the same."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    draw = random.Random(seed)
    each = kills // len(KINDS)
    kinds = [*KINDS * each, *draw.choices(KINDS, k=kills - each * len(KINDS))]
    draw.shuffle(kinds)
    root = Path(tempfile.mkdtemp(prefix="chaos-"))
    home = root / "home"
    home.mkdir()
    with ray_head(home) as (address, _):
        straight = Place(root, address, home)
        assert straight.run("straight", LONG) == 0, straight.output("straight")
    with bucket() as s3:
        chaos = Chaos(root, home, environment(root / "node"), s3, seed, LONG, Slower)
        try:
            for kind in kinds:
                chaos.kill(kind)
                print(f"{kind}: {chaos.place.events('chaos', 'epoch')} epochs", flush=True)
            assert chaos.end() == 0, chaos.printed
        finally:
            chaos.close()
    print(f"{kills} kills: {dict(Counter(kinds))}")
    for name, once, twice in zip(
        ("trials", "epochs"), straight.tables("straight"), chaos.place.tables("chaos"), strict=True
    ):
        same = untimed(once, "node").equals(untimed(twice, "node"))
        print(f"{name}: {len(once)} rows, {len(twice)} after the kills, the same: {same}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
