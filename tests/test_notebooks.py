"Every notebook runs, is clean and small."
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import house
import pytest

NOTEBOOKS = house.notebooks()
LIMIT = 1_000_000  # bytes
FORKS = get_context("forkserver")  # a process for each notebook, so that memory is given back; imports are paid once
FORKS.set_forkserver_preload(["nbdev.test", "torch", "accelerate", "pandas", "scipy.ndimage", "cv2", "matplotlib.pyplot"])


def name(path): return str(path.relative_to(house.ROOT / "nbs"))


def run_nb(
    path:Path, # a notebook
) -> tuple[bool, float]: # whether it ran; seconds, 0 if it asks to be skipped
    "As `nbdev_test` does, without the cells flagged in settings.ini's tst_flags."
    from nbdev.config import get_config
    from nbdev.test import test_nb
    os.chdir(house.ROOT)
    return test_nb(path, skip_flags=get_config().tst_flags.split(), basepath=house.ROOT,
                   force_flags=os.environ.get("X2FACE_TEST_FLAGS", "").split())


# report.ipynb only reads what a sweep left; test_ablation.py gives it a small one
@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if p.name != "report.ipynb"], ids=name)
def test_runs(path):
    with ProcessPoolExecutor(1, mp_context=FORKS) as fresh: ok, seconds = fresh.submit(run_nb, path).result()
    if ok and not seconds: pytest.skip("skip_exec")
    assert ok, f"{name(path)} stopped with the error above"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_clean(path):
    assert path.stat().st_size < LIMIT, f"{name(path)} has {path.stat().st_size} bytes"
    assert str(house.ROOT) not in path.read_text(encoding="utf-8"), "an output names a path of this machine"
    assert house.is_clean(path), f"run nbdev_clean --fname nbs/{name(path)}"
