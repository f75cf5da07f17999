"""Measures and bounds over a whole data set, with their summary statistics."""

from collections.abc import Callable, Iterator, Mapping
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from meseta.autodiff.scalar_fields import Model
from meseta.certificates.base import RadiusBound
from meseta.checks import instance_of
from meseta.evaluation import provenance
from meseta.evaluation.batching import Batches, batched, share, without_batch
from meseta.evaluation.ledger import VERSIONS, Ledger, digest, fingerprint, parsed
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
    keep: Path | None = None,
    shard: tuple[int, int] | None = None,
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
        keep: a folder for the batches that are done, as for `evaluate`.
        shard: (i, m) takes only every m-th batch, from number i on, as for `evaluate`.

    Raises:
        UserError: what the measure refuses, or no data; `keep` with a model that is no nn.Module.
    """
    instance_of("measure", measure, Measure)

    def take(index: int, inputs: Tensor, labels: Tensor) -> Taken:
        found = measure(model, inputs, labels)
        return {"value": found.value, "residual": found.residual, "converged": found.converged}, found.parts

    columns = gather(take, repr(measure), model, batched(model, x, y, batch_size), progress, keep, shard)
    main, parts = columns.main, columns.parts
    value, residual, converged = main["value"], main.get("residual"), main.get("converged")
    return Measured(
        provenance=columns.provenance(),
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
    keep: Path | None = None,
    shard: tuple[int, int] | None = None,
) -> Bounded:
    """Take one bound on every example and summarise it; arguments and errors as of `measure`."""
    instance_of("bound", bound, RadiusBound)

    def take(index: int, inputs: Tensor, labels: Tensor) -> Taken:
        found = bound(model, inputs, labels)
        return {"value": found.value, "correct": found.correct}, found.parts

    columns = gather(take, repr(bound), model, batched(model, x, y, batch_size), progress, keep, shard)
    main = columns.main
    return Bounded(
        provenance=columns.provenance(),
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


Taken = tuple[Mapping[str, Tensor | None], Mapping[str, Tensor]]
"""The columns that every measure or bound has, and its parts, of one batch."""


def gather(
    take: Callable[[int, Tensor, Tensor], Taken],
    what: str,
    model: Model,
    batches: Iterator[tuple[Tensor, Tensor]],
    progress: Progress | None,
    keep: Path | None,
    shard: tuple[int, int] | None,
) -> "Columns":
    """Return what `take` finds on each batch; from `keep` where it lies there under `what`, the model and the batch."""
    i, m = share(shard)
    ledger, columns = Ledger(keep), Columns()
    whose = "" if keep is None else digest(*VERSIONS, fingerprint(model), what)
    for index, (x, y) in enumerate(batches):
        columns.start(x)
        if index % m != i:
            continue
        key = digest(whose, str(index), x, y) if keep else ""
        done = parsed(BatchColumns, ledger.get(key))
        if done is None:
            began = perf_counter()
            main, parts = take(index, x, y)
            done = BatchColumns.of(main, parts, perf_counter() - began)
            ledger.put(key, done.model_dump_json())
        columns.add(done)
        if progress:
            progress(len(y))
    if not columns.main:
        raise without_batch(shard)
    return columns


class BatchColumns(BaseModel):
    """Numbers per example of one batch, in float64, as they are kept."""

    model_config = ConfigDict(ser_json_inf_nan="constants")
    main: dict[str, list[Any]]
    parts: dict[str, list[Any]]
    seconds: float

    @classmethod
    def of(cls, main: Mapping[str, Tensor | None], parts: Mapping[str, Tensor], seconds: float) -> Self:
        """Return the columns as numbers."""

        def numbers(columns: Mapping[str, Tensor | None]) -> dict[str, list[Any]]:
            return {name: c.detach().double().tolist() for name, c in columns.items() if c is not None}

        return cls(main=numbers(main), parts=numbers(parts), seconds=seconds)


class Columns:
    """Numbers per example, gathered over the batches in float64 on the CPU."""

    def __init__(self) -> None:
        self._main: dict[str, list[Tensor]] = {}
        self._parts: dict[str, list[Tensor]] = {}
        self._seconds = 0.0
        self._stop: Callable[[], Provenance] | None = None

    def start(self, x: Tensor) -> None:
        """Start the provenance at the first batch."""
        self._stop = self._stop or provenance.start(None, x.device)

    def provenance(self, seed: int | None = None) -> Provenance:
        """Return the provenance; its seconds are those of all batches, whichever process or call took them."""
        assert self._stop is not None  # `batched` raises where there is no batch
        return self._stop().model_copy(update={"seed": seed, "seconds": round(self._seconds, 3)})

    def add(self, batch: BatchColumns) -> None:
        """Add one batch."""
        self._seconds += batch.seconds
        for columns, added in ((self._main, batch.main), (self._parts, batch.parts)):
            for name, column in added.items():
                columns.setdefault(name, []).append(torch.tensor(column, dtype=torch.float64))

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
