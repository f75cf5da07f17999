"""Are masked models flagged, and no others? Every masking check on trained controls and on masked copies of them.

`meseta demo --config masking-controls` trains the controls; `--runs runs/masking-controls` names their folder. Without
it one briefly trained network is the only control. Masked copies multiply the logits, round the input (with and without
a straight-through gradient), or draw noise or dropout in every forward, in eval mode too.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from common import SEED, Options, Page, options, table, trained
from torch import Tensor, nn

from meseta.attacks import Transfer
from meseta.evaluation import provenance
from meseta.evaluation.masking import Examination, MaskingCheck, Transferred, all_checks, examine
from meseta.threat import Threat
from meseta.workflow import load_run

TRUSTED = ("erm", "pgd", "trades")
"""Controls that no check should fault, and that the masked copies are of."""

Change = Callable[[Tensor], Tensor]


class Copy(nn.Module):
    """A model with a change in front of it, and a factor of its logits."""

    def __init__(self, model: nn.Module, change: Change = lambda x: x, factor: float = 1.0) -> None:
        super().__init__()
        self.model, self.change, self.factor = model, change, factor

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.factor * self.model(self.change(x))


def rounded(x: Tensor) -> Tensor:
    """Round to nine levels."""
    return (8 * x).round() / 8


MASKED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "logits × 1e4": lambda model: Copy(model, factor=1e4),
    "rounded to 9 levels": lambda model: Copy(model, rounded),
    "the same, straight through": lambda model: Copy(model, lambda x: x + (rounded(x) - x).detach()),
    "noise of 0.05": lambda model: Copy(model, lambda x: x + 0.05 * torch.randn_like(x)),
    "dropout of 0.1": lambda model: Copy(model, lambda x: nn.functional.dropout(x, 0.1, training=True)),
}


def controls(given: Options) -> tuple[dict[str, nn.Module], Tensor, Tensor, str]:
    """Return the trained models by name, test images with labels, and what they are."""
    n = 20 if given.quick else 100
    if given.runs is None:
        briefly = trained(given.quick)
        return {"erm": briefly.model}, *briefly.test(n), briefly.about
    runs = {path.parent.name: load_run(path.parent) for path in sorted(given.runs.glob("*/record.json"))}
    first = next(iter(runs.values()))
    x, y = first.data.test[:n]
    about = f"Runs of `{Path(given.runs).name}`: {first.record.model}, {first.record.data}."
    return {name: run.model for name, run in runs.items()}, x, y, about


def trials(models: dict[str, nn.Module]) -> Iterator[tuple[str, str, nn.Module]]:
    """Yield every control, then every masked copy: its name, that of the control, and the model."""
    yield from ((name, name, model) for name, model in models.items())
    for name in TRUSTED:
        if name in models:
            yield from ((f"{name}, {how}", name, mask(models[name])) for how, mask in MASKED.items())


def checks(models: dict[str, nn.Module], control: str) -> list[MaskingCheck]:
    """Return all checks, with the other trusted controls as sources for the one that transfers."""
    sources = {name: models[name] for name in TRUSTED if name in models and name != control}
    given = [check for check in all_checks() if not isinstance(check, Transferred)]
    return [*given, Transferred(attack=Transfer(models=sources) if sources else None)]


def row(name: str, found: Examination) -> list[str]:
    """Return the verdict with its reasons, and accuracies of the examples examined."""
    masking = found.masking
    figures = {finding.name: finding.figures for finding in masking.findings}
    reference = figures["MoreEffort"].get("reference")
    faults = [f"{f.name} ({f.level})" for f in masking.findings if f.level in ("suspicious", "broken")]
    return [
        name,
        masking.verdict,
        f"{masking.eps:g}",
        "—" if reference is None else f"{1 - reference:.1%}",
        f"{1 - int(found.broken.sum()) / masking.n:.1%}",
        ", ".join(faults) or "none",
    ]


def figure_table(results: dict[str, Examination]) -> str:
    """Return every figure of every check, a column a model."""
    rows = []
    for index, finding in enumerate(next(iter(results.values())).masking.findings):
        for figure in sorted({key for found in results.values() for key in found.masking.findings[index].figures}):
            values = [found.masking.findings[index].figures.get(figure) for found in results.values()]
            rows.append([f"{finding.name}: {figure}", *("—" if v is None else f"{v:.3g}" for v in values)])
    return table(["figure", *results], rows)


def main(given: Options) -> None:
    """Examine every control and write the tables."""
    models, x, y, about = controls(given)
    radii = (0.02, 0.05, 0.1) if given.runs else (0.05, 0.1, 0.2)
    stop = provenance.start(SEED, x.device)
    results = {}
    threats = [Threat(eps=eps) for eps in radii]
    for name, control, model in trials(models):
        results[name] = examine(model, x, y, threat=threats, checks=checks(models, control), seed=SEED)
        print(" | ".join(row(name, results[name])), flush=True)
    rows = [row(name, found) for name, found in results.items()]
    header = ["model", "verdict", "eps", "PGD-20", "worst case of all searches", "faulted by"]
    text = (
        f"{about} Verdict of all checks with their default settings on {len(x)} test images, Linf; accuracies are "
        "shares of the correctly classified ones. The eps is the one where PGD-20 leaves nearest to half.\n\n"
        f"{table(header, rows)}\n\nEvery figure of every check:\n\n{figure_table(results)}"
    )
    measured: dict[str, Any] = {name: found.masking.model_dump() for name, found in results.items()}
    Page("Gradient masking: trained controls and masked copies of them", measured, text).write("masking", given, stop)


if __name__ == "__main__":
    main(options(__doc__))
