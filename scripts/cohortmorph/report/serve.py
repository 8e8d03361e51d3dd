"""Show the results in a browser: `python -m cohortmorph.report.serve results`, what `make view` starts.

A web server on this machine alone, as a browser does not read the images of a page that was opened as a file. Other
users of the machine reach its ports too, so every address begins with a word that only who started it knows.
Python's own modules are all that it needs.
"""

import os
import secrets
import sys
import webbrowser
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

from cohortmorph import UserError
from cohortmorph.run.files import StrPath

VIEWER, REPORT = "viewer/index.html", "report.html"


class Handler(SimpleHTTPRequestHandler):
    """Files of one folder, for those who know the word; no lists of what is there."""

    extensions_map = {  # noqa: RUF012 (as in the class that it is of); a system's own table may know neither
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".gz": "application/gzip",
    }

    def __init__(self, *arguments: Any, word: str, **keywords: Any) -> None:
        self.word = word
        super().__init__(*arguments, **keywords)

    def send_head(self) -> BinaryIO | None:
        """Answer, if the address begins with the word."""
        before, _, rest = self.path.removeprefix("/").partition("/")
        if not secrets.compare_digest(before.encode(), self.word.encode()):
            self.send_error(HTTPStatus.FORBIDDEN, "Open the address that was printed at the start, as a whole")
            return None
        self.path = f"/{rest}"
        return super().send_head()

    def list_directory(self, path: StrPath) -> None:
        """List nothing."""
        self.send_error(HTTPStatus.NOT_FOUND, "There is no such file")

    def end_headers(self) -> None:
        """Let the browser keep nothing: another run may change a file at any time."""
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        super().end_headers()

    def log_message(self, *arguments: Any) -> None:
        """Say nothing of what was read."""


def server_of(folder: StrPath) -> tuple[ThreadingHTTPServer, str]:
    """Return a server of `folder` on a free port of this machine, and the address that its pages begin with."""
    word = secrets.token_urlsafe(16)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder), word=word))
    return server, f"http://127.0.0.1:{server.server_port}/{word}/"


def pages_in(folder: StrPath) -> list[str]:
    """Return the pages that there are, the viewer first; no page at all is a UserError."""
    folder = Path(folder)
    pages = [page for page in (VIEWER, REPORT) if (folder / page).is_file()]
    if not pages:
        raise UserError(
            f"There is neither {folder / VIEWER} nor {folder / REPORT}: no results yet. Make some with `make demo` "
            "(the embedded phantom) or `snakemake` (your cohort), then try again."
        )
    return pages


def open_browser(address: str) -> bool:
    """Open a browser, if this machine has one with a window; say whether."""
    has_screen = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    # Without a screen `webbrowser` may find one for terminals, which would take this one and cannot draw.
    try:
        return bool(has_screen) and webbrowser.open(address)
    except webbrowser.Error:
        return False


def main(folder: StrPath) -> None:
    """Serve `folder` until Ctrl-C."""
    pages = pages_in(folder)
    server, address = server_of(folder)
    for page in pages:
        print(f"{'Viewer' if page == VIEWER else 'Report'}: {address}{page}")
    if VIEWER not in pages:
        print("There is no viewer yet: `snakemake results/viewer` makes it.")
    if not open_browser(address + pages[0]):
        port = server.server_port
        print(
            "No browser was found on this machine: open the address yourself. From another machine, first\n"
            f"  ssh -L {port}:127.0.0.1:{port} THIS_MACHINE"
        )
    with server, suppress(KeyboardInterrupt):
        print("Ctrl-C ends it.", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(str(error))
