"""The viewer's server: what it gives, to whom, and what it refuses."""

import base64
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from helpers import deadly_view
from helpers.drawings import box, collection, polygon, qupath
from helpers.onnx_models import write as write_model
from helpers.scored import grid, write_csv
from helpers.slides import tissue, write_tiff

from pathprep.errors import UnreadableSlide, UsageError
from pathprep.params.shard import ShardParams
from pathprep.slides.find import SlideSource
from pathprep.viewing import reading
from pathprep.viewing.view import serving


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiff(tmp_path_factory.mktemp("s") / "one.tif", tissue(900, 1200, margin=150), levels=2)


@pytest.fixture(scope="module")
def url(slide: Path) -> Iterator[str]:
    with serving(slide, tile=64, scores=write_csv(slide.parent / "s.csv", grid(4, 4, 64))) as found:
        yield found


def ask(
    url: str, path: str = "", method: str = "GET", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Status, headers and body; ``path`` beginning with / is from the root."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    try:
        connection.request(method, path if path.startswith("/") else parts.path + path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def test_page_tiles_and_layers(url: str) -> None:
    status, headers, page = ask(url)
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    assert b"openseadragon.min.js" in page
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    status, headers, tile = ask(url, "slide_files/11/0_0.jpg")
    assert (status, headers["Content-Type"], tile[:2]) == (200, "image/jpeg", b"\xff\xd8")
    assert ask(url, "slide_files/11/9_9.jpg")[0] == 404
    assert b'Width="1200" Height="900"' in ask(url, "slide.dzi")[2]
    layers = json.loads(ask(url, "layers.json")[2])
    assert layers["layers"]["states"][0] == "kept"
    assert layers["problem"] == ""
    (column,) = json.loads(ask(url, "scores.json")[2])["columns"]
    assert (column["name"], column["low"], column["high"]) == ("score", 0, 1)
    measured = json.loads(ask(url, "figures/256_256.json")[2])
    assert measured["figures"]["focus"] > 0
    assert measured["reason"] == ""
    assert ask(url, method="HEAD")[2] == b""


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "", "127.0.0.1.evil.example", "10.0.0.1:1"]
)
def test_another_host_gets_nothing(url: str, host: str) -> None:
    """A page whose name points to this machine (DNS rebinding)."""
    status, _, body = ask(url, Host=host)
    assert (status, b"openseadragon" in body) == (403, False)


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:9999", "[::1]:80", "localhost"])
def test_a_tunnel_from_another_machine(url: str, host: str) -> None:
    assert ask(url, Host=host)[0] == 200


def test_without_the_token_nothing_is_told(url: str) -> None:
    token = urlsplit(url).path.strip("/")
    for path in (
        "/",
        f"/{token}",
        f"/{token[:-1]}/",
        f"/{token}x/",
        "/x/slide_files/0/0_0.jpg",
        "/%2e%2e/",
        "/%C3%A9/",
    ):
        status, _, body = ask(url, path)
        assert status == 404
        assert token.encode() not in body


@pytest.mark.parametrize(
    "path",
    [
        "../viewer.js", "..%2f..%2fetc/passwd", "....//view.py",
        "view.py", "/etc/passwd", "slide_files/../view.py",
        "slide_files/0/0_0.jpg/../../../view.py", "slide_files/-1/0_0.jpg", "slide_files/99999999999/0_0.jpg",
        "slide_files/11/0_0.jpg%00.py", "figures/-1_0.json", "figures/1e3_0.json",
    ],
)  # fmt: skip
def test_no_part_of_an_address_becomes_a_path(url: str, path: str) -> None:
    status, _, body = ask(url, path)
    assert status == 404
    assert b"import" not in body


def test_only_questions(url: str) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert ask(url, method=method)[0] == 501


def test_a_place_that_cannot_be_read_is_said(url: str) -> None:
    status, headers, body = ask(url, "figures/5000_5000.json")
    assert status == 500
    assert headers["Content-Type"].startswith("text/plain")
    assert b"leaves level 0" in body
    assert ask(url, "slide_files/11/0_0.jpg")[0] == 200


