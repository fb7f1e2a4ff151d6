"""Finds OpenCL runtimes: the system's, and Intel's for processors where it was installed by pip alone.

The wheel of Intel's runtime (`intel-opencl-rt`) brings an .icd file that names a wrong folder, and its library needs
others that no loader finds by itself. So these are loaded here, and the loader of OpenCL is pointed at a folder with
the system's .icd files and one for this runtime. That must happen before pyopencl is imported.
"""

from __future__ import annotations

import os
import sys
import tempfile
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

_SYSTEM = Path("/etc/OpenCL/vendors")
_NEEDED = ("libintlc.so.5", "libirng.so", "libimf.so", "libsvml.so")
_LIBRARY = "libintelocl.so"
_open_libraries: list[object] = []


@cache
def find_runtimes() -> tuple[str, ...]:
    """Makes Intel's pip-installed runtime known to the OpenCL loader, beside the system's; names what was added.

    Nothing is done where the user says by OCL_ICD_VENDORS which runtimes to use, or where there is no such package.
    """
    if "OCL_ICD_VENDORS" in os.environ or sys.platform != "linux":
        return ()
    library = _installed_library()
    if library is None:
        return ()
    from cffi import FFI

    ffi = FFI()
    needed = (path for name in _NEEDED if (path := library.parent / name).exists())
    _open_libraries.extend(ffi.dlopen(str(path), ffi.RTLD_NOW | ffi.RTLD_GLOBAL) for path in needed)
    os.environ["OCL_ICD_VENDORS"] = f"{_vendors_folder(library)}{os.sep}"
    return (str(library),)


def _installed_library() -> Path | None:
    """The runtime's library, where the package is installed and has it."""
    try:
        found = [file for file in files("intel-opencl-rt") or () if file.name == _LIBRARY]
    except PackageNotFoundError:
        return None
    path = Path(str(found[0].locate())).resolve() if found else None
    return path if path is not None and path.exists() else None


def _vendors_folder(library: Path) -> Path:
    """A folder with the system's .icd files, in the order of their names, and then one for the library.

    It stays for the life of the process and goes with it: the loader reads it when it is first asked for a platform.
    """
    temporary = tempfile.TemporaryDirectory(prefix="perfxapi-opencl-")
    _open_libraries.append(temporary)
    folder = Path(temporary.name)
    for number, icd in enumerate(sorted(_SYSTEM.glob("*.icd")) if _SYSTEM.is_dir() else ()):
        (folder / f"{number:02}-{icd.name}").write_text(icd.read_text())
    (folder / "99-intel.icd").write_text(f"{library}\n")
    return folder
