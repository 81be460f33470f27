"""Recorded measurements.

`names()` lists the tables that ship with the package and `load(name)` returns one;
`deeparch`, `tx2` and `sempl` read clones of public repositories.
"""

from bayestl.datasets.catalogue import load as load
from bayestl.datasets.catalogue import names as names
from bayestl.datasets.deeparch import deeparch as deeparch
from bayestl.datasets.sempl import sempl as sempl
from bayestl.datasets.tx2 import tx2 as tx2
