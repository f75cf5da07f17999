"""Measures over a whole data set, with their summary statistics."""

from collections.abc import Callable

import torch
from torch import Tensor

from meseta.autodiff.scalar_fields import Model
from meseta.evaluation import provenance
from meseta.evaluation.batching import Batches, batched
from meseta.evaluation.record import Measured
from meseta.geometry.base import Measure


def measure(
    model: Model,
    x: Tensor | Batches,
    y: Tensor | None = None,
    *,
    measure: Measure,
    batch_size: int = 64,
    split: str = "given",
    progress: Callable[[int], None] | None = None,
) -> Measured:
    """Take one measure on every example and summarise it.

    Values that are not finite are counted and left out of the summary.

    Args:
        model: inputs to logits (B, K); runs in eval mode and gets its mode back.
        x: inputs (N, *input), or a loader of (x, y) batches in place of x and y.
        y: labels (N,).
        measure: what to measure.
        batch_size: examples at a time, where x and y are tensors.
        split: name of the data split, for the record.
        progress: called with the number of examples after each batch.

    Raises:
        UserError: what the measure refuses, or no data.
    """
    values, converged = [], []
    stop = None
    for inputs, labels in batched(model, x, y, batch_size):
        stop = stop or provenance.start(None, inputs.device)
        measurement = measure(model, inputs, labels)
        values.append(measurement.value.double().cpu())
        if measurement.converged is not None:
            converged.append(measurement.converged.double().cpu())
        if progress:
            progress(len(labels))
    assert stop is not None  # `batched` raises where there is no batch
    value = torch.cat(values)
    finite = value[value.isfinite()]
    empty = len(finite) == 0
    return Measured(
        provenance=stop(),
        name=measure.name,
        measure=repr(measure),
        split=split,
        n=len(value),
        mean=None if empty else float(finite.mean()),
        median=None if empty else float(finite.quantile(0.5)),
        quantile_05=None if empty else float(finite.quantile(0.05)),
        quantile_95=None if empty else float(finite.quantile(0.95)),
        nonfinite=len(value) - len(finite),
        converged=float(torch.cat(converged).mean()) if converged else None,
        values=[float(f"{v:.6g}") if v.isfinite() else None for v in value],
    )
