"""The public face: every name is there, and none is paid for before it is used."""

import subprocess
import sys

import pytest

import bayestl


@pytest.mark.parametrize("name", bayestl.__all__)
def test_every_name_has_a_home(name: str) -> None:
    assert getattr(bayestl, name) is not None
    assert name in dir(bayestl)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'TransferPG'"):
        bayestl.TransferPG  # noqa: B018


def test_import_loads_nothing_heavy() -> None:
    code = "import sys, bayestl; print(sorted({'torch', 'pandas', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
