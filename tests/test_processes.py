"Two processes on one CPU, started by `accelerate launch`, train to the weights of one."
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from x2face_nb.data import make_toy_tracks

BIN = Path(sys.executable).parent
NET = dict(widths=[8, 16, 16, 16, 16], n_up=4)
CONFIG = dict(model=dict(embedding=NET, driving=NET, zero_heads=True, padding="border", centred=True), steps=12, batch_size=8, frame_sizes=[16, 32],
              frame_size_from=[0, .5], lr=.05, clip_norm=1, augment=dict(flip=True, colour=.1), jitter=1, jitter_end=.2, landmark_weight=1,
              shape_weight=.1, form_weight=1, precision="fp32", log_every=4, val_every=100, save_every=6)


@pytest.mark.skipif(not (BIN / "x2face").exists(), reason="the package is not installed here, and accelerate launches its command")
def test_two_processes_train_as_one(tmp_path):
    make_toy_tracks(tmp_path / "toy", n=6, frames=8, size=32)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    env = os.environ | dict(OMP_NUM_THREADS="1", X2FACE_CACHE=str(tmp_path / "cache"))
    two = [BIN / "accelerate", "launch", "--cpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    for run, command in (("one", []), ("two", two)):
        p = subprocess.run([*command, BIN / "x2face", "train", "toy", "--out", run, "--config", "config.json", "--device", "cpu"],
                           cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
        assert p.returncode == 0, p.stderr
    one, two = (load_file(tmp_path / run / "weights.safetensors") for run in ("one", "two"))
    for k, v in one.items():
        if v.is_floating_point(): assert (v - two[k]).abs().max() <= 2e-3 * v.abs().max() + 1e-5, k
    logs = [[json.loads(x) for x in (tmp_path / run / "log.jsonl").read_text().splitlines()] for run in ("one", "two")]
    pairs = [(a, b) for a, b in zip(*logs) if "l1" in a]
    assert [a["step"] for a, _ in pairs] == [4, 8, 12] and pairs[-1][0]["landmarks"] < pairs[0][0]["landmarks"]
    for a, b in pairs:
        for k in ("l1", "landmarks", "shape", "form"): assert a[k] == pytest.approx(b[k], rel=1e-3), (a["step"], k)
