"""HTML pages in one file: filling in a template, what is put inside, and opening the page."""

import base64
import webbrowser
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cloudsom.errors import UserError


def page(template: Path, filters: Mapping[str, Callable[..., Any]] | None = None, **values: Any) -> str:
    """The text of a Jinja2 template with these values; in HTML everything that is put in is escaped."""
    pages = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=template.suffix == ".html",
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
    )
    pages.filters |= filters or {}
    return pages.get_template(template.name).render(**values)


def data_uri(kind: str, data: bytes) -> str:
    """Bytes of a media type ("image/png") as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def show(file: Path) -> None:
    """Open a file in the user's browser; UserError where there is none."""
    if not webbrowser.open(file.resolve().as_uri()):
        raise UserError(f"SHOW: no browser was found here; open {file} in one yourself")
