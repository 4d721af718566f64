"""User names and passwords: from environment variables or ~/.netrc, and from nowhere else."""

import os
from urllib.parse import urlsplit

import requests

from cloudsom.errors import UserError


def find_credentials(prefix: str, user_word: str, url: str) -> tuple[str, str]:
    """User name and password: the environment's `PREFIX_USER...` and `PREFIX_PASSWORD`, or the URL's host in ~/.netrc.

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
    return user, password
