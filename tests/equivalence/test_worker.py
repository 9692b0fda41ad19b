"""The child process: it imports the tree it is told to, by whatever name, and nothing else called toto."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.equivalence.conftest import Pair, copy_model
from toto_patcher.equivalence import cases, ladder, models, origins, verdicts
from toto_patcher.equivalence.children import Child, Outcome
from toto_patcher.equivalence.worker import Job


def run(root: Path, folder: Path, **options: object) -> Outcome:
    out = folder / "out"
    out.mkdir(parents=True)
    job = Job(root=str(root), out=str(out), shape="tiny", **options)  # type: ignore[arg-type]
    child = Child([job], folder, lambda line: None)
    return child.wait()[0]


def test_a_second_run_is_equal_to_the_bit_and_leaves_no_bytecode(
    toto_release: Callable[[str], Path], tmp_path: Path, usual: Outcome
) -> None:
    tree = copy_model(toto_release("0.2.0"), tmp_path / "tree")
    first, second = usual, run(tree, tmp_path / "run", eager=["teacher-single", "samples-two-batches"])
    assert second.facts["errors"] == {}
    assert not list(tree.rglob("__pycache__"))
    assert first.arrays.keys() == second.arrays.keys() != set()
    assert all(np.array_equal(first.arrays[key], second.arrays[key]) for key in first.arrays)
    assert first.facts["checkpoint"] == second.facts["checkpoint"]
    assert first.facts["pid"] != second.facts["pid"]


def test_old_releases_leave_out_what_they_cannot_do(toto_release: Callable[[str], Path], tmp_path: Path) -> None:
    outcome = run(toto_release("0.1.3"), tmp_path, eager=["teacher-labels", "point-exogenous", "teacher-single"])
    assert not {cases.EXOGENOUS, cases.VARIATE_LABELS} & set(outcome.facts["abilities"])
    assert {key.split("|")[1] for key in outcome.arrays} == {"teacher-single"}
    assert outcome.facts["errors"] == {}


def _nested(tree: Path, target: Path) -> Path:
    (target / "_internal").mkdir(parents=True)
    (tree / "toto").rename(target / "_internal" / "backbone")
    return target


def _absolute(tree: Path, target: Path) -> Path:
    """As in the first public revision: ``from model.attention import ...`` with the package's folder on the path."""
    for path in (tree / "toto").rglob("*.py"):
        text = path.read_text()
        for package in ("model", "data", "inference"):
            text = text.replace(f"from ..{package}.", f"from {package}.").replace(
                f"from ...{package}.", f"from {package}."
            )
        path.write_text(text.replace("from .fusion", "from model.fusion"))
    tree.rename(target)
    return target


def _package_itself(tree: Path, target: Path) -> Path:
    (tree / "toto").rename(target)
    return target


def _without_wrapper(tree: Path, target: Path) -> Path:
    """No class ``Toto``: the backbone is built directly."""
    (tree / "toto/model/toto.py").unlink()
    tree.rename(target)
    return target


