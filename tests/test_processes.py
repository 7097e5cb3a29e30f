"Two processes on one CPU, started by torch's launcher, which `accelerate launch` uses for GPUs, train to the weights of one; where one is killed, the run ends, and one carries it on."
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file
from x2face_nb.data import make_toy_tracks

BIN = Path(sys.executable).parent
NET = dict(widths=[8, 16, 16, 16, 16], n_up=4)
CONFIG = dict(model=dict(embedding=NET, driving=NET, zero_heads=True, padding="border", centred=True), steps=12, batch_size=8, frame_sizes=[16, 32],
              frame_size_from=[0, .5], lr=.01, clip_norm=1, augment=dict(flip=True, colour=.1), jitter=1, jitter_end=.2, landmark_weight=1,
              shape_weight=.1, form_weight=1, precision="fp32", log_every=4, val_every=100, save_every=1)
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]  # `accelerate launch --cpu` starts one

pytestmark = pytest.mark.skipif(not (BIN / "x2face").exists(), reason="the package is not installed here, and the launcher starts its command")


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    "Starts `x2face train` on toy tracks, into a run's folder."
    w = tmp_path_factory.mktemp("processes")
    make_toy_tracks(w / "toy", n=6, frames=8, size=32)
    (w / "config.json").write_text(json.dumps(CONFIG))
    env = os.environ | dict(OMP_NUM_THREADS="1", X2FACE_CACHE=str(w / "cache"))
    def start(run, *launcher):
        return subprocess.Popen([*launcher, BIN / "x2face", "train", "toy", "--out", run, "--config", "config.json", "--device", "cpu"],
                                cwd=w, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    start.folder = w
    assert (p := start("one")).communicate(timeout=300) and p.returncode == 0
    return start


def ranks(folder):
    "Rank → process id of a run's processes."
    found = {}
    for p in Path("/proc").glob("[0-9]*"):
        try: env, line, at = (p / "environ").read_bytes(), (p / "cmdline").read_bytes(), os.readlink(p / "cwd")
        except OSError: continue
        if at == str(folder) and b"distributed.run" not in line and b"\0train\0" in line:
            found |= {int(v[5:]): int(p.name) for v in env.split(b"\0") if v.startswith(b"RANK=")}
    return found


def equals_one(train, run):
    one, two = (load_file(train.folder / r / "weights.safetensors") for r in ("one", run))
    for k, v in one.items():
        if v.is_floating_point(): assert (v - two[k]).abs().max() <= 2e-3 * v.abs().max() + 1e-5, k
    logs = [[json.loads(x) for x in (train.folder / r / "log.jsonl").read_text().splitlines()] for r in ("one", run)]
    pairs = [(a, b) for a, b in zip(*logs) if "l1" in a]
    assert [a["step"] for a, _ in pairs] == [4, 8, 12] and pairs[-1][0]["landmarks"] < pairs[0][0]["landmarks"]
    return pairs


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="ranks are found in /proc")
def test_two_processes_train_as_one(train):
    p = train("two", *TWO)
    while not (found := len(ranks(train.folder)) == 2) and p.poll() is None: time.sleep(.05)
    assert found, p.communicate()[0]
    out, _ = p.communicate(timeout=300)
    assert p.returncode == 0, out
    for a, b in equals_one(train, "two"):
        for k in ("l1", "landmarks", "shape", "form"): assert a[k] == pytest.approx(b[k], rel=1e-3), (a["step"], k)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="ranks are found in /proc")
@pytest.mark.parametrize("rank", [1])  # 0 ends it likewise
def test_a_killed_rank_ends_the_run_and_one_process_carries_on(train, rank):
    run, p = f"torn{rank}", train(f"torn{rank}", *TWO)
    while not (train.folder / run / "checkpoint.safetensors").exists() and p.poll() is None: time.sleep(.02)
    os.kill(ranks(train.folder)[rank], signal.SIGKILL)
    out, _ = p.communicate(timeout=60)
    assert p.returncode and "Another process of this run ended" in out and "carries on" in out and "This is a bug" not in out, out
    assert not (train.folder / run / "weights.safetensors").exists()
    out, _ = (p := train(run)).communicate(timeout=300)
    assert p.returncode == 0 and "Carrying on from step" in out, out
    for a, b in equals_one(train, run): assert a["l1"] == pytest.approx(b["l1"], rel=5e-2)
