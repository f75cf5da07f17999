"""What an evaluation has finished so far, on disk, so that one that was killed goes on where it stopped.

An entry's name is a digest of all that its content depends on (weights, examples, settings, seed): what another model
or other settings left behind is never taken up.
"""

import marshal
from hashlib import sha256
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import TypeVar

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from meseta.autodiff.scalar_fields import Model
from meseta.errors import UserError
from meseta.files import write_text
from meseta.version import __version__

Kind = TypeVar("Kind", bound=BaseModel)
VERSIONS = (__version__, torch.__version__)
"""What is kept serves one version of meseta and torch."""


class Ledger:
    """Texts under keys, each written whole or not at all.

    Args:
        folder: where they lie; None to keep nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def get(self, key: str) -> str | None:
        """Return the text under the key; None where there is none."""
        file = self._file(key)
        return file.read_text(encoding="utf-8") if file is not None and file.exists() else None

    def put(self, key: str, text: str) -> None:
        """Keep a text, over an earlier one of the same key."""
        if (file := self._file(key)) is not None:
            write_text(file, text)

    def _file(self, key: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{key}.json"


def parsed(kind: type[Kind], text: str | None) -> Kind | None:
    """Return the content of an entry; None where there is none, or where it is damaged."""
    try:
        return None if text is None else kind.model_validate_json(text)
    except ValidationError:
        return None


def digest(*parts: str | Tensor) -> str:
    """Return a digest of texts and of the values, shapes and types of tensors."""
    total = sha256()
    for part in parts:
        if isinstance(part, str):
            total.update(part.encode())
        else:
            total.update(f"{part.dtype}{tuple(part.shape)}".encode())
            total.update(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        total.update(b"\0")
    return total.hexdigest()


def fingerprint(model: Model) -> str:
    """Return a digest of a module's structure, weights, buffers and plain attributes.

    Raises:
        UserError: a model that is no nn.Module, or holds something, such as a hook or a function, that has no value to
            tell it by.
    """
    if not isinstance(model, nn.Module):
        raise UserError(
            "`keep` needs an nn.Module, whose weights tell whether it is the same model, got a "
            f"{type(model).__name__}. Leave `keep` out."
        )
    parts: list[str | Tensor] = []
    for name, module in model.named_modules():
        parts += [name, f"{type(module).__module__}.{type(module).__qualname__}"]
        for key, value in sorted(vars(module).items()):
            if key in ("_modules", "training"):  # named apart; put into eval mode
                continue
            parts.append(key)
            entries = value.items() if key in ("_parameters", "_buffers") else [("", value)]
            for entry, content in entries:
                parts += [entry, content.detach() if isinstance(content, Tensor) else _text(name, key, content)]
    return digest(*parts)


def _text(module: str, key: str, value: object) -> str:
    if isinstance(value, FunctionType | BuiltinFunctionType) and not getattr(value, "__closure__", None):
        code = getattr(value, "__code__", None)  # what a function of the user's does, since its name may stay
        return f"{value.__module__}.{value.__qualname__} {marshal.dumps(code).hex() if code else ''}"
    text = repr(value)
    if " at 0x" in text:
        where = f"{module}.{key}" if module else key
        raise UserError(f"`keep` cannot tell the model by its `{where}`, which is {text}. Leave `keep` out.")
    return text
