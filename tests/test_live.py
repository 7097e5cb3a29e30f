"Live loops in processes and threads of their own: nothing left behind, nothing that grows, nothing that is half written."
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from x2face_nb.animate import Animator, source_crops
from x2face_nb.core import X2FaceError
from x2face_nb.samples import sample_driving, sample_source
from x2face_nb.engine import make_engine
from x2face_nb.live import FaceFollower, LiveFrame, LiveSession, run_live
from x2face_nb.streams import CameraSource, FileSink, FileSource, Recording, WindowSink
from x2face_nb.video import VideoReader, VideoWriter, probe


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    "Two seconds of a talking face: path, frames."
    path = tmp_path_factory.mktemp("live") / "clip.mp4"
    with VideoReader(sample_driving("carphone"), stop=2) as r, VideoWriter(path, 30) as w:
        for f in r: w.write(f)
    with VideoReader(path) as r: return path, list(r)


@pytest.fixture(scope="module")
def emb():
    (src, _, _), = source_crops(sample_source())
    return Animator(cache=False, render="refined").embed(src)


@pytest.fixture(scope="module")
def engine(): return make_engine("torch")


def run(code, *args, timeout=300, **kw):
    "A Python process that must end well; its last line as JSON."
    env = os.environ | dict(OMP_NUM_THREADS="1")
    r = subprocess.run([sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, timeout=timeout, env=env, **kw)
    assert r.returncode == 0, r.stderr
    return json.loads(r.stdout.splitlines()[-1]), r.stderr


HUNDRED = """
import ctypes, gc, json, os, sys, threading, time
from pathlib import Path
from x2face_nb.animate import Animator, source_crops
from x2face_nb.samples import sample_source
from x2face_nb.engine import make_engine
from x2face_nb.live import LiveSession, run_live
from x2face_nb.streams import FileSink, FileSource, Recording
clip, folder = sys.argv[1], Path(sys.argv[2])
(src, _, _), = source_crops(sample_source())
animator, engine = Animator(cache=False, render="refined"), make_engine("torch")
embs = [animator.embed(src), animator.embed(src[:, ::-1].copy())]

class MallInfo(ctypes.Structure):
    _fields_ = [(k, ctypes.c_size_t) for k in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

def allocated():
    "MB that are allocated and not freed, of all threads. The size of the process says less: what is freed stays with it in pieces."
    info = ctypes.CDLL(None).mallinfo2
    info.restype = MallInfo
    return (info().uordblks + info().hblkhd)/2**20

def once(i):
    with LiveSession(embs[0], engine, size=64) as session:
        with run_live(FileSource(clip, pace=bool(i % 2), loop=True), session, [FileSink(folder/"gen.mp4"), Recording(folder/"rec.mp4")]) as loop:
            while loop.ledger.frames < 2 and loop.running: time.sleep(.002)
            session.set(embs[i % 2], size=(64, 96)[i % 2], mirror=bool(i % 3))
    return loop.ledger.frames

def held():
    gc.collect()
    return dict(threads=len(os.listdir("/proc/self/task")), python=threading.active_count(), files=len(os.listdir("/proc/self/fd")),
                mb=allocated(), blocks=sys.getallocatedblocks(), folder=sorted(os.listdir(folder)))

for i in range(10): once(i)
before = held()
frames = [once(i) for i in range(100)]
print(json.dumps(dict(before=before, after=held(), least=min(frames))))
"""


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="asks /proc and glibc what a process holds")
def test_hundred_starts_and_stops(clip, tmp_path):
    seen, _ = run(HUNDRED, clip[0], tmp_path)
    before, after = seen["before"], seen["after"]
    assert seen["least"] >= 2
    assert after["folder"] == ["gen.mp4", "rec.mp4"]
    assert {k: after[k] for k in ("threads", "python", "files")} == {k: before[k] for k in ("threads", "python", "files")}
    assert after["mb"] - before["mb"] < 2, seen
    assert after["blocks"] - before["blocks"] < 2000, seen


