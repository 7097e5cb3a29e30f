"""The command as a process of its own: every bad input ends in one sentence and the right exit code, and leaves nothing behind.

With X2FACE_ERROR_TABLE=FILE, what was printed for each input is written there as a table in Markdown."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from x2face_nb.render import RENDERINGS, EmbeddedFace
from x2face_nb.data import make_toy_tracks
from x2face_nb.samples import sample_driving, sample_source
from x2face_nb.video import VideoReader, VideoWriter, read_image, read_video, write_image
from x2face_nb.x2face import NetworkConfig, X2Face, X2FaceConfig, save_model

SCRIPT = Path(sys.executable).with_name("x2face")
COMMAND = [str(SCRIPT)] if SCRIPT.exists() else [sys.executable, "-c", "import sys; from x2face_nb.cli import main; sys.exit(main())"]
NET = NetworkConfig(widths=(8, 8, 8, 8, 8, 8), n_up=6)
posix = pytest.mark.skipif(os.name != "posix", reason="signals, limits and permissions are POSIX's")


@dataclass(frozen=True)
class Ended:
    "How a process ended."
    code: int
    out: str
    notes: list
    errors: list


@pytest.fixture(scope="module")
def said():
    "Input → what was printed; written to $X2FACE_ERROR_TABLE at the end."
    rows = []
    yield rows
    if (at := os.environ.get("X2FACE_ERROR_TABLE")) and rows:
        table = ["| input | exit code | what is printed |", "|---|---|---|"]
        Path(at).write_text("\n".join(table + [f"| {what} | {e.code} | {'<br>'.join(filter(None, e.errors or e.notes)) or 'done'} |" for what, e in rows]) + "\n")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    "Good and bad files, read by all tests and changed by none."
    w = tmp_path_factory.mktemp("world")
    face, talk = read_image(sample_source())[:360, 60:420], read_video(sample_driving("carphone"), stop=.25)
    write_image(w / "face.png", face)
    write_image(w / "two-faces.png", np.concatenate([face, face], 1))
    shutil.copy(sample_source().with_name("rocket.jpg"), w / "no-face.jpg")
    write_image(w / "8x8.png", face[100:108, 100:108])
    Image.fromarray(face).convert("CMYK").save(w / "cmyk.jpg")
    Image.fromarray(face.mean(-1).astype(np.uint16) * 257).save(w / "16-bit.png")
    film(w / "talk.mp4", talk)
    film(w / "one-frame.mp4", talk[:1])
    film(w / "long.mp4", np.repeat(talk[:1], 400, 0))
    with av.open(str(w / "odd-size.mkv"), "w") as c:
        s = c.add_stream("ffv1", rate=25)
        s.width, s.height, s.pix_fmt = 175, 143, "bgr0"
        for f in talk[:3, :143, :175]: c.mux(s.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(f), format="rgb24")))
        c.mux(s.encode(None))
    with av.open(str(w / "plain.mp4"), "w") as c:  # as cameras write: the index last
        s = c.add_stream("libx264", rate=25)
        s.width, s.height, s.pix_fmt = 176, 144, "yuv420p"
        for f in talk: c.mux(s.encode(av.VideoFrame.from_ndarray(f, format="rgb24")))
        c.mux(s.encode(None))
    data = (w / "plain.mp4").read_bytes()
    (w / "cut-short.mp4").write_bytes(data[:len(data) // 2])
    film(w / "half.mp4", read_video(sample_driving("carphone"), stop=2.))  # the index first
    os.truncate(w / "half.mp4", int((w / "half.mp4").stat().st_size * .5))
    (w / "empty.mp4").touch()
    (w / "text.mp4").write_text("This is no video.\n")
    with av.open(str(w / "audio-only.mp4"), "w") as c:
        s = c.add_stream("aac", rate=16000, layout="mono")
        f = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        f.sample_rate = 16000
        c.mux(s.encode(f))
        c.mux(s.encode(None))
    (w / "folder.mp4").mkdir()
    model = X2Face(X2FaceConfig(embedding=NET, driving=NET, zero_heads=True))
    save_model(model, w / "w.safetensors")
    data = (w / "w.safetensors").read_bytes()
    (w / "cut-short.safetensors").write_bytes(data[:len(data) // 2])
    for name in ("pickle.safetensors", "checkpoint.pth"): torch.save(model.state_dict(), w / name)
    save_file({"a": torch.zeros(2)}, w / "foreign.safetensors")
    x = torch.zeros(1, 3, 16, 16)
    EmbeddedFace(x, x.clone(), torch.zeros(1, 2, 4, 4), RENDERINGS["flip"].preparation).save(w / "other.safetensors", "0" * 16)
    make_toy_tracks(w / "toy", n=2, frames=4, size=32)
    (w / "net.json").write_text(json.dumps(dict(model=dict(embedding=NET.to_dict(), driving=NET.to_dict()), steps=1, batch_size=2,
                                                frame_sizes=[32], precision="fp32")))
    return w


def film(path, frames):
    with VideoWriter(path, 25) as v:
        for f in frames: v.write(f)


@pytest.fixture
def x2face(world, said, tmp_path):
    "Runs the command in an empty folder; paths into `world` are given as @name. Checks that nothing but `leaves` is left behind."
    here, tmp = tmp_path / "here", tmp_path / "tmp"
    here.mkdir()
    tmp.mkdir()

    def run(*args, what=None, leaves=(), prefix=(), command=COMMAND, disturb=None, env={}, at=here, **kw):
        args = [str(world / a[1:]) if str(a).startswith("@") else str(a) for a in args]
        env = os.environ | dict(TMPDIR=str(tmp), X2FACE_CACHE=str(tmp_path / "cache"), OMP_NUM_THREADS="1") | env
        p = subprocess.Popen([*prefix, *command, *args], cwd=at, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True, **kw)
        if disturb: disturb(p)
        out, err = p.communicate(timeout=120)
        lines = err.replace(f"{world}/", "").replace(f"{tmp_path}/", "").splitlines()
        ended = Ended(p.returncode, out, [x for x in lines if x.startswith("x2face: note: ")],
                      [x for x in lines if not x.startswith("x2face: note: ")])
        if what: said.append((what, ended))
        assert sorted(str(f.relative_to(at)) for f in at.rglob("*") if f.is_file()) == sorted(leaves), "files left behind"
        assert not [f for f in tmp.rglob("*") if f.is_file()], "temporary files left behind"
        return ended
    run.here = here
    return run


def refused(e, words, code=1):
    "One sentence on stderr, nothing on stdout."
    assert e.code == code and len(e.errors) == 1 and e.out == "", e
    assert e.errors[0].startswith("x2face: ") and e.errors[0][-1] in ".?" and words in e.errors[0], e


def done(e, note=None):
    assert e.code == 0 and e.errors == [], e
    assert len(e.notes) == (note is not None) and (note or "") in "".join(e.notes), e


def animate(source="@face.png", driving="@talk.mp4", out="out.mp4", weights="@w.safetensors", *more):
    return "animate", source, driving, "-o", out, "--weights", weights, *more


# Without torch

def test_help_and_version_come_without_torch():
    code = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); from x2face_nb.cli import main; main()"
    for arg in ("--help", "--version"):
        r = subprocess.run([sys.executable, "-c", code, arg], capture_output=True, text=True)
        assert r.returncode == 0 and r.stdout.splitlines()[-1] == "False", r


def test_console_script_is_installed():
    if not SCRIPT.exists(): pytest.skip("the package is not installed here; the tests ran its main function instead")
    assert subprocess.run([SCRIPT, "--version"], capture_output=True, text=True).stdout.startswith("x2face ")


def test_wrong_usage(x2face):
    e = x2face("animate", "a.png", what="`animate` without a driving video")
    assert e.code == 2 and "name the source and then the driver" in e.errors[-1] and "Traceback" not in str(e)


# What cannot be animated

@pytest.mark.parametrize("what, driving, words", [
    ("an MP4 that was cut short", "@cut-short.mp4", "cut short"),
    ("a video of 0 bytes", "@empty.mp4", "is empty"),
    ("sound alone, for weights without a control map", "@audio-only.mp4", "fit-control"),
    ("text named .mp4", "@text.mp4", "holds text"),
    ("a video that is not there", "nothing.mp4", "There is no file"),
    ("a folder without a video", "@folder.mp4", "names no video"),
])
def test_bad_driving(x2face, what, driving, words): refused(x2face(*animate(driving=driving), what=what), words)


@pytest.mark.parametrize("what, source, words", [
    ("a picture without a face", "@no-face.jpg", "No face"),
    ("a picture of 8×8 pixels", "@8x8.png", "No face"),
    ("an embedded face made by other weights", "@other.safetensors", "other weights"),
])
def test_bad_source(x2face, what, source, words): refused(x2face(*animate(source), what=what), words)


@pytest.mark.parametrize("what, weights, words", [
    ("weights that are a picture", "@face.png", "not a safetensors file"),
    ("weights that are a pickle", "@pickle.safetensors", "not a safetensors file"),
    ("weights that are a checkpoint of torch", "@checkpoint.pth", "x2face convert"),
    ("weights that were cut short", "@cut-short.safetensors", "damaged"),
    ("weights of another program", "@foreign.safetensors", "no weights of this package"),
])
def test_bad_weights(x2face, what, weights, words): refused(x2face(*animate(weights=weights), what=what), words)


def test_result_over_its_source(x2face, world):
    mine = x2face.here / "mine.png"
    shutil.copy(world / "face.png", mine)
    refused(x2face(*animate("mine.png", "@face.png", "mine.png"), leaves=["mine.png"], what="a result named as its source"), "another name")
    assert mine.read_bytes() == (world / "face.png").read_bytes()


@posix
def test_no_permission(x2face, world):
    (x2face.here / "secret.mp4").write_bytes((world / "talk.mp4").read_bytes())
    (x2face.here / "secret.mp4").chmod(0)
    as_anyone = []
    if os.geteuid() == 0:
        if not shutil.which("setpriv"): pytest.skip("root may read everything, and setpriv is not here to forbid it")
        as_anyone = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    refused(x2face(*animate(driving="secret.mp4"), leaves=["secret.mp4"], prefix=as_anyone, what="a video one may not read"), "may not read")


# What can be animated

@pytest.mark.parametrize("what, source, driving, note", [
    ("a picture of two faces", "@two-faces.png", "@one-frame.mp4", "2 faces"),
    ("a 16-bit PNG, a video of one frame", "@16-bit.png", "@one-frame.mp4", None),
    ("a video whose end is missing", "@face.png", "@half.mp4", "cut short"),
    ("a CMYK JPEG, a video of odd size", "@cmyk.jpg", "@odd-size.mkv", None),
])
def test_unusual_but_good(x2face, what, source, driving, note):
    done(x2face(*animate(source, driving), leaves=["out.mp4"], what=what), note)
    with VideoReader(x2face.here / "out.mp4") as r: n = len(list(r))
    assert n in {"@one-frame.mp4": [1], "@odd-size.mkv": [3], "@half.mp4": range(10, 50)}[driving]


def test_cache_that_cannot_be_written(x2face, tmp_path):
    (tmp_path / "file").touch()
    done(x2face(*animate(driving="@one-frame.mp4"), leaves=["out.mp4"], env=dict(X2FACE_CACHE=str(tmp_path / "file" / "cache")),
                what="a cache folder that cannot be made"), "X2FACE_CACHE")


def test_existing_file_is_kept(x2face):
    "Unless it is to be replaced; said before anything is computed."
    (x2face.here / "out.mp4").write_text("precious")
    refused(x2face(*animate(weights="@nothing"), leaves=["out.mp4"], what="a result that exists already"), "--force")
    assert (x2face.here / "out.mp4").read_text() == "precious"
    done(x2face(*animate("@face.png", "@one-frame.mp4", "out.mp4", "@w.safetensors", "--force", "--size", "20"), leaves=["out.mp4"]))


def test_many_drivers(x2face, world):
    "A list gives a row and a result for each, and the one that fails does not end the others."
    (x2face.here / "list.txt").write_text(f"{world / 'one-frame.mp4'}\nnothing.mp4\n{world / 'face.png'}\n")
    e = x2face(*animate("@face.png", "list.txt", "many"), leaves=["list.txt", "many/face-face.png", "many/face-one-frame.mp4"])
    assert e.code == 1 and "2 done, 1 failed" in e.out and "There is no file" in e.out, e


def test_templates(x2face):
    e = x2face("templates")
    assert e.code == 0 and "template:nod" in e.out, e
    done(x2face("motion", "template:nod", "-o", "long.safetensors", "--loop", "2", "--mirror", leaves=["long.safetensors"]))


def test_still_is_a_picture(x2face):
    e = x2face(*animate("@face.png", "@face.png", "out.png"), leaves=["out.png"])
    done(e)
    assert e.out.startswith("picture") and "frames" not in e.out


# Studios

def test_extra_that_is_missing():
    "A sentence with a command that works, from the command and from an import alike."
    hide = "import importlib.util as u, sys; f = u.find_spec; u.find_spec = lambda n, *a: None if n in ('anywidget', 'voila', 'jupyter_server') else f(n, *a); "
    run = lambda code: subprocess.run([sys.executable, "-c", hide + code], capture_output=True, text=True)
    r = run("sys.argv = ['x2face', 'studio']; from x2face_nb.cli import main; main()")
    assert r.returncode == 1 and len(r.stderr.splitlines()) == 1 and f"{sys.executable} -m pip install" in r.stderr
    tries = "".join(f"try: import x2face_nb.{m}\nexcept Exception as e: print(e)\n" for m in ("widgets", "explorer", "server"))
    out = run("\n" + tries).stdout.splitlines()
    assert len(out) == 3 and all(x.startswith("This needs ") and " -m pip install " in x for x in out)


@posix
def test_studio_as_an_app(tmp_path):
    "Says where it is, answers to its token only, and ends with Ctrl-C, its files and kernels gone."
    p = subprocess.Popen([*COMMAND, "studio", "--no-browser"], cwd=tmp_path, env=os.environ | dict(TMPDIR=str(tmp_path)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        url = p.stdout.readline().split()[1]
        assert urllib.request.urlopen(url, timeout=60).status == 200
        with pytest.raises(urllib.error.HTTPError): urllib.request.urlopen(url.split("voila")[0] + "api/kernels?token=", timeout=60)
        p.send_signal(signal.SIGINT)
        assert p.wait(60) == 0, p.stderr.read()
    finally: p.kill()
    assert not [f for f in tmp_path.rglob("x2face-*") if f.exists()]


# Disks and signals

@contextmanager
def small_disk(at, size):
    "A file system of `size` bytes, where one may be mounted."
    at.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", at], capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root only")
    try: yield at
    finally: subprocess.run(["umount", at], check=True)


@posix
@pytest.mark.parametrize("what, args", [
    ("a disk that is full, for a video", animate(out="out.mp4")),
    ("a disk that is full, for an embedded face", ("embed", "@face.png", "-o", "me.safetensors", "--weights", "@w.safetensors")),
])
def test_full_disk(x2face, tmp_path, what, args):
    with small_disk(tmp_path / "disk", 4096) as disk: refused(x2face(*args, at=disk, what=what), "disk is full")


@posix
@pytest.mark.parametrize("args", [animate(), ("embed", "@face.png", "-o", "me.safetensors", "--weights", "@w.safetensors")], ids=["video", "face"])
def test_file_larger_than_allowed(x2face, args):
    import resource
    refused(x2face(*args, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)), env=dict(X2FACE_CACHE=os.devnull)), "large")


@posix
@pytest.mark.parametrize("what, signum, code", [("Ctrl-C while it animates", signal.SIGINT, 130), ("SIGTERM while it animates", signal.SIGTERM, 143)])
def test_stopped(x2face, what, signum, code):
    def disturb(p):
        while not list(x2face.here.glob(".x2face-*")) and p.poll() is None: time.sleep(.02)
        p.send_signal(signum)
    e = x2face(*animate(driving="@long.mp4"), disturb=disturb, what=what)
    refused(e, "before it was done", code)


@posix
@pytest.mark.parametrize("signum, code, where", [("SIGINT", 130, "drops"), ("SIGTERM", 143, "catches")])
def test_stopped_where_it_is_lost(x2face, signum, code, where):
    "Python drops what is raised in a destructor, and a library may catch everything; the interruption has to come all the same."
    ends = f"""
