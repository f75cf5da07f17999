"""Files written whole or not at all, locks that end with their process, files of others read with care."""

import errno
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from shutil import rmtree

from filelock import FileLock, Timeout

from meseta.errors import UserError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it over `path`; on any error leave no trace."""
    if path.is_dir():  # said here, since the renaming below would name the temporary file
        raise IsADirectoryError(errno.EISDIR, "is a folder; give a file, or move the folder away", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            temporary.chmod(0o644)  # temporary files are private, results are not
            with temporary.open("rb") as written:
                os.fsync(written.fileno())  # before the name: a power cut leaves the old file or the new one
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let errors of the system, such as a full disk, name the file that was asked for."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def check_file(path: Path) -> None:
    """Raise where no file can be written at `path`: asked before the work, not after."""
    if path.is_dir():
        raise UserError(f"output: {path} is a folder. Give a file, or move the folder away.")
    check_folder(path.parent)


def check_folder(folder: Path) -> None:
    """Raise where `folder` can neither be written into nor be made."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"output folder: {there} is a file. Give another folder, or move the file away.")
    if not os.access(there, os.W_OK):
        raise UserError(f"output folder: {there} cannot be written into. Give another folder.")


LOCK = ".lock"
"""The file in a run's folder that is locked while one process writes there."""


@contextmanager
def locked(folder: Path, held: str, *, wait: float = 0) -> Iterator[None]:
    """Hold the lock of a folder for the block, and make the folder; the lock ends with the process, however that ends.

    Args:
        folder: what is written into.
        held: what to say of the folder where another process holds its lock, such as "is being trained".
        wait: seconds to wait for the other.

    Raises:
        UserError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, timeout=wait):
            yield
    except Timeout:
        raise UserError(f"{folder} {held}. Wait until that has ended.") from None


def remove(folder: Path, names: Iterable[str]) -> None:
    """Remove files and folders of these names from a folder, with what an interruption left of their writing."""
    for name in names:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            rmtree(path)
        else:
            path.unlink(missing_ok=True)
        remove_unfinished(path)


def remove_unfinished(path: Path) -> None:
    """Remove the temporary files that processes which were killed left of writing `path`; nobody may write it now."""
    for temporary in path.parent.glob(f".{escape(path.name)}.*"):
        if re.fullmatch(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}{re.escape(path.suffix)}", temporary.name):
            temporary.unlink(missing_ok=True)


SMALL, LARGE = 2**20, 2**28
"""Bytes that a file made by hand, and one made by a program, may have: reading takes many times as much memory."""


def read_text(what: str, path: Path, most: int) -> str:
    """Return the text of a file that anybody may have made.

    Raises:
        UserError: there is no regular file of at most that size, or it is not in UTF-8.
    """
    if not path.is_file():  # a pipe would wait for ever, and a device never end
        raise UserError(f"{what}: {path} {'is no regular file' if path.exists() else 'does not exist'}. Give a file.")
    if path.stat().st_size > most:
        raise UserError(f"{what}: {path} has more than {most >> 20} MiB, which no {what} has. Check what it is.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{what}: {path} cannot be read as text in UTF-8. Check what it is.") from None
    except OSError as error:
        raise UserError(f"{what}: {path} cannot be read as text: {error}") from None


def check_memory(what: str, needed: int) -> None:
    """Raise where something needs more bytes than the machine has: the system would end the process without a word."""
    memory = machine_memory()
    if needed > memory:
        raise UserError(f"{what} needs {needed / 2**30:.3g} GiB of memory, and this machine has {memory / 2**30:.3g}.")


def machine_memory() -> int:
    """Return how many bytes of memory the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
