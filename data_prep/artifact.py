"""Write and read one artifact: a folder of Parquet, safetensors and JSON with a manifest.

An artifact is written under a temporary name beside its destination, flushed to disk and renamed
when whole, so a killed command leaves nothing half-written that anyone could read; what it leaves
under the temporary name is removed by the next one that writes there. The manifest holds no time
and no absolute path of the artifact itself: the same input gives the same bytes.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import save_file

from data_prep.errors import ArtifactMismatch, InputError
from data_prep.parquet_stream import write_parquet_stream
from data_prep.schema import TableSchema
from data_prep.temporary_folder import remove_abandoned, replace_folder, temporary_folder

MANIFEST_NAME = "manifest.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class FileEntry:
    """One file of an artifact: its size, its SHA-256 and, for tables, its row count."""

    size_bytes: int
    sha256: str
    rows: int | None = None


@dataclass(frozen=True)
class Manifest:
    """What an artifact is and what it was made of.

    Attributes:
        kind: What the folder holds, such as `reviews` or `vectors`.
        schema_version: Version of the layout; a reader refuses another one.
        command: The command that wrote it, such as `data-prep reviews`.
        configuration: The options of that command, plain JSON values.
        inputs: Content hash of every input, by name.
        package_version: Version of this package.
        files: Every file of the artifact.
        notes: Counts and facts a reader may want without opening a table.
    """

    kind: str
    command: str
    configuration: Mapping[str, Any]
    inputs: Mapping[str, str]
    schema_version: int = SCHEMA_VERSION
    package_version: str = ""
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def content_hash(self) -> str:
        """SHA-256 over kind, schema version and all file hashes: equal bytes, equal hash."""
        lines = [self.kind, str(self.schema_version)]
        lines += [f"{name} {entry.sha256}" for name, entry in sorted(self.files.items())]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@cache
def package_version() -> str:
    """Version of this package, or `unknown` where it runs without being installed."""
    try:
        return version("personalize")
    except PackageNotFoundError:
        return "unknown"


def flush_to_disk(path: Path) -> None:
    """Force a file or folder to disk, so that a rename after it cannot outlive its content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _system_errors() -> Iterator[None]:
    """Turn what Polars and safetensors make of a full disk back into the system's own error."""
    try:
        yield
    except (pl.exceptions.PolarsError, SafetensorError) as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


class ArtifactWriter:
    """Collects the files of one artifact in a temporary folder; see `create_artifact`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes: dict[str, Any] = {}
        self._rows: dict[str, int] = {}

    def write_table(self, schema: TableSchema, frame: pl.DataFrame) -> None:
        """Check a table against its schema, sort it by its key and write `<name>.parquet`.

        Raises:
            InputError: If a column is missing, of another type, or a key repeats.
        """
        frame = schema.conform(frame)
        with _system_errors():
            frame.write_parquet(
                self.folder / f"{schema.name}.parquet", compression="zstd", statistics=False
            )
        self._rows[f"{schema.name}.parquet"] = frame.height

    def write_stream(
        self, schema: TableSchema, frames: Iterator[pl.DataFrame], *, group_rows: int = 50_000
    ) -> None:
        """Write a table that comes in frames, without ever holding it whole.

        Args:
            schema: The table's schema.
            frames: Parts of the table, already in the order of its key across all parts.
            group_rows: Rows of a row group; it bounds the memory and fixes the bytes.

        Raises:
            InputError: As `write_table`, and if the parts are not in the order of the key.
        """
        path = self.folder / f"{schema.name}.parquet"
        with _system_errors():
            self._rows[path.name] = write_parquet_stream(path, schema, frames, group_rows)

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write named arrays to `<name>.safetensors`."""
        ordered = {key: np.ascontiguousarray(arrays[key]) for key in sorted(arrays)}
        with _system_errors():
            save_file(ordered, self.folder / f"{name}.safetensors")

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON document to `<name>.json`, keys sorted, NaN refused."""
        text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
        self.path(f"{name}.json").write_text(text + "\n", encoding="utf-8")

    def path(self, name: str) -> Path:
        """Where a file of another format (HTML, YAML) belongs inside the artifact."""
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def entries(self) -> dict[str, FileEntry]:
        """Size, hash and rows of every file written so far, by relative name."""
        found = {}
        for path in sorted(p for p in self.folder.rglob("*") if p.is_file()):
            name = path.relative_to(self.folder).as_posix()
            path.chmod(0o644)  # safetensors makes its files for their owner alone
            flush_to_disk(path)
            found[name] = FileEntry(path.stat().st_size, file_sha256(path), self._rows.get(name))
        return found


@contextmanager
def create_artifact(
    destination: Path,
    *,
    kind: str,
    command: str,
    configuration: Mapping[str, Any],
    inputs: Mapping[str, str],
    overwrite: bool = False,
) -> Iterator[ArtifactWriter]:
    """A writer whose folder becomes the artifact when the block ends without an error.

    Args:
        destination: Folder the artifact will be; its parents are made.
        kind: What it holds.
        command: The command that writes it.
        configuration: The command's options as plain JSON values, without the destination.
        inputs: Content hash by input name (`Artifact.content_hash`, `file_sha256`).
        overwrite: Replace an artifact that is there; anything else there is never touched.

    Raises:
        InputError: If the destination exists and may not be replaced, or cannot be written.
    """
    remove_abandoned(destination.parent, re.escape(destination.name))
    _check_destination(destination, overwrite=overwrite)
    with ExitStack() as stack:
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
            temporary = stack.enter_context(temporary_folder(destination))
        except OSError as error:
            raise InputError(
                f"Cannot write beside {destination}: {error.strerror}; choose another --out."
            ) from error
        try:
            writer = ArtifactWriter(temporary)
            yield writer
            manifest = Manifest(
                kind=kind,
                command=command,
                configuration=dict(configuration),
                inputs=dict(inputs),
                package_version=package_version(),
                files=writer.entries(),
                notes=writer.notes,
            )
            writer.write_json(MANIFEST_NAME.removesuffix(".json"), asdict(manifest))
            _put_in_place(temporary, destination)
        except OSError as error:
            reason = error.strerror or str(error)  # Polars tells the number only in its message
            if error.errno is None and "os error" not in reason:
                raise
            raise InputError(
                f"Cannot write {destination}: {reason}; free space or choose another --out."
            ) from error


def _check_destination(destination: Path, *, overwrite: bool) -> None:
    if not destination.exists():
        return
    if not (destination / MANIFEST_NAME).is_file():
        raise InputError(f"{destination} exists and is no artifact; choose another --out.")
    if not overwrite:
        raise InputError(f"{destination} exists; pass --overwrite to replace it.")


def _put_in_place(temporary: Path, destination: Path) -> None:
    """Rename the finished folder to its name once all of it is on disk."""
    flush_to_disk(temporary / MANIFEST_NAME)
    flush_to_disk(temporary)
    temporary.chmod(0o755)
    replace_folder(temporary, destination)
    flush_to_disk(destination.parent)


class Artifact:
    """One artifact opened for reading; see `read_artifact`."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @property
    def content_hash(self) -> str:
        """Hash of all content, for the manifest of whatever is made from this artifact."""
        return self.manifest.content_hash

    def has(self, name: str) -> bool:
        """Whether the artifact holds a file of this name (with its ending)."""
        return name in self.manifest.files

    def table(self, schema: TableSchema) -> pl.DataFrame:
        """A table, checked against its schema.

        Raises:
            ArtifactMismatch: If the table is missing or does not fit the schema.
        """
        path = self.file(f"{schema.name}.parquet")
        frame = pl.read_parquet(path)
        schema.check(frame, where=str(path))
        return frame

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Named arrays of `<name>.safetensors`, memory-mapped and read-only."""
        return map_arrays(self.file(f"{name}.safetensors"))

    def json(self, name: str) -> Any:  # noqa: ANN401  (a JSON document has no narrower type)
        """A JSON document of the artifact."""
        return json.loads(self.file(f"{name}.json").read_text(encoding="utf-8"))

    def file(self, name: str) -> Path:
        """Path of a file the manifest lists.

        Raises:
            ArtifactMismatch: If the manifest does not list it.
        """
        if name not in self.manifest.files:
            raise ArtifactMismatch(
                f"{self.folder} ({self.manifest.kind}) holds no {name}; "
                f"it holds {', '.join(sorted(self.manifest.files))}."
            )
        return self.folder / name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is held open; allows `with read_artifact(...) as tables`."""


