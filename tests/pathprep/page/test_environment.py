"""What all pages are made of: layout, macros and filters; and that no name in them is taken as HTML."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError
from PIL import Image

from pathprep.errors import UsageError
from pathprep.page.environment import data_uri, jpeg_uri, render, write

HOSTILE = "<script>alert('a & b')</script>\"><img src=x onerror=alert(1)>"
PAGE = """{% extends "layout.html" %}
{% import "macros.html" as m %}
{% block title %}{{ hostile }}{% endblock %}
{% block content %}
{{ m.facts([(hostile, hostile)]) }}
{{ m.words([(hostile, hostile)]) }}
{{ m.bars([(hostile, hostile, 1234, 0.5)]) }}
{{ m.chart(hostile, hostile, hostile, hostile) }}
{{ m.figure(hostile, hostile, hostile, 9) }}
{% call m.table(hostile, [hostile, "b"], text=["b"], id="rows") %}
<tr><td>{{ hostile }}</td><td class="text">{{ none | score }}</td></tr>
{% endcall %}
{% endblock %}
"""


def page(folder: Path, text: str, **values: Any) -> str:
    (folder / "page.html").write_text(text)
    return render(folder / "page.html", **values)


class Reader(HTMLParser):
    """Collects tags with their attributes, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_every_macro_shows_hostile_names_as_they_are(tmp_path: Path) -> None:
    read = Reader(page(tmp_path, PAGE, hostile=HOSTILE))
    assert read.of("script") == []
    assert read.of("img") == [{"src": HOSTILE, "width": "9", "height": "9", "alt": HOSTILE}]
    assert not any("onerror" in attributes for _, attributes in read.tags)
    # title, facts, words, a bar, the chart's four, a caption, a column and a cell
    assert "".join(read.texts).count(HOSTILE) == 13


def test_names_that_are_no_text_can_be_written(tmp_path: Path) -> None:
    """A file name may hold any byte; Python has those that are no UTF-8 as halves of pairs."""
    text = page(tmp_path, PAGE, hostile="a\udcffb")
    write(text, tmp_path / "out.html")
    assert r"a\xffb" in (tmp_path / "out.html").read_text()


@pytest.mark.parametrize(
    "hostile",
    [
        "{{ 7 * 7 }}",
        "{% raw %}",
        "</title></style><svg onload=alert(1)>",
        "' onclick='alert(1)",
        "-->\u2028<!--",
    ],
)
def test_nothing_runs_or_ends_what_it_stands_in(tmp_path: Path, hostile: str) -> None:
    read, plain = (Reader(page(tmp_path, PAGE, hostile=each)) for each in (hostile, "name"))
    assert [tag for tag, _ in read.tags] == [tag for tag, _ in plain.tags]
    assert not any(key.startswith("on") for _, attributes in read.tags for key in attributes)
    assert "".join(read.texts).count(hostile.replace("\u2028", r"\u2028")) == 13


def test_what_turns_text_around_is_shown_and_what_is_long_is_cut(tmp_path: Path) -> None:
    text = page(
        tmp_path, "{{ name }}|{{ lines | listing }}", name="a\u202eb\x00\n" + "c" * 3000, lines="<d>\ne\u2066"
    )
    name, _, lines = text.partition("|")
    assert name.startswith("a\\u202eb\\x00\nccc")
    assert name.endswith("c... (1,005 more characters)")
    assert lines == "&lt;d&gt;\ne\\u2066"


def test_passwords_are_not_on_pages(tmp_path: Path) -> None:
    assert page(tmp_path, "{{ place }}", place="s3://me:secret@host/a") == "s3://me:***@host/a"


def test_tables_can_be_reached_and_named(tmp_path: Path) -> None:
    read = Reader(page(tmp_path, PAGE, hostile="name"))
    (region,) = (tag for tag in read.of("div") if tag.get("class") == "scroll")
    assert region == {"class": "scroll", "tabindex": "0", "role": "region", "aria-label": "name"}
    assert read.of("th") == [{"scope": "col"}, {"scope": "col", "class": "text"}]
    assert read.of("tbody") == [{"id": "rows"}]


def test_only_named_bars_have_a_colour_of_their_own(tmp_path: Path) -> None:
    text = (
        '{% import "macros.html" as m %}{{ m.bars([("a", "A", 1, 0.25), ("b", "B", 3, 0.75)], " s", ["b"]) }}'
    )
    read = Reader(page(tmp_path, text))
    bars = [{"class": "", "style": "width:25.00%"}, {"class": "b", "style": "width:75.00%"}]
    assert read.of("i") == bars
    assert "3.0 s" in read.texts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ 1234567 | count }}", "1,234,567"),
        ("{{ 0.12345 | score }} {{ none | score }}", "0.123 -"),
        ("{{ (0.1, 1) | range }} {{ none | range }}", "0.100 to 1.000 -"),
        ("{{ 99.94 | seconds }} {{ 1234.5 | seconds }}", "99.9 1,234"),
        ("{{ 1 | share(3) }} {{ 0 | share(0) }}", "33.3% -"),
        ("{{ 999 | bytes }} {{ 1500 | bytes }}", "999 bytes 1.5 kB"),
        ("{{ data | jpeg }}", "data:image/jpeg;base64,AAE="),
    ],
)
def test_filters(tmp_path: Path, text: str, expected: str) -> None:
    assert page(tmp_path, text, data=b"\0\1") == expected


def test_what_is_not_given_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UndefinedError, match="nothing"):
        page(tmp_path, "{{ nothing }}")


def test_pictures_are_held_by_the_page() -> None:
    assert data_uri("text/plain", b"a") == "data:text/plain;base64,YQ=="
    assert jpeg_uri(Image.new("RGB", (8, 8))).startswith("data:image/jpeg;base64,/9j/")


def test_a_page_is_written_into_a_new_folder(tmp_path: Path) -> None:
    write("µ", tmp_path / "new" / "page.html")
    assert (tmp_path / "new" / "page.html").read_bytes() == "µ".encode()
    with pytest.raises(UsageError, match=r"deep\.html: cannot be written"):
        write("", tmp_path / "new" / "page.html" / "deep.html")
