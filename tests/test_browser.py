"""The demos as a visitor has them: a JupyterLab of their own, its kernels, and a Chromium with a talking face as its camera.

With X2FACE_SHOTS=FOLDER, pictures of the pages are kept there."""
import os
import re
import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path

import browser
import house
import pytest
from x2face_nb.samples import sample_driving
from x2face_nb.server import LiveServer
from x2face_nb.video import VideoReader, VideoWriter, probe, write_image

STEP = 60_000  # milliseconds that a step may take on a slow machine; every wait ends as soon as it can


SLOW = """import os, time
from x2face_nb.live import LiveFrame
from x2face_nb.video import resize
from x2face_nb.widgets import LiveStudio

def slow(frame):
    time.sleep(.4)
    return LiveFrame(resize(frame, (64, 64)), None, False, "", None, frame, 0., .4)

LiveStudio(session=slow)"""


@dataclass
class World:
    "What all tests share."
    server:LiveServer
    chromium:object # playwright's browser
    allowed:object # its context whose pages may use the camera; shared, for what it has loaded
    files:Path # a portrait, a clip
    axe:list = field(default_factory=list) # the accessibility checker, once it is fetched


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    if browser.chromium() is None: pytest.skip(browser.MISSING)
    from playwright.sync_api import expect
    expect.set_options(timeout=STEP)
    files, notebooks = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("notebooks")
    for f in (house.ROOT / "nbs/demos").glob("*.ipynb"): shutil.copy(f, notebooks)
    browser.bench_notebook(notebooks / "bench.ipynb")
    browser.write_notebook(notebooks / "slow.ipynb", SLOW)
    with VideoReader(sample_driving(), start=1., stop=2.2) as r, VideoWriter(files / "clip.mp4", r.info.fps) as w:
        for i, frame in enumerate(r):
            w.write(frame)
            if i in (0, 20): write_image(files / f"portrait{i}.png", frame)
    with browser.lab(notebooks, browser.camera_file(files / "camera.mjpeg")) as (server, chromium):
        yield World(server, chromium, new_context(chromium, server, ["camera"]), files)


def new_context(chromium, server, permissions):
    "A visitor's profile: what is not in `permissions` is refused."
    context = chromium.new_context(viewport=dict(width=1280, height=720))
    context.set_default_timeout(STEP)
    context.grant_permissions(permissions, origin=server.url)
    return context


class Window:
    "Tabs of one visitor, who allows the camera or not."
    def __init__(self, world, shots, name, camera):
        self.world, self.shots, self.name, self.pages, self.wrong = world, shots, name, [], []
        self.context = world.allowed if camera else new_context(world.chromium, world.server, [])

    def open(self, notebook, run=True, place="lab", theme="light"):
        "A tab with a notebook, run to its end."
        page = browser.visit(self.context, self.world.server, notebook, place, STEP, theme)
        page.on("pageerror", lambda e: self.wrong.append(f"{e.message} {e.stack}"))
        page.on("console", lambda m: m.type == "error" and self.wrong.append(f"{m.text} {m.location['url']}"))
        self.pages.append(page)
        if run: browser.run_all(page)
        return page

    def shot(self, page):
        page.screenshot(path=self.shots / f"{self.name}.png")


@pytest.fixture
def window(world, tmp_path, request):
    "Makes windows; afterwards they and the kernels are gone, and nothing may have gone wrong in a page."
    made, shots = [], Path(os.environ.get("X2FACE_SHOTS") or tmp_path)
    shots.mkdir(parents=True, exist_ok=True)
    def make(camera=True):
        made.append(Window(world, shots, re.sub(r"\W+", "-", request.node.name).strip("-"), camera))
        return made[-1]
    yield make
    for page in [p for w in made for p in w.pages]: page.close()
    for kernel in world.server.get("api/kernels"): world.server.get(f"api/kernels/{kernel['id']}", method="DELETE")
    assert [e for w in made for e in w.wrong if re.search("x2face|anywidget|blob:", e)] == []


def picture(page, testid):
    "What a canvas shows, as text: two are equal or not."
    return page.get_by_test_id(testid).evaluate("c => c.toDataURL('image/jpeg', .4)")


def wait_changed(page, testid, old):
    "Until a canvas shows something else."
    page.wait_for_function("([id, old]) => document.querySelector(`[data-testid=${id}]`).toDataURL('image/jpeg', .4) !== old", arg=[testid, old])


def wait_frames(page, more=10):
    "Until so many more frames are painted."
    root = page.get_by_test_id("live-studio")
    page.wait_for_function("([n]) => +document.querySelector('[data-testid=live-studio]').dataset.frames >= n", arg=[int(root.get_attribute("data-frames")) + more])


