"""The small world behind the API, made once; its sentence encoder draws vectors."""

from pathlib import Path

import pytest

from recsys import serving
from tests.recsys.served_world import DrawnSentences, ServedWorld, copy_of, make_served_world


@pytest.fixture(scope="session")
def one_world(tmp_path_factory: pytest.TempPathFactory) -> ServedWorld:
    """Every artifact, made once."""
    return make_served_world(tmp_path_factory.mktemp("served"))


@pytest.fixture
def world(one_world: ServedWorld, monkeypatch: pytest.MonkeyPatch) -> ServedWorld:
    """For tests that add nothing."""
    monkeypatch.setattr(serving, "SentenceEncoder", DrawnSentences)
    return one_world


@pytest.fixture
def own_world(world: ServedWorld, tmp_path: Path) -> ServedWorld:
    """A copy, for tests that add items or break artifacts."""
    return copy_of(world, tmp_path / "own")
