"""Where a sweep lives: `<storage>/<name>/`, its files by name, and how a person's word finds it.

Touches the file system, never outside the folder it was given. Nothing here creates a sweep.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from orchestrator.assembly.refusal import Refused
from orchestrator.spec import SweepSpec

STORAGE = "sweeps"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class SweepFolder:
    """The files of one sweep; `path` is absolute."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def journal(self) -> Path:
        return self.path / "journal.jsonl"

    @property
    def lock(self) -> Path:
        """Held by the journal's driver, whom it names."""
        return self.path / "journal.lock"

    @property
    def spec(self) -> Path:
        """The spec as it runs, for people; the journal holds the one that counts."""
        return self.path / "spec.json"

    @property
    def stop_request(self) -> Path:
        """Asks one driver to pause; says which, and who asked. See stopping.py."""
        return self.path / "stop-requested"

    @property
    def law(self) -> Path:
        return self.path / "law.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def summary(self) -> Path:
        return self.path / "report.md"

    @property
    def plane(self) -> Path:
        return self.path / "plots" / "loss-compute.png"

    @property
    def trouble(self) -> Path:
        """The traceback of a bug of ours."""
        return self.path / "trouble.txt"

    @property
    def exists(self) -> bool:
        return self.journal.is_file() and self.journal.stat().st_size > 0

    def write(self, path: Path, content: str | bytes) -> None:
        """Put a file of this folder in place in one step; a reader sees the old or the new one.

        Raises Refused for a path outside, OSError where the disk does not allow it.
        """
        inside = Path(os.path.abspath(path))
        if not inside.is_relative_to(self.path):
            raise Refused(f"{path} lies outside the sweep's folder {self.path}")
        inside.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        handle, temporary = tempfile.mkstemp(dir=inside.parent, prefix=f".{inside.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, inside)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def folder_of(spec: SweepSpec) -> SweepFolder:
    """Where this spec's sweep lives. Raises Refused for storage that is no path here."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", spec.storage):
        raise Refused(
            f"storage {spec.storage!r} is an address; this release keeps sweeps in a folder that "
            "every node mounts (NFS, a shared disk): give its path"
        )
    root = Path(os.path.abspath(Path(spec.storage).expanduser()))
    return SweepFolder(root / spec.name)


def find(word: str, storage: str | None = None) -> SweepFolder:
    """The sweep that a person means by a name or a folder. Raises Refused where there is none."""
    root = Path(os.path.abspath(Path(storage or STORAGE).expanduser()))
    if os.sep in word or word in (".", ".."):
        folder = SweepFolder(Path(os.path.abspath(Path(word).expanduser())))
    else:
        if not _NAME.fullmatch(word) or ".." in word:
            raise Refused(
                f"{word[:80]!r} is no name of a sweep (a-z, 0-9, '.', '_', '-'); give a name, or "
                "the path of its folder"
            )
        folder = SweepFolder(root / word)
    if not folder.exists:
        raise Refused(f"no sweep in {folder.path}; {_known(folder.path.parent)}")
    return folder


def _known(root: Path) -> str:
    """What sweeps there are under `root`, in a half-sentence."""
    try:
        names = sorted(path.parent.name for path in root.glob("*/journal.jsonl"))
    except OSError:
        names = []
    if not names:
        return f"{root} holds none (--storage says where to look)"
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"{root} holds {shown}"