def test_what_is_not_of_the_slide_is_refused(slide: Path, small: Path, tmp_path: Path) -> None:
    wrong = write_csv(tmp_path / "s.csv", grid(2, 2, 64, slide="other"))
    with pytest.raises(UsageError, match="no row of slide one; it has other"), serving(slide, scores=wrong):
        pass
    with pytest.raises(UsageError, match="no slide one; leave `dataset` out"), serving(slide, dataset=small):
        pass
    own = small.parent / "slides" / "synth-000.tif"
    with pytest.raises(UsageError, match="`tile` shapes tiles"), serving(own, dataset=small, tile=128):
        pass
    with pytest.raises(UsageError, match="holds 2 slides"), serving(own.parent):
        pass


def test_tiles_of_a_dataset(small: Path) -> None:
    with serving(small.parent / "slides" / "synth-000.tif", dataset=small) as url:
        layers = json.loads(ask(url, "layers.json")[2])["layers"]
    assert layers["side"] == 64
    assert layers["measured"]
    assert {"tissue", "focus", "pen"} <= set(layers["figures"])
    assert layers["polygons"]


def test_the_users_own_mask(tmp_path: Path, slide: Path) -> None:
    mask = tmp_path / "one.geojson"
    mask.write_text(json.dumps(collection(qupath(polygon(box(256, 320, 512, 384)), "Tissue"))))
    with serving(slide, masks=mask, tile=64) as url:
        layers = json.loads(ask(url, "layers.json")[2])["layers"]
    ((ring,),) = layers["polygons"]
    points = np.frombuffer(base64.b64decode(ring), "<f4").reshape(-1, 2)
    assert np.abs(points.min(axis=0) - [256, 320]).max() < 20
    assert np.abs(points.max(axis=0) - [768, 704]).max() < 20
    with (
        pytest.raises(UsageError, match="`masks` shapes tiles"),
        serving(slide, masks=mask, dataset=tmp_path),
    ):
        pass


def test_a_tissue_model(tmp_path: Path, slide: Path) -> None:
    model = write_model(tmp_path / "m.onnx")
    with serving(slide, tissue_model=str(model), tile=64) as url:
        found = json.loads(ask(url, "layers.json")[2])
    assert found["problem"] == ""
    assert "share_pen" in found["layers"]["figures"]


def test_a_slide_without_an_mpp_is_shown_all_the_same(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "bare.tif", tissue(300, 300), mpp=None)
    with serving(path) as url:
        found = json.loads(ask(url, "layers.json")[2])
        assert found["layers"] is None
        assert "MPP" in found["problem"] or "micrometres" in found["problem"]
        assert ask(url, "slide_files/9/0_0.jpg")[0] == 200


def test_a_reader_that_crashes_costs_a_part_of_the_slide(
    slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_tile", deadly_view.tile)
    with serving(slide, tile=64) as url:
        for _ in range(3):  # as a browser asks again
            status, _, body = ask(url, "slide_files/11/1_0.jpg")
            assert status == 500
            assert b"could not be read there: its reader crashed" in body
        for column in (0, 2, 3):
            assert ask(url, f"slide_files/11/{column}_0.jpg")[0] == 200


def test_a_pool_that_breaks_while_it_is_asked_is_replaced(
    slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [1, 9]  # how often a future is cancelled, as pebble does when a pool breaks

    def asked(self: reading.Reading, *given: object) -> object:
        if left[0]:
            left[0] -= 1
            raise CancelledError
        return plain(self, *given)  # type: ignore[arg-type]

    plain = reading.Reading._asked
    monkeypatch.setattr(reading.Reading, "_asked", asked)
    with reading.Reading(SlideSource(slide), ShardParams()) as opened:
        assert opened.tile(11, 0, 0) is not None
        left[0] = left[1]
        with pytest.raises(UnreadableSlide, match="its readers ended; try again"):
            opened.tile(11, 0, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_command_until_it_is_stopped(slide: Path, number: int) -> None:
    words = [sys.executable, "-m", "pathprep", "view", str(slide), "--no-browser", "--json", "--tile", "64"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert running.stdout is not None
        url = json.loads("".join(running.stdout.readline() for _ in range(3)))["url"]
        assert ask(url)[0] == 200
        assert ask(url, "slide_files/11/0_0.jpg")[0] == 200
        running.send_signal(number)
        _, said = running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 0
    assert "Ctrl-C ends it. From another machine: ssh -L" in said
    assert "Ended: the address no longer works." in said
    assert "Traceback" not in said
