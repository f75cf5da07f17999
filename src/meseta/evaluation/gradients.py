"""The input gradient of single examples, and a part of the Hessian, as pictures."""

from collections.abc import Sequence

import torch
from torch import Tensor

from meseta.autodiff.gradient import value_and_gradient
from meseta.autodiff.hessian import Hessian
from meseta.autodiff.scalar_fields import BoundField, Model, ScalarField
from meseta.checks import check_batch, constant, derivatives_in_eval_mode, instance_of, whole
from meseta.errors import UserError
from meseta.evaluation import provenance
from meseta.evaluation.judge import predict
from meseta.evaluation.pictures import picture, signed
from meseta.evaluation.record import Pictured


def picture_gradients(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    field: ScalarField,
    indices: Sequence[int],
    hessian: int = 0,
    split: str = "given",
) -> list[Pictured]:
    """Return for each example of x (B, C, H, W) the pictures of its gradient g = grad f(x).

    `input`: x from 0 to 1. `gradient`: one channel, from -max |g| to max |g|; of colours the sum over the channels, the
    slope towards a brighter pixel. `normalized`: every channel, from min g to max g. `hessian`, where asked for: the
    second derivatives between the entries of a square of pixels in the middle, a row for each, channel by channel, from
    -max |H| to max |H|.

    Args:
        model: inputs to logits (B, K); runs in eval mode and gets its mode back.
        x: images of one or three channels. y: labels (B,).
        field: f. indices: of the examples in their split, for the record.
        hessian: side of the square in pixels; 0 for no such picture.
        split: name of the data split, for the record.

    Cost: one forward and one backward; with `hessian` C * hessian^2 products as well.

    Raises:
        UserError: inputs that are no images, a square larger than they are, or derivatives that are not finite.
    """
    instance_of("field", field, ScalarField)
    check_pictured(x, y, hessian)
    stop = provenance.start(None, x.device)
    with derivatives_in_eval_mode(model):
        x, y = constant(x), constant(y).long()
        f = field.bind(model, x, y)
        _, gradient = value_and_gradient(f, x)
        block = _middle_of_hessian(f, x, hessian) if hessian else None
    if not gradient.isfinite().all() or (block is not None and not block.isfinite().all()):
        raise UserError("`indices`: the gradient or Hessian of an example is not finite. Choose other examples.")
    predicted = predict(model, x, y).argmax(1)
    done = stop()
    return [
        Pictured(
            provenance=done,
            kind="gradient",
            name=f"gradient({type(field).__name__})",
            settings=repr(field),
            split=split,
            index=index,
            label=int(y[i]),
            predicted=int(predicted[i]),
            pictures={
                "input": picture(x[i], 0, 1),
                "gradient": signed(gradient[i].sum(0, keepdim=True)),
                "normalized": picture(gradient[i], float(gradient[i].min()), float(gradient[i].max())),
            }
            | ({} if block is None else {"hessian": signed(block[i][None])}),
        )
        for i, index in enumerate(indices)
    ]


def check_pictured(x: Tensor, y: Tensor, hessian: int = 0) -> None:
    """Raise where the inputs are no images, or the square of the Hessian is larger than they are."""
    whole("hessian", hessian, 0)
    check_batch(x, y)
    if x.dim() != 4 or x.shape[1] not in (1, 3):
        raise UserError(f"`x` must hold images (B, C, H, W) with C = 1 or 3 for pictures, got {tuple(x.shape)}.")
    if hessian > min(x.shape[2:]):
        raise UserError(f"`hessian` must be at most {min(x.shape[2:])} for these images, got {hessian}.")


def _middle_of_hessian(f: BoundField, x: Tensor, side: int) -> Tensor:
    """Return (B, n, n), the second derivatives between the n = C side^2 entries in the middle."""
    top, left = ((size - side) // 2 for size in x.shape[2:])
    inside = torch.zeros_like(x[0], dtype=torch.bool)
    inside[:, top : top + side, left : left + side] = True
    hessian, chosen = Hessian(f, x), inside.flatten().nonzero().squeeze(1)
    rows = []
    for entry in chosen:
        unit = torch.zeros_like(x[0]).flatten()
        unit[entry] = 1
        rows.append(hessian(unit.view_as(x[0]).expand_as(x)).flatten(1)[:, chosen])
    return torch.stack(rows, 1)
