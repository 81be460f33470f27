"""A small, safe language for relations between options.

    threads * batch <= 64
    precision == "int8" and cores in (2, 4)
    not (arena and mode == "parallel")

Names are options; there are numbers, text, true and false, arithmetic (+ - * / // %),
comparisons (chained, and `in` a list), `and`, `or`, `not`, and min, max, abs. The text is
parsed to Python's syntax tree, every node is checked against this list, and the
tree becomes closures: nothing is ever passed to `eval`, and both the length and the
depth of the text are bounded.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bayestl.data.options import Value
from bayestl.errors import SpaceError

MAX_LENGTH = 1_000
MAX_DEPTH = 40

_Term = Callable[[Mapping[str, Any]], Any]


def _is_in(value: Any, items: Any) -> bool:
    if not isinstance(items, tuple):  # "8" in "int8" would be true of text
        raise TypeError("'in' needs a list, such as (1, 2)")
    return value in items


_ARITHMETIC = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARISONS = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: _is_in,
    ast.NotIn: lambda a, b: not _is_in(a, b),
}
_FUNCTIONS = {"min": min, "max": max, "abs": abs}
_CONSTANTS = {"true": True, "false": False}


@dataclass(frozen=True)
class Expression:
    """A parsed relation; `names` are the options it speaks of.

    Raises
    ------
    SpaceError
        If the text is no expression of the language.
    """

    text: str
    names: frozenset[str] = field(init=False, compare=False)
    _evaluate: _Term = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or len(self.text) > MAX_LENGTH:
            raise SpaceError(f"expected an expression of at most {MAX_LENGTH} characters")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # such as an invalid escape in a text
                tree = ast.parse(self.text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            reason = getattr(error, "msg", str(error))
            raise SpaceError(f"cannot read the expression {self.text!r}: {reason}") from None
        names: set[str] = set()
        term = _Compiler(self.text, names).term(tree, depth=0)
        object.__setattr__(self, "names", frozenset(names))
        object.__setattr__(self, "_evaluate", term)

    def __reduce__(self) -> tuple[Any, ...]:
        return Expression, (self.text,)  # closures can neither be copied nor sent to a process

    def holds(self, values: Mapping[str, Value | None]) -> bool | None:
        """Whether the relation holds; None when it speaks of an option that is not active."""
        if any(values[name] is None for name in self.names):
            return None
        try:
            return bool(self._evaluate(values))
        except (TypeError, ValueError, ArithmeticError) as error:
            shown = {name: values[name] for name in sorted(self.names)}
            raise SpaceError(f"cannot evaluate {self.text!r} at {shown}: {error}") from None


class _Compiler:
    """One walk over the syntax tree: checks each node and returns it as a closure."""

    def __init__(self, text: str, names: set[str]) -> None:
        self.text = text
        self.names = names

    def refuse(self, what: str) -> SpaceError:
        return SpaceError(
            f"{what} in the expression {self.text!r}: expected options, constants, "
            "+ - * / // %, comparisons, in, and, or, not, min, max, abs"
        )

    def term(self, node: ast.expr, depth: int) -> _Term:
        if depth > MAX_DEPTH:
            raise self.refuse(f"more than {MAX_DEPTH} nested parts")
        match node:
            case ast.Constant(value=bool() | int() | float() | str() as value):
                return lambda _: value
            case ast.Name(id=name) if name in _CONSTANTS:
                return lambda _, value=_CONSTANTS[name]: value
            case ast.Name(id=name):
                self.names.add(name)
                return lambda values: values[name]
            case ast.Tuple(elts=items) | ast.List(elts=items):
                parts = [self.term(item, depth + 1) for item in items]
                return lambda values: tuple(part(values) for part in parts)
            case ast.BoolOp(op=op, values=items):
                parts = [self.term(item, depth + 1) for item in items]
                every = all if isinstance(op, ast.And) else any
                return lambda values: every(part(values) for part in parts)
            case ast.UnaryOp(op=ast.Not(), operand=item):
                part = self.term(item, depth + 1)
                return lambda values: not part(values)
            case ast.UnaryOp(op=ast.USub(), operand=item):
                part = self.term(item, depth + 1)
                return lambda values: -part(values)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return self.arithmetic(_ARITHMETIC[type(op)], left, right, depth)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                return self.comparison(left, ops, comparators, depth)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
                function, parts = _FUNCTIONS[name], [self.term(arg, depth + 1) for arg in args]
                return lambda values: function(*(part(values) for part in parts))
            case _:
                raise self.refuse(f"unexpected {type(node).__name__}")

    def arithmetic(self, function: Any, left: ast.expr, right: ast.expr, depth: int) -> _Term:
        a, b = self.term(left, depth + 1), self.term(right, depth + 1)

        def evaluate(values: Mapping[str, Any]) -> Any:
            x, y = a(values), b(values)
            for side in (x, y):  # "a" * 999999999 and (1, 2) * 999999999 would eat the memory
                if not isinstance(side, (int, float)):
                    raise TypeError("arithmetic needs numbers")
            return function(x, y)

        return evaluate

    def comparison(
        self, left: ast.expr, ops: list[ast.cmpop], comparators: list[ast.expr], depth: int
    ) -> _Term:
        for op in ops:
            if type(op) not in _COMPARISONS:
                raise self.refuse(f"unexpected {type(op).__name__}")
        parts = [self.term(item, depth + 1) for item in (left, *comparators)]
        functions = [_COMPARISONS[type(op)] for op in ops]

        def evaluate(values: Mapping[str, Any]) -> bool:
            left = parts[0](values)
            for function, part in zip(functions, parts[1:], strict=True):
                right = part(values)
                if not function(left, right):
                    return False
                left = right
            return True

        return evaluate
