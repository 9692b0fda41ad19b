"""What patches rely on: any function of the releases that computes something else is named with file and line."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.shapes import collected
from toto_patcher.patching import series
from toto_patcher.patching.assumptions import broken_assumptions, places
from toto_patcher.patching.checkout import Checkout
from toto_patcher.patching.patch import Patch
from toto_patcher.patching.shape import read_shapes

DECODER = series.load()["static-decoder"]
OPTIONAL = {"KVCache.__init__"}
NAMES = [name for name in DECODER.assumes if name not in OPTIONAL]
Fresh = Callable[[str, Path], Path]


def refused(root: Path, patch: Patch = DECODER) -> list[tuple[str, int | None, str]]:
    return [(str(it.path), it.line, it.message) for it in broken_assumptions(Checkout.open(root), patch)]


def rewrite(root: Path, name: str, change: Callable[[ast.FunctionDef], None]) -> tuple[str, int]:
    """Changes a function's syntax tree; returns its file and the line that it starts on then."""
    (place,) = places(Checkout.open(root), name)
    path = root / place.path
    tree = ast.parse(path.read_bytes())
    owner, _, method = name.rpartition(".")
    body = next(n.body for n in tree.body if isinstance(n, ast.ClassDef) and n.name == owner) if owner else tree.body
    change(next(node for node in body if isinstance(node, ast.FunctionDef) and node.name == method))
    path.write_text(ast.unparse(ast.fix_missing_locations(tree)) + "\n", encoding="utf-8")
    (place,) = places(Checkout.open(root), name)
    return str(place.path), place.line


def nothing(function: ast.FunctionDef) -> None:
    """Comments, formatting and quotes go all the same."""


def an_unused_argument_with_a_default(function: ast.FunctionDef) -> None:
    function.args.kwonlyargs.append(ast.arg("more"))
    function.args.kw_defaults.append(ast.Constant(1))


def a_value_named_before_it_is_returned(function: ast.FunctionDef) -> None:
    last = function.body[-1]
    if isinstance(last, ast.Return) and last.value is not None:
        function.body[-1:] = [
            ast.Assign([ast.Name("outcome", ast.Store())], last.value),
            ast.Return(ast.Name("outcome", ast.Load())),
        ]


def one_more_statement(function: ast.FunctionDef) -> None:
    function.body += ast.parse("print('here')").body


def a_decorator(function: ast.FunctionDef) -> None:
    function.decorator_list.insert(0, ast.Name("traced", ast.Load()))


def another_number_of_parameters(function: ast.FunctionDef) -> None:
    function.args.kwonlyargs.append(ast.arg("more"))
    function.args.kw_defaults.append(None)


@pytest.mark.parametrize("version", ["0.1.3", "0.1.4", "0.2.0"])
def test_the_releases_are_what_the_decoder_relies_on(toto_release: Callable[[str], Path], version: str) -> None:
    assert refused(toto_release(version)) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_edit_of_a_function_that_the_decoder_stands_for_is_refused(
    fresh_toto: Fresh, tmp_path: Path, name: str
) -> None:
    same = (nothing, an_unused_argument_with_a_default, a_value_named_before_it_is_returned)
    for change in (*same, one_more_statement, a_decorator, another_number_of_parameters):
        root = fresh_toto("0.2.0", tmp_path / change.__name__)
        path, line = rewrite(root, name, change)
        found = refused(root)
        if change in same:
            assert found == []
        else:
            assert [(where, message) for where, _, message in found] == [
                (path, f"static-decoder: {name} is not the one that the patch relies on")
            ]
            assert found[0][1] is not None and found[0][1] >= line


def test_the_line_named_is_the_first_that_differs_from_the_alternative_that_fits_best(
    fresh_toto: Fresh, tmp_path: Path
) -> None:
    root = fresh_toto("0.2.0", tmp_path)
    backbone = root / "toto/model/backbone.py"
    text = backbone.read_text()
    assert text.count("self.unembed(transformed)") == 1
    backbone.write_text(text.replace("self.unembed(transformed)", "self.unembed(2 * transformed)"))
    ((path, line, message),) = refused(root)
    assert (path, "TotoBackbone.backbone" in message) == ("toto/model/backbone.py", True)
    assert line is not None
    assert "self.unembed(2 * " in backbone.read_text().splitlines()[line - 1]


def test_a_second_definition_under_a_condition_counts(fresh_toto: Fresh, tmp_path: Path) -> None:
    root = fresh_toto("0.2.0", tmp_path)
    path = root / "toto/model/util.py"
    path.write_text(path.read_text() + "\n\nif True:\n    def make_batched_block_mask(t):\n        return t\n")
    ((where, line, message),) = refused(root)
    assert where == "toto/model/util.py" and "make_batched_block_mask is not the one" in message
    assert line == len(path.read_text().splitlines())


def test_a_method_bound_in_the_class_in_another_way_is_refused(fresh_toto: Fresh, tmp_path: Path) -> None:
    root = fresh_toto("0.2.0", tmp_path)
    path = root / "toto/model/feed_forward.py"
    path.write_text(path.read_text() + "\n    forward = torch.compile(forward)\n")
    assert "SwiGLU.forward is assigned" in refused(root)[0][2]


def test_a_function_that_is_gone_is_named(fresh_toto: Fresh, tmp_path: Path) -> None:
    root = fresh_toto("0.2.0", tmp_path)
    path = root / "toto/data/util/dataset.py"
    path.write_text(path.read_text().replace("def pad_array(", "def pad("))
    ((_, _, message),) = refused(root)
    assert "no file under the root defines function pad_array" in message


@pytest.mark.parametrize(
    "line",
    [
        "RMSNorm.forward = lambda self, x: x",
        "Alias = RMSNorm\nAlias.forward = lambda self, x: x",
        "class Local(RMSNorm):\n    def forward(self, x):\n        return x",
        "class Between(RMSNorm):\n    pass\n\n\nclass Local(Between):\n    forward = None",
    ],
)
def test_overrides_and_assignments_anywhere_are_refused(fresh_toto: Fresh, tmp_path: Path, line: str) -> None:
    root = fresh_toto("0.2.0", tmp_path)
    (root / "toto/local.py").write_text(f"from .model.util import RMSNorm\n\n{line}\n")
    ((path, _, message),) = refused(root)
    assert path == "toto/local.py" and "RMSNorm" in message and "forward" in message


def test_subclasses_of_the_forecaster_and_the_backbone_are_the_decoders_own_business(
    fresh_toto: Fresh, tmp_path: Path
) -> None:
    root = fresh_toto("0.2.0", tmp_path)
    path = root / "toto/inference/forecaster.py"
    path.write_text(path.read_text() + "\n\nclass Mine(TotoForecaster):\n    def generate_mean(self):\n        pass\n")
    assert refused(root) == []


def test_the_shapes_are_those_of_the_releases_and_of_the_forms_that_compute_the_same() -> None:
    path = DECODER.folder / "shapes.json"
    assert collected(path) == read_shapes(path), "run: python -m tests.shapes --write"
