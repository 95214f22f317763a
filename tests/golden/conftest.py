"""The option of `make golden`."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option; a run of all tests does without it."""
    parser.addoption("--write-golden", action="store_true", help="write the stored results anew")
