"""Attacks and accidents that once got through, each tried again. `python tests/holes.py results/holes.csv` writes a table.

Every attempt runs in a forked process with 2 GB of address space beyond what the imports hold, and four minutes of time. It
returns the sentence that refuses it, or what happens instead; an assertion means that the hole is open. `before` tells
what the first version did. The words are shown in SECURITY.md. Names after the script choose attempts: `playlist gif`."""
import contextlib
import csv
import json
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import warnings
import zlib
from pathlib import Path

SECONDS, BYTES = 240, 2 << 30
HOLES = {}  # name → (what is tried, before, attempt)


def hole(what, before):
    "Add an attempt. It is called with a new folder."
    def add(f):
        HOLES[f.__name__] = what, before, f
        return f
    return add


def says(f, *args, **kw) -> str:
    "The sentence with which a call is refused."
    from x2face_nb.core import X2FaceError
    try: got = f(*args, **kw)
    except X2FaceError as e: return str(e)
    raise AssertionError(f"not refused: {str(got)[:200]}")


def command(*args) -> tuple[int, str]:
    "Exit code and words of `x2face …`, run in this process."
    from x2face_nb.__main__ import main
    sys.argv = ["x2face", *map(str, args)]
    with tempfile.TemporaryFile() as f:
        sys.stdout.flush(); sys.stderr.flush()
        kept = [os.dup(n) for n in (1, 2)]
        for n in (1, 2): os.dup2(f.fileno(), n)
        code = 0
        try: main()
        except SystemExit as e: code = e.code or 0
        finally:
            sys.stdout.flush(); sys.stderr.flush()
            for n, k in zip((1, 2), kept): os.dup2(k, n)
        f.seek(0)
        return code, f.read().decode(errors="replace").strip()


def refused(*args, code=1) -> str:
    "The sentence with which the command is refused."
    got, text = command(*args)
    assert got == code and "Traceback" not in text, f"exit code {got}: {text[-400:]}"
    return text.splitlines()[-1].removeprefix("x2face: ")


# Files to try with

def png(width, height, depth=1, colour=0, rows=None) -> bytes:
    "A PNG whose pixels are all zero, of any size."
    def chunk(kind, data): return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    row, z = bytes(1 + (width * depth * (3 if colour == 2 else 1) + 7) // 8), zlib.compressobj(9)
    data = b"".join(z.compress(row) for _ in range(height if rows is None else rows)) + z.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def film(at:Path, times=range(8), sound=False, rate=25) -> Path:
    "A small film with frames at these multiples of 1/25 s."
    import av
    import numpy as np
    at.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(at), "w") as c:
        s = c.add_stream("mpeg2video" if at.suffix == ".ts" else "libx264", rate=rate)
        s.width, s.height, s.pix_fmt = 64, 48, "yuv420p"
        if at.suffix != ".ts": s.codec_context.options = {"bf": "0"}
        if sound:
            a = c.add_stream("aac", rate=16000, layout="mono")
            f = av.AudioFrame.from_ndarray(np.zeros((1, 8192), np.float32), format="fltp", layout="mono")
            f.sample_rate = 16000
            c.mux(a.encode(f)); c.mux(a.encode(None))
        for t in times:
            f = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40, np.uint8), format="rgb24")
            f.pts = t
            c.mux(s.encode(f))
        c.mux(s.encode(None))
    return at


def face_files(at:Path, seconds=.2) -> tuple[Path, Path]:
    "A portrait and a short driver."
    from x2face_nb.samples import sample_driving, sample_source
    from x2face_nb.video import VideoReader, VideoWriter
    with VideoReader(sample_driving("carphone"), stop=seconds) as r, VideoWriter(at / "talk.mp4", 25) as w:
        for f in r: w.write(f)
    return sample_source(), at / "talk.mp4"


def studio(**kw):
    "A live studio without networks, and a list of what it sends."
    from types import SimpleNamespace
    from x2face_nb.widgets import LiveStudio
    s = LiveStudio(session=lambda frame: SimpleNamespace(gen=frame, flow=None, says="", found=True, stamp=0.), **kw)
    sent = []
    s.send = lambda content, buffers=None: sent.append(content)
    return s, sent


def piece(batch, at, data, name="a.png", file=0, complete=False, kind="portrait", view="v"):
    return dict(type="piece", view=view, batch=batch, kind=kind, file=file, name=name, at=at, complete=complete), [data]


def refusal(sent) -> str:
    assert sent and sent[-1]["type"] == "refused", sent[-1:]
    return sent[-1]["says"]


@contextlib.contextmanager
def listener():
    "A server on this machine that counts who connects."
    with socket.create_server(("127.0.0.1", 0)) as s:
        s.settimeout(.1)
        came, done = [], threading.Event()
        def accept():
            while not done.is_set():
                with contextlib.suppress(TimeoutError): came.append(s.accept())
        t = threading.Thread(target=accept)
        t.start()
        try: yield s.getsockname()[1], came
        finally:
            done.set()
            t.join()


# 1. A name from the browser becomes a path

@hole("A page names a view `/…/victim` or `../victim` and records", "the film of that name was replaced, then deleted")
def recording(at):
    victim = at / "victim.mp4"
    victim.write_bytes(b"precious")
    s, sent = studio()
    for view in (str(victim.with_suffix("")), "../victim", f"../../{'../' * 9}{victim.with_suffix('')}", None, ["x"], "x" * 25, "é"):
        for kind in ("frame", "record", "stop_recording", "stop", "snapshot", "piece", "remove", "neutral", "sample"):
            s.handle(dict(type=kind, view=view), [b""])
            said = refusal(sent)
    s.close()
    assert victim.read_bytes() == b"precious" and len(list(at.iterdir())) == 1
    return said


