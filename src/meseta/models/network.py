"""The module that an architecture builds: normalisation, then layers; saved as safetensors and JSON, never a pickle."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from inspect import isabstract
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from meseta.allowed import not_allowed, with_own, written
from meseta.checks import HUB_ID
from meseta.errors import MissingExtra, UserError, unknown_name
from meseta.files import SMALL, read_text, write_text, write_whole
from meseta.models.weights import check_finite, check_tensors, read_weights
from meseta.version import __version__

if TYPE_CHECKING:
    from meseta.models.base import Architecture

FORMAT = 1
WEIGHTS = "model.safetensors"
CONFIG = "config.json"


class Normalize(nn.Module):
    """(x - mean) / std per channel, in the network so that attacks and certificates see the raw input.

    Args:
        input_shape: of one example; its first axis holds the channels (of a vector: the features).
        mean, std: one value a channel, in the units of the input; both None for the identity.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, input_shape: tuple[int, ...], mean: Sequence[float] | None = None, std: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        if (mean is None) != (std is None):
            raise UserError("`mean` and `std` belong together, got only one of them. Give both, or neither.")
        channels = input_shape[0]
        alike = (channels, *[1] * (len(input_shape) - 1))
        shift = torch.zeros(alike) if mean is None else per_channel("mean", mean, input_shape)
        scale = torch.ones(alike) if std is None else per_channel("std", std, input_shape)
        if std is not None and min(std) <= 0:
            raise UserError(f"`std` must be positive, got {list(std)}. Use 1 for a constant channel.")
        self.register_buffer("mean", shift)
        self.register_buffer("std", scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised inputs, (B, *input_shape)."""
        return (x - self.mean) / self.std


class Network(nn.Module):
    """A classifier that knows how it was built: (B, *input_shape) -> logits (B, classes).

    Made by `Architecture.build` or `from_pretrained`.
    """

    def __init__(
        self,
        architecture: "Architecture",
        input_shape: tuple[int, ...],
        classes: int,
        normalize: Normalize,
        body: nn.Sequential,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.input_shape = input_shape
        self.classes = classes
        self.normalize = normalize
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, (B, classes)."""
        if tuple(x.shape[1:]) != self.input_shape:
            expected = ", ".join(map(str, self.input_shape))
            raise UserError(f"`x` must have the shape (batch, {expected}), got {tuple(x.shape)}. Reshape the inputs.")
        inputs = self.normalize(x)
        if self._is_faster_channels_last(inputs):
            inputs = inputs.to(memory_format=torch.channels_last)
        logits: Tensor = self.body(inputs)
        return logits

    def _is_faster_channels_last(self, inputs: Tensor) -> bool:
        """Return whether images should have their channels last.

        On a CPU that is the fast layout for convolutions: a plain step took 0.69 to 1.04 of the time, a step with an
        input-gradient penalty 0.76 to 1.05. The second derivative of a normalisation is slow in it: with one, of
        batches or of groups, the penalty took 1.10 to 1.25 of the time, and a plain step 0.87 to 1.10.
        """
        return (
            self.architecture.norm == "none"
            and inputs.dim() == 4
            and inputs.device.type == "cpu"
            and not torch._C._are_functorch_transforms_active()  # under which a batch has no layout of its own
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `config.json` into `folder`, each whole or not at all."""
        from safetensors.torch import save_file  # torch alone is enough for a network that is not saved

        folder = Path(folder)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        config = {
            "format": FORMAT,
            "meseta": __version__,
            "architecture": written(type(self.architecture)),
            "options": asdict(self.architecture),
            "input_shape": self.input_shape,
            "classes": self.classes,
        }
        try:
            write_whole(folder / WEIGHTS, lambda path: save_file(tensors, path, metadata={"format": "pt"}))
            write_text(folder / CONFIG, json.dumps(config, indent=1) + "\n")
        except OSError as error:
            raise UserError(f"model folder: {folder} cannot be written: {error}. Give another folder.") from error

    @classmethod
    def from_pretrained(cls, source: str | Path, device: str | torch.device = "cpu") -> Self:
        """Return a saved network in eval mode, in the precision that it was saved with.

        Args:
            source: a folder that `save_pretrained` wrote, or the id of such a repository on the Hugging Face hub.
            device: where the weights go.

        Raises:
            UserError: nothing there, or files that are damaged, of another program, or hold non-finite weights.
        """
        folder = find_folder(source)
        check_files(folder)
        blank = read_config(folder / CONFIG)
        tensors = read_weights(folder / WEIGHTS)
        misfit, do = f"model: {folder / WEIGHTS} does not fit its {CONFIG}", "Save both files together."
        check_tensors(misfit, blank.state_dict(), tensors, do)
        check_precision(folder / WEIGHTS, tensors)
        check_finite(f"model: {folder / WEIGHTS}", tensors)
        blank.load_state_dict(tensors, assign=True)
        network = cls(blank.architecture, blank.input_shape, blank.classes, blank.normalize, blank.body)
        return network.to(device).eval()


def per_channel(name: str, values: Sequence[float], input_shape: tuple[int, ...]) -> Tensor:
    """Return one value a channel, shaped to broadcast over examples of `input_shape`."""
    tensor = torch.tensor(list(values), dtype=torch.float32)
    if len(tensor) != input_shape[0]:
        raise UserError(f"`{name}` needs {input_shape[0]} values for inputs of {input_shape}, got {len(tensor)}.")
    if not all(abs(value) < float("inf") for value in values):
        raise UserError(f"`{name}` must be finite, got {list(values)}. Change it.")
    return tensor.reshape(-1, *[1] * (len(input_shape) - 1))


def known_architectures() -> dict[str, "type[Architecture]"]:
    """Return the architectures that `meseta.models` exports, and those of allowed modules, by class name."""
    import meseta.models as models
    from meseta.models.base import Architecture

    exported = ((name, getattr(models, name)) for name in models.__all__)
    known = {
        name: found
        for name, found in exported
        if isinstance(found, type) and issubclass(found, Architecture) and not isabstract(found)
    }
    return with_own(Architecture, known)


def find_folder(source: str | Path) -> Path:
    """Return the folder that `source` names, fetched from the hub where it is no folder here."""
    folder = Path(source)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UserError(f"model: {folder} is a file. Give the folder that holds {WEIGHTS} and {CONFIG}.")
    if isinstance(source, str) and HUB_ID.fullmatch(source):
        return fetch(source)
    raise UserError(f"model: {folder} does not exist. Give a folder that holds {WEIGHTS} and {CONFIG}, or a hub id.")


def fetch(hub_id: str) -> Path:
    """Return a local copy of the two files in a hub repository."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingExtra("huggingface_hub", "data") from None
    try:
        return Path(snapshot_download(hub_id, allow_patterns=[WEIGHTS, CONFIG]))
    except Exception as error:  # the hub's client passes on the errors of several HTTP libraries
        first = str(error).strip().splitlines()[:1]
        raise UserError(
            f"model: {hub_id!r} is no folder here and cannot be fetched from the hub ({type(error).__name__}: "
            f"{''.join(first)}). Check the name and the network, or give a local folder."
        ) from error


def check_files(folder: Path) -> None:
    """Raise where a checkpoint's files are missing, and say so where there are pickles in their place."""
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if not missing:
        return
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in {".bin", ".pt", ".pth", ".pkl", ".ckpt"})
    hint = f" It holds {', '.join(pickles)}: pickles can run code and are never opened." if pickles else ""
    raise UserError(f"model: {folder} holds no {' and no '.join(missing)}.{hint} Save with save_pretrained.")


def read_config(path: Path) -> Network:
    """Return the network that a `config.json` describes, without values: nothing is allocated before it fits."""
    text = read_text("model", path, SMALL)
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"model: {path} is not JSON: {error}. Save the model again.") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else None
        raise UserError(f"model: {path} has format {found!r}; this meseta reads format {FORMAT}.")
    name, options, shape = str(config.get("architecture")), config.get("options"), config.get("input_shape")
    known = {written(found): found for found in known_architectures().values()}
    if name not in known and "." in name:
        raise not_allowed(f"model: architecture in {path}", name)
    if name not in known:
        raise unknown_name(f"model: architecture in {path}", name, known)
    if not isinstance(options, dict) or not isinstance(shape, list):
        raise UserError(f"model: {path} lacks its `options` or its `input_shape`. Save the model again.")
    try:
        architecture = known[name](**{key: as_tuple(value) for key, value in options.items()})
        with torch.device("meta"):
            return architecture.build(shape, config.get("classes"))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise UserError(f"model: {path} does not describe a {name}: {error}") from None


def as_tuple(value: Any) -> Any:
    """Return JSON's lists as the tuples they were."""
    return tuple(value) if isinstance(value, list) else value


def check_precision(path: Path, tensors: dict[str, Tensor]) -> None:
    """Raise where tensors are of several precisions."""
    precisions = {str(t.dtype) for t in tensors.values() if t.is_floating_point()}
    if len(precisions) > 1:
        raise UserError(f"model: {path} mixes {' and '.join(sorted(precisions))}. Save it in one precision.")
