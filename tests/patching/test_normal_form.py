"""Functions that compute the same have the same normal form, and no others."""

from __future__ import annotations

import ast

import pytest

from toto_patcher.patching.normal_form import normal_form
from toto_patcher.patching.scope import scope_of
from toto_patcher.patching.shape import function_shape, is_like, released_shape

IMPORTS = """
import math, warnings
import torch
import torch.nn.functional as F
import gluonts.torch.distributions
from typing import cast
from math import ceil
from einops import rearrange
from gluonts.torch.distributions.studentT import StudentT
"""

OWN_CAST = "def cast(kind, value):\n    return -value\n"
BRANCHES = "if x:\n    y = 2\nelse:\n    y = 3\nreturn self.g(y, y)"
GUARDED = "try:\n    {}\nexcept OSError:\n    pass\nreturn x"


def like(one: str, other: str, *, other_imports: str = IMPORTS) -> bool:
    """Whether the function ``other`` may stand where a release has ``one``; given by their bodies, or whole."""
    shapes = []
    for source, imports in ((one, IMPORTS), (other, other_imports)):
        whole = source if "def " in source else "def f(self, x, y, n=None):\n" + _indented(source)
        module = ast.parse(imports + "\n" + whole)
        owner = next((node for node in module.body if isinstance(node, ast.ClassDef)), None)
        functions = [node for node in (owner or module).body if isinstance(node, ast.FunctionDef) and node.name == "f"]
        shapes.append((functions[0], scope_of(module, owner)))
    return is_like(function_shape(*shapes[1]), released_shape(*shapes[0]))


def _indented(source: str) -> str:
    return "".join(f"    {line}\n" for line in source.strip().splitlines())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("return cast(int, self.g(x))", "return self.g(x)"),
        ("z = self.g(x)\nreturn z", "return self.g(x)"),
        ("x = self.g(x)\nx = self.h(x)\nreturn x", "return self.h(self.g(x))"),
        ("z = torch.cat([x, y], dim=-1)\nreturn z", "return torch.cat(dim=-1, tensors=[x, y])"),
        ("return ceil(x)", "return math.ceil(x)"),
        ("return F.silu(x)", "return torch.nn.functional.silu(x)"),
        ("return StudentT(x, y, n)", "return torch.distributions.StudentT(x, y, n, validate_args=False)"),
        ("return StudentT(x, y, n)", "return gluonts.torch.distributions.StudentT(df=x, scale=n, loc=y)"),
        ("warnings.warn('one', RuntimeWarning)\nreturn x", "warnings.warn(f'two {x}', RuntimeWarning)\nreturn x"),
        ("assert x, 'one'\nreturn x", "assert x\nreturn x"),
        ("raise ValueError('one')", "raise ValueError(f'two {x}')"),
        ("return rearrange(x, '... d -> ... 1 d')", "return x.unsqueeze(-2)"),
        (
            "return rearrange(self.g(x), 'b v s (p e) -> b v (s p) e', e=self.e)",
            "z = self.g(x)\nb, v, s = z.shape[:3]\np = z.shape[-1] // self.e\nreturn z.view(b, v, s * p, self.e)",
        ),
        (
            "return rearrange(self.g(x), 'b v s (p e) -> b v (s p) e', e=self.e)",
            "z = self.g(x)\nreturn z.reshape(z.shape[0], z.size(1), -1, self.e)",
        ),
        ("if x:\n    return y\nelse:\n    return n", "if x:\n    return y\nreturn n"),
        ("def f(x, n=None):\n    return x", "def f(x):\n    return x"),
        ("def f(x):\n    return x", "def f(x, more=None, *, still=1):\n    return x"),
        ("def f(x, n=None):\n    return x + n", "def f(x, n):\n    return x + n"),
        ("def f(x: int) -> int:\n    y: int = x + 1\n    return y * y", "def f(x):\n    y = x + 1\n    return y * y"),
        ("return x.shape[0]", "return x.size(0)"),
        (f"y = 1\n{BRANCHES}", BRANCHES),
    ],
)
def test_spelling_does_not_matter(one: str, other: str) -> None:
    assert like(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("return self.g(x)", "return self.g(y)"),
        ("return self.g(x)", "return 2 * self.g(x)"),
        ("z = self.g(x)\nreturn self.h(y) + z", "return self.h(y) + self.g(x)"),  # the other order of two calls
        ("z = self.g(x)\nself.h(y)\nreturn z", "self.h(y)\nreturn self.g(x)"),
        ("z = self.g(x)\nreturn y and z", "return y and self.g(x)"),
        ("z = self.g(x)\nreturn [z for _ in y]", "return [self.g(x) for _ in y]"),
        ("z = x.n\nx.h()\nreturn z", "x.h()\nreturn x.n"),
        ("return torch.cat([x, y], dim=-1)", "return torch.cat([y, x], dim=-1)"),
        ("return torch.cat([x, y], dim=-1)", "return torch.cat([x, y], dim=0)"),
        ("return StudentT(x, y, n)", "return StudentT(x, n, y)"),
        ("return StudentT(x, y, n)", "return torch.distributions.Normal(x, y, n, validate_args=False)"),
        ("assert x\nreturn x", "assert y\nreturn x"),
        ("assert x\nreturn x", "return x"),
        ("raise ValueError('one')", "raise TypeError('one')"),
        ("raise ValueError('one')", "raise ValueError(self.count())"),
        ("return rearrange(x, '... d -> ... 1 d')", "return x.unsqueeze(-1)"),
        (
            "return rearrange(self.g(x), 'b v s (p e) -> b v (s p) e', e=self.e)",
            "z = self.g(x)\nb, v, s = z.shape[:3]\nreturn z.view(v, b, -1, self.e)",
        ),
        (
            "return rearrange(self.g(x), 'b v s (p e) -> b v (s p) e', e=self.e)",
            "z = self.g(x)\nb, v, s = z.shape[:3]\nreturn z.view(b, v, self.e, -1)",
        ),
        (
            "return rearrange(self.g(x), 'b v s (p e) -> b v (s p) e', e=self.e)",
            "return rearrange(self.g(x), 'b v s (e p) -> b v (s p) e', e=self.e)",
        ),
        ("if x:\n    return y\nreturn n", "if y:\n    return x\nreturn n"),
        ("def f(x, n=None):\n    return x + n", "def f(x, n=1):\n    return x + n"),
        ("def f(x):\n    return x", "def f(x, more):\n    return x"),
        ("def f(x):\n    return x", "def f(x, more=None):\n    return x + (more or 0)"),
        ("def f(x, n=None):\n    return x + n", "def f(x, more=None, n=None):\n    return x + n"),
        ("y = self.g(x)\nreturn x", "return x"),
        (GUARDED.format("x = self.g(x)\n    x = self.h(x)"), GUARDED.format("x = self.h(self.g(x))")),
        ("x = 1\nreturn lambda: x", "return lambda: 1"),
    ],
)
def test_what_it_computes_does(one: str, other: str) -> None:
    assert not like(one, other)
    assert not like(other, one) or "n=None" in one


