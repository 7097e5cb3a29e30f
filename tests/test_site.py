"The documentation site, a few pages of it: links hold, nothing comes from elsewhere, a browser shows formulas and tables."
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from browser import MISSING, chromium
from docsite import build


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args): pass


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    build(out, only=("20_warp", "warp", "22_unet3plus"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=out))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


SHOWN = "document.readyState === 'complete' && document.images.length && [...document.images].every(i => i.naturalWidth)"


@pytest.mark.skipif(chromium() is None, reason=MISSING)
def test_site_in_a_browser(address):
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium())
        page, asked = browser.new_page(), []
        page.on("request", lambda r: asked.append(r.url))
        page.goto(address)
        page.wait_for_function(SHOWN)
        assert page.locator("article table").count() >= 3
        page.get_by_role("link", name="20_warp").first.click()
        page.wait_for_url("**/20_warp/")
        page.wait_for_function(SHOWN)
        assert page.locator("math").count()
        page.goto(address + "api/warp/")
        row = page.locator("tr", has=page.get_by_text("padding", exact=True)).first.inner_text()
        assert "str" in row and "zeros" in row
        browser.close()
    assert all(u.startswith((address, "data:")) for u in asked), [u for u in asked if not u.startswith(address)]
