"""Weights from files: safetensors, and the state dicts of other programs; code in a file is never run."""

import warnings
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from meseta.errors import UserError
from meseta.files import check_memory

CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "params")
"""Under which names programs put the state dict into what they save, beside epochs and optimisers."""


def load_weights(model: nn.Module, path: str | Path, *, ignore: Sequence[str] = ()) -> None:
    """Fill a model with the weights of a file that another program may have written.

    Reads .safetensors, and anything that `torch.save` writes (.pt, .pth, .ckpt) as far as it holds tensors alone. The
    state dict may lie in a container, such as {"state_dict": ..., "epoch": 9}, and all names may begin with one prefix
    that the model's do not have: `module.` of DataParallel, `_orig_mod.` of torch.compile, `1.` behind a normalisation.
    On an error the model is left as it was.

    Args:
        model: any module; keeps its device and its precision.
        path: of the file.
        ignore: beginnings of names to leave out, such as ("0.",) for a normalisation that the model has itself.

    Raises:
        UserError: no such file, a damaged one, a pickle that holds code, tensors that are missing, unexpected, of
            another shape or kind, or not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"weights: {path} {'is no regular file' if path.exists() else 'does not exist'}. Give a file.")
    found = read_weights(path) if path.suffix == ".safetensors" else read_state_dict(path)
    kept = {name: tensor for name, tensor in found.items() if not name.startswith(tuple(ignore))}
    expected = model.state_dict()
    renamed = without_prefix(kept, expected)
    counters = {name for name in expected if name.endswith("num_batches_tracked")}  # which older files do not have
    needed = {name: tensor for name, tensor in expected.items() if name in renamed or name not in counters}
    do = "Build the model that the file is of; what it has no use for can be named in `ignore`."
    check_tensors(f"weights: {path} does not fit the model", needed, renamed, do)
    check_finite(f"weights: {path}", renamed)
    model.load_state_dict(renamed, strict=not counters)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; any other file, a pickle too, is an error and is not opened further."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_memory(f"model: {path}", path.stat().st_size)
    try:
        mapped = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"model: {path} is damaged or no safetensors file: {error}. Save the model again.") from None
    # own memory: a mapped file may change under the model, and its alignment changes the last bits of the logits
    return {name: tensor.clone() for name, tensor in mapped.items()}


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file that `torch.save` wrote; what else pickles can do is refused, and never done."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                check_memory(f"weights: {path}", sum(entry.file_size for entry in archive.infolist()))
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # of pickles that are refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except UnpicklingError as error:
        if "nsupported" not in str(error):
            raise UserError(f"weights: {path} is damaged or no file of torch.save. Fetch or save it again.") from None
        raise UserError(
            f"weights: {path} holds Python objects beside tensors, which can run code when they are loaded, and is not "
            "opened further. Where you trust it, load it in the program that made it and save the weights alone: "
            "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')."
        ) from None
    except Exception as error:  # torch and its unpickler raise errors of many kinds on damaged files
        first = next(iter(str(error).splitlines()), "")
        raise UserError(
            f"weights: {path} is damaged or no file of torch.save ({type(error).__name__}: {first}). Fetch it again."
        ) from None
    return state_dict_in(path, content)


def state_dict_in(path: Path, content: Any) -> dict[str, Tensor]:
    """Return the state dict that a file holds, taken out of its containers."""
    while isinstance(content, Mapping) and (inner := next((k for k in CONTAINERS if is_mapping(content, k)), None)):
        content = content[inner]
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"weights: {path} holds a {type(content).__name__}, no state dict. Save model.state_dict().")
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise UserError(
            f"weights: {path} holds {few(others)} beside tensors, and no state dict under a name among "
            f"{', '.join(CONTAINERS)}. Save model.state_dict()."
        )
    return {str(name): tensor for name, tensor in content.items()}


def is_mapping(content: Mapping[Any, Any], name: str) -> bool:
    """Return whether there is a mapping under this name."""
    return isinstance(content.get(name), Mapping)


def without_prefix(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors without the prefix that makes most of their names expected ones, where there is one."""
    if not expected:
        return dict(found)
    longest = max(expected, key=len)
    prefixes = {"", *(name.removesuffix(longest) for name in found if name.endswith(f".{longest}"))}
    prefix = max(sorted(prefixes, key=len), key=lambda p: sum(f"{p}{name}" in found for name in expected))
    renamed = {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}
    return renamed | {name: tensor for name, tensor in found.items() if not name.startswith(prefix)}


def check_tensors(what: str, expected: Mapping[str, Tensor], found: Mapping[str, Tensor], do: str) -> None:
    """Raise where names, shapes or kinds of number differ; say what, and what to do."""
    misfits: dict[str, Collection[str]] = {
        "missing": expected.keys() - found.keys(),
        "unexpected": found.keys() - expected.keys(),
        "of another shape": [k for k in expected if k in found and found[k].shape != expected[k].shape],
        "of another type": [k for k in expected if k in found and not is_like(found[k], expected[k])],
    }
    parts = [f"{few(names)} {misfit}" for misfit, names in misfits.items() if names]
    if parts:
        raise UserError(f"{what}: {'; '.join(parts)}. {do}")


def is_like(found: Tensor, expected: Tensor) -> bool:
    """Return whether both tensors hold plain numbers of one kind, in 16 bits or more where they are fractions."""
    plain = found.layout == torch.strided and not found.is_meta and not found.is_quantized and not found.is_complex()
    tiny = found.is_floating_point() and found.element_size() < 2
    return plain and not tiny and found.is_floating_point() == expected.is_floating_point()


def check_finite(what: str, found: Mapping[str, Tensor]) -> None:
    """Raise where a weight is NaN or infinite."""
    broken = [name for name, tensor in found.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if broken:
        raise UserError(f"{what} holds NaN or infinite values in {few(broken)}. The training has diverged.")


def few(names: Collection[str]) -> str:
    """Return the first names, and how many more there are."""
    listed = sorted(names)
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more