@pytest.mark.parametrize(
    ("body", "imports"),
    [
        ("return cast(int, x)", IMPORTS.replace("from typing import cast", OWN_CAST)),
        ("return rearrange(x, '... d -> ... 1 d')", IMPORTS.replace("from einops import", "from .own import")),
        ("return ceil(x)", IMPORTS + "\nceil = math.floor\n"),
        ("return F.silu(x)", IMPORTS.replace("import torch.nn.functional as F", "from . import functional as F")),
        ("return max(x, y)", IMPORTS + "\ndef max(*values):\n    return values[0]\n"),
    ],
)
def test_a_name_of_a_library_is_that_of_the_library_only_where_it_was_imported_from_it(body: str, imports: str) -> None:
    assert like(body, body)
    assert not like(body, body, other_imports=imports)


FLAGGED = """
class A:
    def __init__(self, flag):
        self.flag = flag
        {refusal}

    def f(self, x):
        {body}
"""
WITH = "return self.g(x) if self.flag else self.h(x)"


def test_a_branch_that_the_constructor_rules_out_is_not_looked_at() -> None:
    refused = "assert not self.flag, 'never'"
    assert like(FLAGGED.format(refusal=refused, body=WITH), FLAGGED.format(refusal=refused, body="return self.h(x)"))


@pytest.mark.parametrize(
    "refusal",
    [
        "pass",
        "assert not flag",
        "assert not (self.flag and flag)",
        "if flag:\n            assert not self.flag",
        "assert self.flag",
    ],
)
def test_a_branch_that_it_does_not_rule_out_is(refusal: str) -> None:
    assert not like(
        FLAGGED.format(refusal=refusal, body=WITH), FLAGGED.format(refusal=refusal, body="return self.h(x)")
    )


def test_a_flag_that_is_set_later_is_not_ruled_out() -> None:
    later = "assert not self.flag\n\n    def turn(self):\n        self.flag = True"
    assert not like(FLAGGED.format(refusal=later, body=WITH), FLAGGED.format(refusal=later, body="return self.h(x)"))


def test_the_normal_form_of_a_normal_form_is_itself() -> None:
    module = ast.parse(IMPORTS + "def f(x, y):\n    z = cast(int, x)\n    return torch.cat([z, y], -1)\n")
    function = next(node for node in module.body if isinstance(node, ast.FunctionDef))
    once = normal_form(function, scope_of(module))
    assert ast.dump(normal_form(once, scope_of(module))) == ast.dump(once)