@pytest.fixture(scope="module")
def usual(toto_release: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run(toto_release("0.2.0"), tmp_path_factory.mktemp("usual"), eager=["teacher-single", "samples-two-batches"])


@pytest.mark.parametrize("arrange", [_nested, _absolute, _package_itself, _without_wrapper])
def test_renamed_and_rearranged_trees_give_the_same_outputs(
    toto_release: Callable[[str], Path], tmp_path: Path, usual: Outcome, arrange: Callable[[Path, Path], Path]
) -> None:
    tree = arrange(copy_model(toto_release("0.2.0"), tmp_path / "copy"), tmp_path / "arranged")
    other = run(tree, tmp_path / "run", eager=["teacher-single"])
    assert other.failure == "" and other.facts["errors"] == {}
    assert all(np.array_equal(other.arrays[key], usual.arrays[key]) for key in other.arrays)
    assert {"model/backbone.py", "inference/forecaster.py"} <= {
        path.removeprefix("_internal/backbone/").removeprefix("toto/") for path in other.facts["imported"]
    }


def test_a_tree_without_toto_fails_with_a_message(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "toto").mkdir(parents=True)
    (tree / "toto" / "__init__.py").touch()
    outcome = run(tree, tmp_path / "run", eager=["teacher-single"])
    assert outcome.facts == {}
    assert "no file under the root defines class Toto" in outcome.failure


def test_another_package_of_the_same_name_is_refused(toto_release: Callable[[str], Path], tmp_path: Path) -> None:
    """Already imported under the name, as a sitecustomize or a plugin could: the tree's own module is not what runs."""
    code = (
        "import sys, types; foreign = types.ModuleType('toto'); foreign.__path__ = [sys.argv[2]]\n"
        "sys.modules['toto'] = foreign\n"
        "from pathlib import Path; from toto_patcher.equivalence import tree; tree.load(Path(sys.argv[1]))"
    )
    foreign = copy_model(toto_release("0.1.4"), tmp_path / "foreign") / "toto"
    command = [sys.executable, "-c", code, str(toto_release("0.2.0")), str(foreign)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "gave another package" in done.stderr


def test_a_real_checkpoint_folder_is_loaded(pair: Callable[[str], Pair], tmp_path: Path) -> None:
    made = run(pair("0.2.0")[0], tmp_path / "made", eager=["teacher-single"])
    checkpoint = tmp_path / "made" / "out"
    config = json.loads((checkpoint / models.CONFIG_FILE).read_text())
    assert config["patch_size"] == models.TINY.patch_size
    report = ladder.run(*pair("0.2.0"), quick=True, checkpoint=checkpoint, compiled=False)
    assert report.passed, report.failures
    assert any(check.name == "teacher-forced/checkpoint/float32" for check in report.checks)
    assert made.facts["checkpoint"] == models.checkpoint_fingerprints(checkpoint)


def _compiling(root: Path, folder: Path, case: str, name: str) -> Job:
    out = folder / name
    out.mkdir(parents=True)
    return Job(root=str(root), out=str(out), shape="tiny", compiled=[case], backend="eager")


@pytest.mark.parametrize("profile", ["graph-breaks", "full-graph"])
def test_a_tree_is_compiled_in_one_process_for_one_model_after_the_other(
    profile: str, pair: Callable[..., Pair], tmp_path: Path
) -> None:
    """As the ladder does for the shapes. Torch keeps the modules of the first import, by their names."""
    case = "decoder-compiled" if profile == "full-graph" else "compiled-single"
    jobs = [_compiling(pair("0.2.0", profile)[1], tmp_path, case, name) for name in ("first", "second")]
    first, second = Child(jobs, tmp_path, lambda line: None).wait()
    assert first.failure == second.failure == ""
    assert (first.facts["errors"], second.facts["errors"]) == ({}, {})
    for outcome in (first, second):
        counts = outcome.facts["compiler"][case]
        assert (counts["graphs"] > 0, counts["recompilations"], counts["limit_hits"]) == (True, 0, 0)


def test_a_process_compiles_for_one_tree_only(pair: Callable[..., Pair], tmp_path: Path) -> None:
    original, patched = pair("0.2.0")
    jobs = [_compiling(root, tmp_path, "compiled-single", name) for root, name in ((patched, "a"), (original, "b"))]
    first, second = Child(jobs, tmp_path, lambda line: None).wait()
    assert first.failure == "" and "compiles for one tree only" in second.failure


def test_what_the_original_recompiles_too_is_not_held_against_the_patch(
    pair: Callable[..., Pair], tmp_path: Path
) -> None:
    """A fork that counts its calls is compiled for every count, and runs into torch's limit, patched or not."""
    trees = {}
    for role, source in zip(("original", "patched"), pair("0.2.0"), strict=True):
        trees[role] = copy_model(source, tmp_path / role / "tree")
        backbone = trees[role] / "toto/model/backbone.py"
        text = backbone.read_text()
        counting = "        self.calls = getattr(self, 'calls', 0) + 1\n        inputs = inputs + 0.0 * self.calls\n"
        backbone.write_text(
            text.replace(
                "        flattened, loc, scale = self.backbone(",
                counting + "        flattened, loc, scale = self.backbone(",
            )
        )
    found = {
        role: run(tree, tmp_path / role, compiled=["compiled-single"], backend="eager") for role, tree in trees.items()
    }
    original, patched = (found[role].facts["compiler"]["compiled-single"] for role in trees)
    same = origins.same_files(*trees.values())
    assert verdicts.noisy_cases(*trees.values(), found["patched"]) == ["compiled-single"]
    for counter in verdicts.BY_FUNCTION:
        assert patched[counter] > 0
        assert verdicts.beyond(counter, patched, original, same) == 0
        assert verdicts.beyond(counter, patched, None, same) == patched[counter]
        # What the patch changed is its own, however often upstream's was compiled again.
        assert verdicts.beyond(counter, patched, original, same - {"toto/model/backbone.py"}) == patched[counter]


def test_what_is_compiled_is_counted_also_where_the_compiler_gives_up(
    pair: Callable[..., Pair], tmp_path: Path
) -> None:
    """A forecast after the warm-up that torch refuses to compile was a stall, and is not without recompilations."""
    tree = copy_model(pair("0.2.0", "full-graph")[1], tmp_path / "tree")
    decoding = tree / "toto" / "inference" / "static_decoder" / "decoding.py"
    text = decoding.read_text()
    before = "answer = self._decode("
    planted = (
        "self.calls = [*getattr(self, 'calls', ()), 0]; "
        "len(self.calls) < 3 or torch.compile(lambda x: x.tolist() and breakpoint(), fullgraph=True)(torch.zeros(3))"
    )
    assert before in text
    decoding.write_text(re.sub(rf"(?m)^( +)(?=.*{re.escape(before)})", rf"\1{planted}\n\1", text))
    outcome = run(tree, tmp_path / "run", compiled=["decoder-compiled"], backend="eager")
    assert list(outcome.facts["errors"]) == ["compiled|decoder-compiled"]
    assert outcome.facts["compiler"]["decoder-compiled"]["recompilations"] > 0
