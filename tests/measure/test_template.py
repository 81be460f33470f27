import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayestl.errors import SpecificationError
from bayestl.measure.template import Template


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("--threads={threads}", "--threads=4"),
        ("{threads}{spin}{share}{mode}", "4true0.5fast {x}"),
        ('{{"a": {threads}}}', '{"a": 4}'),
        ("plain", "plain"),
        ("", ""),
        ("{idle}", None),
        ("{threads} {idle}", None),
    ],
)
def test_values_stand_for_placeholders(text, filled):
    values = {"threads": 4, "spin": True, "share": 0.5, "mode": "fast {x}", "idle": None}
    assert Template.parse(text).fill(values) == filled


@pytest.mark.parametrize("text", ["{", "}", "{}", "{a", "a}", "{a}}", "{a{b}}"])
def test_a_stray_brace_is_refused(text):
    with pytest.raises(SpecificationError, match="twice"):
        Template.parse(text)


@pytest.mark.parametrize("text", [3, None, "a\0b"])
def test_what_is_no_text_is_refused(text):
    with pytest.raises(SpecificationError, match="expected a text"):
        Template.parse(text)


@pytest.mark.parametrize("name", ["other", "threads.__class__", "threads[0]", "threads!r", "in:"])
def test_only_names_are_placeholders(name):
    with pytest.raises(SpecificationError, match="unknown placeholder"):
        Template.parse(f"{{{name}}}").check_known(("threads",), prefix="in:")
    Template.parse("{threads} {in:any}").check_known(("threads",), prefix="in:")


@given(st.text(st.characters(exclude_characters="\0")))
def test_a_literal_stands_for_itself(text):
    assert Template.parse(Template.literal(text)).fill({}) == text
