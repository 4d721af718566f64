"""The plain file of a labelled map, from strangers: read whole, or refused before it takes memory."""

import errno
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from runs import made_submap, tuned_map

from cloudsom.errors import UserError
from cloudsom.files import npz
from cloudsom.som import labelled_map
from cloudsom.tables import csv_tables
from visualization import report


def saved(file: Path) -> dict[str, bytes]:
    """The members of a written map, by name."""
    labelled_map.save(file, tuned_map({1: made_submap(np.arange(16) % 2 * 255)}, 2, 2))
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(file: Path, members: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(file, "w", packing) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def refusal(file: Path) -> str:
    with pytest.raises(UserError) as problem:
        labelled_map.load(file)
    message = str(problem.value)
    assert message.startswith(f"{file}: not a labelled map (") and message.isprintable() and len(message) < 600
    return message


def header(shape: str, dtype: str = "<f8") -> bytes:
    """What stands before an array's numbers, as numpy writes it."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def test_the_file_does_not_know_when_it_was_written(tmp_path: Path) -> None:
    saved(tmp_path / "map.npz")
    with zipfile.ZipFile(tmp_path / "map.npz") as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_numpy_reads_the_file_and_we_read_numpys(tmp_path: Path) -> None:
    file = tmp_path / "map.npz"
    saved(file)
    with np.load(file, allow_pickle=False) as theirs:
        arrays = dict(theirs)
        for name, array in npz.read(file, set(arrays)).items():
            assert array.dtype == arrays[name].dtype and np.array_equal(array, arrays[name]), name
    arrays["weights"] = np.asfortranarray(arrays["weights"])
    np.savez_compressed(file, **arrays)
    assert np.array_equal(labelled_map.load(file).weights, arrays["weights"])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("weights.npy", header("(999999999, 999999999, 13)"), "does not fill its shape"),
        ("weights.npy", header("(0, 5, 13)"), "classes is uint8 of shape (4,)"),
        ("weights.npy", header("(-1, 5, 13)"), "not an array of numbers"),
        ("weights.npy", header("(1" + "0" * 30 + ",)"), "not an array of numbers"),
        ("weights.npy", header("(2, 2, 13)") + bytes(8), "does not fill its shape"),
        ("weights.npy", header("(2, 2, 13)", "|O") + bytes(416), "not an array of numbers"),
        ("weights.npy", header("__import__('os').getcwd()"), "not an array of numbers"),
        ("weights.npy", header("(2, 2, 13)").replace(b"False", b"(" * 5), "not an array of numbers"),
        ("weights.npy", b"", "not an array of numbers"),
        ("weights.npy", header("(2, 2, 13)", "<f4") + bytes(208), "weights is float32"),
        ("cloud.npy", header("(4,)", "|u1") + b"\x00\xff\x07\x00", "cloud holds codes other than 0, 255"),
        ("classes.npy", header("(4,)", "|u1") + b"\x00\x0a\x0b\x00", "classes holds codes other than"),
        ("more.npy", header("(1,)") + bytes(8), "it holds 'more' too"),
        ("../more", b"x", "it holds '../more' too"),
        ("\n\x1b[2J", b"x", "it holds '\\n\\x1b[2J' too"),
    ],
)
def test_arrays_that_are_no_map_are_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    file = tmp_path / "map.npz"
    rewritten(file, saved(file) | {name: content})
    assert said in refusal(file)


def test_unusual_archives_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "map.npz"
    members = saved(file)
    for packing in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        rewritten(file, members, packing)
        assert "packed in an unusual way" in refusal(file)
    rewritten(file, members)
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("weights.npy", members["weights.npy"])
    assert "twice" in refusal(file)
    with open(file, "wb") as handle:
        handle.truncate(npz.MAX_BYTES + 1)
    assert "too large" in refusal(file)


def test_a_disk_that_fails_is_not_the_files_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "map.npz"
    saved(file)

    def full(place: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device", str(place))

    monkeypatch.setattr(zipfile, "ZipFile", full)
    monkeypatch.setattr(report, "local", full)
    monkeypatch.setattr(csv_tables, "local", full)
    for read in (labelled_map.load, report.read_picture, csv_tables.read_all_spectra):
        with pytest.raises(OSError, match="No space left"):
            read(file)


def test_bombs_do_not_take_memory(tmp_path: Path) -> None:
    """Arrays that unpack to 300 MB, declared or not, read by a process that may take 150 MB more than it has."""
    members = saved(tmp_path / "map.npz")
    zeros = io.BytesIO()
    with zipfile.ZipFile(zeros, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            with archive.open(name, "w", force_zip64=True) as stream:
                for _ in range(300 if name == "weights.npy" else 0):
                    stream.write(bytes(1_000_000))
                stream.write(content)
    (tmp_path / "declared.npz").write_bytes(zeros.getvalue())
    hidden = bytearray(zeros.getvalue())
    size = (300_000_000 + len(members["weights.npy"])).to_bytes(8, "little")
    for place in (hidden.find(size[:4]), hidden.rfind(size[:4])):
        assert place > 0
        hidden[place : place + 4] = (1000).to_bytes(4, "little")
    (tmp_path / "hidden.npz").write_bytes(hidden)
    code = """
import resource, sys
from pathlib import Path
from cloudsom.som import labelled_map
from cloudsom.errors import UserError
now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + 150_000_000, now + 150_000_000))
for name in ("declared", "hidden"):
    try:
        labelled_map.load(Path(sys.argv[1]) / f"{name}.npz")
    except UserError as problem:
        print(problem)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, cwd=ROOT, timeout=300)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and all("not a labelled map" in line for line in lines), done.stdout + done.stderr
    assert "its arrays are too large" in lines[0]


def test_a_file_changed_or_cut_anywhere_is_a_map_or_a_users_error(tmp_path: Path) -> None:
    file = tmp_path / "map.npz"
    rewritten(file, saved(file))
    content, draw, read = file.read_bytes(), np.random.default_rng(0), 0
    for i in range(1000):
        changed = bytearray(content)
        for place in draw.integers(0, len(content), draw.integers(1, 4)):
            changed[place] = draw.integers(0, 256)
        file.write_bytes(changed if i % 3 else content[: draw.integers(0, len(content))])
        try:
            found = labelled_map.load(file)
        except UserError:
            continue
        read += 1
        assert found.weights.shape == (2, 2, 13) and np.isfinite(found.weights).all()
    assert read
