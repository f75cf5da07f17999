"""Examples in pictures: each with the smallest adversarial example that an attack finds at it."""

from base64 import b64encode

import torch
from torch import Tensor

from meseta.attacks.minimum_norm import MinimumNormAttack
from meseta.autodiff.scalar_fields import Model
from meseta.checks import check_batch, instance_of, whole
from meseta.errors import UserError
from meseta.evaluation import provenance
from meseta.evaluation.judge import predict, repeatable
from meseta.evaluation.nearest import acceptable
from meseta.evaluation.record import Picture, Pictured

CHANNELS = (1, 3)
"""What can be shown: grey and colour."""


def is_image(shape: tuple[int, ...]) -> bool:
    """Return whether inputs of this shape can be shown: (C, H, W) of one or three channels."""
    return len(shape) == 3 and shape[0] in CHANNELS


def _span(*images: Tensor) -> tuple[float, float]:
    """Return the least and the largest value, apart where they are one."""
    low, high = torch.cat(images).aminmax()
    return (float(low), float(high)) if low < high else (float(low), float(low) + 1)


def pictured(
    model: Model, x: Tensor, y: Tensor, *, attack: MinimumNormAttack, seed: int = 0, split: str = "given"
) -> list[Pictured]:
    """Return each example with the nearest adversarial example that the attack finds, in pictures.

    What the attack returns is judged: outside the bounds, not finite or classified correctly, it counts as not found.
    Where the model errs on the input itself, or none was found, the input alone is shown. The picture of a perturbation
    ends at its own largest entry m: bytes 0 and 255 stand for -m and m.

    Args:
        model: inputs to logits (B, K); runs in eval mode and gets its mode back.
        x: inputs (B, C, H, W) of one or three channels. y: labels (B,).
        attack: its norm is that of the distances; its bounds, or the inputs' own span, are those of the pictures.
        seed: of all randomness.
        split: name of the data split; the examples are its first ones.

    Cost: that of the attack.

    Raises:
        UserError: inputs that are no images; bad inputs or labels.
    """
    instance_of("attack", attack, MinimumNormAttack)
    whole("seed", seed, 0)
    threat = attack.threat
    check_batch(x, y, bounds=threat.bounds)
    if not is_image(tuple(x.shape[1:])):
        raise UserError(f"`x` must be images (B, C, H, W) of 1 or 3 channels, got shape {tuple(x.shape)}.")
    stop = provenance.start(seed, x.device)
    with repeatable(seed, x.device):
        generator = torch.Generator(x.device).manual_seed(seed)
        returned = attack.closest(model, x, y, generator=generator)
        predicted = predict(model, x, y).argmax(1)
        good = acceptable(model, x, y, returned, threat) & (predicted == y)
        points = torch.where(good.view(-1, 1, 1, 1), returned, x)
        found, distances = predict(model, points, y).argmax(1), threat.distance(points, x)
    made, (low, high) = stop(), threat.bounds or _span(x, points)
    results = []
    for i, (image, point) in enumerate(zip(x, points, strict=True)):
        pictures = {"input": picture(image, low, high)}
        if good[i]:
            pictures |= {"perturbation": signed(point - image), "adversarial": picture(point, low, high)}
        one = Pictured(
            provenance=made,
            kind="adversarial",
            name=attack.name,
            settings=repr(attack),
            split=split,
            index=i,
            label=int(y[i]),
            predicted=int(predicted[i]),
            found=int(found[i]) if good[i] else None,
            norm=threat.norm,
            distance=float(distances[i]) if good[i] else None,
            pictures=pictures,
        )
        results.append(one)
    return results


def picture(values: Tensor, low: float, high: float) -> Picture:
    """Return values (C, H, W) as bytes: `low` is 0, `high` is 255, in between linearly and rounded.

    Values beyond either end are shown as that end. Where the ends are one, all is shown as that.

    Raises:
        UserError: another shape, C neither 1 nor 3, or values that are not finite.
    """
    if not is_image(tuple(values.shape)):
        raise UserError(f"`values` must be (1, H, W) or (3, H, W) for a picture, got shape {tuple(values.shape)}.")
    if not values.isfinite().all():
        raise UserError("`values` hold NaN or infinite ones, which no byte stands for.")
    shares = (values.detach().double() - low) / (high - low if high > low else 1.0)
    pixels = (255 * shares.clamp(0, 1)).round().to(torch.uint8).cpu().contiguous()
    channels, height, width = values.shape
    content = b64encode(pixels.numpy().tobytes()).decode()
    return Picture(shape=(channels, height, width), pixels=content, low=low, high=high)


def signed(values: Tensor) -> Picture:
    """Return values (C, H, W) as a picture with zero in the middle of its range."""
    largest = float(values.abs().max())
    return picture(values, -largest, largest)
