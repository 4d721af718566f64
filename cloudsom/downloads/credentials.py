"""User names and passwords: from environment variables or ~/.netrc, and from nowhere else."""

import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import requests

from cloudsom.errors import UserError


@dataclass(frozen=True)
class Credentials:
    """User name, password and, under two-factor login, a one-time code. Not shown when printed."""

    user: str = field(repr=False)
    password: str = field(repr=False)
    totp: str | None = field(default=None, repr=False)


def find_credentials(prefix: str, user_word: str, url: str) -> Credentials:
    """The environment variables `PREFIX_USER...`, `PREFIX_PASSWORD` and `PREFIX_TOTP`, or the URL's host in ~/.netrc.

    Raises UserError when neither has them, or they are not text in UTF-8.
    """
    user, password = os.environ.get(f"{prefix}_{user_word}"), os.environ.get(f"{prefix}_PASSWORD")
    where = f"{prefix}_{user_word} and {prefix}_PASSWORD"
    try:
        if not (user and password):
            where = "~/.netrc"
            user, password = requests.utils.get_netrc_auth(url) or (None, None)
        f"{user}{password}".encode()  # what the environment holds in another encoding
    except UnicodeError:
        raise UserError(f"{where}: not text in UTF-8; write it anew in that encoding") from None
    if not (user and password):
        raise UserError(
            f"no credentials: set {prefix}_{user_word} and {prefix}_PASSWORD in the environment, "
            f"or the host {urlsplit(url).hostname} in ~/.netrc"
        )
    return Credentials(user, password, os.environ.get(f"{prefix}_TOTP") or None)
