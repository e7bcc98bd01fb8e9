"""Pages of HTML that need nothing else: what is common to all of them.

A page's template extends ``layout.html`` and takes its parts from ``macros.html``; ``page.css`` is their
style, ``print.css`` that of paper. Its values are written as ``text.shown`` has them and escaped, and a name
that it was not given is an error.
"""

import base64
import io
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError
from markupsafe import Markup
from PIL import Image

from pathprep.errors import UsageError, cannot_write
from pathprep.page.text import listing, shown
from pathprep.storage import atomic
from pathprep.words import counted, size_in_words

# What Python raises where a page is made of values that the files of this version never hold
UNUSUAL = (
    UndefinedError,
    TypeError,
    ValueError,
    AttributeError,
    LookupError,
    ArithmeticError,
)


def render(template: Path, **values: Any) -> str:
    """Fill in a template; it may include what lies beside it, or beside this file.

    Raises:
        jinja2.UndefinedError: it needs a value that was not given.
    """
    environment = Environment(
        autoescape=True,
        finalize=shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FileSystemLoader([template.parent, Path(__file__).parent]),
    )
    environment.filters |= {
        "bytes": lambda value: "size unknown" if value is None else size_in_words(value),
        "count": lambda value: f"{value:,}",
        "counted": counted,
        "listing": listing,
        "mpp": lambda value: "-" if value is None else f"{value:.4g}",
        "jpeg": lambda data: data_uri("image/jpeg", data),
        "range": _range,
        "score": lambda value: "-" if value is None else f"{float(value):.3f}",
        "seconds": lambda value: f"{value:,.1f}" if value < 100 else f"{value:,.0f}",
        "typed": shlex.quote,
        "share": lambda part, whole: f"{part / whole:.1%}" if whole else "-",
    }
    return environment.get_template(template.name).render(**values)


def write(page: str, out: Path) -> None:
    """Put a page where it was asked for.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_alone(out, page.encode())
    except OSError as error:
        raise UsageError(cannot_write(out, error)) from None


def data_uri(kind: str, data: bytes) -> Markup:
    """Bytes as the page holds them; ``kind`` is a MIME type. There is nothing in it to escape."""
    return Markup(f"data:{kind};base64,{base64.b64encode(data).decode()}")


def jpeg_uri(image: Image.Image) -> Markup:
    """A picture as the page holds it, in few bytes."""
    data = io.BytesIO()
    image.save(data, "JPEG", quality=80)
    return data_uri("image/jpeg", data.getvalue())


def _range(ends: Sequence[float] | None) -> str:
    return "-" if ends is None else " to ".join(f"{float(end):.3f}" for end in ends)
