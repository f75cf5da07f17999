"""AutoAttack, as pyautoattack runs it."""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, prod, sqrt
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from meseta.attacks.base import Attack
from meseta.autodiff.gradient import gradient_of, leaf
from meseta.autodiff.layers import lean_layers
from meseta.autodiff.scalar_fields import Model
from meseta.checks import check_logits, whole
from meseta.errors import UserError, require
from meseta.linalg.norms import per_example
from meseta.threat import Threat

Version = Literal["standard", "plus", "rand"]

ROOM = 4
"""Radii from unbounded inputs to the ends of the interval they are mapped from; APGD under L1 goes to three."""
LARGEST = 1e30
"""What logits are cut to, far below the largest float32, so that sums and differences of them stay finite."""


@dataclass(frozen=True, kw_only=True)
class AutoAttack(Attack):
    """Run AutoAttack, the ensemble that robust accuracies are published under, through pyautoattack.

    Each part attacks what the earlier ones left standing; an input that none breaks is returned as it was.

        standard   APGD on the cross-entropy; APGD on the targeted DLR loss and FAB towards each of the 9 likeliest
                   rivals (5 for APGD under L1); Square
        plus       adds APGD on the DLR loss, untargeted FAB and restarts
        rand       APGD on the cross-entropy and on the DLR loss, with gradients averaged over 20 passes

    The DLR loss compares the third largest logit, the targeted one the fourth. With three classes APGD takes the
    untargeted loss for the targeted one, with two classes no DLR loss; targets are at most the K - 1 rivals.

    Args:
        threat: norm, eps and bounds.
        version: which parts, as above.
        steps: iterations of APGD and FAB, at least 2.
        queries: of Square.
        batch_size: how many inputs a part attacks at a time.

    Cost: an input that stands to the end of `standard` takes 10 `steps` forwards and backwards in APGD, 9 `steps`
    forwards and backwards and as many forwards in FAB, and `queries` forwards; `plus` about three times the former,
    `rand` 40 `steps`.
    Raises: `MissingExtra` where pyautoattack is not installed.
    Source: Croce & Hein 2020, section 5; Croce & Hein 2021 for L1. Differs from bare pyautoattack, which takes
    float32 images in [0, 1] of ten or more classes: inputs are mapped onto [0, 1] and into images, and back before they
    reach the model (without bounds, from an interval that holds every ball with room to spare, so that no end of it
    binds; under L2 and L1, images whose height Square cannot tile get rows that the model never sees). The search runs
    in float32, the model in its own precision. Gradients are those of the input alone, so that FAB leaves none in
    parameters; where they are not finite they are 0. A point with logits that are not finite is adversarial. Seeds come
    from the generator, and the global generators stay as they were; pyautoattack's warnings are dropped, since
    `meseta.evaluation.masking` asks the same questions.
    """

    version: Version = "standard"
    steps: int = 100
    queries: int = 5000
    batch_size: int = 256

    def __post_init__(self) -> None:
        if self.version not in get_args(Version):
            raise UserError(f"`version` must be one of {', '.join(get_args(Version))}, got {self.version!r}.")
        whole("steps", self.steps, 2)
        whole("queries", self.queries, 1)
        whole("batch_size", self.batch_size, 1)

    @property
    def name(self) -> str:
        """For example `AutoAttack standard`."""
        return f"AutoAttack {self.version}"

    def __call__(self, model: Model, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return adversarial inputs, as every attack does, but on torch's own layers.

        Lean layers look at every operation, of which pyautoattack makes thousands of small ones, and save nothing where
        only the input's first derivative is asked for.
        """
        with lean_layers(False):
            return super().__call__(model, x, y, generator=generator)

    def perturb(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return adversarial inputs where pyautoattack finds any, and x elsewhere."""
        require("attacks", "pyautoattack")
        with torch.no_grad():
            classes = check_logits(model(x[:1].clone()), x[:1], y).shape[1]
        canvas = Canvas(x, self.threat)
        painted = canvas.paint(x)
        with _undisturbed():
            parts = self._assembled(model, canvas, classes, _seed(x, generator))
            found, _ = parts.run_standard_evaluation(painted, y, batch_size=self.batch_size)
        moved = (found != painted).flatten(1).any(1) & found.flatten(1).isfinite().all(1)
        points = torch.where(per_example(moved, x), canvas.read(found), x)
        return self.threat.project(points, x)

    def _assembled(self, model: Model, canvas: "Canvas", classes: int, seed: int) -> Any:
        from pyautoattack import AutoAttack as Parts

        parts = Parts(
            _as_seen(model, canvas, classes),
            norm=self.threat.norm,
            eps=self.threat.eps / canvas.scale,
            seed=seed,
            version=self.version,
            device=canvas.low.device,
        )
        parts.attacks_to_run = _possible(parts.attacks_to_run, classes)
        for apgd in (parts.apgd, parts.apgd_targeted):
            apgd.n_iter = apgd.n_iter_orig = self.steps
            apgd.n_iter_2, apgd.n_iter_min, apgd.size_decr = (max(int(p * self.steps), 1) for p in (0.22, 0.06, 0.03))
        parts.fab.n_iter = self.steps
        parts.square.n_queries = self.queries
        parts.square.margin_and_loss = _without_ties(parts.square.margin_and_loss)
        for targeted in (parts.apgd_targeted, parts.fab):
            targeted.n_target_classes = min(targeted.n_target_classes, classes - 1)
        return parts


class Canvas:
    """Inputs (B, *input) as float32 images with entries in [0, 1], and back.

    The map is affine with one scale, so that balls stay balls: u = (x - low) / scale. Two- and three-dimensional inputs
    are images already; others fill a square.
    """

    def __init__(self, x: Tensor, threat: Threat) -> None:
        self._shape, self._dtype = x.shape[1:], x.dtype
        exact = x.double()
        if threat.bounds is None:
            room = ROOM * threat.eps
            self.low = exact.amin(0) - room
            self.scale = float((exact.amax(0) - exact.amin(0)).amax()) + 2 * room
        else:
            low, high = threat.bounds
            self.low, self.scale = exact.new_tensor(low), high - low
        self._image = _image(self._shape)
        _, height, width = self._image
        self._rows = 0 if threat.norm == "Linf" or _tiled(height, width) else -height % 5
        self._same = threat.bounds == (0, 1) and self._image == self._shape and self._rows == 0

    def paint(self, x: Tensor) -> Tensor:
        """Return the images."""
        unit = ((x.double() - self.low) / self.scale).clamp(0, 1).float().flatten(1)
        filled = F.pad(unit, (0, prod(self._image) - unit.shape[1])).view(-1, *self._image)
        return F.pad(filled, (0, 0, 0, self._rows))

    def read(self, images: Tensor) -> Tensor:
        """Return the inputs that these images stand for, of the inputs' dtype; differentiable."""
        if self._same:
            return images.to(self._dtype)
        filled = images[:, :, : self._image[1]].flatten(1)
        unit = filled[:, : prod(self._shape)].view(-1, *self._shape)
        return (self.low + self.scale * unit.double()).to(self._dtype)


def _image(shape: Sequence[int]) -> tuple[int, int, int]:
    if len(shape) in (2, 3):
        channels, height, width = (1, *shape)[-3:]
        return channels, height, width
    side = ceil(sqrt(prod(shape)))
    return 1, side, side


def _tiled(height: int, width: int) -> bool:
    """Return whether Square's first tiles under L2 and L1, of a fifth of the height, do not reach beyond the image."""
    side = height // 5
    start = (height - 5 * side) // 2
    return side == 1 or (side > 1 and all(start + n // side * side <= n for n in (height, width)))


def _possible(parts: Sequence[str], classes: int) -> list[str]:
    """Return the parts that can run with so many classes."""
    if classes == 2:
        return [part for part in parts if part not in ("apgd-dlr", "apgd-t")]
    if classes == 3:
        return list(dict.fromkeys("apgd-dlr" if part == "apgd-t" else part for part in parts))
    return list(parts)


def _as_seen(model: Model, canvas: Canvas, classes: int) -> Callable[[Tensor], Tensor]:
    """Return the model as pyautoattack sees it: images to float32 logits, (B, K + 1).

    The class after the last wins where the model's logits are not finite, and comes last elsewhere, out of reach of
    every loss and target.
    """

    def logits_of(images: Tensor) -> Tensor:
        logits = model(canvas.read(images).clone())  # a model may work in place
        finite = logits.isfinite().all(1, keepdim=True)
        usual = torch.where(finite, logits, 0).clamp(-LARGEST, LARGEST).float()
        failure = torch.where(finite, -2 * LARGEST, 2 * LARGEST).float()
        return torch.cat([usual, failure], 1)

    def seen(images: Tensor) -> Tensor:
        if len(images) == 0:
            return images.new_zeros(0, classes + 1)
        if torch.is_grad_enabled() and images.requires_grad:
            return _OfImagesAlone.apply(images, logits_of)  # type: ignore[no-any-return, no-untyped-call]
        with torch.no_grad():
            return logits_of(images)

    return seen


def _without_ties(margin_and_loss: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return Square's margin with less than 0 in place of 0, which it would take as neither reached nor to go.

    Where nothing but such ties is left, it goes on with no images at all, and crashes under L2 and L1.
    """

    def settled(*arguments: Tensor) -> tuple[Tensor, Tensor]:
        margin, loss = margin_and_loss(*arguments)
        return torch.where(margin == 0, -torch.finfo(margin.dtype).tiny, margin), loss

    return settled


class _OfImagesAlone(Function):
    """Logits whose derivative reaches the images and nothing else, whatever the model holds, and is finite."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, logits_of: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.enable_grad():
            ctx.images = leaf(images)
            ctx.logits = logits_of(ctx.images)
        return ctx.logits.detach()  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None]:
        with torch.enable_grad():
            gradient = gradient_of((ctx.logits * outer[0]).sum(1), ctx.images, retain_graph=True)  # FAB asks K times
        return gradient.nan_to_num(0, 0, 0), None


def _seed(x: Tensor, generator: torch.Generator | None) -> int:
    device = generator.device if generator else x.device
    return int(torch.randint(2**31, (), generator=generator, device=device))


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep pyautoattack's log quiet; put the trace function, the default dtype and the global generators back."""
    logger = logging.getLogger("auto-attack")
    quiet, trace, dtype = logger.disabled, sys.gettrace(), torch.get_default_dtype()
    try:
        logger.disabled = True
        torch.set_default_dtype(torch.float32)  # of the random numbers that it adds to the images
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        sys.settrace(trace)
        logger.disabled = quiet
        torch.set_default_dtype(dtype)