def download(page, click):
    "The file that a click brings."
    with page.expect_download(timeout=STEP) as d: click()
    return Path(d.value.path())


def test_offline(window, world):
    "From choosing files to the played and saved result, which stays when something else is chosen."
    from playwright.sync_api import expect
    w = window()
    page = w.open("offline.ipynb")
    studio, status = page.get_by_test_id("offline-studio"), page.get_by_test_id("offline-status")
    studio.scroll_into_view_if_needed()
    before = picture(page, "offline-face")
    page.get_by_test_id("offline-source-file").set_input_files([world.files / "portrait0.png", world.files / "portrait20.png"])
    page.get_by_test_id("offline-source-many").click() # two pictures: of one person, or of two?
    expect(status).to_have_text("Ready: portrait20.")
    wait_changed(page, "offline-face", before)
    page.get_by_test_id("offline-driver-file").set_input_files(world.files / "clip.mp4")
    expect(status).to_have_text(re.compile("^Ready: clip"))
    page.wait_for_function("""() => { const add = document.querySelector('[data-testid=offline-driver-add]'), row = add.closest('.x2f-gallery');
        return row.querySelector(':checked').closest('.x2f-item').getBoundingClientRect().right <= add.getBoundingClientRect().left }""") # in sight
    page.evaluate("""() => { window.bars = []; const bar = document.querySelector('[data-testid=offline-progress]');
        new MutationObserver(() => bars.push(bar.value)).observe(bar, { attributes: true }) }""")
    empty = picture(page, "offline-generated")
    page.locator("[data-testid=offline-options] summary").click()
    page.get_by_test_id("offline-option-start").fill("50.2") # any number within the bounds
    page.get_by_test_id("offline-animate").dblclick() # the second click does not cancel
    expect(page.get_by_test_id("offline-options")).not_to_have_attribute("open", "")
    expect(status).to_have_text("clip has no frame from 50.2 s on; choose an earlier start.") # a name of the visitor's, not ours
    page.locator("[data-testid=offline-options] summary").click()
    page.get_by_test_id("offline-option-start").fill("0")
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("offline-options")).not_to_have_attribute("open", "")
    page.get_by_test_id("offline-animate").dblclick()
    expect(studio).to_have_attribute("data-state", "done")
    assert max(page.evaluate("() => bars")) > 0
    wait_changed(page, "offline-generated", empty)
    w.shot(page)
    page.get_by_test_id("offline-source-0").check(force=True) # another choice: the video stays, with its name
    expect(page.get_by_text("Generated: portrait20, moved by clip")).to_be_visible()
    with page.expect_download(timeout=STEP) as d: page.get_by_test_id("offline-save").click()
    assert d.value.suggested_filename == "portrait20-clip.mp4" and probe(d.value.path()).frames == probe(world.files / "clip.mp4").frames
    page.get_by_test_id("offline-source-4").focus()
    page.keyboard.press("Delete")
    expect(page.get_by_test_id("offline-source-4")).to_have_count(0)
    (world.files / "notes.png").write_text("no picture")
    page.get_by_test_id("offline-source-file").set_input_files([world.files / "notes.png", world.files / "portrait0.png"])
    page.get_by_test_id("offline-source-many").click()
    expect(page.get_by_test_id("offline-source-4")).to_be_checked() # one that cannot be read does not stop the others
    expect(status).to_have_attribute("data-level", "error")
    expect(status).to_contain_text("notes.png")


def test_webcam(window):
    "The camera drives the portrait; controls change what is seen; a recording and a snapshot can be had."
    from playwright.sync_api import expect
    w = window()
    page = w.open("webcam.ipynb")
    studio, status = page.get_by_test_id("live-studio"), page.get_by_test_id("live-status")
    studio.scroll_into_view_if_needed()
    studio.focus()
    page.keyboard.press(" ")
    expect(studio).to_have_attribute("data-state", "running")
    wait_frames(page, 20)
    expect(status).to_have_attribute("data-level", "info")
    wait_changed(page, "live-generated", picture(page, "live-generated"))
    page.get_by_test_id("live-flow").check()
    wait_frames(page)
    w.shot(page)
    page.get_by_test_id("live-flow").uncheck()
    face = picture(page, "live-face")
    studio.focus()
    page.keyboard.press("2")
    wait_changed(page, "live-face", face)
    page.keyboard.press("m")
    expect(page.get_by_test_id("live-mirror")).not_to_be_checked()
    page.get_by_test_id("live-record").click()
    wait_frames(page, 15)
    path = download(page, page.get_by_test_id("live-record").click)
    assert probe(path).frames >= 10
    studio.focus()
    assert download(page, lambda: page.keyboard.press("s")).read_bytes()[:4] == b"\x89PNG"
    for _ in range(3): page.get_by_test_id("live-portrait-0-remove").click(force=True) # nobody is left to move
    expect(status).to_contain_text("no portrait")
    expect(studio).to_have_attribute("data-state", "stopped")
    assert page.get_by_test_id("live-camera").evaluate("v => v.srcObject") is None


