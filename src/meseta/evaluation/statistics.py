"""Measures and bounds over a whole data set, with their summary statistics."""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from meseta.autodiff.scalar_fields import Model
from meseta.certificates.base import RadiusBound
from meseta.checks import instance_of
from meseta.evaluation import provenance
from meseta.evaluation.batching import Batches, batched
from meseta.evaluation.record import Bounded, Curve, Distribution, Measured, Provenance
from meseta.geometry.base import Measure

Progress = Callable[[int], None]
HALF_DIGIT = 5e-6
"""The most, relatively, that rounding to six digits adds."""


def measure(
    model: Model,
    x: Tensor | Batches,
    y: Tensor | None = None,
    *,
    measure: Measure,
    batch_size: int = 64,
    split: str = "given",
    progress: Progress | None = None,
) -> Measured:
    """Take one measure on every example and summarise it.

    Batches are taken one after the other and only numbers per example are kept, so memory does not grow with the data.
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
    instance_of("measure", measure, Measure)
    columns = Columns()
    for inputs, labels in batched(model, x, y, batch_size):
        columns.start(inputs)
        found = measure(model, inputs, labels)
        columns.add({"value": found.value, "residual": found.residual, "converged": found.converged}, found.parts)
        if progress:
            progress(len(labels))
    main, parts = columns.main, columns.parts
    value, residual, converged = main["value"], main.get("residual"), main.get("converged")
    return Measured(
        provenance=columns.stop(),
        name=measure.name,
        measure=repr(measure),
        split=split,
        n=len(value),
        converged=None if converged is None else float(converged.mean()),
        residual=None if residual is None else _quantile(residual[value.isfinite()], 0.5),
        parts={name: Distribution(**summary(part)) for name, part in parts.items() if part.dim() == 1},
        curves={name: _curve(part) for name, part in parts.items() if part.dim() == 2},
        **summary(value),
    )


def certify(
    model: Model,
    x: Tensor | Batches,
    y: Tensor | None = None,
    *,
    bound: RadiusBound,
    batch_size: int = 64,
    split: str = "given",
    progress: Progress | None = None,
) -> Bounded:
    """Take one bound on every example and summarise it; arguments and errors as of `measure`."""
    instance_of("bound", bound, RadiusBound)
    columns = Columns()
    for inputs, labels in batched(model, x, y, batch_size):
        columns.start(inputs)
        found = bound(model, inputs, labels)
        columns.add({"value": found.value, "correct": found.correct}, found.parts)
        if progress:
            progress(len(labels))
    main = columns.main
    return Bounded(
        provenance=columns.stop(),
        name=bound.name,
        bound=repr(bound),
        kind=bound.kind,
        norm=bound.norm,
        split=split,
        n=len(main["value"]),
        correct=int(main["correct"].sum()),
        parts={name: Distribution(**summary(part)) for name, part in columns.parts.items()},
        **summary(main["value"], rounded_down=True),
    )


class Columns:
    """Numbers per example, gathered over the batches in float64 on the CPU."""

    def __init__(self) -> None:
        self._main: dict[str, list[Tensor]] = {}
        self._parts: dict[str, list[Tensor]] = {}
        self._stop: Callable[[], Provenance] | None = None

    def start(self, x: Tensor) -> None:
        """Start the clock at the first batch."""
        self._stop = self._stop or provenance.start(None, x.device)

    def stop(self, seed: int | None = None) -> Provenance:
        """Return the provenance."""
        assert self._stop is not None  # `batched` raises where there is no batch
        return self._stop().model_copy(update={"seed": seed})

    def add(self, main: Mapping[str, Tensor | None], parts: Mapping[str, Tensor]) -> None:
        """Add one batch."""
        for columns, batch in ((self._main, main), (self._parts, parts)):
            for name, column in batch.items():
                if column is not None:
                    columns.setdefault(name, []).append(column.detach().double().cpu())

    @property
    def main(self) -> dict[str, Tensor]:
        """The columns that every measure or bound has."""
        return {name: torch.cat(column) for name, column in self._main.items()}

    @property
    def parts(self) -> dict[str, Tensor]:
        """The parts, by their name."""
        return {name: torch.cat(column) for name, column in self._parts.items()}


def summary(value: Tensor, *, rounded_down: bool = False) -> dict[str, Any]:
    """Return the fields of a `Distribution` of one number per example (N,), which has six digits."""
    value = value * (1 - HALF_DIGIT) if rounded_down else value  # so that no six digits say more than the bound
    finite = value[value.isfinite()]
    return {
        "mean": float(finite.mean()) if len(finite) else None,
        "median": _quantile(finite, 0.5),
        "quantile_05": _quantile(finite, 0.05),
        "quantile_95": _quantile(finite, 0.95),
        "nonfinite": len(value) - len(finite),
        "values": [_short(v) for v in value.tolist()],
    }


def _curve(rows: Tensor) -> Curve:
    """Summarise (N, m) over the examples."""
    finite = rows[rows.isfinite().all(1)]

    def each(statistic: Callable[[Tensor], Tensor]) -> list[float | None]:
        return [_short(v) for v in statistic(finite).tolist()] if len(finite) else [None] * rows.shape[1]

    return Curve(
        mean=each(lambda r: r.mean(0)),
        median=each(lambda r: r.quantile(0.5, 0)),
        quantile_05=each(lambda r: r.quantile(0.05, 0)),
        quantile_95=each(lambda r: r.quantile(0.95, 0)),
        nonfinite=len(rows) - len(finite),
    )


def _quantile(values: Tensor, share: float) -> float | None:
    finite = values[values.isfinite()]
    return float(finite.quantile(share)) if len(finite) else None


def _short(value: float) -> float | None:
    return float(f"{value:.6g}") if isfinite(value) else None
