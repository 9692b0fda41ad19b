"""``toto-patch env test``: does torch.compile work here, the way ``.env.compile`` sets it? Imports torch."""

from __future__ import annotations

import importlib
import os
import time
import warnings
from pathlib import Path
from typing import Any

from toto_patcher import env_file
from toto_patcher.errors import UsageError
from toto_patcher.progress import Progress
from toto_patcher.results import EnvResult
from toto_patcher.runtime import compile_config, environment
from toto_patcher.supported import install_hint


def check(file: Path, progress: Progress = lambda what, done, total: None) -> EnvResult:
    """Compiles one small function with the settings that hold after sourcing the file, and runs it twice.

    Returns:
        Exit status 0 where it works or compilation is switched off, 1 where it cannot be compiled, 5 where it computes
        something else than the uncompiled function.

    Raises:
        InputError: a variable has a value that it cannot have.
        UsageError: torch cannot be imported.
    """
    os.environ.update(env_file.sourced(file))
    document: dict[str, Any] = {"file": str(file), "compiled": False, "device": None, "mode": None, "backend": None}
    document |= {"seconds": None, "difference": None, "failure": None}
    if environment.disabled():
        return EnvResult(None, (), document, (f"Compilation is off ({environment.DISABLE.name}); nothing to test.",))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", compile_config.NoEffectWarning)  # they stand in the report
        notes = tuple(f"note: {warning}" for warning in compile_config.apply().warnings)
    choice = environment.choose(enabled=True)
    document |= {"mode": choice.mode, "backend": choice.backend}
    progress("compiling a small function", 0, 0)
    document |= _compile(choice)
    how = f"mode {choice.mode or 'of the backend'}, backend {choice.backend}, on {document['device']}"
    if document["failure"]:
        return EnvResult(None, (), document, (f"FAILED: {how}: {document['failure']}", *notes), exit_code=1)
    told = f"{how}: {document['seconds']:.1f} s, largest difference {document['difference']:.1e}"
    if not document["difference"] < 1e-4:  # NaN is no success
        return EnvResult(None, (), document, (f"FAILED: the outputs differ: {told}", *notes), exit_code=5)
    return EnvResult(None, (), document, (f"torch.compile works: {told}.", *notes))


def _compile(choice: environment.Choice) -> dict[str, Any]:
    """Compiles and runs; the second call replays what the first one recorded."""
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError as error:
        raise UsageError(f"the test needs torch: {error}", hint=install_hint("runtime")) from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    told: dict[str, Any] = {"device": device}

    def function(values: Any) -> Any:
        return torch.nn.functional.gelu(values @ values.T).sum(-1)

    torch.manual_seed(0)
    values = torch.randn(8, 8, device=device)
    begin = time.perf_counter()
    try:
        with torch.no_grad():
            compiled = torch.compile(function, mode=choice.mode, backend=choice.backend, fullgraph=True)
            compiled(values)
            found = compiled(values)
    except Exception as error:  # whatever the compiler raises is the answer
        return {**told, "failure": f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"}
    if not importlib.import_module("torch._dynamo.utils").counters["stats"]["unique_graphs"]:
        return {**told, "failure": "torch compiled nothing"}
    difference = float((found - function(values)).abs().max())
    return {**told, "compiled": True, "seconds": time.perf_counter() - begin, "difference": difference}
