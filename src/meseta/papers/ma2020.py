"""Figures of Ma et al. 2020, SOAR: its regulariser and its robustness over the epochs of training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from meseta.attacks import PGD, Attack
from meseta.evaluation.record import Record
from meseta.objectives import Soar
from meseta.papers.sweeps import flattened, labels
from meseta.papers.watched import WatchedFigure, shared
from meseta.report.comparison import Run, runs_of
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
from meseta.training.watch import attack_name
from meseta.workflow import SplitName

REGULARIZER = "SOAR's regulariser over training"


@dataclass(frozen=True, kw_only=True)
class Soar2(WatchedFigure):
    """SOAR's regulariser from one random direction and from a hundred, after each epoch of training.

    The paper shows both means over the training set close together, and trains with one direction.
    Runs: watched with `Soar()` and `Soar(directions=100)` as objectives, without their value clip; a panel each. A note
    names those that were watched with it.

    Args:
        split: that was watched.

    Source: Ma et al. 2020, figure 2. Differs: on the first examples of the split, as many as were watched; the same
    directions after each epoch. Where the watched form is `corrected`, R is a root of a mean of squares, and one
    direction gives less in the mean than a hundred; with `as_published` both have one mean.
    """

    split: SplitName = "train"

    def draw(self, records: Sequence[Record]) -> Figure:
        """Return a panel for each run, a line for each number of directions."""
        self.check_watched(records)
        panels = [self._panel(run, shared([run.record], self.is_drawn)) for run in runs_of(records)]
        if len(panels) == 1:
            return replace(panels[0], key=self.key, title=f"{REGULARIZER}, {panels[0].title}")
        keyed = [replace(panel, key=f"{self.key}-{i}") for i, panel in enumerate(panels)]
        return PanelFigure(self.key, REGULARIZER, in_rows(keyed, 2))

    @property
    def watch(self) -> Watch:
        """What to train with."""
        objectives = Soar(value_clip=None), Soar(value_clip=None, directions=100)
        return Watch(splits=(self.split,), attacks=(), objectives=objectives)

    def is_drawn(self, one: Logged) -> bool:
        """Return whether this is SOAR's regulariser on the split."""
        return one.watched and one.split == self.split and one.what.split()[0] == "soar"

    def _panel(self, run: Run, names: Sequence[Logged]) -> LineFigure:
        values = history(run.record)
        lines = [
            epoch_line(_directions(one.what.removeprefix("soar")), k, values[one.name], percent=False)
            for k, one in enumerate(names)
        ]
        figure = epoch_figure("", run.short, "mean of R", lines, percent=False)
        return replace(figure, of_attacks=True, notes=_clipped(run))


def _clipped(run: Run) -> tuple[str, ...]:
    """Return a note where the regulariser was watched with its value clip."""
    settings = flattened(run.record.config.get("watch") or {}, "watch")
    clips = {value for path, value in settings.items() if path.startswith("watch.objectives") and _is_clip(path, value)}
    return tuple(
        f"{run.short}: watched with the value clip {clip:g}, which R does not exceed." for clip in sorted(clips)
    )


def _is_clip(path: str, value: object) -> bool:
    return path.endswith("value_clip") and value is not None


def _directions(settings: str) -> str:
    """Return what tells one watched regulariser from another, in words."""
    count = settings.strip().removeprefix("directions=")
    return f"{count} direction{'' if count == '1' else 's'}" if count.isdigit() else settings.strip() or "R"


@dataclass(frozen=True, kw_only=True)
class Soar3(WatchedFigure):
    """Clean accuracy and accuracy under PGD-20 over the epochs of training, a line for each weight of SOAR.

    The paper shows that both settle within the 150 epochs, and that robustness rises with the weight; at weight 0 SOAR
    is adversarial training with one step of PGD.
    Runs: `Soar` at several weights, watched on the test split under PGD.

    Args:
        split: that was watched.
        attack: that was watched; runs know it by its name and its threat.

    Source: Ma et al. 2020, figure 3. Differs: on the first examples of the split, as many as were watched.
    """

    split: SplitName = "test"
    attack: Attack = PGD(threat=Threat("Linf", 8 / 255), steps=20, alpha=2 / 255)

    def draw(self, records: Sequence[Record]) -> Figure:
        """Return two panels, clean accuracy above."""
        self.check_watched(records)
        attacked, *_ = shared(records, self.is_drawn)
        clean = read_name(f"watch/{self.split}/accuracy")
        runs = runs_of(records)
        names = dict(zip((run.style for run in runs), labels(records, "weight", "λ"), strict=True))
        above, below = (
            curves_over_epochs(f"{self.key}-{key}", str(one), [one], runs, lambda run: names[run.style])
            for key, one in (("clean", clean), ("robust", attacked))
        )
        return PanelFigure(self.key, "SOAR over training", ((above,), (below,)), upper_bounds(runs, [attacked]))

    @property
    def watch(self) -> Watch:
        """What to train with."""
        return Watch(splits=(self.split,), attacks=(self.attack,))

    def is_drawn(self, one: Logged) -> bool:
        """Return whether this is the accuracy under the attack on the split."""
        name = f"watch/{self.split}/accuracy {attack_name(self.attack)}"
        return one.name == name or one.name.startswith(f"{name} ")  # settings that tell it from others of its name