def test_camera_refused(window):
    "A sentence that says what to do; allowed afterwards, it runs."
    from playwright.sync_api import expect
    w = window(camera=False)
    page = w.open("webcam.ipynb")
    studio, status = page.get_by_test_id("live-studio"), page.get_by_test_id("live-status")
    studio.scroll_into_view_if_needed()
    page.get_by_test_id("live-start").click()
    expect(studio).to_have_attribute("data-state", "stopped")
    expect(status).to_contain_text("allow it beside the address bar")
    expect(status).to_have_attribute("data-level", "error")
    w.shot(page)
    w.context.grant_permissions(["camera"], origin=w.world.server.url)
    page.get_by_test_id("live-start").click()
    wait_frames(page)


def test_kernel_restarted(window):
    "The camera is let go, the page says what to do, and running the cells again is all it takes."
    from playwright.sync_api import expect
    w = window()
    page = w.open("webcam.ipynb")
    page.get_by_test_id("live-start").click()
    wait_frames(page)
    page.evaluate("() => { window.tracks = document.querySelector('[data-testid=live-camera]').srcObject.getTracks() }")
    page.evaluate("() => { jupyterapp.commands.execute('kernelmenu:restart') }")
    page.locator(".jp-Dialog .jp-mod-accept").click()
    page.wait_for_function("() => tracks.every(t => t.readyState === 'ended')")
    expect(page.get_by_test_id("live-status")).to_contain_text("run the cell again")
    w.shot(page)
    page.wait_for_function("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'")
    browser.run_all(page)
    page.get_by_test_id("live-start").click()
    wait_frames(page)


def test_slow_and_stopped_kernel(window):
    "A kernel that takes .4 s a frame is slow, not silent; one that is stopped is reported; an error stays until something is done."
    from playwright.sync_api import expect
    page = window().open("slow.ipynb")
    studio, status = page.get_by_test_id("live-studio"), page.get_by_test_id("live-status")
    page.evaluate("""() => { window.said = []; const el = document.querySelector('[data-testid=live-status]');
        new MutationObserver(() => said.push(el.textContent)).observe(el, { childList: true }) }""")
    page.get_by_test_id("live-start").click()
    wait_frames(page, 20)
    assert not [t for t in page.evaluate("() => said") if "busy" in t]
    sent, painted = studio.evaluate("s => { const x = s.x2face.stats(); return [x.sent, x.painted] }")
    assert sent - painted <= 2 # in flight: none was given up
    page.get_by_test_id("live-portrait-file").set_input_files({"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"})
    expect(status).to_contain_text("notes.txt")
    wait_frames(page, 5)
    expect(status).to_have_attribute("data-level", "error")
    studio.click(position=dict(x=5, y=5)) # something is done
    expect(status).to_have_attribute("data-level", "info")
    pid = int(browser.execute(page, "print(os.getpid())"))
    os.kill(pid, signal.SIGSTOP)
    try: expect(status).to_contain_text("no answer")
    finally: os.kill(pid, signal.SIGCONT)
    expect(status).to_have_attribute("data-level", "info")
    wait_frames(page, 5)


def test_two_tabs(window):
    "The same notebook twice: each tab has its own frames, and one going leaves the other running."
    w = window()
    a = w.open("webcam.ipynb")
    a.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    b = w.open("webcam.ipynb", run=False) # its kernel, its widget: the other tab's
    for page in (b, a): page.get_by_test_id("live-start").click()
    for page in (a, b, a): wait_frames(page, 5)
    w.shot(b)
    b.close()
    wait_frames(a, 5)


def test_notebook_7(window):
    w = window()
    page = w.open("webcam.ipynb", place="notebooks")
    page.get_by_test_id("live-start").click()
    wait_frames(page)
    w.shot(page)


@pytest.mark.parametrize("notebook, testid, theme", [("webcam", "live-studio", "dark"), ("offline", "offline-studio", "light"), ("explore", "explorer-root", "dark"), ("control", "control-root", "light")])
def test_as_an_app(window, world, notebook, testid, theme):
    "As a page without code: it fits a laptop's screen, and a checker of accessibility finds nothing serious in either theme."
    w = window()
    page = w.open(f"{notebook}.ipynb", run=False, place="voila/render", theme=theme)
    page.set_viewport_size(dict(width=1366, height=768))
    studio = page.get_by_test_id(testid)
    studio.wait_for()
    if notebook == "webcam":
        page.keyboard.press(" ")
        wait_frames(page)
    page.wait_for_function("id => { const b = document.querySelector(`[data-testid=${id}]`).getBoundingClientRect(); return b.width > 700 && b.bottom <= 768 }", arg=testid)
    w.shot(page)
    if not world.axe: world.axe.append(browser.axe())
    if world.axe[0] is None: pytest.skip("npm cannot fetch axe-core")
    serious = [f for f in browser.findings(page, world.axe[0], testid) if f.startswith(("serious", "critical"))]
    assert serious == []


