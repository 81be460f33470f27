"""A specification survives TOML, and an error names its line."""

import os

import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from bayestl.data.environment import Environment
from bayestl.data.options import Boolean, Integer
from bayestl.data.space import ConfigSpace
from bayestl.data.specification import (
    Specification,
    read_specification,
    specification_in,
    write_specification,
)
from bayestl.data.toml import MAX_BYTES, Document
from bayestl.errors import FileError, SpecificationError

TEXT = """\
# what can be set
constraints = [
    "threads <= 4 or spin",
    "threads >= 1",
]

[options.threads]
kind = "integer"
low = 1
high = 8
log = true
default = 2
unit = ""
doc = "intra-op"

[options.spin]
kind = "boolean"

[conditions]
spin = "threads > 1"

[environments.board]
hardware = "Jetson TX2"

[environments.board.settings]
cores = "0"
batch = 4

[environments.board.levels]
threads = [1, 2, 6]
"""


def test_reads_what_people_write(tmp_path):
    (tmp_path / "space.toml").write_text(TEXT)
    found = read_specification(tmp_path / "space.toml")
    assert found == Specification(
        ConfigSpace(
            {"threads": Integer(1, 8, log=True, default=2, doc="intra-op"), "spin": Boolean()},
            ["threads <= 4 or spin", "threads >= 1"],
            {"spin": "threads > 1"},
        ),
        (
            Environment(
                "board",
                "Jetson TX2",
                settings={"cores": "0", "batch": 4},
                levels={"threads": (1, 2, 6)},
            ),
        ),
    )


@given(
    st.one_of(st.none(), strategies.spaces()),
    st.lists(strategies.environments, max_size=3, unique_by=lambda e: e.name).map(tuple),
)
def test_round_trip(space, environments):
    specification = Specification(space, environments)
    found = specification_in(Document(specification.to_toml()))
    assert found == specification
    if space is not None:
        assert found.space.names == space.names
    assert [e.name for e in found.environments] == [e.name for e in environments]


def test_writes_a_file_that_it_reads(tmp_path):
    specification = Specification(ConfigSpace({"a b.c": Integer(0, 3)}), (Environment("x y"),))
    write_specification(specification, tmp_path / "s.toml")
    assert read_specification(tmp_path / "s.toml") == specification
    assert os.listdir(tmp_path) == ["s.toml"]


OPTION = "[options.a]\nkind = 'integer'\nlow = 1\nhigh = 4\n"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a = 1\nb = \n", 2, "Invalid value"),
        ("[a]\nb = '''x", 2, "Expected"),
        ("x = 1\n", 1, "unknown key 'x'; expected one of options, constraints, conditions, env"),
        ("\noptions = 3\n", 2, r"expected a table \[options\], got 3"),
        ("\n[options]\n", 2, "expected at least one option"),
        ("[options.a]\nkind = 'reel'\n", 2, "option 'a': expected a kind out of real, integer"),
        ("[options.a]\nlow = 1\n", 1, "expected a kind"),
        ("\n[options.a]\nkind = 'integer'\nlo = 1\n", 4, "unknown key 'lo' of kind 'integer'; ex"),
        ("[options.a]\nkind = 'integer'\nlow = 1\n", 2, "needs the key 'high'"),
        ("[options.a]\nkind = 'integer'\nhigh = 2\nlow = '1'\n", 4, "expected finite low <= high"),
        (OPTION + "log = 1\n", 5, "log: expected a bool, got 1"),
        (OPTION + "default = 7\n", 5, "the default is outside the domain"),
        (OPTION + "[options.b]\nkind = 'categorical'\nchoices = 'ab'\n", 7, "choices: expected"),
        ("options.a = {kind = 'real', low = 2, high = 1}\n", 1, "finite low <= high"),
        ("constraints = 'a'\n" + OPTION, 1, "constraints: expected a list of texts, got 'a'"),
        ("constraints = [\n'a < 9',\n'b < 3',\n]\n" + OPTION, 3, "'b < 3' names the unknown"),
        ("constraints = ['a <',]\n" + OPTION, 1, "cannot read the expression 'a <'"),
        ("constraints = [\n\n'a > 3']\n" + OPTION, 3, "default configuration violates 'a > 3'"),
        (OPTION + "[conditions]\nb = 'a'\n", 6, "unknown key 'b'; expected one of a"),
        (OPTION + "[conditions]\na = 3\n", 6, "condition of 'a': expected a text, got 3"),
        (OPTION + "[conditions]\na = 'a.b'\n", 6, "unexpected Attribute"),
        (OPTION + "\n[conditions]\na = 'a > 1'\n", 6, "form a circle: a -> a"),
        ("[environments.x]\n\nhardwre = 'y'\n", 3, "unknown key 'hardwre'; expected one of hardw"),
        ("[environments.x]\nengine = 3\n", 2, "engine: expected a text, got 3"),
        ("[environments.x.settings]\nd = [1]\n", 2, r"setting 'd' must be text.*got \[1\]"),
        ("[environments.x.levels]\na = 3\nd = [2, 1]\n", 2, r"levels of 'a' must be a list"),
        ("[environments.x.levels]\na = [3]\nd = [2, 1]\n", 3, r"levels of 'd'.*got \[2, 1\]"),
        ("[environments.x]\nlevels = 'a'\n", 2, r"expected a table \[environments.x.levels\]"),
        ("[environments]\nx = 1\n", 2, r"expected a table \[environments.x\]"),
        ("[environments.' ']\n", 1, "expected an environment's name"),
    ],
)
def test_errors_name_the_line(tmp_path, text, line, message):
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(SpecificationError, match=rf"s\.toml, line {line}: .*{message}"):
        read_specification(tmp_path / "s.toml")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileError, match=r"cannot read .*none\.toml: No such file"):
        read_specification(tmp_path / "none.toml")
    with pytest.raises(FileError, match="Is a directory"):
        read_specification(tmp_path)
    (tmp_path / "large.toml").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(FileError, match="at most 1,000,000 bytes"):
        read_specification(tmp_path / "large.toml")
    (tmp_path / "latin.toml").write_bytes(b"# a\n# \xe4\n")
    with pytest.raises(SpecificationError, match="line 2: expected UTF-8"):
        read_specification(tmp_path / "latin.toml")


def test_a_document_may_hold_more():
    document = Document("[campaign]\nbudget = 3\n\n" + OPTION, "c.toml")
    assert specification_in(document).space == ConfigSpace({"a": Integer(1, 4)})
    assert document.table("campaign", known=("budget",)) == {"budget": 3}
    assert str(document.error("no", "campaign", "budget")) == "c.toml, line 2: no"
    assert document.line("campaign", "seed") == 1
