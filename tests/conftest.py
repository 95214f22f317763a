"""Fixtures all tests share: where real data lies, Hypothesis's profile, one thread."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

settings.register_profile("project", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("project")

PROJECT = Path(__file__).parent.parent
SHARED_DATA = PROJECT.parent / "shared" / "data"


def _folder(name: str) -> Path:
    folder = SHARED_DATA / name
    if not folder.is_dir():
        pytest.skip(f"the data folder {name} is not there")
    return folder


@pytest.fixture(scope="session")
def beauty_folder() -> Path:
    """The real Beauty sequences, or a skip where they are absent."""
    return _folder("amazon14_beauty_sequences")


@pytest.fixture(scope="session")
def instruments_file() -> Path:
    """The real Musical Instruments reviews, or a skip where they are absent."""
    return _folder("amazon14_musical_instruments") / "reviews_Musical_Instruments_5.json.gz"


@pytest.fixture(scope="session")
def commonroad_folder() -> Path:
    """The real NGSIM scenes in CommonRoad's format, or a skip where they are absent."""
    return _folder("commonroad_ngsim")


@pytest.fixture(scope="session")
def scenarionet_folder() -> Path:
    """The real nuScenes mini scenes in ScenarioNet's format, or a skip where they are absent."""
    return _folder("nuscenes_mini_scenarionet")


@pytest.fixture(scope="session")
def argoverse2_folder() -> Path:
    """The real Argoverse 2 samples, or a skip where they are absent."""
    return _folder("argoverse2_samples")
