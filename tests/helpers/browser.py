"""Opens a page in the system's Chromium, without a screen, and says what is wrong with it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass(frozen=True)
class PageResult:
    """What a visit found.

    Attributes:
        errors: console errors, uncaught exceptions and failed requests.
        images: number of pictures.
        broken: pictures that did not load (their alt text or address).
        without_alt: pictures without alternative text.
        external: addresses that the page asked for beyond itself.
        overflow: pixels by which the page is wider than the window.
        text: everything that can be read on it.
        hit: whether a script that some name brought along ran: such names set ``window.hit``.
        links: addresses that a reader can follow.
    """

    errors: list[str]
    images: int
    broken: list[str]
    without_alt: int
    external: list[str]
    overflow: int
    text: str
    hit: bool
    links: list[str]


def check_page(path: Path, width: int, screenshot: Path | None, dark: bool = False) -> PageResult:
    """Visit a local page in a window of this width; skips the test where there is no Chromium.

    Args:
        path: an HTML file.
        width: of the window, CSS pixels.
        screenshot: PNG of the whole page; None for none.
        dark: whether the visitor prefers dark colours.
    """
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium on this machine; install the package chromium")
    from playwright.sync_api import sync_playwright

    errors: list[str] = []
    requests: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        page = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("requestfailed", lambda request: errors.append(f"failed: {request.url[:100]}"))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.resolve().as_uri(), wait_until="load")
        pictures = page.evaluate(
            "[...document.images].map(i => "
            "({ok: i.complete && i.naturalWidth > 0, alt: i.alt, src: i.src.slice(0, 80)}))"
        )
        overflow = page.evaluate(
            "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth) - window.innerWidth"
        )
        text = page.inner_text("body")
        hit = page.evaluate("window.hit !== undefined")
        links = page.evaluate(
            "[...document.querySelectorAll('[href], form')].map(a => String(a.href || a.action))"
        )
        if screenshot is not None:
            page.screenshot(path=str(screenshot), full_page=True)
        browser.close()
    return PageResult(
        errors=errors,
        images=len(pictures),
        broken=[picture["alt"] or picture["src"] for picture in pictures if not picture["ok"]],
        without_alt=sum(not picture["alt"] for picture in pictures),
        external=[url for url in requests if not url.startswith(("file:", "data:"))],
        overflow=max(0, int(overflow)),
        text=text,
        hit=hit,
        links=[link for link in links if link != "data:,"],
    )
