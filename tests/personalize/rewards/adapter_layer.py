"""Where a weight adapter's weights come from, for tests that plant some."""

from torch import nn

from personalize.rewards.weight_adapter_head import WeightAdapterHead


def last_layer(head: WeightAdapterHead) -> nn.Linear:
    """The layer whose softmax the weights are."""
    found = head.adapter.layers[-1]
    assert isinstance(found, nn.Linear)
    return found