def test_nothing_waits_behind_a_slow_session(clip):
    "A session of 60 ms at 30 frames a second: over three seconds the delay stays, and every frame is accounted for."
    def slow(frame, stamp):
        time.sleep(.06)
        return LiveFrame(frame, None, False, "", None, frame, stamp, .06)
    with run_live(FileSource(clip[0], loop=True), slow) as loop: time.sleep(3)
    table = loop.ledger.table()
    assert loop.ledger.frames + loop.ledger.dropped == table.loc["capture", "n"]
    assert loop.ledger.dropped > 10
    assert table.loc["round trip", "p95"] < 400  # a queue would hold more than a second by then


def test_one_session_many_threads(clip, emb, engine):
    "Frames from three threads while portrait, size and mirror change: each frame is whole, and of a size that was asked for."
    _, frames = clip
    session, wrong, done = LiveSession(emb, engine, size=64), [], threading.Event()
    def call():
        for f in frames[:30]:
            try: live = session(f)
            except Exception as e: wrong.append(e)
            else:
                if live.gen.shape not in ((64, 64, 3), (96, 96, 3)): wrong.append(live.gen.shape)
    def change():
        while not done.is_set():
            for size, mirror in ((96, True), (64, False)): session.set(emb, size=size, mirror=mirror)
    threads, changer = [threading.Thread(target=call) for _ in range(3)], threading.Thread(target=change)
    for t in (changer, *threads): t.start()
    for t in threads: t.join()
    done.set()
    changer.join()
    assert wrong == []
    session.close()
    with pytest.raises(X2FaceError, match="closed"): session(frames[0])


def test_replay_gives_what_was_live(clip, emb, engine, tmp_path):
    "A session that was recorded drives the portrait once more, without a camera, to nearly the same pictures at the same times."
    made, second = {}, tmp_path / "second.mp4"
    with VideoWriter(second, 30, crf=0) as w:
        for f in clip[1][:30]: w.write(f)
    class Keep:
        stage = "paint"
        def __init__(self, name): self.lives = made.setdefault(name, [])
        def __enter__(self): return self
        def __exit__(self, *exc): pass
        def write(self, live): self.lives.append(live)
    for name, path, extra in (("live", second, [Recording(tmp_path/"rec.mp4", crf=0)]), ("replay", tmp_path/"rec.mp4", [])):
        with LiveSession(emb, engine, size=64) as session:
            run_live(FileSource(path, pace=False), session, [Keep(name), *extra]).wait(120)
    live, replay = made["live"], made["replay"]
    assert len(live) == len(replay) == 30
    np.testing.assert_allclose(np.diff([x.stamp for x in live]), np.diff([x.stamp for x in replay]), atol=1e-3)
    assert sum(x.found for x in live) > len(live)*.9
    assert np.mean([np.abs(a.gen.astype(int) - b.gen).mean() for a, b in zip(live, replay)]) < 4


def test_face_lost_and_found(clip, emb, engine):
    "Darkness freezes the picture and says so; the light brings the face back."
    _, frames = clip
    dark = np.zeros_like(frames[0])
    with LiveSession(emb, engine, size=64) as session:
        for f in frames[:10]: live = session(f)
        assert live.found and not live.says
        for _ in range(12):
            frozen = session(dark)
            assert not frozen.found and "lost" in frozen.says and (frozen.gen == live.gen).all()
        back = [session(f).found for f in frames[10:20]]
        assert back[-1] and sum(back) >= 5


def test_follower_in_other_light_and_place(clip):
    "A face that walks through the picture while the light goes down stays inside its square."
    _, frames = clip
    h, w = frames[0].shape[:2]
    follow, truth = FaceFollower(), FaceFollower(every=1)
    for i, f in enumerate(frames):
        canvas = np.full((h, w + 60, 3), 90, np.uint8)
        canvas[:, i:i + w] = f*(1 - i/120)
        square, there = follow(canvas.astype(np.uint8)), truth(canvas.astype(np.uint8))
        assert not follow.lost
        cx, cy = truth.seen.reshape(2, 2).mean(0)
        assert abs(square.cx - cx) < .3*square.side and abs(square.cy - cy) < .3*square.side and there is not None


