"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def _shared(name: str) -> Path:
    folder = Path(os.environ.get("ZOOMLOC_SHARED", ROOT.parent / "shared")) / name
    if not folder.is_dir():
        pytest.skip(f"REAL DATA ABSENT: {folder} is not there, so this check on real data did not run")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; the test is skipped, saying so, where it is absent."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_parity() -> Path:
    """The folder of reference numbers; the test is skipped, saying so, where it is absent."""
    return _shared("parity")