def read_artifact(folder: Path, *, kind: str, verify: bool = True) -> Artifact:
    """An artifact whose manifest fits, opened for reading.

    Args:
        folder: The artifact's folder.
        kind: The kind the caller can read.
        verify: Compare every file's SHA-256 with the manifest; sizes are compared always.

    Raises:
        ArtifactMismatch: If the folder is no artifact, of another kind or version, or damaged.
    """
    manifest = read_manifest(folder)
    if manifest.kind != kind:
        raise ArtifactMismatch(f"{folder} holds {manifest.kind}, but {kind} is needed here.")
    for name, entry in manifest.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != entry.size_bytes:
            raise ArtifactMismatch(f"{path} is missing or cut short; write the artifact again.")
        if verify and file_sha256(path) != entry.sha256:
            raise ArtifactMismatch(f"{path} was changed after it was written; write it again.")
    return Artifact(folder, manifest)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an artifact of any kind.

    Raises:
        ArtifactMismatch: If there is none, it is no JSON, or its version is another.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise ArtifactMismatch(f"{folder} is no artifact: it has no {MANIFEST_NAME}.")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        files = {
            _inner_name(name, path): FileEntry(**entry) for name, entry in raw.pop("files").items()
        }
        manifest = Manifest(files=files, **raw)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArtifactMismatch(f"{path} is no manifest: {error}.") from error
    if manifest.schema_version != SCHEMA_VERSION:
        raise ArtifactMismatch(
            f"{folder} has schema version {manifest.schema_version}, this program reads "
            f"{SCHEMA_VERSION}; write the artifact again."
        )
    return manifest


def _inner_name(name: str, path: Path) -> str:
    """A file name that stays inside the artifact's folder."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ArtifactMismatch(f"{path} names a file outside its folder: {name}.")
    return name


_SAFETENSORS_TYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip


def map_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a safetensors file as read-only memory maps: nothing is read until it is used.

    Source:
        The safetensors format: eight bytes of header length, a JSON header, then raw data.
    """
    with path.open("rb") as stream:
        header_bytes = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(header_bytes))
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        shape = tuple(entry["shape"])
        dtype = _SAFETENSORS_TYPES[entry["dtype"]]
        if 0 in shape:
            arrays[name] = np.zeros(shape, dtype)
            continue
        offset = 8 + header_bytes + entry["data_offsets"][0]
        arrays[name] = np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)
    return arrays
