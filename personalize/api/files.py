"""The only way to a file for what is served: inside one folder, and as its manifest says."""

from pathlib import Path

from data_prep.artifact import MANIFEST_NAME, Artifact, read_artifact, read_manifest
from data_prep.errors import InputError


class NotServedError(InputError):
    """An artifact that the configuration names is not there."""


class ServedFiles:
    """Opens artifacts inside a folder.

    Args:
        root: The folder; nothing outside of it is opened, through a link neither.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def inside(self, path: Path) -> Path:
        """The path, if it lies inside the root; a relative one is meant from the root.

        Raises:
            InputError: If it leads outside.
        """
        found = (self.root / path).resolve()
        if not found.is_relative_to(self.root):
            raise InputError(
                f"{path} lies outside {self.root}, and nothing outside is served; move it or set "
                "another root."
            )
        return found

    def there(self, path: Path) -> Path:
        """The path, if it lies inside the root and exists.

        Raises:
            InputError: If it leads outside.
            NotServedError: If it does not exist.
        """
        found = self.inside(path)
        if not found.exists():
            raise NotServedError(f"{found} is not there.")
        return found

    def artifact(self, path: Path, *, kind: str) -> Artifact:
        """An artifact whose every file was compared with its manifest.

        Raises:
            InputError: If it leads outside.
            NotServedError: If it is not there.
            ArtifactMismatch: If it is of another kind, or a file is not what its manifest says.
        """
        folder = self.there(path)
        if not (folder / MANIFEST_NAME).is_file():
            raise NotServedError(f"{folder} holds no artifact.")
        self.inside(folder / MANIFEST_NAME)
        for name in read_manifest(folder).files:
            self.inside(folder / name)
        return read_artifact(folder, kind=kind)
