"""Fixtures for the tests that write into synthetic checkouts."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import traced
from file_trees import build

pytest.register_assert_rewrite("promise_checks")

driver = pytest.fixture(scope="session")(traced.driver)


@pytest.fixture
def workspace() -> Iterator[Path]:
    """An empty folder that every user may enter, in memory where there is such a place: thousands of syncs go there."""
    memory = Path("/dev/shm")
    parent = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    folder = Path(tempfile.mkdtemp(prefix="toto-patch-test-", dir=parent))
    folder.chmod(0o755)
    yield folder
    for path, _, _ in os.walk(folder):
        os.chmod(path, 0o755)  # noqa: PTH101 - some tests take it away
    shutil.rmtree(folder)


@pytest.fixture
def root(workspace: Path) -> Path:
    """A small original checkout."""
    return build(workspace / "checkout")
