"""Reading files of bounded size, and writing them whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from bayestl.errors import FileError


def read_bounded(path: str | Path, limit: int) -> bytes:
    """The bytes of a file that may hold at most `limit` bytes.

    Raises
    ------
    FileError
        If the file is missing, larger than that, or cannot be read.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise unreadable(path, error) from error
    if len(content) > limit:
        raise FileError(f"{path}: expected at most {limit:,} bytes; is this the right file?")
    return content


def write_whole(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part.

    `write` fills a temporary file beside it, which is flushed to the disk and then renamed.

    Raises
    ------
    FileError
        If the folder is missing, the disk is full, or permission is denied.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.partial")
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def unreadable(path: str | Path, error: OSError) -> FileError:
    """The error that says why a file cannot be read."""
    return FileError(f"cannot read {path}: {error.strerror or error}")
