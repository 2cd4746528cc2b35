"""Where text comes from: pinned packages' own Python files, local files, or the hub's data sets.

Reads installed packages, local files, and for `hub:NAME` the network, all through `datasets`,
streamed; writes nothing. `python-sources` is the .py files of
sympy, networkx and mpmath (BSD; pure-Python wheels, so pinned versions are the same bytes on every
machine: 34.6 MB, 1.66 bits a byte under gzip -9 and 1.29 under xz). `python-sources-large` adds
torch, numpy, scipy, scikit-learn, pandas and matplotlib (about 154 MB; platform wheels, so files
that a build generates are left out).
"""

from __future__ import annotations

import glob
import importlib.metadata
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainers.config import HUB, DataConfig
from trainers.data import DataError

log = logging.getLogger(__name__)


class BrokenOff(DataError):
    """A stream ended before its end; what came of it is good, and need not be made again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A name for folders, what identifies the bytes, the documents, and a check of them."""

    name: str
    identity: str
    documents: Callable[[], Iterator[bytes]]
    check: Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSet:
    """Packages at pinned versions and the SHA-256 over their distinct .py files' digests."""

    versions: Mapping[str, str]
    digest: str
    pure: bool


PACKAGE_SETS: Mapping[str, PackageSet] = {
    "python-sources": PackageSet(
        versions={"mpmath": "1.3.0", "networkx": "3.6.1", "sympy": "1.14.0"},
        digest="562fd36b6d59b65d0f17b44fdd6d8bad8191ad4211ef68ca6faf2d829a8cdec8",
        pure=True,
    ),
    "python-sources-large": PackageSet(
        versions={
            "matplotlib": "3.11.2",
            "mpmath": "1.3.0",
            "networkx": "3.6.1",
            "numpy": "2.4.6",
            "pandas": "3.1.1",
            "scikit-learn": "1.9.1",
            "scipy": "1.17.1",
            "sympy": "1.14.0",
            "torch": "2.13.0",
        },
        digest="8ee37d598307502d7c469227675554fd0afeecb5e5858d7a1b95e8820ff1bc12",
        pure=False,
    ),
}
_GENERATED = {"version.py", "_version.py", "__config__.py", "_distributor_init.py"}
_PACKED = {".gz", ".zst", ".bz2", ".xz"}
_FORMATS = {
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".py": "text",
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}


def find_source(data: DataConfig) -> Source:
    """The source that `data.source` names. Raises DataError when there is none."""
    if data.source.startswith(HUB):
        return _hub(data)
    packages = PACKAGE_SETS.get(data.source)
    return _local_files(data) if packages is None else _package_files(data.source, packages)


def _package_files(name: str, packages: PackageSet) -> Source:
    installed = {package: _installed(package) for package in packages.versions}
    if installed != dict(packages.versions):
        lines = ", ".join(
            f"{package} {installed[package] or 'absent'} (must be {wanted})"
            for package, wanted in packages.versions.items()
            if installed[package] != wanted
        )
        raise DataError(
            f"data.source {name!r} is defined on pinned packages, and differs here: {lines}; "
            "install with the constraints file, or give data.source a path of your own"
        )

    def documents() -> Iterator[bytes]:
        for path in _python_files(sorted(packages.versions), generated=packages.pure):
            yield path.read_bytes()

    def check(digest: str) -> None:
        if digest == packages.digest:
            return
        versions = ", ".join(f"{package} {v}" for package, v in packages.versions.items())
        message = (
            f"the files of {versions} have SHA-256 {digest}, not {packages.digest}: "
            "an installed package was changed, or its wheel was built differently"
        )
        if packages.pure:
            raise DataError(f"{message}; reinstall them from the constraints file")
        log.warning("%s; losses compare only with runs on the same digest", message)

    identity = ",".join(f"{package}=={v}" for package, v in packages.versions.items())
    return Source(name=name, identity=f"{name}:{identity}", documents=documents, check=check)


def _installed(package: str) -> str | None:
    """A version without its local part: 2.13.0+cpu is 2.13.0."""
    try:
        return importlib.metadata.version(package).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def _python_files(packages: list[str], *, generated: bool) -> Iterator[Path]:
    """The .py files in the packages' own records, by package and path."""
    for package in packages:
        recorded = importlib.metadata.files(package) or []
        for file in sorted(recorded, key=lambda file: file.as_posix()):
            if file.suffix != ".py" or (not generated and file.name in _GENERATED):
                continue
            path = Path(str(file.locate()))
            if not path.is_file():
                raise DataError(f"{path} of package {package} is missing; reinstall {package}")
            yield path


