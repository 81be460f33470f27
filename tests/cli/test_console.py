"""What is piped is whole; what is shown on a terminal fits it and loses nothing."""

import re
import sys

from bayestl.cli.console import show, table

COLUMNS = [f"a_long_option_{number}" for number in range(9)]
VALUES = [1.234 + number for number in range(9)]


def test_what_is_piped_is_neither_wrapped_nor_cut(capsys):
    show(False, {}, table(COLUMNS, [VALUES]))
    header, row = capsys.readouterr().out.rstrip("\n").split("\n")
    assert header.split() == COLUMNS
    assert row.split() == [f"{value:.4g}" for value in VALUES]


def test_a_narrow_terminal_folds_what_it_cannot_hold(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    show(False, {}, table(COLUMNS, [VALUES]))
    out = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= 60
    assert sorted("".join(out.split())) == sorted(
        "".join([*COLUMNS, *(f"{value:.4g}" for value in VALUES)])
    )
