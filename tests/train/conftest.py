"""Fixtures of the training tests."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Tests run side by side; threads of one would slow the other, and bits depend on their number."""
    torch.set_num_threads(1)