def _local_files(data: DataConfig) -> Source:
    paths = _matching(data.source)
    if not paths:
        known = ", ".join([*PACKAGE_SETS, "hub:OWNER/NAME"])
        raise DataError(
            f"data.source {data.source!r} is no file, folder or pattern with files in it; "
            f"give a path, or one of {known}"
        )
    kind = data.format if data.format != "auto" else _format_of(paths)
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return Source(
        name=_folder_name(data.source),
        identity=f"{kind}:{stats}",
        documents=lambda: _read_local(paths, kind, data.text_field),
        check=lambda digest: None,
    )


def _matching(source: str) -> list[Path]:
    path = Path(source).expanduser()
    if path.is_dir():
        found = [item for item in path.rglob("*") if _ending(item) in _FORMATS]
    elif path.is_file():
        found = [path]
    else:
        found = [Path(item) for item in glob.glob(str(path), recursive=True)]
    return sorted(item.resolve() for item in found if item.is_file())


def _ending(path: Path) -> str:
    """The suffix that tells the format, below that of a compression."""
    endings = [suffix.lower() for suffix in path.suffixes]
    return next((ending for ending in reversed(endings) if ending not in _PACKED), "")


def _format_of(paths: list[Path]) -> str:
    kinds = {_FORMATS.get(_ending(path)) for path in paths}
    if len(kinds) == 1 and (kind := next(iter(kinds))) is not None:
        return kind
    endings = ", ".join(sorted({path.suffix or path.name for path in paths}))
    raise DataError(f"cannot tell one format from the endings {endings}; set data.format")


def _folder_name(source: str) -> str:
    stem = Path(source).stem.lower()
    return "".join(c if c.isalnum() else "-" for c in stem if c.isascii()).strip("-") or "text"


def _hub(data: DataConfig) -> Source:
    """A data set of the hub, or a folder that `datasets` reads as one, row by row as it streams.

    Its identity is what was asked for: a name without `revision` may change under it, which the
    corpus' digest then tells.
    """
    name = data.source.removeprefix(HUB)
    asked = [name, data.subset, data.split, data.revision]
    return Source(
        name=_folder_name(name),
        identity=f"hub:{asked}",
        documents=lambda: _texts(_hub_rows(name, data), data.text_field, data.source),
        check=lambda digest: None,
    )


def _hub_rows(name: str, data: DataConfig) -> Iterator[Mapping[str, Any]]:
    from datasets import load_dataset

    try:
        yield from load_dataset(
            name, data.subset, split=data.split, revision=data.revision, streaming=True
        )
    except Exception as error:  # what its HTTP clients raise has no common parent
        told = f"hub:{name}, subset {data.subset}, split {data.split}"
        raise BrokenOff(
            f"cannot read {told} ({error}); check the words, the network and HF_TOKEN, or give "
            "data.source a path"
        ) from error


def _read_local(paths: list[Path], kind: str, field: str) -> Iterator[bytes]:
    files = [str(path) for path in paths]
    return _texts(_rows(files, kind), "text" if kind == "text" else field, files[0])


def _texts(rows: Iterator[Mapping[str, Any]], column: str, place: str) -> Iterator[bytes]:
    for row in rows:
        yield _text_of(row, column, place)


def _rows(files: list[str], kind: str) -> Iterator[Mapping[str, Any]]:
    """Rows through `datasets`, streamed, so that nothing is copied to its own cache."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

    builder = {"text": "text", "jsonl": "json", "parquet": "parquet"}[kind]
    options: dict[str, Any] = {"sample_by": "document"} if kind == "text" else {}
    try:
        yield from load_dataset(
            builder, data_files=files, split="train", streaming=True, **options
        )
    except (OSError, ValueError, DatasetGenerationError, DatasetNotFoundError) as error:
        raise DataError(f"cannot read {', '.join(files)} as {kind} ({error})") from error


def _text_of(row: Mapping[str, Any], column: str, place: str) -> bytes:
    value = row.get(column)
    if isinstance(value, str):
        return value.encode()
    if value is None and column in row:
        return b""
    found = ", ".join(row) if column not in row else f"{column} holding {type(value).__name__}"
    raise DataError(
        f"data.text_field is {column!r}, but {place} has {found}; name the column of text"
    )
