"""The command `personalize upload`: fill a collection of a Qdrant server with vectors."""

import sys
from pathlib import Path

from data_prep.errors import InputError
from personalize.api.qdrant_index import answered, connect, upload
from personalize.api.vectors import read_vectors


def run(
    *,
    vectors: Path,
    url: str,
    collection: str,
    api_key_file: Path | None = None,
    timeout_s: int = 60,
    overwrite: bool = False,
) -> None:
    """Make a collection and fill it.

    Args:
        vectors: Artifact with one vector per id, such as `scene_vectors` or `item_vectors`.
        url: Of the server.
        collection: Its name.
        api_key_file: File that holds the key, where the server asks for one.
        timeout_s: Seconds until a call is given up.
        overwrite: Remove a collection of this name first.

    Raises:
        InputError: If there is no vector, the collection is there, or the server does not answer.
        ArtifactMismatch: If the vectors are damaged.
    """
    source = read_vectors(vectors)
    if not len(source.table.ids):
        raise InputError(f"{vectors} holds no vector.")
    client = connect(url, api_key_file=api_key_file, timeout_s=timeout_s)
    if overwrite:
        answered(lambda: client.delete_collection(collection))
    upload(client, source, collection)
    sys.stderr.write(f"{len(source.table.ids):,} vectors in the collection {collection}\n")
