"""Readers of files against damaged files. `python tests/fuzz.py 20000 results/fuzz.csv` runs so many cases and writes a table;
test_fuzz.py runs fewer.

Each case is a function of its seed: a good file, damaged in one to four places, given to a reader in a worker process with a
limit on its memory. A reader may return or raise `X2FaceError`. Another exception, a crash, a case over 10 s and growth
over 1 GB are findings."""
import json
import os
import random
import resource
import selectors
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from itertools import islice
from pathlib import Path

SECONDS, BYTES = 10, 1 << 30
HASH = "0" * 16


# Good files

def _video(path, codec, fmt, n=6, **kw):
    import av
    import numpy as np
    with av.open(str(path), "w") as c:
        s = c.add_stream(codec, rate=25)
        s.width, s.height, s.pix_fmt = 48, 32, fmt
        if kw.get("sound"):
            a = c.add_stream("aac", rate=16000, layout="mono")
            f = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.float32), format="fltp", layout="mono")
            f.sample_rate = 16000
        for i in range(n):
            img = np.random.default_rng(i).integers(0, 255, (32, 48, 3), np.uint8)
            c.mux(s.encode(av.VideoFrame.from_ndarray(img, format="rgb24").reformat(format=fmt)))
        if kw.get("sound"): c.mux(a.encode(f)); c.mux(a.encode(None))
        c.mux(s.encode(None))


def make_corpus(at:Path):
    "Good files of every kind that is read."
    import numpy as np
    import torch
    from PIL import Image
    from x2face_nb.render import RENDERINGS, EmbeddedFace
    from x2face_nb.data import make_toy_tracks, write_rows
    from x2face_nb.motion import MotionTemplate
    from x2face_nb.shards import write_shards
    from x2face_nb.training import TrainConfig, save_checkpoint
    from x2face_nb.video import video_to_images
    from x2face_nb.x2face import X2Face, save_model
    img = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8))
    for kind in ("png", "jpg", "webp", "bmp", "tif", "gif"): img.save(at / f"picture.{kind}")
    img.convert("RGBA").save(at / "alpha.png")
    img.save(at / "moves.gif", save_all=True, append_images=[img.rotate(90 * i) for i in range(3)])
    _video(at / "film.mp4", "libx264", "yuv420p", sound=True)
    _video(at / "film.mkv", "ffv1", "bgr0")
    _video(at / "film.avi", "mjpeg", "yuvj420p")
    _video(at / "film.webm", "libvpx", "yuv420p")
    _video(at / "film.ts", "mpeg2video", "yuv420p")
    torch.manual_seed(0)
    model = X2Face(tiny())
    save_model(model, at / "weights.safetensors", dict(steps=3, val=dict(l1=.1)))
    optimizer = torch.optim.AdamW(model.parameters())
    config = TrainConfig(model=tiny(), steps=9).to_dict()
    save_checkpoint(at / "checkpoint.safetensors", model, optimizer, dict(step=1, seconds=1., config=config, data="a", precision="fp32"))
    x = torch.rand(1, 3, 16, 16)
    EmbeddedFace(x, x.clone(), torch.zeros(1, 2, 4, 4), RENDERINGS["paper"].preparation).save(at / "face.safetensors", HASH)
    (at / "config.json").write_text(json.dumps(config))
    make_toy_tracks(at / "toy", n=1, frames=4, size=16)
    write_shards(at / "toy", at / "shards", landmarks=True, progress=False)
    n = 3
    MotionTemplate(*(np.zeros((n, *s), np.float32) for s in ((1, 4), (68, 3), (2,), ())), np.arange(n, dtype=np.float64), np.zeros(n, np.int64),
                   np.ones(n, bool), 25., HASH).save(at / "motion.safetensors")
    torch.save(model.state_dict(), at / "release.pth")
    write_rows(at / "rows.npy", np.random.default_rng(0).integers(0, 255, (4, 16, 16, 3), np.uint8))
    video_to_images(at / "film.mp4", at / "frames", progress=False)
    log = [dict(step=i, seconds=1., l1=.1) for i in range(3)] + [dict(step=3, val=dict(l1=.1))]
    (at / "log.jsonl").write_text("".join(json.dumps(x) + "\n" for x in log))
    (at / "run.json").write_text(json.dumps(dict(run=dict(seed=0), hash="a", variant="b", params_M=1.)))
    (at / "metrics.csv").write_text("source,driving,method,l1\na,b,c,.1\nd,e,c,.2\n")


def tiny():
    from x2face_nb.x2face import NetworkConfig, X2FaceConfig
    net = NetworkConfig(widths=(4,) * 4, n_up=3)
    return X2FaceConfig(embedding=net, driving=net)


