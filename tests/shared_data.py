"""Real files that lie beside the developers' checkout, not in it: a user's clone has none."""

from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
FIGHT = DATA / "fight"
CORPUS = DATA / "corpus"
