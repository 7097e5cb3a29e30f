"The control demo says a sound, as a visitor has it; the fixtures are those of the other browser tests."
import re
import wave

from test_browser import window, world # noqa: F401
from x2face_nb.audio import RATE, read_sound
from x2face_nb.samples import sample_speech


def test_a_painted_face_speaks(window, world):  # noqa: F811
    "A stroke, a turn and a sound make a film that plays as long as the sound; a file without sound is told so."
    from playwright.sync_api import expect
    with wave.open(str(world.files / "said.wav"), "wb") as f:
        f.setparams((1, 2, RATE, 0, "NONE", ""))
        f.writeframes(read_sound(sample_speech())[:RATE].astype("<i2").tobytes())
    w = window()
    page = w.open("control.ipynb")
    page.get_by_test_id("control-root").scroll_into_view_if_needed()
    shown, status, film = (page.get_by_test_id(f"control-{k}") for k in ("generated", "status", "film"))
    expect(film).to_be_hidden()
    canvas, old = page.get_by_test_id("control-canvas"), shown.locator("img").get_attribute("src")
    canvas.scroll_into_view_if_needed()
    canvas.click(position=dict(x=.6*canvas.bounding_box()["width"], y=.55*canvas.bounding_box()["height"]))
    expect(shown.locator("img")).not_to_have_attribute("src", old)
    page.get_by_test_id("control-yaw").fill("12")
    expect(status).to_contain_text(re.compile(r"yaw 1\d°"))
    page.get_by_test_id("control-sound").set_input_files(world.files / "said.wav")
    expect(film).to_be_visible()
    assert abs(film.evaluate("v => new Promise(done => v.readyState ? done(v.duration) : v.onloadedmetadata = () => done(v.duration))") - 1) < .1
    w.shot(page)
    (world.files / "notes.wav").write_text("no sound")
    page.get_by_test_id("control-sound").set_input_files(world.files / "notes.wav")
    expect(status).to_contain_text("sound")
    expect(status).not_to_contain_text("not its own")
