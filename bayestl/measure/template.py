"""`Template`: a text with placeholders, such as ``--threads={threads}``; two braces stand for one.

Less than `str.format` on purpose: a placeholder is a name and nothing else, so that no
specification reaches an attribute or an item of anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from bayestl.data.options import Value
from bayestl.errors import SpecificationError

_TOKEN = re.compile(r"(?P<pair>\{\{|\}\})|\{(?P<name>[^{}]+)\}|(?P<stray>[{}])")


@dataclass(frozen=True)
class Template:
    """Literal texts with a placeholder between each two of them."""

    literals: tuple[str, ...]
    placeholders: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        """The template that a text means.

        Raises
        ------
        SpecificationError
            If it is no text, or has a brace that stands for nothing.
        """
        if not isinstance(text, str) or "\0" in text:
            raise SpecificationError(f"expected a text, got {text!r}")
        literals, placeholders, position = [""], [], 0
        for token in _TOKEN.finditer(text):
            literals[-1] += text[position : token.start()]
            position = token.end()
            if token["stray"]:
                raise SpecificationError(
                    f"expected a placeholder such as {{threads}} in {text!r}; "
                    "write a brace that stands for itself twice"
                )
            if token["pair"]:
                literals[-1] += token["pair"][0]
            else:
                placeholders.append(token["name"])
                literals.append("")
        literals[-1] += text[position:]
        return cls(tuple(literals), tuple(placeholders))

    @staticmethod
    def literal(text: str) -> str:
        """The text whose template is that very text."""
        return text.replace("{", "{{").replace("}", "}}")

    def check_known(self, known: Collection[str], *, prefix: str) -> None:
        """Raise unless every placeholder is known, or is a name after the prefix.

        Raises
        ------
        SpecificationError
            Naming the first that is neither.
        """
        for name in self.placeholders:
            if name not in known and not (name.startswith(prefix) and len(name) > len(prefix)):
                expected = ", ".join((*known, f"{prefix}NAME"))
                raise SpecificationError(
                    f"unknown placeholder {name!r}; expected one of {expected}"
                )

    def fill(self, values: Mapping[str, Value | None]) -> str | None:
        """The text with values for placeholders, as JSON writes them; None where one is None."""
        filled = self.literals[0]
        for name, literal in zip(self.placeholders, self.literals[1:], strict=True):
            value = values[name]
            if value is None:
                return None
            filled += (value if isinstance(value, str) else json.dumps(value)) + literal
        return filled