# Damage

NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 64) - 1]
VALUES = [None, True, 0, -1, 1e9, 1e308, 10**30, "", "x" * 3000, "../../x", "/dev/zero", "\0", [], {}, [[]], {"a": {}}, "9" * 5000, "nan", 2**31]


def damage_bytes(rng, data, others):
    "Damage in one place."
    b, n = bytearray(data), len(data)
    if not n: return bytes(rng.randbytes(20))
    i, size = rng.randrange(n), min(n, 1 << rng.randrange(0, 13))
    if rng.random() < .6: i = min(i, rng.randrange(512))  # headers decide more
    how = rng.choice(["flip", "byte", "number", "zeros", "cut", "drop", "repeat", "insert", "splice", "noise"])
    if how == "flip": b[i % n] ^= 1 << rng.randrange(8)
    elif how == "byte": b[i % n] = rng.choice([0, 1, 127, 128, 255])
    elif how == "number":
        raw = rng.choice(NUMBERS).to_bytes(8, rng.choice(["little", "big"]))
        k = rng.choice([2, 4, 8])
        b[i:i + k] = raw[:k] if rng.random() < .5 else raw[-k:]
    elif how == "zeros": b[i:i + size] = bytes(len(b[i:i + size]))
    elif how == "cut": del b[rng.randrange(n):]
    elif how == "drop": del b[i:i + size]
    elif how == "repeat": b[i:i] = b[i:i + size] * rng.choice([1, 2, 40])
    elif how == "insert": b[i:i] = rng.randbytes(size)
    elif how == "noise": b[i:i + size] = rng.randbytes(len(b[i:i + size]))
    else:
        other = rng.choice(others)
        b[i:] = other[rng.randrange(len(other) or 1):]
    return bytes(b)


