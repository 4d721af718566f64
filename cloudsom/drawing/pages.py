"""HTML pages in one file: step 10's tables for them, filling in a template, and opening the page."""

import base64
import webbrowser
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.som.model import read_table


def page(template: Path, **values: Any) -> str:
    """The text of a Jinja2 template with these values; in HTML everything that is put in is escaped."""
    pages = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=template.suffix == ".html",
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
    )
    return pages.get_template(template.name).render(**values)


def data_uri(kind: str, data: bytes) -> str:
    """Bytes of a media type ("image/png") as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def read_scores(file: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """A table of step 10 that must have these columns; `role` is empty where the table does not tell one."""
    table = read_table(file, columns)
    table["role"] = table["role"].astype(object).fillna("")
    return table


def labels_of(file: Path) -> str:
    """Whose labels a table of step 10 is scored by, in words; empty where no file tells."""
    return str((stores.read_record(file) or {}).get("results", {}).get("labels", ""))


def show(file: Path) -> None:
    """Open a file in the user's browser; UserError where there is none."""
    if not webbrowser.open(file.resolve().as_uri()):
        raise UserError(f"SHOW: no browser was found here; open {file} in one yourself")
