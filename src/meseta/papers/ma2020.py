"""Figures of Ma et al. 2020, SOAR: its regulariser and its robustness over the epochs of training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from meseta.attacks import PGD
from meseta.evaluation.record import Record
from meseta.objectives import Soar
from meseta.papers.base import PaperFigure
from meseta.papers.sweeps import labels
from meseta.papers.watched import watched
from meseta.report.comparison import runs_of
from meseta.report.curves import (
    Logged,
    curves_over_epochs,
    epoch_figure,
    epoch_line,
    history,
    in_rows,
    read_name,
    upper_bounds,
)
from meseta.report.figure import Figure, LineFigure, PanelFigure
from meseta.threat import Threat
from meseta.training import Watch
from meseta.workflow import SplitName

REGULARIZER = "SOAR's regulariser over training"


@dataclass(frozen=True, kw_only=True)
class Soar2(PaperFigure):
    """SOAR's regulariser from one random direction and from a hundred, after each epoch of training.

    The paper shows both means over the training set close together, and trains with one direction.
    Runs: watched with `Soar()` and `Soar(directions=100)` as objectives, without their value clip; a panel each.

    Args:
        split: that was watched.

    Source: Ma et al. 2020, figure 2. Differs: on the first examples of the split, as many as were watched; the same
    directions after each epoch. Where the watched form is `corrected`, R is a root of a mean of squares, and one
    direction gives less in the mean than a hundred; with `as_published` both have one mean.
    """

    split: SplitName = "train"

    def draw(self, records: Sequence[Record]) -> Figure:
        """Return a panel for each run, a line for each number of directions."""
        objectives = Soar(value_clip=None), Soar(value_clip=None, directions=100)
        watch = Watch(splits=(self.split,), attacks=(), objectives=objectives)
        runs = runs_of(records)
        panels = [self._panel(run.short, watched([run.record], self._is_drawn, watch), run.record) for run in runs]
        if len(panels) == 1:
            return replace(panels[0], key=self.key, title=f"{REGULARIZER}, {panels[0].title}")
        keyed = [replace(panel, key=f"{self.key}-{i}") for i, panel in enumerate(panels)]
        return PanelFigure(self.key, REGULARIZER, in_rows(keyed, 2))

    def _is_drawn(self, one: Logged) -> bool:
        return one.watched and one.split == self.split and one.what.split()[0] == "soar"

    def _panel(self, run: str, names: Sequence[Logged], record: Record) -> LineFigure:
        values = history(record)
        lines = [
            epoch_line(_directions(one.what.removeprefix("soar")), k, values[one.name], percent=False)
            for k, one in enumerate(names)
        ]
        return replace(epoch_figure("", run, "mean of R", lines, percent=False), of_attacks=True)


def _directions(settings: str) -> str:
    """Return what tells one watched regulariser from another, in words."""
    count = settings.strip().removeprefix("directions=")
    return f"{count} direction{'' if count == '1' else 's'}" if count.isdigit() else settings.strip() or "R"


@dataclass(frozen=True, kw_only=True)
class Soar3(PaperFigure):
    """Clean accuracy and accuracy under PGD-20 over the epochs of training, a line for each weight of SOAR.

    The paper shows that both settle within the 150 epochs, and that robustness rises with the weight; at weight 0 SOAR
    is adversarial training with one step of PGD.
    Runs: `Soar` at several weights, watched on the test split under PGD.

    Args:
        split: that was watched.
        attack: the beginning of the name of the attack that was watched.

    Source: Ma et al. 2020, figure 3. Differs: on the first examples of the split, as many as were watched.
    """

    split: SplitName = "test"
    attack: str = "PGD-20"

    def draw(self, records: Sequence[Record]) -> Figure:
        """Return two panels, clean accuracy above."""
        pgd = PGD(threat=Threat("Linf", 8 / 255), steps=20, alpha=2 / 255)
        watch = Watch(splits=(self.split,), attacks=(pgd,))
        attacked, *_ = watched(records, self._is_drawn, watch)
        clean = read_name(f"watch/{self.split}/accuracy")
        runs = runs_of(records)
        names = dict(zip((run.style for run in runs), labels(records, "weight", "λ"), strict=True))
        above, below = (
            curves_over_epochs(f"{self.key}-{key}", str(one), [one], runs, lambda run: names[run.style])
            for key, one in (("clean", clean), ("robust", attacked))
        )
        return PanelFigure(self.key, "SOAR over training", ((above,), (below,)), upper_bounds(runs, [attacked]))

    def _is_drawn(self, one: Logged) -> bool:
        return one.watched and one.split == self.split and one.attack.startswith(self.attack)
