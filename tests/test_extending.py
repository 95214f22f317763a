"""The example of docs/extending.md works as it stands there."""

import importlib.util
import re

import torch

from tests.conftest import PROJECT
from tests.recsys.retriever_fixtures import small_batch, small_catalogue


def test_the_recommender_in_the_documentation_recommends(tmp_path):
    text = (PROJECT / "docs" / "extending.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    path = tmp_path / "again.py"
    path.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("again", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    catalogue = small_catalogue()
    batch = small_batch(catalogue, rows=4)
    found = module.Again(catalogue).recommend(batch, count=3)
    last = batch.history_mask.sum(1) - 1
    assert torch.equal(found.item_ids[:, 0], batch.history_item_ids[torch.arange(4), last])
