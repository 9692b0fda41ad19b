"""Local changes of the forecaster and of ``Toto``, which the profile full-graph edits."""

from __future__ import annotations

from pathlib import Path

import libcst as cst

from .base import variation
from .edit import FORECASTER, add_methods, defining, in_method, prepend, rewrite_text, statements
from .layout import first_public_revision

TOTO = "Toto"


def _replace(root: Path, name: str, old: str, new: str) -> None:
    rewrite_text(defining(root, name), lambda text: text.replace(old, new))


@variation(full_graph="TotoForecaster.forecast is not the one")
def forecast_decorated(root: Path) -> None:
    decorator = cst.Decorator(cst.parse_expression("torch.inference_mode()"))
    in_method(
        defining(root, FORECASTER), FORECASTER, "forecast", lambda node: node.with_changes(decorators=[decorator])
    )


def _takes_more(root: Path, body: str) -> None:
    def change(node: cst.FunctionDef) -> cst.FunctionDef:
        more = cst.Param(cst.Name("log_it"), default=cst.Name("False"))
        node = node.with_changes(params=node.params.with_changes(params=[*node.params.params, more]))
        return prepend(node, body) if body else node

    in_method(defining(root, FORECASTER), FORECASTER, "forecast", change)


@variation()
def forecast_takes_more(root: Path) -> None:
    """Nothing reads it."""
    _takes_more(root, "")


@variation(full_graph="TotoForecaster.forecast is not the one")
def forecast_takes_and_reads_more(root: Path) -> None:
    _takes_more(root, "if log_it:\n    print(prediction_length)\n")


@variation(full_graph="TotoForecaster.generate_samples is not the one", same_as_release=False)
def samples_clamped(root: Path) -> None:
    _replace(root, FORECASTER, "sample = distr.sample()", "sample = distr.sample().clamp_min(0.0)")


@variation(full_graph="replace_extreme_values is not the one")
def another_replacement_by_default(root: Path) -> None:
    """Only the default of a parameter differs; no forecast of a sane model meets it."""
    path = next(path for path in root.rglob("dataset.py") if "def replace_extreme" in path.read_text(encoding="utf-8"))
    rewrite_text(path, lambda text: text.replace("replacement: float = 0.0", "replacement: float = 1.0"))


@variation(full_graph="compute_causal_statistics is not the one", same_as_release=False)
def larger_minimum_scale(root: Path) -> None:
    path = defining(root, "CausalPatchStdMeanScaler")
    rewrite_text(
        path, lambda text: text.replace("causal_variance + minimum_scale", "causal_variance + 2 * minimum_scale")
    )


@variation(full_graph="LocalMixture overrides MixtureOfStudentTsOutput.forward", runs=False)
def another_mixture(root: Path) -> None:
    code = "class LocalMixture(MixtureOfStudentTsOutput):\n    def forward(self, *a):\n        return a\n"
    rewrite_text(defining(root, "MixtureOfStudentTsOutput"), lambda text: f"{text}\n\n{code}")


@variation()
def forecaster_subclassed(root: Path) -> None:
    """The decoder sees by itself that a method was replaced, and leaves the forecast to it."""
    code = f"class Local({FORECASTER}):\n    def generate_mean(self, *args, **kwargs):\n        return args\n"
    rewrite_text(defining(root, FORECASTER), lambda text: f"{text}\n\n{code}")


@variation(full_graph="TotoForecaster already has compile")
def forecaster_compiles_already(root: Path) -> None:
    add_methods(defining(root, FORECASTER), FORECASTER, "def compile(self):\n    return self\n")


@variation(full_graph="TotoForecaster has a base class")
def forecaster_has_a_base(root: Path) -> None:
    _replace(root, FORECASTER, f"class {FORECASTER}:", f"class {FORECASTER}(torch.nn.Module):")
    in_method(defining(root, FORECASTER), FORECASTER, "__init__", lambda node: prepend(node, "super().__init__()\n"))


@variation()
def forecast_class_in_its_own_file(root: Path) -> None:
    forecaster = defining(root, FORECASTER)
    module = cst.parse_module(forecaster.read_bytes())
    at = next(i for i, node in enumerate(module.body) if isinstance(node, cst.ClassDef))
    text = "from dataclasses import dataclass\n\nimport torch\nfrom jaxtyping import Float\n"
    moved = module.with_changes(header=[], body=[*statements(text), module.body[at]])
    (forecaster.parent / "forecast.py").write_bytes(moved.bytes)
    body = [*module.body[:at], *statements("from .forecast import Forecast\n"), *module.body[at + 1 :]]
    forecaster.write_bytes(module.with_changes(body=body).bytes)


@variation()
def forecaster_in_another_package(root: Path) -> None:
    """The decoder's package goes where the forecaster is."""
    forecaster = defining(root, FORECASTER)
    (root / "toto/serving").mkdir()
    (root / "toto/serving/__init__.py").touch()
    forecaster.rename(root / "toto/serving/core.py")
    forecaster.write_text("from ..serving.core import *\nfrom ..serving.core import TotoForecaster\n")


@variation(full_graph="belongs to no package", package="", sys_path="toto")
def inference_is_no_package(root: Path) -> None:
    """Absolute imports, and no ``__init__.py`` beside the forecaster: nothing says that it is imported as a part."""
    first_public_revision(root)
    (root / "toto/inference/__init__.py").unlink()


@variation(full_graph="static_decoder.py:1: .*has the name of the package")
def module_of_the_packages_name(root: Path) -> None:
    (root / "toto/inference/static_decoder.py").write_text("VALUE = 1\n")


@variation(full_graph="static_decoder: exists already, with mine.py in it")
def folder_of_the_packages_name(root: Path) -> None:
    (root / "toto/inference/static_decoder").mkdir()
    (root / "toto/inference/static_decoder/mine.py").write_text("VALUE = 1\n")


@variation(full_graph="Toto already has compile")
def model_compiles_already(root: Path) -> None:
    add_methods(defining(root, TOTO), TOTO, "def compile(self, *args, **kwargs):\n    self.model.compile()\n")


@variation(full_graph="does not create self.model as a TotoBackbone")
def model_made_by_a_factory(root: Path) -> None:
    code = "def make(*args, **kwargs):\n    return TotoBackbone(*args, **kwargs)\n\n\n"
    path = defining(root, TOTO)
    rewrite_text(path, lambda text: text.replace("self.model = TotoBackbone(", "self.model = make("))
    rewrite_text(path, lambda text: text.replace("class Toto(", f"{code}class Toto("))