def damage_json(rng, value):
    "One value, key or nesting changed."
    if isinstance(value, str) and value[:1] in "{[":
        try: return json.dumps(damage_json(rng, json.loads(value)))
        except ValueError: pass
    if isinstance(value, dict) and value and rng.random() < .95:
        key, how = rng.choice(list(value)), rng.random()
        if how < .15: return {k: v for k, v in value.items() if k != key}
        if how < .25: return value | {rng.choice(["", "x" * 500, "__class__", key.upper()]): value[key]}
        return value | {key: damage_json(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < .7:
        i = rng.randrange(len(value))
        return value[:i] + [damage_json(rng, value[i])] + value[i + 1:] if rng.random() < .7 else value * rng.choice([0, 2, 100])
    return rng.choice(VALUES)


def as_json(rng, value):
    "JSON text, sometimes with what only text can hold."
    text = json.dumps(value)
    if rng.random() < .1: text = text.replace("1", "9" * 5000, 1)
    if rng.random() < .1: text = text.replace("{", '{"a": ' + "[" * rng.choice([50, 900, 100_000]), 1)
    return text.encode()


def damaged(rng, name, data, others):
    "A good file, damaged in its structure or in its bytes."
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        if name.endswith(".json") and rng.random() < .7:
            try: data = as_json(rng, damage_json(rng, json.loads(data)))
            except (ValueError, RecursionError): data = damage_bytes(rng, data, others)
        elif name.endswith(".jsonl") and rng.random() < .7:
            lines = data.split(b"\n")
            lines[rng.randrange(len(lines))] = as_json(rng, rng.choice(VALUES + [dict(val=rng.choice(VALUES)), dict(step=rng.choice(VALUES))]))
            data = b"\n".join(lines)
        elif name.endswith(".safetensors") and rng.random() < .6:
            try:
                n, = struct.unpack("<Q", data[:8])
                head = as_json(rng, damage_json(rng, json.loads(data[8:8 + n])))
                data = struct.pack("<Q", len(head)) + head + data[8 + n:]
            except (ValueError, RecursionError, struct.error, UnicodeDecodeError): data = damage_bytes(rng, data, others)
        else: data = damage_bytes(rng, data, others)
    return data


# Readers

def _folder(name, corpus, at, data, beside):
    "A folder of good files, one of them replaced by the damaged one."
    import shutil
    shutil.copytree(corpus / beside, at / "folder") if beside else (at / "folder").mkdir()
    (at / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
    (at / "folder" / name).write_bytes(data)
    return at / "folder"


def readers(corpus:Path):
    "Good file → readers of it, each called with (folder of the case, the damaged bytes, a name)."
    import torch
    from x2face_nb.ablation import collect
    from x2face_nb.render import EmbeddedFace
    from x2face_nb.cli import describe
    from x2face_nb.control_panel import painted_layer
    from x2face_nb.core import read_log
    from x2face_nb.data import Frames, read_tracks, track_landmarks
    from x2face_nb.motion import MotionTemplate
    from x2face_nb.release import load_release
    from x2face_nb.shards import Shards
    from x2face_nb.training import TrainConfig, load_checkpoint
    from x2face_nb.video import VideoReader, images_to_video, is_image, is_video, read_image
    from x2face_nb.widgets import decode_frame
    from x2face_nb.x2face import X2Face, load_model, read_model_info

    def of_file(read):
        def run(at, data, name):
            (at / name).write_bytes(data)
            return read(at / name)
        return run

    def of_folder(read, name, beside=None):
        return lambda at, data, _: read(_folder(name, corpus, at, data, beside))

    def film(p):
        with VideoReader(p) as r:
            for _ in islice(r, 100): pass

    def film_25(p):
        with VideoReader(p, fps=25, start=.04) as r:
            for _ in islice(r, 100): pass

    def checkpoint(p):
        model = X2Face(tiny())
        load_checkpoint(p, model, torch.optim.AdamW(model.parameters()), dict(config=TrainConfig(model=tiny(), steps=9).to_dict(), data="a", precision="fp32"))

    def run_folder(p):
        (p / "checkpoint.safetensors").write_bytes((corpus / "checkpoint.safetensors").read_bytes())
        describe(p)

    def with_metrics(p):
        (p / "a").mkdir(exist_ok=True)
        for f in ("run.json", "metrics.csv"):
            if not (p / "a" / f).exists(): (p / "a" / f).write_bytes((corpus / f).read_bytes())
        collect(p)

    def frame_cache(p):
        "A damaged cache is made again: the frames are those of the film."
        tracks = read_tracks(p)
        Frames(tracks, 16, p / "cache", progress=False)[0, 0]
        (at,) = (p / "cache").iterdir()
        at.write_bytes((p / "rows.npy").read_bytes())
        from x2face_nb import data
        data._mapped.cache_clear()
        frames = Frames(tracks, 16, p / "cache", progress=False)
        for i in range(min(8, frames.n_frames(0))): frames[0, i]

    def shards(p):
        held = Shards(p)
        for i in range(len(held)): held.frames(i, 16), held.points(i)

    def to_video(p): images_to_video(p, p.parent / "out.mp4", progress=False)
    def landmarks(p): track_landmarks(read_tracks(p)[0])

    pictures, films = [read_image, describe, is_image], [film, film_25, describe, is_video]
    table = {f"picture.{k}": [of_file(r) for r in pictures] for k in ("png", "jpg", "webp", "bmp", "tif", "gif")}
    table["picture.jpg"].append(lambda at, data, name: decode_frame(data))
    table["picture.png"].append(lambda at, data, name: painted_layer(data))
    table["alpha.png"] = table["picture.png"]
    table["moves.gif"] = [of_file(r) for r in pictures + films]
    table |= {f"film.{k}": [of_file(r) for r in films] for k in ("mp4", "mkv", "avi", "webm", "ts")}
    return table | {
        "weights.safetensors": [of_file(r) for r in (load_model, read_model_info, describe)],
        "checkpoint.safetensors": [of_file(r) for r in (checkpoint, describe)],
        "face.safetensors": [of_file(r) for r in (lambda p: EmbeddedFace.load(p, HASH), describe)],
        "motion.safetensors": [of_file(lambda p: MotionTemplate.load(p, HASH)), of_file(describe)],
        "release.pth": [of_file(load_release)],
        "shards/shards.csv": [of_folder(shards, "shards.csv", "shards")],
        "shards/tracks-00000.tar": [of_folder(shards, "tracks-00000.tar", "shards")],
        "config.json": [of_file(TrainConfig.from_json)],
        "toy/manifest.csv": [of_folder(read_tracks, "manifest.csv", "toy"), of_folder(describe, "manifest.csv", "toy")],
        "toy/toy00.landmarks.npy": [of_folder(landmarks, "toy00.landmarks.npy", "toy")],
        "rows.npy": [of_folder(frame_cache, "rows.npy", "toy")],
        "frames/video.json": [of_folder(to_video, "video.json", "frames"), of_folder(describe, "video.json", "frames")],
        "log.jsonl": [of_folder(run_folder, "log.jsonl"), of_file(read_log)],
        "run.json": [of_folder(with_metrics, "a/run.json")],
        "metrics.csv": [of_folder(with_metrics, "a/metrics.csv")],
    }


# One case, in a worker

def case(seed, number, goods, table, folder:Path):
    "Run a case; how it ended."
    from x2face_nb.core import X2FaceError
    rng = random.Random(f"{seed} {number}")
    name = rng.choice(sorted(table))
    data = damaged(rng, name, goods[name], list(goods.values()))
    if rng.random() < .03: data = goods[rng.choice(sorted(goods))]  # another kind of file under this name
    read = rng.choice(table[name])
    with tempfile.TemporaryDirectory(dir=folder) as at:
        try: read(Path(at), data, Path(name).name)
        except X2FaceError as e: return name, "refused", str(e)
        except MemoryError as e: return name, "memory", f"MemoryError: {e}"
        except Exception as e:
            import traceback
            last = traceback.extract_tb(e.__traceback__)
            mine = [f"{Path(f.filename).name}:{f.lineno}" for f in last if "x2face_nb" in f.filename]
            return name, "raw", f"{type(e).__name__}: {str(e)[:150]} at {mine[-1:]}"
    return name, "read", ""


def work(seed, corpus:Path):
    "A worker: reads case numbers, writes how each ended."
    warnings.simplefilter("ignore")
    os.environ["OMP_NUM_THREADS"] = "1"
    import av
    import cv2
    import torch
    av.logging.set_level(None)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    table, goods = readers(corpus), {}
    for name in table: goods[name] = (corpus / name).read_bytes()
    folder = Path(tempfile.mkdtemp(dir=corpus.parent))
    for n in range(-40, 0): case(seed, n, goods, table, folder)  # imports and pools are no growth of a case
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if os.path.exists("/proc/self/statm") else 0
    if pages: resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES,) * 2)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        name, end, said = case(seed, int(line), goods, table, folder)
        print(json.dumps([name, end, said, time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]), flush=True)


# The parent

class Worker:
    "A process that runs cases, started again where one ends or stops it."
    def __init__(self, seed, corpus):
        self.args, self.p = [sys.executable, __file__, "--work", str(seed), str(corpus)], None

    def start(self):
        env = os.environ | dict(MALLOC_ARENA_MAX="2", X2FACE_CACHE=str(Path(self.args[-1]).parent / "cache"))
        self.p = subprocess.Popen(self.args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env)
        self.wait = selectors.DefaultSelector()
        self.wait.register(self.p.stdout, selectors.EVENT_READ)
        if self.answer(120) != "ready": raise RuntimeError("the worker does not start")

    def answer(self, seconds):
        "A line; None where the process ended, False where it takes too long."
        if not self.wait.select(seconds): return False
        line = self.p.stdout.readline()
        return json.loads(line) if line else None

    def __call__(self, number):
        if self.p is None: self.start()
        self.p.stdin.write(f"{number}\n")
        self.p.stdin.flush()
        said = self.answer(SECONDS)
        if said: return said
        self.stop()
        return ["?", "hang" if said is False else "crash", f"signal {-self.p_code}" if said is None else "", SECONDS if said is False else 0., 0]

    def stop(self):
        if self.p is None: return
        self.p.kill()
        self.p.communicate()
        self.p_code, self.p = self.p.returncode, None


def run(cases, seed=0, say=lambda *a: None):
    "Findings and figures of so many cases."
    ends, findings, longest, rss = Counter(), [], (0., None), 0
    with tempfile.TemporaryDirectory() as d:
        corpus = Path(d) / "corpus"
        corpus.mkdir()
        subprocess.run([sys.executable, __file__, "--corpus", str(corpus)], check=True, capture_output=True)
        worker = Worker(seed, corpus)
        try:
            for n in range(cases):
                name, end, said, seconds, most = worker(n)
                ends[end] += 1
                longest, rss = max(longest, (seconds, n), key=lambda x: x[0]), max(rss, most)
                if end not in ("read", "refused"):
                    findings.append((n, name, end, said))
                    say(f"case {n}: {name}: {end}: {said}")
        finally: worker.stop()
    return dict(cases=cases, seed=seed, ends=dict(ends), findings=findings, longest_s=round(longest[0], 2), longest_case=longest[1], peak_MB=rss // 1024)


if __name__ == "__main__":
    if sys.argv[1] == "--corpus": make_corpus(Path(sys.argv[2]))
    elif sys.argv[1] == "--work": work(int(sys.argv[2]), Path(sys.argv[3]))
    else:
        began = time.time()
        got = run(int(sys.argv[1]), int(os.environ.get("X2FACE_FUZZ_SEED", 0)), print)
        row = dict(cases=got["cases"], **{k: got["ends"].get(k, 0) for k in ("read", "refused")}, findings=len(got["findings"]),
                   longest_s=got["longest_s"], peak_MB=got["peak_MB"], seconds=round(time.time() - began))
        print(json.dumps(row | dict(longest_case=got["longest_case"])))
        if sys.argv[2:]: Path(sys.argv[2]).write_text(",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n")
        sys.exit(bool(got["findings"]))
