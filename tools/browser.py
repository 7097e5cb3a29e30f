"""A real Chromium before a real JupyterLab, a talking face as its camera: for tests/test_browser.py and nbs/experiments/live.ipynb."""
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pandas as pd
from x2face_nb.samples import sample_driving
from x2face_nb.server import LiveServer, live_server
from x2face_nb.video import VideoReader, encode_image

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = "no Chromium here; `apt-get install chromium`, or `playwright install chromium`, brings one"


def chromium() -> str|None:
    "The program: the system's, or the one that playwright installed."
    if found := next(filter(None, map(shutil.which, NAMES)), None): return found
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p: path = p.chromium.executable_path
    return path if Path(path).exists() else None


def camera_file(
    path:Path, # *.mjpeg to write
    seconds:float=6., # of the sample conversation; Chromium shows them again and again, 30 frames a second
) -> Path:
    "What Chromium takes for a camera: JPEG after JPEG."
    with VideoReader(sample_driving(), stop=seconds) as r, open(path, "wb") as f:
        for frame in r: f.write(encode_image(frame, ".jpg", 85))
    return path


@contextmanager
def lab(
    folder:Path, # notebooks
    camera:Path, # as `camera_file` writes
    nodelay:bool=True, # as in `live_server`
):
    "Yields a running server and a browser with a camera; both end with the block."
    from playwright.sync_api import sync_playwright
    flags = ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={camera}", "--enable-precise-memory-info"]
    with live_server(folder, "--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True",
                     "--VoilaConfiguration.allow_theme_override=YES", nodelay=nodelay) as server, sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium(), args=flags)
        try: yield server, browser
        finally: browser.close()


def visit(
    context, # playwright's; its permissions decide on the camera
    server:LiveServer, # where
    notebook:str, # name of a file in the server's folder
    place:str="lab", # "lab", "notebooks" for Notebook 7, "voila/render" for Voilà
    timeout:float=120_000, # milliseconds for each step
    theme:str="light", # of Voilà's page, "light" or "dark"
):
    "A tab with the notebook open and its kernel ready; in Voilà it runs by itself."
    page = context.new_page()
    page.set_default_timeout(timeout)
    if place == "lab": place = f"lab/workspaces/{uuid.uuid4().hex}/tree"
    page.goto(f"{server.url}{place}/{notebook}?token={server.token}{f'&theme={theme}' if 'voila' in place else ''}")
    if "voila" not in place:
        page.wait_for_function("""() => { const w = window.jupyterapp?.shell.currentWidget, k = w?.sessionContext?.session?.kernel;
            return w?.content?.widgets?.length && k?.connectionStatus === 'connected' && k.status === 'idle' }""")
    return page


def run_all(
    page, # as `visit` gives
):
    "Run every cell, wait for the last, and fail with what a cell raised."
    page.evaluate("() => { window.ran = false; jupyterapp.commands.execute('notebook:run-all-cells').then(() => { window.ran = true }) }")
    page.wait_for_function("() => window.ran")
    if errors := page.locator("[data-mime-type='application/vnd.jupyter.error']").all_inner_texts(): raise AssertionError(errors[0])


def execute(
    page, # as `visit` gives
    code:str, # for the notebook's kernel
) -> str: # what it printed
    "Run code beside the notebook, as a console would; fails with what it raised."
    return page.evaluate("""async code => { let out = "";
        const future = jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({ code });
        future.onIOPub = m => { if (m.header.msg_type === "stream") out += m.content.text };
        const reply = await future.done;
        if (reply.content.status !== "ok") throw new Error(`${reply.content.ename}: ${reply.content.evalue}`);
        return out }""", code)


AXE = "axe-core@4.10.3"


def axe() -> str|None:
    "The accessibility checker's JavaScript, from npm; None where npm cannot fetch it."
    if (npm := shutil.which("npm")) is None: return None
    with tempfile.TemporaryDirectory() as d:
        if subprocess.run([npm, "pack", AXE, "--silent"], cwd=d, capture_output=True, timeout=300).returncode: return None
        with tarfile.open(next(Path(d).glob("*.tgz"))) as tar: return tar.extractfile("package/axe.min.js").read().decode()


def findings(
    page, # shows a studio
    script:str, # as `axe` gives
    testid:str, # of the studio
) -> list[str]: # impact, rule, and the elements, for each finding
    "What axe finds wrong with a studio, contrast included."
    page.evaluate(script)
    found = page.evaluate("id => axe.run(`[data-testid=${id}]`).then(r => r.violations)", testid)
    return [f"{v['impact']} {v['id']}: {' '.join(n['html'][:120] for n in v['nodes'])}" for v in found]


# How fast: the demo with relative and with absolute motion, and the same with nothing to compute

SETUPS = ("relative", "absolute", "identity")

BENCH = ("""import time
from x2face_nb.live import LiveFrame
from x2face_nb.video import resize
from x2face_nb.widgets import LiveStudio

def identity(frame):
    t, (h, w) = time.perf_counter(), frame.shape[:2]
    s = min(h, w)
    mid = resize(frame[(h - s)//2:(h + s)//2, (w - s)//2:(w + s)//2], 256)
    return LiveFrame(mid, None, False, "", None, frame, t, time.perf_counter() - t)
""", "relative = LiveStudio(size=256)\nrelative",
         'absolute = LiveStudio(size=256, motion="absolute", engine=relative._engine)\nabsolute', "ceiling = LiveStudio(session=identity)\nceiling")


