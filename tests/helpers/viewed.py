"""A viewer's page in headless Chromium."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from helpers.browser import FLAGS, NAMES


@dataclass
class Visit:
    """An open page, the errors on its console, and the addresses that it asked for."""

    page: Any
    errors: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def painted(self, canvas: str) -> int:
        """Pixels of a canvas that are not clear."""
        return int(
            self.page.evaluate(
                "id => { const c = document.getElementById(id), d = c.getContext('2d').getImageData(0, 0, "
                "c.width, c.height).data; let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; "
                "return n; }",
                canvas,
            )
        )

    def settle(self) -> None:
        """Until animations have ended and what they show is drawn."""
        self.page.wait_for_timeout(800)

    def slide(self, id: str, value: int) -> None:
        """Drag a slider to a value."""
        self.page.evaluate(
            "([id, value]) => { const e = document.getElementById(id); e.value = value; "
            "e.dispatchEvent(new Event('input')); }",
            [id, value],
        )
        self.page.wait_for_timeout(100)


@contextmanager
def visit(url: str, width: int = 1280, height: int = 800, dark: bool = False) -> Iterator[Visit]:
    """Open the viewer and wait until all is loaded; skips the test where there is no Chromium."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium on this machine; install the package chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        page = browser.new_page(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        made = Visit(page)
        page.on("console", lambda message: _note(made, message))
        page.on("pageerror", lambda error: made.errors.append(str(error)))
        page.on("request", lambda request: made.asked.append(request.url))
        page.goto(url)
        page.wait_for_selector("body[data-ready]", timeout=60_000)
        made.settle()
        try:
            yield made
        finally:
            browser.close()


def _note(made: Visit, message: Any) -> None:
    """What the console says, but for what it says of ``painted``, which reads canvases."""
    if message.type in ("error", "warning") and "getImageData" not in message.text:
        made.errors.append(message.text)
