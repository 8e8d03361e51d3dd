"""A real headless Chromium, and the viewer of a small made-up cohort, served as `make view` serves it."""

import io
import os
import threading
from unittest import mock

import numpy as np
import pytest
from browsers import find_chromium
from made_up import MadeUp
from PIL import Image
from playwright.sync_api import sync_playwright

from cohortmorph.report import serve

# WebGL 2 is computed: neither tests nor CI have a graphics card. As root Chromium has no sandbox.
ARGUMENTS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


@pytest.fixture(scope="session")
def browser(request):
    """A browser for all tests; where none can be had, the tests fail in CI and are skipped elsewhere."""
    program, environment = find_chromium(request.config.cache.mkdir("chromium") / "unpacked")
    if program is None:
        assert not os.environ.get("CI"), environment
        pytest.skip(environment)
    # Playwright's own driver, a Node.js, needs some of these libraries too.
    with mock.patch.dict(os.environ, environment), sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, env=environment, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """The results of a made-up cohort; see made_up.py."""
    return MadeUp(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="session")
def address(cohort):
    """Where its viewer is served."""
    server, address = serve.server_of(cohort.folder / "results")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield address
    server.shutdown()
    server.server_close()


class Viewer:
    """The viewer in a page of the browser."""

    def __init__(self, page):
        self.page, self.errors, self.addresses = page, [], []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.addresses.append(request.url))

    def open(self, address):
        """Open the page; return when the first pair is shown."""
        self.page.goto(f"{address}viewer/index.html")
        return self.wait("")

    def wait(self, words):
        """Wait until what is shown (pair, method, layer) has these words."""
        self.page.wait_for_function(
            "words => document.body.dataset.shown && document.body.dataset.shown.includes(words)", arg=words
        )
        return self

    def press(self, key, words=""):
        """Press a key, and wait until what is shown has these words."""
        self.page.keyboard.press(key)
        return self.wait(words)

    def choose(self, name):
        """Choose a method by its row."""
        self.page.locator("#methods").get_by_role("button", name=name).click()
        return self.wait(f" {name} ")

    def pixels(self, name):
        """Return what a pane shows, as the bytes of a PNG."""
        # Two frames: what was drawn last is on the screen then.
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return self.page.locator(f".picture:has(#{name})").screenshot()

    def is_empty(self, name):
        """Say whether a pane shows nothing at all."""
        hidden = not self.page.locator(f"#{name}").is_visible()
        picture = np.array(Image.open(io.BytesIO(self.pixels(name))).convert("L"))
        return hidden and (picture == 0).mean() > 0.9

    def text(self, name):
        """Return the text of an element."""
        return self.page.locator(f"#{name}").inner_text()

    def evaluate(self, expression, argument=None):
        """Return what a JavaScript function returns."""
        return self.page.evaluate(expression, argument)

    def put_cross_hair(self, point_lps_mm):
        """Put the cross-hair of all panes at a point."""
        x, y, z = map(float, point_lps_mm)
        self.evaluate(
            """point => { for (const pane of Object.values(viewer.panes)) {
                 pane.scene.crosshairPos = pane.mm2frac(point, 0, true);
                 pane.drawScene();
                 pane.createOnLocationChange();
               } }""",
            [-x, -y, z],
        )


@pytest.fixture(scope="session")
def opened(browser, address):
    """The viewer, open in one page for all tests: building its shaders without a graphics card takes seconds."""
    page = browser.new_page(viewport={"width": 1200, "height": 600})
    page.set_default_timeout(60_000)
    yield Viewer(page).open(address)
    page.close()


@pytest.fixture
def viewer(opened, address):
    """The viewer as at its start; at the end no other machine may have been asked, and no script have failed."""
    opened.page.mouse.move(5, 5)
    opened.evaluate("() => document.activeElement.blur()")
    yield opened.press("r", " moved")
    assert not opened.errors
    assert opened.addresses and all(url.startswith((address, "data:", "blob:")) for url in opened.addresses)