def bench_notebook(
    path:Path, # *.ipynb to write
) -> Path:
    "The live studio as it comes and with absolute motion, and one with an identity in place of the networks: what the transport allows."
    return write_notebook(path, *BENCH)


def write_notebook(
    path:Path, # *.ipynb to write
    *cells:str, # code
) -> Path:
    "A notebook for this kernel."
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nb.metadata.kernelspec = dict(name="python3", display_name="Python 3", language="python")
    nbformat.write(nb, path)
    return path


def start(
    page, # as `run_all` left it
    i:int=0, # which studio on the page
    frames:int=15, # let so many pass first
):
    "Press Start; returns the studio, warm and with its counts at zero."
    studio = page.get_by_test_id("live-studio").nth(i)
    studio.scroll_into_view_if_needed()
    studio.get_by_test_id("live-start").click()
    page.wait_for_function("([s, n]) => +s.dataset.frames >= n", arg=[studio.element_handle(), frames])
    studio.evaluate("s => s.x2face.reset()")
    return studio


def figures(
    page, # as `visit` gives
    studio, # as `start` gives
    seconds:float, # to look at it
) -> dict: # fps, p50 and p95 of the round trip in ms, frames, dropped
    "What the page itself measured over some seconds."
    page.wait_for_function("([s, ms]) => { const t = s.x2face.stats().times; return t.length && t.at(-1) - t[0] >= ms }", arg=[studio.element_handle(), seconds*1e3])
    got = studio.evaluate("s => s.x2face.stats()")
    trips, times = pd.Series(got["rounds"]), got["times"]
    return dict(fps=(len(times) - 1)*1e3/(times[-1] - times[0]), p50=trips.quantile(.5), p95=trips.quantile(.95), frames=len(times), dropped=got["dropped"])


def compare(
    page, # the bench notebook, run
    seconds:float=10., # for each turn
    rounds:int=3, # how often they take turns
) -> pd.DataFrame: # one row a turn
    "The studios in turns, so that a busy neighbour hits all of them."
    rows = []
    for k in range(rounds):
        for i, name in enumerate(SETUPS):
            studio = start(page, i)
            rows.append(dict(round=k, setup=name, **figures(page, studio, seconds)))
            studio.get_by_test_id("live-start").click()
    return pd.DataFrame(rows)


def stages(
    page, # the bench notebook, after `compare`
) -> pd.DataFrame: # as `Ledger.table`
    "Where the time of relative motion, the default, went in its last turn."
    return pd.read_json(io.StringIO(execute(page, "print(relative.ledger.table().to_json())")))


def soak(
    page, # the bench notebook, run
    minutes:float, # how long
    every:float=15., # seconds between two looks
) -> pd.DataFrame: # minute, MB of kernel and page, and the figures since the last look
    "The demo for a long time: what it holds, and whether it stays as fast."
    rows, studio, began = [], start(page), time.monotonic()
    while not rows or rows[-1]["minute"] < minutes:
        got = figures(page, studio, every)
        studio.evaluate("s => s.x2face.reset()")
        kernel = float(execute(page, "import psutil; print(psutil.Process().memory_info().rss/2**20)"))
        rows.append(dict(minute=(time.monotonic() - began)/60, kernel_mb=kernel, page_mb=page.evaluate("() => performance.memory.usedJSHeapSize")/2**20, **got))
    studio.get_by_test_id("live-start").click()
    return pd.DataFrame(rows)


def picture_demos(
    folder:Path, # nbs/demos
    only:tuple=(), # names of some of them
):
    "Give each demo's notebook a picture of its studio as output, so that it shows something where nothing runs."
    import base64
    ids = {"webcam": "live-studio", "offline": "offline-studio", "explore": "explorer-root", "control": "control-root"}
    with tempfile.TemporaryDirectory() as d:
        for name in ids: shutil.copy(folder / f"{name}.ipynb", d)
        with lab(Path(d), camera_file(Path(d) / "camera.mjpeg")) as (server, browser):
            context = browser.new_context(viewport=dict(width=1180, height=700))
            context.grant_permissions(["camera"], origin=server.url)
            for name, testid in ids.items():
                if only and name not in only: continue
                page = visit(context, server, f"{name}.ipynb", "voila/render")
                studio = page.get_by_test_id(testid)
                studio.wait_for()
                if name == "webcam":
                    page.get_by_test_id("live-flow").check()
                    start(page, frames=60)
                if name == "offline":
                    page.locator("[data-testid=offline-options] summary").click()
                    page.get_by_test_id("offline-option-stop").fill("3")
                    page.locator("[data-testid=offline-options] summary").click()
                    page.get_by_test_id("offline-animate").click()
                    page.wait_for_function("() => document.querySelector('[data-testid=offline-studio]').dataset.state === 'done'")
                    page.wait_for_timeout(1500)
                if name == "explore": page.get_by_test_id("explorer-mesh").check()
                if name == "control": page.get_by_test_id("control-yaw").fill("20")
                page.wait_for_timeout(1000)
                jpeg = base64.b64encode(studio.screenshot(type="jpeg", quality=72)).decode()
                nb = nbformat.read(folder / f"{name}.ipynb", 4)
                cell = [c for c in nb.cells if c.cell_type == "code"][{"explore": -1, "control": -1}.get(name, 0)]
                cell.outputs = [nbformat.v4.new_output("display_data", {"image/jpeg": jpeg, "text/plain": f"a picture of the {name} studio"})]
                nbformat.write(nb, folder / f"{name}.ipynb")
                page.close()


if __name__ == "__main__": picture_demos(Path(__file__).parents[1] / "nbs/demos", tuple(sys.argv[1:]))