@hole("A page names an upload, or a batch of uploads, `../../victim.mp4`", "not tried")
def upload_name(at):
    victim = at / "victim.png"
    victim.write_bytes(b"precious")
    s, sent = studio()
    for name in (str(victim), "../" * 20 + str(victim)[1:], "..\\victim.png", "\0", "x" * 9999, 3):
        s.handle(*piece("b", 0, b"data", name=name))
        files = [p.relative_to(s._inbox.path).as_posix() for p in s._inbox.path.rglob("*") if p.is_file() and p.name != ".lock"]
        assert len(files) == 1 and re.fullmatch(r"\d+/0(\.png)?", files[0]), files
        s.handle(*piece("b", 99, b""))  # a wrong piece ends the batch
    s.handle(*piece("../x", 0, b"data"))
    said = refusal(sent)
    s.close()
    assert victim.read_bytes() == b"precious"
    return said


# 2. Playlists

def lists(at, target) -> dict:
    "Files that refer to another one."
    return {"a.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n",
            "b.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n",
            "c.ffconcat": f"ffconcat version 1.0\nfile '{target}'\n", "d.avi": f"ffconcat version 1.0\nfile '{target}'\n",
            "e.mpd": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S"><Period><AdaptationSet '
                     f'mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>',
            "f.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
            "g.mkv": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{target}\n"}


@hole("A playlist names a film by its absolute path, under any suffix", "that film's frames were shown")
def playlist(at):
    from x2face_nb.video import VideoReader, is_video, read_video
    secrets = [film(at / "secret.ts"), film(at / "secret.mkv"), film(at / "secret.mp4")]
    for target in secrets:
        for name, text in lists(at, target).items():
            (at / name).write_text(text)
            assert not is_video(at / name)
            said = says(read_video, at / name)
        for name in (f"concat:{target}", f"subfile,,start,0,end,0,,:{target}", f"file:{target}"): says(VideoReader, name)
    s, sent = studio()
    for name, text in lists(at, secrets[0]).items(): s.handle(*piece("b", 0, text.encode(), name=name, complete=True))
    refusal(sent)
    s.close()
    (at / "a.m3u8").write_text(lists(at, secrets[0])["a.m3u8"])
    assert refused("animate", face_files(at)[0], at / "a.m3u8", "-o", at / "out.mp4").endswith(said.partition("could")[2])
    return said


@hole("A playlist without an end", "opening hung through Ctrl-C, SIGTERM and Cancel")
def endless_playlist(at):
    from x2face_nb.video import VideoReader
    (at / "x.m3u8").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{film(at / 'a.ts')}\n")
    began = time.monotonic()
    said = says(VideoReader, at / "x.m3u8")
    assert time.monotonic() - began < 5
    return said


@hole("A playlist, or the name of a driver, is a network address", "not tried")
def network(at):
    from x2face_nb.video import VideoReader, is_image, is_video
    with listener() as (port, came):
        for target in (f"http://127.0.0.1:{port}/a.ts", f"tcp://127.0.0.1:{port}", f"rtmp://127.0.0.1:{port}/a"):
            for name, text in lists(at, target).items():
                (at / name).write_text(text)
                says(VideoReader, at / name)
            said = says(VideoReader, target)
            assert not is_image(target) and not is_video(target)
    assert not came, "somebody was called"
    return said.replace(f":{port}", "")


@hole("A file on a disk that does not answer", "hung through Ctrl-C")
def stuck(at):
    from x2face_nb import video
    video._PATIENCE, video.av = .2, type("av", (), dict(open=lambda *a, **k: time.sleep(50), FFmpegError=video.av.FFmpegError))
    path, began = at / "a.mp4", time.monotonic()
    path.write_bytes(b"x" * 100)
    said = says(video.open_media, path)
    assert time.monotonic() - began < 8
    os.mkfifo(at / "pipe.mp4")
    says(video.open_media, at / "pipe.mp4")
    return said


# 3. PostScript

@hole("PostScript named `me.jpg`, in a file or painted on a face", "Pillow started Ghostscript")
def postscript(at):
    from x2face_nb.control_panel import painted_layer
    from x2face_nb.video import is_image, read_image
    (at / "bin").mkdir()
    for name in ("gs", "gswin32c", "gswin64c"):
        (at / "bin" / name).write_text(f"#!/bin/sh\ntouch {at}/started\n")
        (at / "bin" / name).chmod(0o755)
    os.environ["PATH"] = f"{at / 'bin'}:{os.environ['PATH']}"
    data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n"
    for name in ("me.jpg", "me.eps", "me.png"):
        (at / name).write_bytes(data)
        assert not is_image(at / name)
        said = says(read_image, at / name)
    says(painted_layer, data)
    refused("animate", at / "me.jpg", face_files(at)[1], "-o", at / "out.mp4")
    assert not (at / "started").exists(), "Ghostscript was started"
    return said


# 4. Bombs

def picture(at, name, data) -> str:
    "The sentence with which a picture is refused by all that may read it."
    from x2face_nb.video import read_image
    (at / name).write_bytes(data)
    said = says(read_image, at / name)
    refused("info", at / name)
    return said


@hole("A GIF whose header says 16,000²", "47 kB took 7.7 GB")
def gif(at): return picture(at, "a.gif", b"GIF89a" + struct.pack("<HHBBB", 16000, 16000, 0x80, 0, 0) + bytes(6) + b"," + struct.pack("<HHHHB", 0, 0, 16000, 16000, 0)
                            + b"\x08" + (b"\xff" + bytes(255)) * 180 + b"\x00;")


@hole("A PNG of 40,000²", "344 kB took 4.8 GB")
def big_png(at): return picture(at, "a.png", png(40000, 40000, rows=200))


@hole("A JPEG 2000 of 50,000²", ".8 kB took 2 GB")
def jpeg2000(at):
    import io
    from PIL import Image
    Image.new("L", (64, 64)).save(b := io.BytesIO(), "JPEG2000", no_jp2=True)
    data = bytearray(b.getvalue())
    siz = data.index(b"\xff\x51") + 6
    for k in (0, 4, 16, 20): data[siz + k:siz + k + 4] = struct.pack(">I", 50000)  # sides of image and tile
    return picture(at, "a.j2k", bytes(data))


@hole("Camera frames: a PNG of 20,000², a JPEG of 60,000², thousands of scans", "124 kB took 6 GB and 32 s")
def camera_frame(at):
    import io
    from PIL import Image
    from x2face_nb.widgets import decode_frame
    Image.new("RGB", (64, 64)).save(b := io.BytesIO(), "JPEG", progressive=True)
    data = bytearray(b.getvalue())
    sof = data.index(b"\xff\xc2") + 5
    wide = bytes(data[:sof]) + struct.pack(">HH", 60000, 60000) + bytes(data[sof + 4:])
    scan = data.rindex(b"\xff\xda")
    scans = bytes(data[:scan]) + bytes(data[scan:-2]) * 4000 + b"\xff\xd9"
    said = [says(decode_frame, x) for x in (png(20000, 20000, rows=99), wide, scans, b"", b"\xff\xd8\xff")]
    return said[2]


@hole("A picture with thousands of scans, each of which costs a pass", "not tried")
def scans(at):
    import io
    from PIL import Image
    Image.new("RGB", (7900, 7900)).save(b := io.BytesIO(), "JPEG", progressive=True)
    data = b.getvalue()
    scan = data.rindex(b"\xff\xda")
    return picture(at, "a.jpg", data[:scan] + data[scan:-2] * 4000 + b"\xff\xd9")


@hole("A painted layer of 12,000² from the browser", "not tried")
def layer(at):
    from x2face_nb.control_panel import painted_layer
    for data in (png(12000, 12000, 8, rows=99), png(40000, 40000, rows=9), b"", b"GIF89a" + bytes(20)): said = says(painted_layer, data)
    return says(painted_layer, png(12000, 12000, 8, rows=99)) or said


def tensors(at:Path, meta:dict, **shapes) -> Path:
    "A safetensors file that announces tensors."
    head = json.dumps(dict(__metadata__=meta) | {k: dict(dtype="F32", shape=s, data_offsets=[0, 0]) for k, s in shapes.items()}).encode()
    at.write_bytes(struct.pack("<Q", len(head)) + head)
    return at


@hole("Weights whose configuration names networks of gigabytes", "192 bytes took 5 GB in `x2face info`")
def weights(at):
    for n, widths in enumerate([[4096] * 8, [1 << 20] * 8, [10**15] * 4]):
        config = json.dumps(dict(driving=dict(widths=widths, n_up=4), embedding=dict(widths=widths, n_up=4)))
        said = refused("info", tensors(at / f"w{n}.safetensors", dict(format="x2face_nb-1", config=config)))
    return refused("info", tensors(at / "w.safetensors", dict(format="x2face_nb-1", config="{}"))) or said


@hole("Weights of the paper's authors that unpack to gigabytes", "not tried")
def release(at):
    import zipfile
    with zipfile.ZipFile(at / "a.pth", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as z:
        z.writestr("a/data.pkl", b"\x80\x02}q\x00.")
        with z.open("a/data/0", "w", force_zip64=True) as f:
            for _ in range(600): f.write(bytes(1 << 20))
    return refused("convert", at / "a.pth", "-o", at / "b.safetensors")


@hole("An exported folder whose video.json says `frames: 1e9`", "took 2.8 GB and rose")
def export(at):
    from x2face_nb.video import images_to_video, video_to_images
    video_to_images(film(at / "a.mp4"), at / "out", progress=False)
    good = json.loads((at / "out/video.json").read_text())
    for bad in (dict(frames=10**9), dict(frames=1e9), dict(until=1e30), dict(fps="1e9"), dict(times=[0, 1e12], frames=2), dict(times=[float("nan")] * 8)):
        (at / "out/video.json").write_text(json.dumps(good | bad))
        said = says(images_to_video, at / "out", at / "b.mp4", progress=False)
    (at / "out/video.json").write_text(" " * (1 << 27))
    says(images_to_video, at / "out", at / "b.mp4", progress=False)
    (at / "out/video.json").write_text(json.dumps(good | dict(frames=10**9)))
    return says(images_to_video, at / "out", at / "b.mp4", progress=False) or said


@hole("`--size 9000` and `--size 65000`", "a cache file of 1.9 GB; 18 GB until the system killed it")
def size(at):
    me, talk = face_files(at)
    for n in (65000, 9000, -1): said = refused("animate", me, talk, "-o", at / "out.mp4", "--size", n)
    from x2face_nb.video import resize
    import numpy as np
    says(resize, np.zeros((8, 8, 3), np.uint8), 65000)
    return refused("animate", me, talk, "-o", at / "out.mp4", "--size", 65000) or said


@hole("A page opens one view after the other", "30 MB a minute each, without a cap")
def views(at):
    import numpy as np
    from x2face_nb.video import encode_image
    s, sent = studio()
    frame = encode_image(np.zeros((64, 64, 3), np.uint8), ".jpg")
    for i in range(50):
        s.handle(dict(type="frame", view=f"v{i}", seq=0, past=[], skipped=0), [frame])
        if i == s.views: said = refusal(sent)
    assert len(s._seats) == s.views
    s.close()
    return said


@hole("A film with one late time stamp, or a gap of 5 h, in `prepare`", "50 million and 450,000 frames were written")
def late(at):
    for n, last in enumerate([5 * 3600 * 25, 20 * 86400 * 25]):
        film(at / f"raw{n}/x/a.{('mp4', 'mkv')[n]}", [*range(60), last])
        code, text = command("prepare", at / f"raw{n}", "-o", at / "out")
        assert code == 1 and "Traceback" not in text, text[-300:]
        said = [l for l in text.splitlines() if "shows nothing new" in l]
        assert said, text[-300:]
    return said[0].partition("Skipped: ")[2]


@hole("A track of 8,000 frames is decoded into the frame cache", "not tried; all its frames were in memory at once")
def long_track(at):
    from x2face_nb.data import Frames, Track
    frames = Frames([Track("a", "a", "train", film(at / "a.mp4", range(8000)))], 128, at / "cache")
    at_start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert frames.n_frames(0) == 8000 and frames[0, 7999].shape == (128, 128, 3)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - at_start
    shutil.rmtree(at / "cache")
    assert grown < 150 << 10, f"{grown >> 10} MB"
    return "frames go to the cache one by one"


# 5. Uploads

@hole("A page sends pieces that all say they begin at 0", "24 MB were stored under a limit of 1")
def offsets(at):
    s, sent = studio()
    s.limit_mb = 1
    for i in range(24):
        s.handle(*piece("b", 0, bytes(900_000)))
        assert s._inbox.size() <= 1e6
    said = next(x["says"] for x in sent if x["type"] == "refused")
    s.close()
    return said


@hole("A page sends many batches, and never ends them", "not totalled")
def batches(at):
    s, sent = studio()
    s.limit_mb = 1
    for i in range(40):
        s.handle(*piece(f"b{i}", 0, bytes(300_000)))
        assert s._inbox.size() <= 1e6 and len(s._uploads) <= 8
    said = refusal(sent)
    s.close()
    return said


@hole("A page leaves before its upload ends", "the files stayed")
def abandoned(at):
    s, sent = studio()
    s.idle_s = .2
    s.handle(*piece("b", 0, bytes(1000)))
    assert s._inbox.size() >= 1000
    until = time.monotonic() + 10
    while s._uploads and time.monotonic() < until: time.sleep(.05)
    left = [p for p in s._inbox.path.rglob("*") if p.is_file() and p.name != ".lock"]
    s.close()
    assert not left and not s._inbox.path.exists()
    return "removed after a minute of silence"


@hole("The kernel is killed while files are on their way", "the files stayed")
def killed_kernel(at):
    from x2face_nb.widgets import Scratch
    tempfile.tempdir = os.environ["TMPDIR"] = str(at)
    Scratch.young = 0
    if not (pid := os.fork()):
        try:
            held = Scratch()
            (held.path / "film.mp4").write_bytes(bytes(1000))
        finally: os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert list(at.glob("*/film.mp4"))
    Scratch().close()
    assert not list(at.iterdir())
    return "removed when the next studio opens"


# 6. A foreign video.json

@hole("A video.json names another file's sound", "that sound went into the result")
def foreign_sound(at):
    from x2face_nb.video import images_to_video, video_to_images
    secret = film(at / "secret.mp4", sound=True)
    video_to_images(film(at / "a.mp4"), at / "out", progress=False)
    good = json.loads((at / "out/video.json").read_text())
    (at / "out/link.m4a").symlink_to(secret)
    for name in (str(secret), "../secret.mp4", "link.m4a", "..", "/dev/zero", 3, "a\0b"):
        (at / "out/video.json").write_text(json.dumps(good | dict(audio=name)))
        said = says(images_to_video, at / "out", at / "b.mp4", progress=False)
        assert not (at / "b.mp4").exists()
    (at / "out/video.json").write_text(json.dumps(good | dict(audio="../secret.mp4")))
    return says(images_to_video, at / "out", at / "b.mp4", progress=False) or said


# 7. Damaged files of our own

def toy(at):
    from x2face_nb.data import make_toy_tracks, read_tracks
    return read_tracks(make_toy_tracks(at / "toy", n=4, frames=6, size=32).parent)


def damage(path:Path, where=.5, n=64):
    "Zeros in the middle of a file."
    data = bytearray(path.read_bytes())
    i = int(len(data) * where)
    data[i:i + n] = bytes(b ^ 255 for b in data[i:i + n])
    path.write_bytes(data)


@hole("A damaged, cut or foreign frame cache", "exit 70 without the file's name, for ever")
def frame_cache(at):
    import numpy as np
    from x2face_nb import data
    tracks = toy(at)[:1]
    good = np.stack([data.Frames(tracks, 32, at / "c")[0, i] for i in range(6)])
    (file,) = (at / "c").iterdir()
    whole = file.read_bytes()
    for bad in (whole[:100], whole[:-500], b"", b"nonsense", whole.replace(b"NUMPY", b"NUMPX")):
        file.write_bytes(bad)
        data._mapped.cache_clear()
        assert (np.stack([data.Frames(tracks, 32, at / "c")[0, i] for i in range(6)]) == good).all()
    damage(file)
    data._mapped.cache_clear()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert (np.stack([data.Frames(tracks, 32, at / "c")[0, i] for i in range(6)]) == good).all()
    return str(said[0].message)


@hole("A damaged record of `prepare`", "exit 70 without the file's name, for ever")
def done_record(at):
    import faults
    faults.make_inputs(at)
    shutil.rmtree(at / "raw/ben")
    os.chdir(at)
    how = faults.COMMANDS["prepare"].replace("../", "").split()
    assert command(*how)[0] == 0
    manifest, (record,) = (at / "out/manifest.csv").read_bytes(), (at / "out/.done").glob("*.json")
    for bad in ("{", "[1]", '{"tracks": [[]]}', "[" * 100_000, "9" * 6000, '{"tracks": 3}'):
        record.write_text(bad)
        code, text = command(*how)
        assert code == 0 and (at / "out/manifest.csv").read_bytes() == manifest, text[-300:]
    return "the video is prepared again, to the same manifest"


@hole("A damaged log of a run", "exit 70 without the file's name, for ever")
def run_log(at):
    from x2face_nb.core import read_log
    for bad in ("{\n", "[]\n", "9" * 6000 + "\n", "[" * 100_000 + "\n", "\x80\n"):
        (at / "log.jsonl").write_bytes(b'{"step": 1}\n' + bad.encode("latin1"))
        said = says(read_log, at / "log.jsonl")
    return said


def embedded(at):
    import torch
    from x2face_nb.render import RENDERINGS, EmbeddedFace
    x = torch.rand(1, 3, 16, 16)
    EmbeddedFace(x, x.clone(), torch.zeros(1, 2, 4, 4), RENDERINGS["paper"].preparation).save(at / "a.safetensors", "0" * 16)
    return at / "a.safetensors", lambda: EmbeddedFace.load(at / "a.safetensors", "0" * 16)


@hole("An embedded face whose metadata is damaged", "exit 70 without the file's name, for ever")
def face_metadata(at):
    file, load = embedded(at)
    data = file.read_bytes()
    n, = struct.unpack("<Q", data[:8])
    head = json.loads(data[8:8 + n])
    for bad in (dict(__metadata__={}), dict(__metadata__=3), dict(__metadata__=head["__metadata__"] | dict(preparation="9" * 5000)), dict(face=3)):
        new = json.dumps(head | bad).encode()
        file.write_bytes(struct.pack("<Q", len(new)) + new + data[8 + n:])
        said = says(load)
    return said


@hole("A block of zeros in an embedded face", "accepted silently")
def zeroed_face(at):
    file, load = embedded(at)
    damage(file)
    return says(load)


@hole("A damaged embedded face in the cache", "accepted silently")
def cached_face(at):
    from x2face_nb.animate import Animator, source_crops
    from x2face_nb.samples import sample_source
    a = Animator(cache=at / "c")
    (src, _, _), = source_crops(sample_source(), 64)
    good = a.embed(src).face.numpy().copy()
    (file,) = (at / "c").glob("*.safetensors")
    damage(file)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert (a.embed(src).face.numpy() == good).all() and not a.cached and (a.embed(src).face.numpy() == good).all() and a.cached
    return re.sub(r"^\S*/", "", str(said[0].message))


@hole("Weights that hold NaN", "accepted silently")
def nan_weights(at):
    import fuzz
    import torch
    from x2face_nb.x2face import X2Face, load_model, save_model
    model = X2Face(fuzz.tiny())
    next(model.parameters()).data.flatten()[3] = torch.nan
    save_model(model, at / "w.safetensors")
    return says(load_model, at / "w.safetensors")


@hole("Damaged landmarks, in the cache and beside a track", "exit 70 without the file's name, for ever")
def landmarks(at):
    import numpy as np
    from x2face_nb import data
    track = toy(at)[0]
    beside = track.path.with_name(track.path.stem + ".landmarks.npy")
    beside.unlink()
    good = data.track_landmarks(track, cache=at / "c")
    (file,) = (at / "c").iterdir()
    damage(file)
    data._mapped.cache_clear()
    assert np.array_equal(data.track_landmarks(track, cache=at / "c"), good, equal_nan=True)
    for bad in (b"", b"nonsense", b"\x93NUMPY\x01\x00\x10\x00{'descr': '9'*9}"):
        beside.write_bytes(bad)
        said = says(data.track_landmarks, track)
    return said


@hole("A damaged checkpoint", "exit 70 without the file's name, for ever")
def checkpoint(at):
    import faults
    toy(at)
    (at / "config.json").write_text(json.dumps(faults.CONFIG | dict(steps=3)))
    how = ("train", at / "toy", "--out", at / "out", "--config", at / "config.json", "--device", "cpu")
    assert command(*how)[0] == 0
    file = at / "out/checkpoint.safetensors"
    damage(file)
    said = refused(*how)
    whole = file.read_bytes()
    for bad in (b"", whole[:100], b"\xff" * 100):
        file.write_bytes(bad)
        refused(*how)
    return said


@hole("Configurations with numbers of 5000 digits, deep nesting, other types", "exit 70 without the file's name")
def configuration(at):
    toy(at)
    for bad in ('{"steps": %s}' % ("9" * 5000), "[" * 100_000, '{"steps": "%s"}' % ("9" * 5000), '{"model": []}', '{"steps": 1e400}', "\x80", '{"model": {"model": {}}}'):
        (at / "c.json").write_bytes(bad.encode("latin1"))
        said = refused("train", at / "toy", "-o", at / "run", "--config", at / "c.json")
    (at / "c.json").write_text('{"steps": %s}' % ("9" * 5000))
    return refused("train", at / "toy", "-o", at / "run", "--config", at / "c.json") or said


@hole("A damaged record of the fastest engine", "not tried")
def engine_record(at):
    from x2face_nb import engine
    from x2face_nb.core import file_hash
    from x2face_nb.x2face import pretrained_path
    os.environ["X2FACE_CACHE"] = str(at)
    record = at / "engines" / f"{file_hash(pretrained_path())}.json"
    record.parent.mkdir()
    import pandas as pd
    engine.time_engines = lambda *a, **k: pd.DataFrame([dict(engine="torch", ms=1., difference=0.)])
    for bad in ("{", "[" * 100_000, "3", '{"machine": 3}', "\x80"):
        record.write_bytes(bad.encode("latin1"))
        assert engine._fastest(pretrained_path(), 1)[0] == "torch"
    return "measured again, and remembered"


# 8. Two at once

def both(at, *args) -> list:
    "Exit codes and words of two commands at once."
    how = [sys.executable, "-m", "x2face_nb", *map(str, args)]
    two = [subprocess.Popen(how, cwd=at, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    return [(p.returncode, text) for p, text in [(p, p.communicate(timeout=200)[0]) for p in two]]


@hole("Two `video2images --overwrite` into one folder", "each removed the other's temporary files")
def two_exports(at):
    from x2face_nb.video import images_to_video, read_export
    film(at / "a.mp4", range(200))
    ends = both(at, "video2images", "a.mp4", "-o", "out", "--overwrite")
    assert 0 in [c for c, _ in ends] and all(c == 0 or c == 1 and "Another process" in t and "Traceback" not in t for c, t in ends), ends
    assert read_export(at / "out")["frames"] == len(list((at / "out").glob("*.png"))) == 200
    images_to_video(at / "out", at / "b.mp4", progress=False)
    assert not list(at.rglob(".x2face-*"))
    said = [t.strip().splitlines()[-1].removeprefix("x2face: ") for c, t in ends if c]
    return said[0] if said else "the second one came after the first, and replaced it whole"


@hole("Two `prepare` into one folder", "each removed the other's temporary files")
def two_prepares(at):
    import faults
    from x2face_nb.data import read_tracks
    faults.make_inputs(at)
    ends = both(at, *faults.COMMANDS["prepare"].replace("../", "").split())
    assert 0 in [c for c, _ in ends] and all(c == 0 or c == 1 and "Another process" in t and "Traceback" not in t for c, t in ends), ends
    assert len(read_tracks(at / "out")) >= 2 and not list(at.rglob(".x2face-*"))
    said = [t.strip().splitlines()[-1].removeprefix("x2face: ") for c, t in ends if c]
    return said[0] if said else "the second one came after the first, and found its records"


@hole("Two processes that want the sample films", "not tried; the second one was refused")
def two_samples(at):
    code = "from x2face_nb.prepare import sample_tracks; print(sample_tracks(seconds=2))"
    env = os.environ | dict(X2FACE_CACHE=str(at))
    two = [subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    out = [(p.communicate(timeout=200)[0].splitlines()[-1], p.returncode) for p in two]
    assert out[0] == out[1] and out[0][1] == 0, out
    return "the second one waits, and finds them"


@hole("Two raw videos whose tracks would have one name", "a pair found among 7,046; two manifest rows for one file")
def names(at):
    import hashlib
    from x2face_nb.data import read_tracks
    from x2face_nb.prepare import _name
    first, seen = None, {}
    for i in range(100_000):
        rel = Path("a-person-with-a-rather-long-name") / f"video {i}.mp4"
        old = hashlib.sha256(rel.as_posix().encode()).hexdigest()[:6]
        if old in seen:
            first = seen[old], rel
            break
        seen[old] = rel
    assert first and _name(first[0]) != _name(first[1]), first
    assert len({_name(p) for p in seen.values()}) == len(seen)
    toy(at)
    manifest = (at / "toy/manifest.csv").read_text().splitlines()
    (at / "toy/manifest.csv").write_text("\n".join([*manifest, manifest[1].replace("toy00,", "other,", 1)]) + "\n")
    return says(read_tracks, at / "toy")


# 9. Commands

def start(at, *args, env={}, **kw):
    return subprocess.Popen([sys.executable, "-m", "x2face_nb", *map(str, args)], cwd=at, env=os.environ | env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw)


@hole("`animate` is killed", "`.out-*.mp4` stayed for ever")
def killed_animate(at):
    from x2face_nb import core
    me, talk = face_files(at, 4)
    p = start(at, "animate", me, talk, "-o", at / "out.mp4", "--size", 64)
    until = time.monotonic() + 200
    while not list(at.glob(".x2face-*")) and p.poll() is None and time.monotonic() < until: time.sleep(.01)
    p.kill()
    p.communicate()
    assert list(at.glob(".x2face-*")) and not (at / "out.mp4").exists()
    if not (pid := os.fork()):  # another process
        try:
            core._sweep.cache_clear()  # a new process has swept nothing
            core.write_text(at / "other.txt", "x")
        finally: os._exit(0)
    os.waitpid(pid, 0)
    assert not list(at.glob(".x2face-*")) and not [p for p in at.iterdir() if p.name.startswith(".")]
    return "what it left goes when the next process writes to the folder"


@hole("A file of mode 0600 is replaced", "it came back as 0644")
def mode(at):
    from x2face_nb.core import write_text
    os.umask(0o022)
    me, talk = face_files(at)
    for name in ("out.mp4", "out.png", "out.txt"): write_text(at / name, "old").chmod(0o600)
    assert command("animate", me, talk, "-o", at / "out.mp4", "--size", 64, "--force")[0] == 0
    assert command("animate", me, me, "-o", at / "out.png", "--size", 64, "--force")[0] == 0
    write_text(at / "out.txt", "new")
    assert all((at / n).stat().st_mode & 0o777 == 0o600 for n in ("out.mp4", "out.png", "out.txt"))
    return "it stays 0600"


@hole("A symbolic link is given as output", "the link was replaced")
def link(at):
    from x2face_nb.core import write_text
    me, talk = face_files(at)
    (at / "there").mkdir()
    for name in ("out.mp4", "out.txt"):
        (at / "there" / name).write_text("old")
        (at / name).symlink_to(at / "there" / name)
    assert command("animate", me, talk, "-o", at / "out.mp4", "--size", 64, "--force")[0] == 0
    write_text(at / "out.txt", "new")
    for name in ("out.mp4", "out.txt"): assert (at / name).is_symlink() and (at / "there" / name).read_bytes() != b"old"
    return "the file that it points to is written"


@hole("`voila.py` or `jupyterlab.py` in the current folder, and a server", "it was run: a fork bomb if it started a server")
def voila(at):
    from x2face_nb.server import live_server
    for name in ("voila", "jupyterlab", "jupyter_server", "notebook", "x2face_nb", "sitecustomize"): (at / f"{name}.py").write_text(f"open({str(at / 'ran')!r}, 'w')\n")
    os.chdir(at)
    os.environ.pop("PYTHONPATH", None) if not os.environ.get("PYTHONPATH") else None
    for app in (True, False):
        with live_server(at, app=app) as s: assert s.get("api/status")
    assert not (at / "ran").exists()
    return "nothing is imported from the current folder"


@hole("A user's Jupyter configuration with an empty token", "the server that says it has one was open")
def token(at):
    import urllib.error
    import urllib.request
    from x2face_nb.server import live_server
    home = at / "home"
    for folder in (".jupyter", ".ipython", "etc/jupyter"): (home / folder).mkdir(parents=True)
    words = "c.ServerApp.token = ''\nc.IdentityProvider.token = ''\nc.ServerApp.password = ''\nc.ServerApp.ip = '0.0.0.0'\nc.ServerApp.disable_check_xsrf = True\n"
    for folder in (".jupyter", "etc/jupyter"):
        for name in ("jupyter_server_config.py", "jupyter_config.py", "jupyter_lab_config.py"): (home / folder / name).write_text(words)
    os.environ |= dict(HOME=str(home), JUPYTER_CONFIG_PATH=str(home / "etc/jupyter"), JUPYTER_TOKEN="")
    with live_server(at, app=True) as s:
        for url in (f"{s.url}api/kernels", f"{s.url}api/kernels?token=", f"{s.url}api/contents?token=x"):
            try: urllib.request.urlopen(url, timeout=20)
            except urllib.error.HTTPError as e: code = e.code
            else: raise AssertionError(f"open: {url}")
        assert s.url.startswith("http://127.0.0.1:")
    return f"it answers {code} without its own token"


@hole("`--fps 0.0001`, `--start nan` and their like", "exit 70")
def numbers(at):
    me, talk = face_files(at)
    for more in (("--fps", "0.0001"), ("--fps", "nan"), ("--fps", "1e9"), ("--fps", "-1"), ("--start", "nan"), ("--start", "inf"), ("--stop", "nan"), ("--start", "-1"), ("--size", "3")):
        said = refused("animate", me, talk, "-o", at / "out.mp4", *more)
    assert not (at / "out.mp4").exists()
    return refused("animate", me, talk, "-o", at / "out.mp4", "--fps", "0.0001") or said


@hole("Memory runs out", "exit 70: OpenCV's “Insufficient memory”")
def memory(at):
    import av
    import numpy as np
    me, _ = face_files(at)
    with av.open(str(at / "a.mp4"), "w") as c:
        s = c.add_stream("libx264", rate=25, options=dict(preset="ultrafast"))
        s.width, s.height, s.pix_fmt = 4096, 4096, "yuv420p"
        f = av.VideoFrame.from_ndarray(np.zeros((4096, 4096, 3), np.uint8), format="rgb24")
        c.mux(s.encode(f)); c.mux(s.encode(None))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    said = ""
    for mb in (40, 80, 120, 160, 240, 320):
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (mb << 20), resource.getrlimit(resource.RLIMIT_AS)[1]))
        code, text = command("animate", me, at / "a.mp4", "-o", at / "out.mp4", "--size", 64)
        assert code == 1 and "Traceback" not in text, f"{mb} MB: exit code {code}: {text[-500:]}"
        if "memory" in text: said = text.splitlines()[-1].removeprefix("x2face: ")
    assert said, text
    return said


@hole("Text named `me.jpg` or `talk.mp4`", "“is a single picture; give a video”")
def text(at):
    me, talk = face_files(at)
    (at / "me.jpg").write_text("Dear diary\n")
    (at / "talk.mp4").write_text("Dear diary\n")
    refused("animate", me, at / "talk.mp4", "-o", at / "out.mp4")
    for driver in ("me.jpg",): said = refused("animate", me, at / driver, "-o", at / "out.mp4")
    assert "single picture" not in said and "text" in said, said
    return said


@hole("Ctrl-C in the first 50 ms, and later", "a traceback")
def interrupt(at):
    me, talk = face_files(at)
    for wait in (.03, .06, .1, .2, .5, 1.2):
        p = start(at, "animate", me, talk, "-o", at / "out.mp4", "--size", 64, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
        time.sleep(wait)
        p.send_signal(signal.SIGINT)
        _, err = p.communicate(timeout=200)
        assert not re.search(r"/x2face_nb/\w+\.py", err), f"after {wait} s: {p.returncode}: {err[:400]}"  # Python's own start
        assert p.returncode in (130, -2, 0) or "Traceback" in err, f"after {wait} s: {p.returncode}: {err[-300:]}"
    assert not list(at.glob(".x2face-*"))
    return "it ends with 130 or by the signal, without a traceback from this package"


@hole("A file that one may not read", "“No such file”")
def unreadable(at):
    from x2face_nb.core import load_tensors, read_json
    from x2face_nb.data import read_tracks
    from x2face_nb.video import read_image, read_video
    toy(at)
    files = [at / n for n in ("a.mp4", "a.png", "a.json", "a.safetensors")]
    for f in files: f.write_bytes(b"x" * 100)
    for f in (*files, at / "toy/manifest.csv"): f.chmod(0)
    if not os.geteuid():
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        os.chown(at, 65534, 65534)
        os.chmod(at, 0o755)
        for p in [*at.rglob("*")]: os.chown(p, 1, 1)
        os.chmod(at / "toy", 0o755)
        for p in [at, *at.parents]:  # the way there
            with contextlib.suppress(OSError): p.chmod(p.stat().st_mode | 0o055)
        assert libc.setresuid(65534, 65534, 65534) == 0
    for f, read in zip((*files, at / "toy"), (read_video, read_image, read_json, load_tensors, read_tracks)):
        said = says(read, f)
        assert "no file" not in said.lower() and "no such" not in said.lower(), said
    return says(read_video, files[0])


# Running

def attempt(name:str, at:Path, to):
    "In the child: limits, the attempt, and what came of it as a line of JSON."
    os.setsid()
    tempfile.tempdir = None
    os.environ |= dict(TMPDIR=str(at / "tmp"), X2FACE_CACHE=str(at / "cache"), OMP_NUM_THREADS="1")
    (here := at / "here").mkdir()
    (at / "tmp").mkdir()
    null = os.open(os.devnull, os.O_RDWR)
    for n in (0, 1, 2): os.dup2(null, n)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES,) * 2)
    for s in (signal.SIGINT, signal.SIGTERM): signal.signal(s, signal.default_int_handler if s == signal.SIGINT else signal.SIG_DFL)
    began, held = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    os.chdir(here)
    try: said, is_open = HOLES[name][2](here), False
    except BaseException as e:
        import traceback
        said, is_open = f"OPEN: {type(e).__name__}: {e}"[:500], True
        said += f" at line {traceback.extract_tb(e.__traceback__)[-1].lineno}"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) / 1024
    row = dict(after=plain(str(said), at), open=is_open, seconds=round(time.perf_counter() - began, 1), peak_MB=round(grown))
    os.write(to, json.dumps(row).encode())
    os._exit(0)


def plain(said:str, at:Path) -> str:
    "A sentence without paths of this machine."
    said = re.sub(rf"{re.escape(str(at))}(/here|/tmp|/cache)?/?", "", " ".join(said.split()))
    return re.sub(r"[0-9a-f]{16}-", "…-", said)


def run(names=None, say=lambda *a: None) -> list[dict]:
    "A row for each attempt."
    from x2face_nb import __main__, animate, cli, control_panel, data, engine, prepare, recipes, release, server, shards, training, widgets  # noqa: F401
    import torch
    torch.set_num_threads(1)
    rows = []
    for name, (what, before, _) in HOLES.items():
        if names and name not in names: continue
        at = Path(tempfile.mkdtemp(prefix="x2face-hole-"))
        read, write = os.pipe()
        sys.stdout.flush()
        if not (pid := os.fork()): attempt(name, at, write)
        os.close(write)
        until, got = time.monotonic() + SECONDS, b""
        os.set_blocking(read, False)
        while time.monotonic() < until and not got:
            with contextlib.suppress(BlockingIOError): got = os.read(read, 1 << 16)
            if not got and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT): break
            time.sleep(.02)
        for kill in (lambda: os.killpg(pid, signal.SIGKILL), lambda: os.kill(pid, signal.SIGKILL)):
            with contextlib.suppress(OSError): kill()
        os.waitpid(pid, 0)
        os.close(read)
        shutil.rmtree(at, ignore_errors=True)
        lost = dict(after="OPEN: no end" if time.monotonic() >= until else "OPEN: it died", open=True, seconds=SECONDS, peak_MB=BYTES >> 20)
        rows.append(dict(hole=name, tried=what, before=before) | (json.loads(got) if got else lost))
        say(f"{name:18}{rows[-1]['seconds']:6.1f} s {rows[-1]['peak_MB']:5} MB  {rows[-1]['after']}")
    return rows


if __name__ == "__main__":
    to, names = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    rows = run(names, lambda *a: print(*a, flush=True))
    if to:
        kept = {r["hole"]: r for r in csv.DictReader(Path(to).read_text().splitlines())} if names and Path(to).exists() else {}
        kept |= {r["hole"]: r for r in rows}
        with open(to, "w", newline="") as f:
            w = csv.DictWriter(f, ["hole", "tried", "before", "after", "seconds", "peak_MB"], extrasaction="ignore", lineterminator="\n")
            w.writeheader()
            w.writerows(kept[n] | dict(tried=HOLES[n][0], before=HOLES[n][1]) for n in HOLES if n in kept)
    sys.exit(any(r["open"] for r in rows))
