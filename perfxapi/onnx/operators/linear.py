"""Products of matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence

from perfxapi import standard as px
from perfxapi.array import Array
from perfxapi.errors import InvalidArgumentError
from perfxapi.onnx.registry import OperatorNode, operator


@operator("MatMul")
def matmul(node: OperatorNode, a: Array, b: Array) -> Array:
    """The matrix product of stacks of matrices, which are broadcast; a vector is a row on the left, a column on the
    right."""
    return px.matmul(a, b)


@operator("Gemm")
def gemm(node: OperatorNode, a: Array, b: Array, c: Array | None = None) -> Array:
    """alpha * a @ b + beta * c, with a and b transposed as `transA` and `transB` say."""
    left = a.mT if node.attribute("transA", 0) else a
    right = b.mT if node.attribute("transB", 0) else b
    result = _scaled(px.matmul(left, right), node.attribute("alpha", 1.0))
    return result if c is None else px.add(result, _scaled(c, node.attribute("beta", 1.0)))


def _scaled(x: Array, factor: float) -> Array:
    if factor == 1:
        return x
    return px.multiply(x, factor if x.dtype.kind == "float" else int(factor))


@operator("Det")
def determinant(node: OperatorNode, x: Array) -> Array:
    """The determinants of a stack of square matrices."""
    return px.linalg.det(x)


# ---- Einsum


@operator("Einsum")
def einsum(node: OperatorNode, *operands: Array) -> Array:
    """Sums of products by Einstein's convention: letters name axes, and those that the result lacks are summed over."""
    terms, result = _parse("".join(node.required("equation").split()), operands)
    pairs = [_with_distinct(x, term) for x, term in zip(operands, terms, strict=True)]
    array, letters = pairs[0]
    for place, (other, others) in enumerate(pairs[1:], 1):
        needed = set(result).union(*(term for _, term in pairs[place + 1 :]))
        array, letters = _contracted(array, letters, other, others, needed)
    array, letters = _summed(array, letters, set(result))
    return array.permute_dims([letters.index(letter) for letter in result])


def _parse(equation: str, operands: Sequence[Array]) -> tuple[list[list[str]], list[str]]:
    """The letters of each operand and of the result; the axes of an ellipsis are named by digits, from the last on."""
    left, arrow, right = equation.partition("->")
    terms = []
    for text, x in zip(left.split(","), operands, strict=True):
        hidden = x.ndim - len(text.replace("...", ""))
        terms.append(_letters(text, hidden))
        if len(terms[-1]) != x.ndim:
            raise InvalidArgumentError(f"Einsum: {text!r} does not fit an operand of {x.ndim} axes")
    hidden = max(sum(letter.isdigit() for letter in term) for term in terms)
    if arrow:
        return terms, _letters(right, hidden)
    used = [letter for term in terms for letter in term]
    once = sorted(letter for letter in set(used) if not letter.isdigit() and used.count(letter) == 1)
    return terms, [*map(str, reversed(range(hidden))), *once]


def _letters(text: str, hidden: int) -> list[str]:
    before, dots, after = text.partition("...")
    return [*before, *(map(str, reversed(range(hidden))) if dots else ()), *after]


def _with_distinct(x: Array, letters: list[str]) -> tuple[Array, list[str]]:
    """The diagonal of axes that have the same letter."""
    names = list(letters)
    for letter in dict.fromkeys(letters):
        while names.count(letter) > 1:
            first, second = [place for place, name in enumerate(names) if name == letter][:2]
            x = px.linalg.diagonal(px.moveaxis(x, (first, second), (-2, -1)))
            names = [name for place, name in enumerate(names) if place not in (first, second)] + [letter]
    return x, names


def _summed(x: Array, letters: list[str], needed: set[str]) -> tuple[Array, list[str]]:
    """x summed over the axes that nothing needs."""
    axes = tuple(place for place, letter in enumerate(letters) if letter not in needed)
    if not axes:
        return x, letters
    return px.sum(x, axis=axes, dtype=x.dtype), [letter for letter in letters if letter in needed]


def _contracted(a: Array, letters: list[str], b: Array, others: list[str], needed: set[str]) -> tuple[Array, list[str]]:
    """The product of two operands, summed over the letters that only they have: a stack of matrix products."""
    a, letters = _summed(a, letters, needed | set(others))
    b, others = _summed(b, others, needed | set(letters))
    sizes: dict[str, int] = {}
    for names, x in ((letters, a), (others, b)):
        for name, size in zip(names, x.shape, strict=True):
            if sizes.get(name, 1) == 1:
                sizes[name] = int(size)
    shared = [name for name in letters if name in others]
    stack = [name for name in shared if name in needed]
    inner = [name for name in shared if name not in needed]
    rows = [name for name in letters if name not in others]
    columns = [name for name in others if name not in letters]
    left = _grouped(a, letters, (stack, rows, inner), sizes)
    right = _grouped(b, others, (stack, inner, columns), sizes)
    product = px.matmul(left, right).reshape(tuple(sizes[name] for name in (*stack, *rows, *columns)))
    return product, [*stack, *rows, *columns]


def _grouped(x: Array, letters: list[str], groups: Sequence[list[str]], sizes: dict[str, int]) -> Array:
    """x with three axes, each of which is a group of letters; axes of size 1 are broadcast."""
    ordered = [name for group in groups for name in group]
    spread = px.broadcast_to(x, tuple(sizes[name] for name in letters))
    permuted = spread.permute_dims([letters.index(name) for name in ordered])
    return permuted.reshape(tuple(math.prod(sizes[name] for name in group) for group in groups))