import os, signal
from x2face_nb import cli
from x2face_nb.animate import Animator
class Ends:
    def __del__(self): stop()
def stop():
    os.kill(os.getpid(), signal.{signum})
    for _ in range(1000): pass
def drops(): left.clear()
def catches():
    try: stop()
    except BaseException: pass
left, drive = [Ends()] if "{where}" == "drops" else [], Animator.__init__
def drive_and_end(*args, **kw):
    {where}()
    return drive(*args, **kw)
Animator.__init__ = drive_and_end
cli.main()
"""
    refused(x2face(*animate(driving="@long.mp4"), command=[sys.executable, "-c", ends]), "before it was done", code)


# Other commands

def test_unknown_key(x2face):
    refused(x2face("train", "@toy", "-o", "run", "--set", "augment.flop=true", what="an unknown key of a configuration"), "did you mean 'flip'?")


def test_run_of_another_recipe(x2face, world):
    left = [".lock", "config.json", "log.jsonl", "checkpoint.safetensors", "weights.safetensors", "strips/step_000001.jpg"]
    left = [f"run/{f}" for f in left]
    done(x2face("train", "@toy", "-o", "run", "--config", "@net.json", "--device", "cpu", leaves=left))
    refused(x2face("train", "@toy", "-o", "run", "--recipe", "live", "--set", "landmark_weight=0", "--device", "cpu", leaves=left,
                   what="a run's folder, and another recipe"), "another configuration")
    (x2face.here / "run/checkpoint.safetensors").write_bytes(b"nonsense")
    refused(x2face("train", "@toy", "-o", "run", "--config", "@net.json", leaves=left, what="a run whose checkpoint is damaged"), "damaged")


def test_data_without_tracks(x2face):
    refused(x2face("train", ".", "-o", "run", what="a data folder without tracks"), "holds no tracks")


def test_folder_without_videos(x2face): refused(x2face("prepare", ".", "-o", "tracks", what="`prepare` on a folder without videos"), "holds no video")


def test_folder_without_pictures(x2face): refused(x2face("images2video", ".", "-o", "out.mp4", what="`images2video` on a folder without pictures"), "no pictures")


def test_sample_without_npm(x2face, tmp_path):
    (tmp_path / "bin").mkdir()
    left = [f"results/demo/{f}" for f in ("demo.mp4", "figures.json", "generated.mp4", "strip.png")]
    done(x2face("demo", "--seconds", ".1", "--weights", "@w.safetensors", leaves=left, env=dict(PATH=str(tmp_path / "bin")), what="`demo` without npm"), "npm")


def test_info(x2face):
    e = x2face("info")
    done(e)
    assert "torch" in e.out and "cache" in e.out
    refused(x2face("info", "@checkpoint.pth", what="`info` on a checkpoint of torch"), "x2face convert")
    refused(x2face("info", "@foreign.safetensors", what="`info` on tensors of another program"), "neither weights nor")


def test_bug_says_so():
    code = "import x2face_nb.cli as c; c.describe = lambda path: 1 / 0; c.main()"
    run = lambda *args: subprocess.run([sys.executable, "-c", code, *args, "info", "x"], capture_output=True, text=True)
    short, long = run(), run("--debug")
    assert short.returncode == long.returncode == 70
    assert short.stderr.startswith("x2face: This is a bug") and len(short.stderr.splitlines()) == 1
    assert long.stderr.startswith("Traceback") and long.stderr.splitlines()[-1] == short.stderr.splitlines()[0]


@posix
@pytest.mark.parametrize("module, code, words", [("typer", -signal.SIGINT, ""), ("torch", 130, "x2face: Stopped by Ctrl-C before it was done.\n")])
def test_stopped_while_it_imports(tmp_path, module, code, words):
    "Ctrl-C ends it at once and without a traceback, also where a library catches everything."
    (tmp_path / f"{module}.py").write_text("import time\nprint('importing', flush=True)\ntry: time.sleep(60)\nexcept BaseException: time.sleep(60)\n")
    env = os.environ | dict(PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    p = subprocess.Popen([sys.executable, "-m", "x2face_nb", "info"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "importing\n"
    p.send_signal(signal.SIGINT)
    assert p.communicate(timeout=30)[1] == words and p.returncode == code
