"""Commands that are killed, cut short, refused and doubled. `python tests/faults.py 20 results/faults.csv` kills each command
twenty times, gives it the other faults five times, and writes a table; test_faults.py does fewer.

Every case runs a real command, in a forked process where what it imports is there already. What is on disk after a fault
is whole or absent, a command that cannot go on says so in a sentence, and the command given again ends where an
undisturbed one does."""
import contextlib
import ctypes
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

SECONDS = 300 # after which a command hangs
NET = dict(widths=[8, 8, 8, 8, 8], n_up=4)
CONFIG = dict(model=dict(embedding=NET, driving=NET, zero_heads=True), steps=40, batch_size=4, frame_sizes=[16, 32], frame_size_from=[0, .5],
              optimizer="adamw", clip_norm=1, augment=dict(flip=True), landmark_weight=1, precision="fp32", log_every=1, val_every=15, save_every=3)


# The commands: arguments, and what of their results must be the same again

def make_inputs(at:Path):
    "Toy tracks, two raw videos, a portrait and a short driver."
    from x2face_nb.data import make_toy_tracks
    from x2face_nb.samples import sample_driving, sample_source
    from x2face_nb.video import VideoReader, VideoWriter, read_image, resize, write_image
    make_toy_tracks(at / "toy", n=4, frames=8, size=32)
    (at / "config.json").write_text(json.dumps(CONFIG))
    with VideoReader(sample_driving("carphone")) as r: frames = list(r)[:60]
    for name, part in (("anna/one", frames[:45]), ("ben/two", frames[10:58])):
        with VideoWriter(at / "raw" / f"{name}.mp4", 25) as w:
            for f in part: w.write(resize(f, (288, 352)))
    with VideoWriter(at / "talk.mp4", 25) as w:
        for f in frames[:12]: w.write(f)
    write_image(at / "me.png", read_image(sample_source()))


COMMANDS = dict(
    train="train ../toy --out out --config ../config.json --device cpu",
    sweep="sweep --out out --data ../toy --seeds 1 --variant unet_l1 --set steps=4 --set batch_size=2 --set every=7 --set split=val",
    prepare="prepare ../raw --out out --set min_face=40 --set min_sharpness=0 --set size=64 --set crf=0", # without loss, so alike to the pixel
    animate="animate ../me.png ../talk.mp4 -o out/me.mp4 --size 64 --force --device cpu",
)


def same(a, b) -> bool:
    "Whether two results agree. x264 now and then spends other bits on the same frames: films agree in what they show."
    if a == b or not (isinstance(a, bytes) and a[4:8] == b"ftyp"): return a == b
    import numpy as np
    from x2face_nb.video import read_video
    with tempfile.TemporaryDirectory() as d:
        for name, film in (("a.mp4", a), ("b.mp4", b)): (Path(d) / name).write_bytes(film)
        a, b = (np.int16(read_video(Path(d) / name)) for name in ("a.mp4", "b.mp4"))
    return a.shape == b.shape and np.abs(a - b).mean() < 1


def log(p:Path) -> list:
    "Rows of a log without times; a row that is the mean of several steps has fewer of them after a restart, and only its step counts."
    each = json.loads(p.with_name("config.json").read_text())["log_every"] == 1
    rows = [json.loads(x) for x in p.read_text().splitlines()]
    return [{k: v for k, v in r.items() if k not in ("seconds", "samples_per_s", "data_wait") and (each or k in ("step", "val"))} for r in rows]


def result(out:Path) -> dict:
    "What a command made, without the times and places that differ from run to run."
    from x2face_nb.core import load_tensors
    kept = {}
    for p in sorted(out.rglob("*")):
        rel = p.relative_to(out)
        if not p.is_file() or any(part.startswith(".") for part in rel.parts): continue
        if p.suffix == ".safetensors": kept[str(rel)] = {k: v.numpy().tobytes() for k, v in load_tensors(p)[1].items()}
        elif p.name == "log.jsonl": kept[str(rel)] = log(p)
        elif p.suffix in (".mp4", ".jpg") or p.name in ("manifest.csv", "metrics.csv", "config.json"): kept[str(rel)] = p.read_bytes()
        else: kept[str(rel)] = None # holds times; that it is there is enough
    return kept


