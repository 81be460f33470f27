import importlib.util
import sys
from pathlib import Path

import pytest

REHEARSAL = Path(__file__).with_name("rehearsal.py")


@pytest.fixture(scope="session")
def rehearsal():
    """The module beside this file; test folders are no packages."""
    spec = importlib.util.spec_from_file_location("rehearsal", REHEARSAL)
    module = importlib.util.module_from_spec(spec)
    sys.modules["rehearsal"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def store(tmp_path):
    from bayestl.campaign.store import SQLiteStore

    return SQLiteStore(tmp_path / "store.sqlite")
