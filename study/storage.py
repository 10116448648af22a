"""Storage that outlives the machine of the driver: a study's copy in URI/NAME/, by pyarrow's file
systems.

It has what the study directory has, but for what is made anew from the record, and the record in
parts, `record/GENERATION-OFFSET.jsonl`, for an object store cannot append. Every driver begins a
generation, whose first part is all that is recorded by then; the newest one counts, so that what a
driver that lost its lease may still write is never read.
"""

import os
import re
import secrets
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import groupby

from pyarrow import ArrowException
from pyarrow.fs import FileSelector, FileSystem, FileType

from study.record import complete_lines
from study.settings import without_credentials
from trainables.config import invalid

EXPECTED = "an absolute path, or a URI (file://, s3://, gs://)"
ATOMIC = ("s3", "gcs", "abfs")
"""File systems that show an object once it is complete."""
CLIENTS = {
    # One request for a small file, not three.
    "s3": "allow_delayed_open=true",
    # It would try for a quarter of an hour.
    "gs": "retry_limit_seconds=20",
    "gcs": "retry_limit_seconds=20",
}
UNFINISHED = ".tmp"
READERS = 16


class StorageError(Exception):
    """Storage cannot be read or written, and why, in one line without credentials."""


class Storage:
    """The files of one study in storage, by their names in its directory.

    All methods raise `StorageError`.
    """

    def __init__(self, uri: str, name: str) -> None:
        """Find the file system.

        Raises:
            UsageError: the URI is none of a file system.
        """
        self.uri = without_credentials(uri)
        self._given = uri
        try:
            with self._reached():
                self._files, root = FileSystem.from_uri(_for_client(os.path.expanduser(uri)))
                root = self._files.normalize_path(root)
        except StorageError as error:
            raise invalid("--storage", self.uri, f"{EXPECTED} ({error})") from None
        if not root.strip("/"):
            raise invalid("--storage", self.uri, EXPECTED)
        self._root = f"{root.rstrip('/')}/{name}"
        # Of its own, for two drivers may write a lease at once.
        self._unfinished = f".{secrets.token_hex(4)}{UNFINISHED}"

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none."""
        path = f"{self._root}/{name}"
        with self._reached():
            try:
                with self._files.open_input_file(path) as file:
                    return bytes(file.read())
            except FileNotFoundError:
                return None
            except OSError:
                # A read of an object is two requests, between which another driver may remove it.
                is_object = self._files.type_name in ATOMIC
                if is_object and self._files.get_file_info(path).type == FileType.NotFound:
                    return None
                raise

    def write(self, name: str, content: bytes) -> None:
        """Write a file in one piece: a reader sees the old one or the new one."""
        path = f"{self._root}/{name}"
        is_atomic = self._files.type_name in ATOMIC
        target = path if is_atomic else path + self._unfinished
        with self._reached():
            if not is_atomic:
                self._files.create_dir(path.rpartition("/")[0], recursive=True)
            with self._files.open_output_stream(target) as file:
                file.write(content)
            if not is_atomic:
                self._files.move(target, path)

    def remove(self, name: str) -> None:
        """Remove a file where there is one."""
        with self._reached(), suppress(FileNotFoundError):
            self._files.delete_file(f"{self._root}/{name}")

    def names(self, folder: str) -> list[str]:
        """The names of all files in a folder, and in those that it has."""
        selector = FileSelector(f"{self._root}/{folder}", recursive=True, allow_not_found=True)
        with self._reached():
            files = self._files.get_file_info(selector)
        paths = [info.path for info in files if info.type == FileType.File]
        return sorted(
            path.removeprefix(f"{self._root}/") for path in paths if not path.endswith(UNFINISHED)
        )

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ArrowException) as error:
            text = str(error).replace(self._given, self.uri)
            raise StorageError(textwrap.shorten(text, 300, placeholder=" …")) from None


def _for_client(uri: str) -> str:
    """The URI, with what the client of its file system does better than by default."""
    scheme = uri.partition("://")[0]
    if scheme not in CLIENTS or CLIENTS[scheme].partition("=")[0] in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}{CLIENTS[scheme]}"


def part_name(generation: int, offset: int) -> str:
    """The name of the part of a record that begins at that byte."""
    return f"record/{generation:06}-{offset:012}.jsonl"


def newest_generation(parts: list[str]) -> int:
    """The newest generation of which there is a part; 0 where there is none."""
    return max(map(_place, parts), default=(0, 0))[0]


def stored_record(storage: Storage, parts: list[str]) -> bytes:
    """The complete lines of the newest record of which there are any; what comes after a missing
    or torn part is omitted."""
    places = sorted(map(_place, parts), key=lambda place: (-place[0], place[1]))
    for generation, mine in groupby(places, key=lambda place: place[0]):
        record = bytearray()
        offsets = [offset for _, offset in mine]
        names = [part_name(generation, offset) for offset in offsets]
        with ThreadPoolExecutor(READERS) as readers:
            for offset, part in zip(offsets, readers.map(storage.read, names), strict=True):
                if offset > len(record):
                    break
                record[offset:] = part or b""
        if complete := complete_lines(bytes(record)):
            return complete
    return b""


def _place(part: str) -> tuple[int, int]:
    generation, offset = re.findall(r"\d+", part.rpartition("/")[2])
    return int(generation), int(offset)
