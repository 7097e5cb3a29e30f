"Runs of before terms were a table: the same losses, and their checkpoints carry on. And all stages of the release, killed on the way."
import json
import os
import signal
import subprocess
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_resume import COMMAND
from x2face_nb.core import X2FaceError, load_tensors, save_tensors
from x2face_nb.data import make_toy_tracks
from x2face_nb.faces import N_MESH, crop_still
from x2face_nb.lift import draw_pairs
from x2face_nb.recipes import stage_configs
from x2face_nb.samples import sample_source
from x2face_nb.training import TrainConfig, Trainer
from x2face_nb.video import read_image, resize

NET = dict(widths=[8, 8, 8, 8, 8], n_up=4)
OLD = dict(model=dict(embedding=NET, driving=NET, padding="border", centred=True, zero_heads=True), steps=12, batch_size=4, k=2,
           frame_sizes=[16, 32], frame_size_from=[0, .5], optimizer="adamw", lr=3e-3, weight_decay=.01, warmup=3, schedule="cosine",
           loss="l1", ms_ssim_weight=.2, clip_norm=1, augment=dict(flip=True, colour=.1), jitter=1, jitter_end=.2, precision="fp32",
           landmark_weight=.7, shape_weight=.3, form_weight=3., eye_weight=2., turn_weight=4., landmark_until=2., mouth_weight=4., mesh=True,
           optical_weight=1., agreement_weight=1., point_agreement_weight=4., log_every=1, val_every=6, save_every=5)
# recorded before terms were a table
FIRST = dict(l1=0.078803, landmarks=0.315700, shape=0.240880, form=0.033495, eyes=0.031315, turn=0.060045,
             optical=0.109986, agreement=0.109986, point_agreement=0.185867)
SIXTH = dict(l1=0.077039, landmarks=0.156520, shape=0.187688, form=0.042674, eyes=0.037049, turn=0.064958,
             optical=0.113251, agreement=0.104277, point_agreement=0.088526)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    "Toy tracks with landmarks of a mesh: those of dlib, and means of random pairs of them; and lifted pairs of a portrait."
    data = make_toy_tracks(tmp_path_factory.mktemp("toy"), n=6, frames=8, size=48).parent
    pick = np.random.default_rng(0).integers(0, 68, (2, N_MESH - 68))
    for p in data.rglob("*.landmarks.npy"):
        points = np.load(p)
        np.save(str(p).replace(".landmarks.", ".mesh."), np.concatenate([points, points[:, pick].mean(1)], 1))
    draw_pairs([resize(crop_still(read_image(sample_source())), 64)], data / "lifted", each=4, size=32)
    return data


def trainer(toy, out): return Trainer(TrainConfig.from_dict(OLD), toy, out, device="cpu", progress=False)


def test_an_older_run_carries_on(toy, tmp_path):
    "The losses are those of before, and a checkpoint with the names of before ends in the same weights."
    torch.set_num_threads(1)
    whole, seen = trainer(toy, tmp_path / "whole"), []
    step = whole.train_step
    def look(batch):
        seen.append(terms := step(batch))
        return terms
    whole.train_step = look
    whole.fit()
    for i, wanted, rel in ((0, FIRST, 1e-3), (5, SIXTH, 2e-2)): # AdamW enlarges what another processor rounds otherwise
        assert {k: float(v) for k, v in seen[i].items()} == pytest.approx(wanted, rel=rel)

    half = trainer(toy, tmp_path / "half")
    def stop(batch):
        if half.step == 5: half.should_stop = signal.SIGTERM
        return Trainer.train_step(half, batch)
    half.train_step = stop
    with pytest.raises(X2FaceError, match="stopped at step 6 of 12"): half.fit()
    metadata, tensors = load_tensors(half.checkpoint)
    state = json.loads(metadata["state"]) | dict(config=TrainConfig().to_dict() | OLD)
    del state["config"]["terms"]
    older = {k.replace("model.readouts.shape.", "model.shape_head."): v for k, v in tensors.items()}
    assert older.keys() != tensors.keys()
    save_tensors(half.checkpoint, older, dict(state=json.dumps(state)))
    resumed = trainer(toy, tmp_path / "half")
    assert resumed.step == 6
    a, b = load_file(resumed.fit()), load_file(whole.weights)
    assert [k for k in b if not torch.equal(a[k], b[k])] == []


def test_stages_are_killed_and_carried_on(toy, tmp_path):
    "`x2face train --stages release` after a kill in its fifth run ends, to the last bit, where an undisturbed one does."
    tiny = dict(model=dict(embedding=NET, driving=NET, zero_heads=True), steps=5, batch_size=2, frame_sizes=[32], frame_size_from=[0],
                precision="fp32", log_every=1, save_every=1, val_every=100)
    settings = [x for k, v in tiny.items() for x in ("--set", f"{k}={json.dumps(v)}")]
    env = os.environ | dict(OMP_NUM_THREADS="1")
    def start(out): return subprocess.Popen([*COMMAND, "train", toy, "--stages", "release", "-o", out, "--device", "cpu", *settings], cwd=tmp_path,
                                            env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    whole, torn, log = start("whole"), start("torn"), tmp_path / "torn" / "4_live_turn" / "log.jsonl"
    while torn.poll() is None and not (log.exists() and len(log.read_text().splitlines()) > 2): time.sleep(.01)
    torn.send_signal(signal.SIGKILL)
    assert torn.wait() == -signal.SIGKILL and not (tmp_path / "torn" / "weights.safetensors").exists()
    torn = start("torn")
    for p in (whole, torn):
        out, err = p.communicate(timeout=300)
        assert p.returncode == 0, err
    assert out.startswith("4_live_turn: step ") and " of 5" in out and "3_live_flow" not in out, out
    runs = [run for of in stage_configs().values() for run in of]
    names = sorted([*(f"{i}_{run}" for i, run in enumerate(runs)), "weights.safetensors"])
    for run in ("whole", "torn"): assert sorted(p.name for p in (tmp_path / run).iterdir()) == names
    a, b = (load_file(tmp_path / run / "weights.safetensors") for run in ("whole", "torn"))
    assert [k for k in b if not torch.equal(a[k], b[k])] == []


def test_unknown_term_names_the_nearest(toy, tmp_path):
    p = subprocess.run([*COMMAND, "train", toy, "-o", "run", "--set", "terms.landmark=1"], cwd=tmp_path, capture_output=True, text=True)
    assert p.returncode == 1 and "did you mean 'landmarks'" in p.stderr and not (tmp_path / "run").exists()
