"""Recorded measurements: `names()` lists them, `load(name)` returns one."""

from bayestl.datasets.catalogue import load as load
from bayestl.datasets.catalogue import names as names
