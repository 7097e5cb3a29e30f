"""Ctrl-C at random points of `x2face animate`: python tests/interrupts.py [TRIES] [TABLE.csv]. No test: `make interrupts` runs it.

Each try must end within a few seconds of the signal, say one sentence, and leave no half video: nothing under the name that was asked
for, or as many frames as an undisturbed run, where the signal came after the video was finished. A signal before the command's first import
ends Python itself, with its own traceback; those tries are counted by themselves."""
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pandas as pd

from x2face_nb.core import X2FaceError, write_text
from x2face_nb.samples import sample_driving, sample_source
from x2face_nb.video import VideoReader

COMMAND = [sys.executable, "-m", "x2face_nb", "animate", sample_source(), sample_driving("carphone"), "--stop", ".5", "--no-cache", "-o", "out.mp4"]
LATE = 10. # seconds after which an interruption counts as lost


def frames_of(path:Path) -> int|None:
    "How many frames can be read; None without a file, -1 for one that breaks off."
    if not path.exists(): return None
    try:
        with VideoReader(path) as r: return sum(1 for _ in r)
    except X2FaceError: return -1


def attempt(
    folder:Path, # to work in
    delay:float|None, # seconds from the start to the signal; None lets it run
    whole:int=0, # frames of an undisturbed run
) -> dict: # how it ended, seconds from the signal to the end
    "Run the command once, and interrupt it."
    (folder / "out.mp4").unlink(missing_ok=True)
    p = subprocess.Popen(["nice", *COMMAND], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if delay is not None:
        try: p.wait(delay)
        except subprocess.TimeoutExpired: p.send_signal(signal.SIGINT)
    began = time.monotonic()
    try: said, lost = p.communicate(timeout=None if delay is None else LATE * slowness)[1], False
    except subprocess.TimeoutExpired:
        p.kill()
        said, lost = p.communicate()[1], True
    frames = frames_of(folder / "out.mp4")
    half = [f.name for f in folder.iterdir() if f.name != "out.mp4"]
    if delay is not None and frames not in (None, whole): half.append(f"out.mp4 with {frames} of {whole} frames")
    traceback = "Traceback" in said
    if lost: end = "finding: lost"
    elif half: end = f"finding: left {half}"
    elif traceback and "x2face_nb" in said: end = "finding: a traceback"
    elif traceback or p.returncode == -signal.SIGINT: end = "while Python starts or ends" + (", its traceback" if traceback else "")
    elif p.returncode == 130 and len(said.splitlines()) == 1: end = "one sentence, 130" + (", its video finished before" if frames else "")
    elif p.returncode == 0: end = "finished before"
    else: end = f"finding: {p.returncode} {said.strip()[-200:]}"
    return dict(delay=delay, end=end, seconds=time.monotonic() - began, frames=frames)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler) # a shell ignores it for what runs in the background, and so would the command
    tries, to = int((sys.argv[1:] or [100])[0]), (sys.argv[2:] or [None])[0]
    rng, slowness = random.Random(0), max(1., os.getloadavg()[0] / (os.cpu_count() or 1))
    with tempfile.TemporaryDirectory() as d:
        whole = attempt(Path(tempfile.mkdtemp(dir=d)), None)
        assert whole["end"] == "finished before", whole["end"]
        print(f"a whole run takes {whole['seconds']:.1f} s and makes {whole['frames']} frames", flush=True)
        rows = [attempt(Path(tempfile.mkdtemp(dir=d)), rng.uniform(0, whole["seconds"]), whole["frames"]) for _ in range(tries)]
    found = pd.DataFrame(rows)
    for row in rows:
        if row["end"].startswith("finding"): print(row)
    table = found.groupby("end").agg(tries=("delay", "size"), earliest=("delay", "min"), latest=("delay", "max"),
                                     median=("seconds", "median"), slowest=("seconds", "max")).round(2)
    print(table.to_string())
    if to: write_text(to, table.to_csv())
    sys.exit(any(e.startswith("finding") for e in Counter(found.end)))
