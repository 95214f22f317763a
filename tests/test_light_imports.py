"""What only training needs is not imported by what answers, predicts or embeds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
ONLY_FOR_TRAINING = {"lightning", "pytorch_lightning", "torchmetrics", "torch._dynamo"}
"""Half of what Lightning takes to be imported is the compiler, which it imports for itself."""

IMPORTED_BY = """
import importlib, json, sys
for module in sys.argv[1:]:
    importlib.import_module(module)
print(json.dumps(sorted(sys.modules)))
"""


def _imported_by(*modules: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED_BY, *modules],
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT,
        timeout=120,
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    "modules",
    [
        ("recsys.serving", "driving.serving", "personalize.api.server"),
        ("recsys.predict", "recsys.embed"),
        ("driving.embed", "driving.evaluation.drive"),
    ],
    ids="+".join,
)
def test_what_only_training_needs_is_not_imported(modules: tuple[str, ...]) -> None:
    assert not _imported_by(*modules) & ONLY_FOR_TRAINING


def test_an_import_that_only_training_needs_would_be_noticed() -> None:
    assert {"lightning", "torchmetrics"} <= _imported_by("personalize.checkpoint_plugin")
