"A training run that is killed again and again ends, to the last bit, where an undisturbed one does."
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from x2face_nb.data import make_toy_tracks

SCRIPT = Path(sys.executable).with_name("x2face")
COMMAND = [str(SCRIPT)] if SCRIPT.exists() else [sys.executable, "-c", "import sys; from x2face_nb.cli import main; sys.exit(main())"]
NET = dict(widths=[8, 8, 8, 8, 8], n_up=4)
CONFIG = dict(model=dict(embedding=NET, driving=NET, zero_heads=True), steps=260, batch_size=4, frame_sizes=[16, 32], frame_size_from=[0, .5],
              optimizer="adamw", lr=1e-3, weight_decay=.01, warmup=20, schedule="cosine", clip_norm=1, augment=dict(flip=True, colour=.1),
              jitter=1, jitter_end=.2, landmark_weight=1, precision="fp32", log_every=1, val_every=90, save_every=7)
KILLS = 6

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    "Starts `x2face train` on toy tracks, into a run's folder."
    w = tmp_path_factory.mktemp("resume")
    make_toy_tracks(w / "toy", n=4, frames=8, size=32)
    (w / "config.json").write_text(json.dumps(CONFIG))
    env = os.environ | dict(OMP_NUM_THREADS="1", X2FACE_CACHE=str(w / "cache"))
    def start(run):
        return subprocess.Popen([*COMMAND, "train", "toy", "--out", run, "--config", "config.json", "--device", "cpu"], cwd=w, env=env,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    start.folder = w
    return start


def finish(p):
    "stdout, once the process ended well."
    out, err = p.communicate(timeout=300)
    assert p.returncode == 0, err
    return out


def log(run):
    "Rows of the log, by step; of a line that is being written, nothing."
    at = run / "log.jsonl"
    lines = at.read_text().split("\n")[:-1] if at.exists() else []
    return [json.loads(x) for x in lines]


def losses(run): return [(r["step"], r["l1"], r["landmarks"], r["lr"]) for r in log(run) if "l1" in r]


def saved_step(run):
    "Step of the checkpoint, 0 where there is none yet."
    at = run / "checkpoint.safetensors"
    if not at.exists(): return 0
    with open(at, "rb") as f: header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
    return json.loads(header["__metadata__"]["state"])["step"]


def disturb(p, run, steps, delay, signum):
    "Send a signal once the run is `steps` beyond where it began, and a moment more."
    goal = saved_step(run) + steps
    was = (run / "log.jsonl").stat().st_mtime_ns if (run / "log.jsonl").exists() else 0
    while p.poll() is None:
        rows = log(run) if (run / "log.jsonl").exists() and (run / "log.jsonl").stat().st_mtime_ns != was else []
        if rows and rows[-1]["step"] >= goal: break
        time.sleep(.005)
    time.sleep(delay)
    p.send_signal(signum)
    out, err = p.communicate(timeout=60)
    return out, err


def test_resume_is_exact(train):
    seed = int(os.environ.get("X2FACE_TEST_SEED", time.time_ns() % 2**32))
    print(f"X2FACE_TEST_SEED={seed}")  # shown where the test fails
    rng, whole, torn = random.Random(seed), train.folder / "whole", train.folder / "torn"
    finish(train("whole"))

    reached = []
    for kill in range(KILLS):
        p = train("torn")
        disturb(p, torn, rng.randint(1, 30) if kill else 1, rng.random() * .05 if kill else 0, signal.SIGKILL)
        assert p.returncode == -signal.SIGKILL
        reached.append((saved_step(torn), log(torn)[-1]["step"]))
    assert len(set(reached)) > KILLS / 2 and reached[-1][0], "the kills came too early to mean anything"
    with open(torn / "log.jsonl", "a") as f: f.write('{"step": 1, "l')  # as a machine that lost its power may leave it
    (torn / ".x2face-abcdefgh").mkdir()
    (torn / ".x2face-abcdefgh" / "checkpoint.safetensors").write_bytes(b"half")

    for signum, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        p = train("torn")
        _, err = disturb(p, torn, 10, 0, signum)
        step = saved_step(torn)
        assert p.returncode == code and err == f"x2face: Training stopped at step {step} of 260; its checkpoint is in torn, and the same command carries on.\n", err
        assert log(torn)[-1]["step"] == step, "steps were lost"

    assert f"Carrying on from step {step} of 260." in finish(train("torn"))
    assert losses(torn) == losses(whole) and [s for s, *_ in losses(torn)] == list(range(1, 261))
    for file in ("weights.safetensors", "checkpoint.safetensors"):
        a, b = load_file(torn / file), load_file(whole / file)
        assert a.keys() == b.keys() and [k for k in a if not torch.equal(a[k], b[k])] == []
    assert sorted(p.name for p in torn.iterdir()) == sorted(p.name for p in whole.iterdir()), "a killed process left files"
