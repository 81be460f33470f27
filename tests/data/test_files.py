"""A file is written whole or not at all."""

import os

import pytest

from bayestl.data.files import read_bounded, write_whole
from bayestl.errors import FileError


def test_a_failing_writer_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def full(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(FileError, match=r"cannot write .*x: No space left on device"):
        write_whole(path, full)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_what_is_written_is_read(tmp_path):
    write_whole(tmp_path / "x", lambda file: file.write(b"new"))
    assert read_bounded(tmp_path / "x", 3) == b"new"
    with pytest.raises(FileError, match="at most 2 bytes"):
        read_bounded(tmp_path / "x", 2)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_no_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(FileError, match=r"cannot write .*: Permission denied"):
        write_whole(tmp_path / "x", lambda file: file.write(b"new"))


def test_missing_folders(tmp_path):
    with pytest.raises(FileError, match="No such file or directory"):
        write_whole(tmp_path / "none" / "x", lambda file: file.write(b"new"))
    with pytest.raises(OSError, match="cannot read"):
        read_bounded(tmp_path / "none", 3)
