"""Recorded measurements.

`names()` lists the tables that ship with the package, `load(name)` returns one and
`card(name)` tells how it was measured;
`deeparch`, `tx2`, `sempl` and `help_nasbench201` read clones of public repositories.
"""

from bayestl.datasets.catalogue import card as card
from bayestl.datasets.catalogue import load as load
from bayestl.datasets.catalogue import names as names
from bayestl.datasets.deeparch import deeparch as deeparch
from bayestl.datasets.help import help_nasbench201 as help_nasbench201
from bayestl.datasets.sempl import sempl as sempl
from bayestl.datasets.tx2 import tx2 as tx2
