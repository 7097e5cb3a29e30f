"A minute of 1080p is read frame by frame in a process of its own: memory stays where it was after two seconds."
import json
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

SECONDS, FPS = 60, 10

STREAM = """
import json, re, resource, sys
from pathlib import Path
from x2face_nb.video import VideoReader

def peak():
    "Peak memory in MB. On Linux ru_maxrss begins at what the parent process took, so that it would hide any growth."
    if sys.platform == "linux": return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)

n = 0
with VideoReader(sys.argv[1]) as r:
    for t, frame in r.timed():
        n += 1
        if t <= 2: early = peak()
print(json.dumps(dict(frames=n, shape=frame.shape, early=early, late=peak())))
"""


@pytest.fixture
def film(tmp_path):
    "A bright bar wanders over grey: cheap to make, and each frame differs from the last."
    path = tmp_path / "film.mp4"
    luma = np.full((1080, 1920), 90, np.uint8)
    with av.open(str(path), "w") as c:
        s = c.add_stream("libx264", rate=Fraction(FPS), options={"preset": "ultrafast", "crf": "30"})
        s.width, s.height, s.pix_fmt = 1920, 1080, "yuv420p"
        for i in range(SECONDS * FPS):
            frame = av.VideoFrame(1920, 1080, "yuv420p")
            x = i * 3 % 1800
            luma[:, x:x + 100] = 200
            for plane, value in zip(frame.planes[1:], (110, 140)):
                plane.update(bytes([value]) * plane.buffer_size)
            padded = np.full((frame.planes[0].height, frame.planes[0].line_size), 90, np.uint8)
            padded[:, :1920] = luma
            frame.planes[0].update(padded.tobytes())
            luma[:, x:x + 100] = 90
            c.mux(s.encode(frame))
        c.mux(s.encode(None))
    return path


def test_streaming_keeps_memory_bounded(film):
    pytest.importorskip("resource", reason="the peak of a process is asked for through resource, which Windows lacks")
    out = subprocess.run([sys.executable, "-c", STREAM, str(film)], capture_output=True, text=True, check=True).stdout
    seen = json.loads(out)
    assert seen["frames"] == SECONDS * FPS and seen["shape"] == [1080, 1920, 3]
    held = seen["frames"] * 1080 * 1920 * 3 / 2**20
    assert held > 3000  # what a reader that keeps its frames would take, in MB
    assert seen["late"] - seen["early"] < 100, seen


def test_following_long_takes_little():
    "Ten minutes at 25 frames and five looks a second, as the detector would give them: a table of both would take 360 MB."
    import tracemalloc
    from x2face_nb.faces import CropConfig, Face
    from x2face_nb.motion import _squares
    face = Face(np.float32([10, 10, 50, 60]), 1., np.zeros((5, 2), np.float32))
    frames, seen = np.arange(15_000), [(i, [face]) for i in range(0, 15_000, 5)]
    tracemalloc.start()
    squares = _squares(frames, seen, frames / 25, None, CropConfig())
    peak = tracemalloc.get_traced_memory()[1] >> 20
    tracemalloc.stop()
    assert len(squares) == 15_000 and all(squares) and peak < 60, peak


def test_motion_of_a_long_video_is_not_held(monkeypatch):
    "Vectors and landmarks of 1,500 frames are 2.8 MB; a list of them and its copies took more than twice as much."
    import tracemalloc
    from types import SimpleNamespace
    import torch
    from x2face_nb import motion
    points = np.random.default_rng(0).uniform(0, 8, (470, 3)).astype(np.float32)
    class Reader:
        mesh = SimpleNamespace(reset=lambda: None)
        def __call__(self, img): return points
    model = SimpleNamespace(driving=SimpleNamespace(encode=lambda x: torch.ones(len(x), 128)), parameters=lambda: iter([torch.zeros(1)]))
    monkeypatch.setattr(motion, "FaceReader", Reader)
    monkeypatch.setattr(motion, "_HELD", 1 << 17)
    crop = np.zeros((8, 8, 3), np.uint8)
    tracemalloc.start()
    template = motion.record(model, ((i / 25, crop, 0) for i in range(1500)), 25., "")
    motion.reference_frames(template, points)
    for _ in motion._played(template, True): pass
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    assert template.vecs.shape == (1500, 2, 128) and peak < 2, peak
