"A few of the faults of tests/faults.py; `make faults` does them twenty times over. Training that is killed is in test_resume.py."
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, limits and mounts are Linux's")


@pytest.mark.parametrize("commands, faults", [("prepare", "killed,disk_full,two_in_one_folder"), ("animate", "killed,read_only,file_limit")])
def test_faults(commands, faults):
    p = subprocess.run([sys.executable, Path(__file__).with_name("faults.py"), "2", "", commands, faults], capture_output=True, text=True, timeout=300)
    rows = [json.loads(l) for l in p.stdout.splitlines() if l.startswith("{")]
    assert p.returncode == 0, p.stdout + p.stderr
    assert all(r["cases"] and not r["findings"] for r in rows) and {r["fault"] for r in rows} <= set(faults.split(",")), rows
