from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.assembly.folders import SweepFolder, find, folder_of
from orchestrator.assembly.refusal import Refused
from orchestrator.assembly.specs import read_spec
from tests.orchestrator.assembly import specs


def made(root: Path, name: str) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_text("{}\n")
    return folder


def test_a_sweep_is_found_by_name_and_by_folder(tmp_path: Path) -> None:
    folder = made(tmp_path, "nano")
    assert find("nano", str(tmp_path)).path == folder
    assert find(str(folder)).path == folder


@pytest.mark.parametrize("word", ["UPPER", "a b", "a..b", "-x", "x" * 80, "<script>", "é"])
def test_what_is_no_name_is_refused(word: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no name of a sweep"):
        find(word, str(tmp_path))


def test_an_unknown_name_lists_those_there_are(tmp_path: Path) -> None:
    made(tmp_path, "nano")
    with pytest.raises(Refused, match="holds nano"):
        find("pico", str(tmp_path))


def test_nothing_is_written_outside_the_folder(tmp_path: Path) -> None:
    folder = SweepFolder(made(tmp_path, "nano"))
    with pytest.raises(Refused, match="outside"):
        folder.write(folder.path / ".." / "other.txt", "x")
    assert not (tmp_path / "other.txt").exists()


def test_a_file_is_put_in_place_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = SweepFolder(made(tmp_path, "nano"))
    folder.write(folder.law, "one")

    class Broken:
        def encode(self) -> bytes:
            raise AssertionError("unreachable")

    with pytest.raises(TypeError):
        folder.write(folder.law, Broken())  # type: ignore[arg-type]
    assert folder.law.read_text() == "one"
    assert sorted(path.name for path in folder.path.iterdir()) == ["journal.jsonl", "law.json"]


def test_an_address_is_no_storage_of_this_release(tmp_path: Path) -> None:
    spec, _ = read_spec(str(specs.recorded(tmp_path)), ["storage=s3://bucket/sweeps"])
    with pytest.raises(Refused, match="every node mounts"):
        folder_of(spec)
