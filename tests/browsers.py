"""A headless Chromium for the tests: the machine's own, or Debian's, unpacked into a folder and not installed."""

import os
import re
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
# The machine's fonts and Chromium's: without any it ends at the first word.
FONTS = "<fontconfig><dir>/usr/share/fonts</dir><dir>{folder}/usr/share/fonts</dir></fontconfig>\n"
LIBRARY = re.compile(r"\.so(\.\d+)*$")


def find_chromium(folder):
    """Return (program, environment) of a Chromium, unpacked into `folder` if need be, or (None, why there is none)."""
    if found := shutil.which("chromium"):
        return found, dict(os.environ)
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            return None, f"there is no chromium on this machine, and without {program} none can be had"
    ran = subprocess.run(["bash", HERE / "viewer/chromium.sh", folder], capture_output=True, text=True)
    if ran.returncode:
        return None, f"Debian's chromium could not be unpacked: {ran.stderr[-1000:]}"
    (folder / "fonts.conf").write_text(FONTS.format(folder=folder))
    environment = {"LD_LIBRARY_PATH": library_path(folder), "FONTCONFIG_FILE": str(folder / "fonts.conf")}
    return folder / "usr/lib/chromium/chromium", os.environ | environment


def library_path(folder):
    """Return all folders of an unpacked tree that hold shared libraries, as LD_LIBRARY_PATH; the outermost come first.

    Installed packages find each other's libraries by ld.so.conf and by absolute paths in the programs (libpulse looks
    for libpulsecommon in a folder of its own): neither holds in a tree that lies elsewhere.
    """
    found = {path.parent for path in folder.rglob("*.so*") if LIBRARY.search(path.name)}
    return ":".join(map(str, sorted(found, key=lambda place: (len(place.parts), place))))
