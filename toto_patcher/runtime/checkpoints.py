"""Where a model's files come from, and what is wrong with them when they cannot be loaded."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

from toto_patcher.errors import CheckpointError

EMBEDDED = Path(__file__).with_name("embedded")
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
_MODEL_ID = re.compile(r"[\w.-]+/[\w.-]+")


def find(model_id_or_dir: str | Path, **hub: Any) -> Path:
    """The folder that holds ``config.json`` and ``model.safetensors``.

    Args:
        model_id_or_dir: "embedded", a folder, or an id on the Hugging Face Hub such as "Datadog/Toto-Open-Base-1.0".
        hub: arguments of ``huggingface_hub.hf_hub_download``.

    Raises:
        CheckpointError: there is no such folder or model, a file is missing, or the hub cannot be reached.
    """
    name = str(model_id_or_dir)
    folder = EMBEDDED if name == "embedded" else Path(name).expanduser()
    if folder.is_dir() or name == "embedded":
        return _whole(folder)
    if isinstance(model_id_or_dir, Path) or not _MODEL_ID.fullmatch(name) or folder.exists():
        raise CheckpointError(
            f"there is no folder {name}",
            hint=f'Give a folder with {CONFIG_FILE} and {WEIGHTS_FILE}, "embedded", or an id such as '
            '"Datadog/Toto-Open-Base-1.0".',
        )
    return _fetch(name, hub)


def _whole(folder: Path) -> Path:
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            hint = f"A checkpoint is a folder with {CONFIG_FILE} and {WEIGHTS_FILE}."
            if folder == EMBEDDED:
                hint = "This installation has no embedded model: pass the folder of a checkpoint, or a model's id."
            raise CheckpointError("is missing", path=folder / name, hint=hint)
    return folder


def _fetch(model_id: str, hub: dict[str, Any]) -> Path:
    """Downloads the two files, or finds them in the hub's cache.

    These are the files that upstream's ``Toto.from_pretrained`` fetches before it calls ``load_from_checkpoint``. It is
    not called itself: huggingface-hub 1.0 and later no longer pass two arguments that it requires.
    """
    from huggingface_hub import hf_hub_download

    try:
        files = [Path(hf_hub_download(model_id, name, **hub)) for name in (CONFIG_FILE, WEIGHTS_FILE)]
    except Exception as error:  # of several libraries: no network, no such model, no permission
        reason = str(error).strip().splitlines() or [""]
        raise CheckpointError(
            f"{model_id} cannot be fetched from the Hugging Face Hub: {type(error).__name__}: {reason[0]}",
            hint=f"Without a network, pass a local folder with {CONFIG_FILE} and {WEIGHTS_FILE}: "
            'from_pretrained("/models/toto").',
        ) from error
    return files[0].parent


def load(toto: Any, folder: Path, device: str) -> Any:
    """The model of upstream's class ``Toto``, in evaluation mode, on the device, in float32.

    Raises:
        CheckpointError: a file is damaged, or the weights are not those of the configuration.
    """
    weights = folder / WEIGHTS_FILE
    try:
        config = json.loads((folder / CONFIG_FILE).read_bytes())
    except ValueError as error:
        raise CheckpointError(f"is not a model's configuration: {error}", path=folder / CONFIG_FILE) from error
    if not isinstance(config, dict):
        raise CheckpointError("is not a model's configuration: not an object", path=folder / CONFIG_FILE)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # upstream prints
            model = toto.load_from_checkpoint(str(folder), map_location=device)
    except RuntimeError as error:
        fault = _first_fault(str(error))
        if fault is None:
            raise
        hint = "The two files must be of the same model, of Toto 1.0."
        raise CheckpointError(
            f"is of another shape than {CONFIG_FILE} says: {fault}", path=weights, hint=hint
        ) from error
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"does not describe a Toto 1.0: {reason}", path=folder / CONFIG_FILE) from error
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error}", path=weights) from error
    except Exception as error:
        if type(error).__name__ != "SafetensorError":
            raise
        raise CheckpointError(f"is damaged: {error}", path=weights) from error
    return model.eval()


def _first_fault(message: str) -> str | None:
    """The first tensor that torch complains of."""
    size = re.search(
        r"size mismatch for ([\w.]+): copying a param with shape torch\.Size\((\[[\d, ]*\])\) from checkpoint, "
        r"the shape in current model is torch\.Size\((\[[\d, ]*\])\)",
        message,
    )
    if size:
        return f"{size[1]} is {size[2]}, expected {size[3]}"
    missing = re.search(r'Missing key\(s\) in state_dict: "([\w.]+)"', message)
    return f"{missing[1]} is missing" if missing else None


def stored_dtype(folder: Path) -> str:
    """The dtype of most of the stored numbers, as safetensors spells it: "F32", "BF16".

    Raises:
        CheckpointError: the file is damaged.
    """
    path = folder / WEIGHTS_FILE
    try:
        with path.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        sizes: dict[str, int] = {}
        for name, tensor in header.items():
            if name != "__metadata__":
                start, stop = tensor["data_offsets"]
                sizes[tensor["dtype"]] = sizes.get(tensor["dtype"], 0) + stop - start
        return max(sizes, key=lambda dtype: sizes[dtype])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, MemoryError, OverflowError) as error:
        raise CheckpointError(f"is damaged: {error}", path=path) from error
