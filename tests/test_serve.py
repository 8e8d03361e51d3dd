"""The web server of `make view`: on this machine alone, for who knows the word, and clear about what is missing."""

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cohortmorph import UserError
from cohortmorph.report import serve

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def results(tmp_path):
    """Results with a viewer and a report."""
    folder = tmp_path / "results"
    (folder / "viewer").mkdir(parents=True)
    (folder / serve.VIEWER).write_text("<p>the viewer</p>")
    (folder / "viewer/viewer.js").write_text("1;")
    (folder / serve.REPORT).write_text("<p>the report</p>")
    (tmp_path / "secret.txt").write_text("not for all")
    return folder


@pytest.fixture
def get(results):
    """A function: status, headers and body of a path; `$WORD` in it stands for the word of the address."""
    server, address = serve.server_of(results)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    assert server.server_address[0] == "127.0.0.1"
    word = address.rstrip("/").rpartition("/")[2]

    def ask(path):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
        connection.request("GET", path.replace("$WORD", word))
        answer = connection.getresponse()
        said = answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read().decode()
        connection.close()
        return said

    yield ask
    server.shutdown()
    server.server_close()


def test_pages_are_served_and_nothing_is_kept(get):
    status, headers, body = get("/$WORD/viewer/index.html")
    assert status == 200 and "the viewer" in body
    assert headers["cache-control"] == "no-store"
    assert get("/$WORD/viewer/viewer.js")[1]["content-type"] == "text/javascript"


def test_without_the_word_nothing_is_served(get):
    for path in ("/viewer/index.html", "/", "/wrong/report.html", "//report.html", "/%24WORD/report.html"):
        status, _, body = get(path)
        assert status == 403, path
        assert "the " + "report" not in body


def test_no_folder_is_listed_and_none_above_is_read(get):
    assert get("/$WORD/pairs/")[0] == 404
    for path in ("/$WORD/", "/$WORD/../secret.txt", "/$WORD/%2e%2e/secret.txt"):
        status, _, body = get(path)
        assert status == 404 and "not for all" not in body


def test_every_word_is_another(results):
    words = set()
    for _ in range(3):
        server, address = serve.server_of(results)
        server.server_close()
        words.add(address.rpartition(":")[2].partition("/")[2])
    assert len(words) == 3 and min(map(len, words)) > 20


def test_no_results_say_how_to_make_some(tmp_path):
    with pytest.raises(UserError, match="no results yet"):
        serve.pages_in(tmp_path)
    ran = subprocess.run(
        [sys.executable, "-m", "cohortmorph.report.serve", tmp_path],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(SCRIPTS)},
    )  # fmt: skip
    assert ran.returncode == 1 and "make demo" in ran.stderr and "Traceback" not in ran.stderr


@pytest.mark.parametrize("with_viewer", [True, False])
def test_without_a_screen_it_says_the_addresses_and_ends_on_ctrl_c(results, with_viewer):
    if not with_viewer:
        (results / serve.VIEWER).unlink()
    bare = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    # Isolated from the project's packages: `make view` starts it with the machine's own Python.
    process = subprocess.Popen(
        [sys.executable, "-S", "-m", "cohortmorph.report.serve", results],
        stdout=subprocess.PIPE,
        text=True,
        env=bare | {"PYTHONPATH": str(SCRIPTS)},
        # Started in the background, tests ignore Ctrl-C, and what they start would too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    said = ""
    while "Ctrl-C" not in said:
        line = process.stdout.readline()
        assert line, f"it ended: {said}"
        said += line
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert re.search(r"Report: http://127\.0\.0\.1:\d+/[\w-]+/report\.html", said)
    assert ("Viewer: http://127" in said) == with_viewer
    assert ("snakemake results/viewer" in said) != with_viewer
    assert "No browser was found" in said
