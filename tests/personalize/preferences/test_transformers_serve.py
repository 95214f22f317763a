"""The chat extractor against a real server that ignores the schema: `transformers serve`."""

import http.client
import importlib.util
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from personalize.preferences.answer_cache import AnswerCache
from personalize.preferences.chat import ChatExtractor
from personalize.preferences.extractor import Review
from personalize.preferences.language_model import ChatClient, Patience
from tests.personalize.preferences.small_reviews import small_aspects, small_extractor
from tests.personalize.preferences.tiny_model import write_tiny_model

NEEDED = ("accelerate", "fastapi", "uvicorn", "openai")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"transformers serve needs {', '.join(MISSING)}"),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Address and model name of a server with a tiny random model."""
    folder = str(write_tiny_model(tmp_path_factory.mktemp("served")))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "transformers.cli.transformers", "serve", folder),
            *("--host", "127.0.0.1", "--port", str(port), "--device", "cpu"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(240):
            if process.poll() is not None:
                pytest.fail(f"transformers serve ended with status {process.returncode}")
            if answers(port):
                break
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1", folder
    finally:
        process.terminate()
        process.wait(20)


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def test_a_server_that_ignores_the_schema_ends_in_the_embedded_extractor(
    served: tuple[str, str], tmp_path: Path
) -> None:
    url, model = served
    client = ChatClient(url, model, patience=Patience(attempts=2, timeout_s=60.0))
    cache = AnswerCache(tmp_path / "answers.sqlite")
    extractor = ChatExtractor(
        client, small_aspects().names, small_extractor(), cache, concurrency=1
    )
    (found,) = extractor.read([Review(1, "It is very sturdy and well built.", 5.0)])
    notes = extractor.notes()
    assert found.extractor == "extractive"
    assert found.opinions
    assert found.refusals[0].reason == "read embedded: the answer was invalid twice"
    assert (notes["calls"], notes["read_embedded"]) == (2, 1)
    assert int(notes["tokens_out"]) > 0