def test_no_camera_is_one_sentence(tmp_path):
    "Nothing but that sentence: OpenCV's own complaints stay away from the terminal."
    code = """
import json
from x2face_nb.core import X2FaceError
from x2face_nb.live import run_live
from x2face_nb.streams import CameraSource
try: run_live(CameraSource(93), lambda frame, stamp: None, block=True)
except X2FaceError as e: print(json.dumps(str(e)))
"""
    said, err = run(code)
    assert said.startswith("Camera 93 cannot be opened") and err == ""


def test_recording_is_whole_or_not_there(clip, tmp_path):
    "A process that is killed while it records leaves no half video under the name that was asked for; one that is interrupted finishes it."
    code = """
import sys
from x2face_nb.live import LiveFrame, run_live
from x2face_nb.streams import FileSource, Recording
def ident(frame, stamp):
    if loop_said.pop() if loop_said else False: print("on", flush=True)
    return LiveFrame(frame, None, False, "", None, frame, stamp, 0.)
loop_said = [True]
run_live(FileSource(sys.argv[1], loop=True), ident, Recording(sys.argv[2]), block=True)
"""
    for sig, whole in ((signal.SIGKILL, False), (signal.SIGINT, True)):
        out = tmp_path / f"{whole}.mp4"
        p = subprocess.Popen([sys.executable, "-c", code, str(clip[0]), str(out)], stdout=subprocess.PIPE, text=True)
        assert p.stdout.readline() == "on\n"
        time.sleep(1)
        p.send_signal(sig)
        p.wait(60)
        p.stdout.close()
        assert out.exists() is whole
        if whole: assert p.returncode == 0 and probe(out).duration > .5


def test_full_disk_is_said(clip, tmp_path):
    "The sink's own trouble ends the loop with its sentence."
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    ident = lambda frame, stamp: LiveFrame(frame, None, False, "", None, frame, stamp, 0.)
    loop = run_live(FileSource(clip[0], pace=False), ident, FileSink(blocked / "out.mp4"))
    with pytest.raises(X2FaceError, match="Cannot write"): loop.wait(60)
    assert not loop.running


def test_camera_unplugged_keeps_the_recording(clip, tmp_path):
    "OpenCV reads a file as it reads a camera, and the file ends."
    ident = lambda frame, stamp: LiveFrame(frame, None, False, "", None, frame, stamp, 0.)
    loop = run_live(CameraSource(str(clip[0])), ident, Recording(tmp_path/"rec.mp4"))
    with pytest.raises(X2FaceError, match="unplugged"): loop.wait(60)
    assert "unplugged" in str(loop.error) and probe(tmp_path/"rec.mp4").frames >= 1


WINDOW = """
import json, sys
from x2face_nb.live import LiveFrame, run_live
from x2face_nb.streams import FileSource, WindowSink
ident = lambda frame, stamp: LiveFrame(frame, None, False, "", None, frame, stamp, 0.)
print(json.dumps([run_live(FileSource(sys.argv[1], pace=False), ident, WindowSink()).wait(60).frames for _ in range(2)]))
"""


@pytest.mark.skipif(not shutil.which("xvfb-run"), reason="a window wants a screen: xvfb-run is not installed")
def test_window_opens_twice(clip):
    r = subprocess.run(["xvfb-run", "-a", sys.executable, "-c", WINDOW, str(clip[0])], capture_output=True, text=True, timeout=300)
    assert json.loads(r.stdout.splitlines()[-1]) == [len(clip[1])]*2, r.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="a Linux process has no screen where DISPLAY is not set")
def test_no_screen_is_one_sentence(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"): monkeypatch.delenv(name, raising=False)
    with pytest.raises(X2FaceError, match="No window can be opened"): WindowSink().__enter__()
