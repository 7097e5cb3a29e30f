"""A stranger's five minutes: the wheel in an empty environment, the studio, a photograph and a video of one's own, a saved file.

    python tools/stranger.py FOLDER [WIDTHxHEIGHT] [light|dark]

Writes steps.csv, a picture of each step that has a page, and the saved video into FOLDER. The samples of this package stand in for
the stranger's files. `make stranger` runs it."""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import browser
import pandas as pd
from x2face_nb.core import write_text
from x2face_nb.samples import sample_driving, sample_source
from x2face_nb.video import VideoReader, VideoWriter, probe

ROOT = Path(__file__).parents[1]


class Diary:
    "What was done, and how long it took."
    def __init__(self, folder:Path):
        self.folder, self.rows = folder, []
        folder.mkdir(parents=True, exist_ok=True)

    def step(self,
        what:str, # in words
        do, # a function; what it returns is returned
        page=None, # of which a picture is kept
    ):
        began = time.monotonic()
        got = do()
        self.rows.append(dict(step=len(self.rows) + 1, what=what, seconds=round(time.monotonic() - began, 1), picture=""))
        if page:
            self.rows[-1]["picture"] = name = f"{len(self.rows)}.jpg"
            page.screenshot(path=self.folder / name, type="jpeg", quality=80)
        print(f"{self.rows[-1]['seconds']:7.1f} s  {what}", flush=True)
        return got


def run(*command, cwd=None):
    "What a command printed; fails with it."
    r = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=cwd, stdin=subprocess.DEVNULL)
    if r.returncode: raise SystemExit(r.stdout + r.stderr)
    return r.stdout


def built(home:Path) -> Path:
    "The wheel of what is in this checkout."
    src = home / "src"
    shutil.copytree(ROOT / "x2face_nb", src / "x2face_nb", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "nbs/demos", src / "nbs/demos")
    for f in ("settings.ini", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"): shutil.copy(ROOT / f, src)
    run(sys.executable, "-c", f"from setuptools import build_meta; build_meta.build_wheel({str(home)!r})", cwd=src)
    return next(home.glob("*.whl"))


def own_files(home:Path) -> tuple[Path, Path]:
    "A photograph and four seconds of a video, as a stranger has them."
    photo, talk = shutil.copy(sample_source(), home / f"me{sample_source().suffix}"), home / "talk.mp4"
    with VideoReader(sample_driving(), stop=4.) as r, VideoWriter(talk, r.info.fps) as w:
        for frame in r: w.write(frame)
    return Path(photo), talk


class Command:
    "A command that shows a page until it is ended, in an empty folder and without this checkout."
    def __init__(self, home:Path, *command:str):
        env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "X2FACE_CACHE")} | dict(XDG_CACHE_HOME=f"{home}/cache")
        self.p = subprocess.Popen([*map(str, command)], cwd=home, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def address(self) -> str:
        "What it prints."
        said = ""
        for line in self.p.stdout:
            said += line
            if found := re.search(r"http://\S+", line): return found[0]
        raise SystemExit(said)

    def end(self):
        self.p.send_signal(signal.SIGINT)
        self.p.communicate(timeout=60)


def make_video(page, diary:Diary, photo:Path, talk:Path):
    "The offline studio, from a photograph to a saved file."
    from playwright.sync_api import expect
    status, studio = page.get_by_test_id("offline-status"), page.get_by_test_id("offline-studio")
    def add(what, file):
        page.get_by_test_id(f"offline-{what}-file").set_input_files(file)
        expect(status).to_have_text(re.compile(f"^Ready: {file.stem}"))
    def animate():
        page.get_by_test_id("offline-animate").click()
        expect(studio).to_have_attribute("data-state", "done")
    def save():
        with page.expect_download() as d: page.get_by_test_id("offline-save").click()
        d.value.save_as(diary.folder / d.value.suggested_filename)
        return diary.folder / d.value.suggested_filename
    diary.step("the page is there", studio.wait_for, page)
    diary.step("add a photograph of your own", lambda: add("source", photo), page)
    diary.step("add a video of your own", lambda: add("driver", talk), page)
    diary.step("press Animate, and see it done", animate, page)
    saved = diary.step("press Save", save)
    assert probe(saved).frames == probe(talk).frames
    return saved


def go_live(page, diary:Diary):
    "The live studio: press Start, and a frame moves."
    diary.step("the page is there", page.get_by_test_id("live-studio").wait_for, page)
    diary.step("press Start, and thirty frames move", lambda: browser.start(page, frames=30), page)


def main(folder:Path, size:tuple[int, int]=(1366, 768), theme:str="light"):
    from playwright.sync_api import expect, sync_playwright
    diary = Diary(folder)
    expect.set_options(timeout=600_000)
    with tempfile.TemporaryDirectory() as d:
        home = Path(d)
        photo, talk = own_files(home)
        wheel = diary.step("build the wheel", lambda: built(home))
        diary.step("python -m venv env", lambda: run(sys.executable, "-m", "venv", home / "env"))
        pip = (home / "env/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", ROOT / "constraints.txt")
        diary.step(f"pip install {wheel.name}[live]", lambda: run(*pip, f"{wheel}[live]"))
        flags = ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={browser.camera_file(home / 'camera.mjpeg')}"]
        with sync_playwright() as p:
            chromium = p.chromium.launch(executable_path=browser.chromium(), args=flags)
            for name, visit in (("studio", lambda page: make_video(page, diary, photo, talk)), ("live", lambda page: go_live(page, diary))):
                context = chromium.new_context(viewport=dict(zip(("width", "height"), size)), permissions=["camera"])
                context.set_default_timeout(600_000)
                command = Command(home, home / "env/bin/x2face", name, "--no-browser", "--theme", theme)
                address = diary.step(f"x2face {name} prints its address", command.address)
                try:
                    page = context.new_page()
                    page.goto(address)
                    visit(page)
                finally: command.end()
            chromium.close()
    write_text(folder / "steps.csv", pd.DataFrame(diary.rows).to_csv(index=False))
    print(f"{sum(r['seconds'] for r in diary.rows):7.1f} s  altogether")


if __name__ == "__main__":
    args = dict(enumerate(sys.argv[1:]))
    main(Path(args.get(0, "results/stranger")), tuple(map(int, args.get(1, "1366x768").split("x"))), args.get(2, "light"))
