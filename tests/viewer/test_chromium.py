"""The Chromium that tests unpack finds its libraries, whatever is installed on the machine."""

import shutil
import subprocess

from browsers import find_chromium, library_path


def test_every_folder_with_libraries_is_searched_the_outermost_first(tmp_path):
    for place in ("usr/lib/some-linux-gnu/pulseaudio/libpulsecommon-1.so", "usr/lib/some-linux-gnu/libpulse.so.0"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    (tmp_path / "usr/share/doc").mkdir(parents=True)
    (tmp_path / "usr/share/doc/about.so.txt").touch()
    libraries = tmp_path / "usr/lib/some-linux-gnu"
    assert library_path(tmp_path) == f"{libraries}:{libraries / 'pulseaudio'}"


def test_no_library_of_chromium_is_missing(browser, request):
    program, environment = find_chromium(request.config.cache.mkdir("chromium") / "unpacked")
    if shutil.which("chromium"):  # the machine's own: a script that starts the program
        return
    said = subprocess.run(["ldd", program], env=environment, capture_output=True, text=True, check=True).stdout
    assert "libc.so" in said
    assert "not found" not in said
