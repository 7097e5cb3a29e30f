"Damaged files end in a sentence: no traceback, no hang, no growth. A thorough run is `make fuzz`."
import csv
import os
import subprocess
import sys

import fuzz
import holes
import house
import pytest


@pytest.mark.skipif(os.name != "posix", reason="limits of memory are POSIX's")
def test_damaged_files_end_in_a_sentence():
    got = fuzz.run(2000, int(os.environ.get("X2FACE_FUZZ_SEED", 0)))
    assert not got["findings"], "\n".join(map(str, got["findings"]))
    assert got["ends"]["refused"] > 500 and got["ends"]["read"] > 500, got  # damage that is never seen, or always, tests nothing


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks and limits are Linux's")
def test_holes_stay_closed():
    "Those that took a second; `make holes` tries all of them."
    rows = csv.DictReader((house.ROOT / "results/holes.csv").read_text().splitlines())
    quick = [r["hole"] for r in rows if float(r["seconds"]) <= 1]
    p = subprocess.run([sys.executable, holes.__file__, "", *quick], capture_output=True, text=True, timeout=300)
    assert p.returncode == 0 and len(p.stdout.splitlines()) == len(quick) > 15, p.stdout + p.stderr