def whole(out:Path, wanted:dict):
    "Every file that stands there now can be read, and a result is the right one. Papermill writes notebooks, and a log grows line by line."
    from x2face_nb.core import load_tensors
    for p in out.rglob("*") if out.exists() else ():
        rel = p.relative_to(out)
        if not p.is_file() or any(part.startswith(".x2face-") or part.startswith(".lock") for part in rel.parts): continue
        if p.suffix == ".safetensors": load_tensors(p)
        elif p.suffix == ".json": json.loads(p.read_text())
        elif p.suffix in (".mp4", ".jpg") or p.name in ("manifest.csv", "metrics.csv"): assert same(p.read_bytes(), wanted[str(rel)]), f"{rel} is not whole"


# One command, in a fork

class Command:
    "`x2face …` in a process of its own, that imports nothing anew."
    def __init__(self, name, at:Path, limit=None, mount=None, cache="cache"):
        self.said, self.began = at / f"said-{time.monotonic_ns()}", time.monotonic()
        sys.stdout.flush(); sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid: self._child(name, at, limit, mount, cache)
        self.code = None

    def _child(self, name, at, limit, mount, cache):
        code = 99
        try:
            os.setsid()
            os.chdir(at)
            os.environ["X2FACE_CACHE"] = str(at / cache)
            fd = os.open(self.said, os.O_WRONLY | os.O_CREAT)
            null = os.open(os.devnull, os.O_RDONLY)
            for to, of in ((0, null), (1, fd), (2, fd)): os.dup2(of, to)
            if mount: tmpfs(at / "out", mount)
            if limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            for s in (signal.SIGINT, signal.SIGTERM): signal.signal(s, signal.default_int_handler if s == signal.SIGINT else signal.SIG_DFL)
            sys.argv = ["x2face", *COMMANDS[name].split()]
            from x2face_nb.__main__ import main
            try: main()
            except SystemExit as e: code = e.code or 0
            if mount and (left := [str(p) for p in (at / "out").rglob("*") if ".x2face-" in str(p)]): code, _ = 98, print("left:", left)
            sys.stdout.flush(); sys.stderr.flush()
        except BaseException:
            import traceback
            traceback.print_exc()
        finally: os._exit(code)

    def done(self):
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid: self.code, self.seconds = os.waitstatus_to_exitcode(status), time.monotonic() - self.began
        return self.code is not None

    def wait(self, seconds=SECONDS):
        end = time.monotonic() + seconds
        while not self.done() and time.monotonic() < end: time.sleep(.02)
        if not self.done():
            self.kill()
            raise AssertionError(f"no end after {seconds} s")
        return self

    def kill(self, group=False):
        try: (os.killpg if group else os.kill)(self.pid, signal.SIGKILL)
        except ProcessLookupError: os.kill(self.pid, signal.SIGKILL) # it leads no group yet
        while not self.done(): time.sleep(.005)

    @property
    def text(self): return self.said.read_text(errors="replace")

    def ended_well(self):
        assert self.code == 0, f"exit code {self.code}: {self.text[-600:]}"

    def ended_in_a_sentence(self):
        assert self.code == 1, f"exit code {self.code}: {self.text[-600:]}"
        assert "x2face: " in self.text and "Traceback" not in self.text, self.text[-600:]


CLONE_NEWNS, CLONE_NEWUSER, MS_RDONLY, MS_REC, MS_PRIVATE = 0x20000, 0x10000000, 1, 16384, 1 << 18