def test_explorer(window):
    "A clicked pixel is marked where it came from; arrow keys move it; sliders move the face; overlays show."
    from playwright.sync_api import expect
    w = window()
    page = w.open("explore.ipynb")
    page.get_by_test_id("explorer-root").scroll_into_view_if_needed()
    gen, status = page.get_by_test_id("explorer-generated"), page.get_by_test_id("explorer-status")
    side = gen.bounding_box()["width"]
    gen.click(position=dict(x=side*.25, y=side*.75))
    expect(status).to_contain_text(re.compile(r"Pixel \(6[345], 19[123]\)"))
    x, y = map(int, re.findall(r"\d+", status.inner_text())[:2])
    expect(page.get_by_test_id("explorer-mark-generated")).to_have_attribute("style", re.compile(r"left: 2[45]\.\d+%; top: 7[45]\.\d+%"))
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowUp")
    expect(status).to_contain_text(f"Pixel ({x + 1}, {y - 10})")
    shown = page.get_by_test_id("explorer-generated").locator("img")
    old, said = shown.get_attribute("src"), status.inner_text()
    page.get_by_test_id("explorer-direction-0").focus()
    for _ in range(20): page.keyboard.press("ArrowRight")
    expect(shown).not_to_have_attribute("src", old)
    expect(status).not_to_have_text(said)
    for name in ("arrows", "folds", "outside", "mesh", "refined"):
        old = shown.get_attribute("src")
        page.get_by_test_id(f"explorer-{name}").check()
        if name in ("arrows", "outside"): expect(shown).not_to_have_attribute("src", old) # this driver folds nowhere
    page.wait_for_function("() => [...document.querySelectorAll('[data-testid=explorer-root] img')].every(i => i.complete && i.naturalWidth)")
    w.shot(page)
    page.get_by_test_id("explorer-reset").click()
    expect(page.get_by_test_id("explorer-direction-0")).to_have_value("0")


def test_control(window):
    "A slider turns the head as far as it says, a stroke on the embedded face shows on the generated one, and reset undoes."
    from playwright.sync_api import expect
    w = window()
    page = w.open("control.ipynb")
    page.get_by_test_id("control-root").scroll_into_view_if_needed()
    shown, status = page.get_by_test_id("control-generated").locator("img"), page.get_by_test_id("control-status")
    expect(status).to_contain_text("turned by")
    page.get_by_test_id("control-yaw").fill("25")
    expect(status).to_contain_text(re.compile(r"yaw (2\d|30)°"))
    canvas = page.get_by_test_id("control-canvas")
    canvas.scroll_into_view_if_needed()
    old, box = shown.get_attribute("src"), canvas.bounding_box()
    page.mouse.move(box["x"] + .45*box["width"], box["y"] + .48*box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + .55*box["width"], box["y"] + .52*box["height"], steps=5)
    page.mouse.up()
    expect(shown).not_to_have_attribute("src", old)
    w.shot(page)
    page.get_by_test_id("control-reset").click()
    expect(page.get_by_test_id("control-yaw")).to_have_value("0")
    expect(status).to_contain_text(re.compile(r"yaw -?[01]°"))
    page.get_by_test_id("control-sound").set_input_files({"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no sound"})
    expect(status).to_contain_text(re.compile("^notes.txt could not be read"))
    page.evaluate("() => { jupyterapp.commands.execute('kernelmenu:restart') }")
    page.locator(".jp-Dialog .jp-mod-accept").click()
    expect(status).to_contain_text("run the cell again")
    page.wait_for_function("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'")


def test_figures(window):
    "What nbs/experiments/live.ipynb reports: both motions in turns with an identity, the stages, and what the kernel holds."
    page = window().open("bench.ipynb")
    turns = browser.compare(page, seconds=1, rounds=1)
    assert tuple(turns.setup) == browser.SETUPS and (turns.fps > 0).all() and (turns.p50 <= turns.p95).all()
    stages = browser.stages(page)
    assert {"capture", "transport", "decode", "crop", "drive", "warp", "encode", "paint", "round trip"} <= set(stages.index)
    held = browser.soak(page, minutes=0, every=1)
    assert held.kernel_mb[0] > 50 and held.page_mb[0] > 1
