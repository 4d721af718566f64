"""A folder on an FTP server on loopback: a storage that has folders, and renames."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def ftp_server(folder: Path) -> Iterator[str]:
    """The URL of a folder that anyone may read and write."""
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler
    from pyftpdlib.servers import ThreadedFTPServer

    logging.getLogger("pyftpdlib").setLevel(logging.ERROR)
    anyone = DummyAuthorizer()
    anyone.add_anonymous(str(folder), perm="elradfmwMT")
    handler = type("Handler", (FTPHandler,), {"authorizer": anyone})
    server = ThreadedFTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"ftp://127.0.0.1:{server.address[1]}"
    finally:
        server.close_all()
        thread.join()