def tmpfs(at:Path, how:str):
    "Mount a disk in memory over a folder, seen by this process alone: `ro`, or its size in bytes."
    libc, uid, gid = ctypes.CDLL(None, use_errno=True), os.getuid(), os.getgid()
    def call(f, *args):
        if f(*args): raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    call(libc.unshare, CLONE_NEWNS | (CLONE_NEWUSER if uid else 0))
    if uid:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    call(libc.mount, b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    flags, data = (MS_RDONLY, b"") if how == "ro" else (0, f"size={how}".encode())
    call(libc.mount, b"none", os.fsencode(at), b"tmpfs", flags, data)


def can_mount() -> bool:
    "Whether this system lets a process mount a disk for itself."
    if not sys.platform.startswith("linux"): return False
    with tempfile.TemporaryDirectory() as d:
        pid = os.fork()
        if not pid:
            code = 1
            with contextlib.suppress(OSError):
                tmpfs(Path(d), "1m")
                code = 0
            os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# The faults: each yields what became of its cases

class Bench:
    "Inputs, undisturbed results, and a new folder for each case."
    def __init__(self, at:Path, names, seed=0):
        self.at, self.rng, self.wanted, self.seconds, self.n = at, random.Random(seed), {}, {}, 0
        make_inputs(at)
        for name in names:
            folder = self.folder()
            c = Command(name, folder).wait()
            c.ended_well()
            self.wanted[name], self.seconds[name] = result(folder / "out"), c.seconds

    def folder(self):
        self.n += 1
        (at := self.at / f"case{self.n:04d}").mkdir()
        (at / "out").mkdir()
        return at

    def as_undisturbed(self, name, at):
        Command(name, at).wait().ended_well()
        self.equals(name, at / "out")

    def equals(self, name, out):
        got, wanted = result(out), self.wanted[name]
        assert got.keys() == wanted.keys(), f"files differ: {sorted(got.keys() ^ wanted.keys())}"
        assert not (differ := [k for k in wanted if not same(got[k], wanted[k])]), f"contents differ: {differ}"
        left = [p for p in out.rglob(".x2face-*")]
        assert not left, f"left behind: {left}"


def killed(b:Bench, name:str, cases:int):
    "SIGKILL at random moments, again and again; every other time with all its children."
    at = b.folder()
    for i in range(cases):
        c, goal = Command(name, at), b.rng.uniform(0, b.seconds[name])
        while not c.done() and time.monotonic() - c.began < goal: time.sleep(.005)
        ended = c.done()
        if not ended: c.kill(group=i % 2 == 1)
        try: whole(at / "out", b.wanted[name])
        except Exception as e: yield f"finding: {type(e).__name__}: {e}"; continue
        if not ended: yield "killed"
        elif c.code == 0: # it came to its end first: once more from nothing
            b.equals(name, at / "out")
            yield "came to its end"
            at = b.folder()
        else: yield "refused, a killed run's child still worked" if "Another process" in c.text else f"finding: {c.text[-300:]}"
    orphans = time.monotonic() + 20 # a kernel of a killed sweep ends once it has noticed
    while True:
        try:
            b.as_undisturbed(name, at)
            break
        except AssertionError as e:
            if time.monotonic() > orphans: yield f"finding: {e}"; break
            time.sleep(2)


def _cut_short(b, name, cases, how):
    largest = max([p.stat().st_size for f in b.at.glob("case*/out") for p in f.rglob("*") if p.is_file()] + [1 << 16])
    for i in range(cases):
        at, size = b.folder(), int(2 ** b.rng.uniform(10, largest.bit_length()))
        try:
            c = Command(name, at, **{how: size if how == "limit" else str(size)}).wait()
            enough = c.code == 0
            if not enough: c.ended_in_a_sentence()
            if how == "limit": whole(at / "out", b.wanted[name])
            b.as_undisturbed(name, at)
            yield "room enough" if enough else "a sentence"
        except Exception as e: yield f"finding: {size} bytes: {type(e).__name__}: {e}"


def file_limit(b:Bench, name:str, cases:int):
    "Files may not grow beyond a random size (`ulimit -f`)."
    yield from _cut_short(b, name, cases, "limit")


def disk_full(b:Bench, name:str, cases:int):
    "The output's disk has a random size."
    yield from _cut_short(b, name, cases, "mount")


def read_only(b:Bench, name:str, cases:int):
    "The output's disk cannot be written."
    at = b.folder()
    try:
        Command(name, at, mount="ro").wait().ended_in_a_sentence()
        b.as_undisturbed(name, at)
        yield "a sentence"
    except Exception as e: yield f"finding: {type(e).__name__}: {e}"


def two_in_one_folder(b:Bench, name:str, cases:int):
    "Two processes with one output, the second a random moment later: the result is that of one, and a loser says so."
    for i in range(cases):
        at = b.folder()
        try:
            first, until = Command(name, at), time.monotonic() + b.rng.uniform(0, b.seconds[name])
            while time.monotonic() < until: time.sleep(.005)
            second = Command(name, at)
            both = first.wait(), second.wait()
            for c in both:
                if c.code: c.ended_in_a_sentence()
            assert 0 in (first.code, second.code), first.text + second.text
            b.as_undisturbed(name, at)
            yield "one was refused" if first.code or second.code else "both came to the same end"
        except Exception as e: yield f"finding: {type(e).__name__}: {e}"


def two_with_one_cache(b:Bench, name:str, cases:int):
    "Two processes with outputs of their own and one empty cache."
    for i in range(cases):
        shared = b.folder()
        ats = b.folder(), b.folder()
        try:
            both = [Command(name, at, cache=shared / "cache") for at in ats]
            for c in both: c.wait().ended_well()
            for at in ats: b.equals(name, at / "out")
            yield "both came to the same end"
        except Exception as e: yield f"finding: {type(e).__name__}: {e}"


FAULTS = dict(killed=killed, file_limit=file_limit, disk_full=disk_full, read_only=read_only,
              two_in_one_folder=two_in_one_folder, two_with_one_cache=two_with_one_cache)


def run(names, faults, cases, seed=0, say=lambda *a: None, keep=lambda rows: None) -> list[dict]:
    "A row for each command and fault."
    from x2face_nb import __main__, animate, cli, data, prepare, recipes, training  # noqa: F401
    if "sweep" in names: from x2face_nb import ablation  # noqa: F401
    import torch
    torch.set_num_threads(1)
    rows, mounts = [], can_mount()
    with tempfile.TemporaryDirectory() as d:
        b = Bench(Path(d), names, seed)
        for name in names:
            for fault in faults:
                if fault in ("disk_full", "read_only") and not mounts: continue
                n = 1 if fault == "read_only" else max(1, cases // (1 if fault == "killed" else 8 if name == "sweep" else 4))
                began, ends = time.monotonic(), list(FAULTS[fault](b, name, n))
                findings = [e for e in ends if e.startswith("finding")]
                for e in findings: say(f"{name}, {fault}: {e}")
                ended = Counter("finding" if e in findings else e for e in ends)
                rows.append(dict(command=name, fault=fault, cases=len(ends), findings=len(findings), ends=", ".join(f"{n} {e}" for e, n in ended.items()),
                                 seconds=round(time.monotonic() - began, 1), said=findings))
                say(json.dumps(rows[-1]))
                keep(rows)
                for at in Path(d).glob("case*"):
                    if at.name not in ("case0001", "case0002", "case0003", "case0004"): shutil.rmtree(at, ignore_errors=True)
    return rows


if __name__ == "__main__":
    cases, to = int((sys.argv[1:] or [20])[0]), (sys.argv[2:] or [None])[0]
    names = (sys.argv[3:] or [",".join(COMMANDS)])[0].split(",")
    faults = (sys.argv[4:] or [",".join(FAULTS)])[0].split(",")
    def keep(rows):
        import pandas as pd
        from x2face_nb.core import write_text
        if to: write_text(to, pd.DataFrame(rows).drop(columns="said").to_csv(index=False))
    rows = run(names, faults, cases, int(os.environ.get("X2FACE_FAULTS_SEED", 0)), lambda *a: print(*a, flush=True), keep)
    sys.exit(any(r["findings"] for r in rows))
