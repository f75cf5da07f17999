"""What measures, bounds and distances keep: nothing is taken twice, and shards add up to the same section."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from meseta.attacks import FMN, DeepFool
from meseta.certificates import LinearPiece
from meseta.errors import UserError
from meseta.evaluation.nearest import distances
from meseta.evaluation.statistics import certify, measure
from meseta.geometry import GradientNorm, LocalLinearity, Measure, Measurement, SpectralCurvature
from meseta.threat import Threat


@pytest.fixture(scope="module")
def problem():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 3))
    return model, torch.rand(11, 4), torch.arange(11) % 3


SECTIONS = {
    "measure": lambda *given, **options: measure(*given, measure=SpectralCurvature(), batch_size=3, **options),
    "curves": lambda *given, **options: measure(*given, measure=LocalLinearity(), batch_size=3, **options),
    "bound": lambda *given, **options: certify(*given, bound=LinearPiece(), batch_size=3, **options),
    "distances": lambda *given, **options: distances(
        *given, attacks=[FMN(threat=Threat("L2"), steps=5), DeepFool(threat=Threat("L2"))], batch_size=3, **options
    ),
}
every_section = pytest.mark.parametrize("take", SECTIONS.values(), ids=SECTIONS)


def figures(section):
    return section.model_dump(exclude={"provenance"})


@every_section
def test_shards_add_up_to_the_whole(take, problem, tmp_path):
    shards = [take(*problem, keep=tmp_path, shard=(i, 2)) for i in range(2)]
    assert [section.n for section in shards] == [6, 5]
    done = []
    together = take(*problem, keep=tmp_path, progress=done.append)
    assert figures(together) == figures(take(*problem))
    assert done == [3, 3, 3, 2]
    assert together.provenance.seconds == pytest.approx(sum(s.provenance.seconds for s in shards), abs=0.002)


@dataclass(frozen=True, kw_only=True)
class Counted(Measure):
    """Counts its calls, and ends the process's work at one of them."""

    calls: ClassVar[list[int]] = []

    def at(self, model, x, y):
        self.calls.append(len(x))
        if len(self.calls) == 3:
            raise KeyboardInterrupt
        return Measurement(x.flatten(1).sum(1) * torch.tensor([1.0, torch.nan, torch.inf])[: len(x)])


def test_an_interrupted_measure_goes_on_where_it_stopped(problem, tmp_path):
    Counted.calls.clear()
    with pytest.raises(KeyboardInterrupt):
        measure(*problem, measure=Counted(), batch_size=3, keep=tmp_path)
    found = measure(*problem, measure=Counted(), batch_size=3, keep=tmp_path)
    assert Counted.calls == [3, 3, 3, 3, 2]
    assert found.nonfinite == 7  # NaN and infinity are kept as they are
    assert figures(found) == figures(measure(*problem, measure=Counted(), batch_size=3))


@pytest.mark.parametrize("damage", ["", "{", '{"main": {}}', "not JSON"])
def test_a_damaged_entry_is_taken_again(damage, problem, tmp_path):
    whole = measure(*problem, measure=GradientNorm(), batch_size=3, keep=tmp_path)
    for file in tmp_path.iterdir():
        file.write_text(damage)
    assert figures(measure(*problem, measure=GradientNorm(), batch_size=3, keep=tmp_path)) == figures(whole)


def test_other_weights_settings_or_examples_take_nothing_over(problem, tmp_path):
    model, x, y = problem
    measure(model, x, y, measure=GradientNorm(), batch_size=3, keep=tmp_path)
    files = len(list(tmp_path.iterdir()))
    other = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 3))
    measure(other, x, y, measure=GradientNorm(), batch_size=3, keep=tmp_path)
    measure(model, x, y, measure=GradientNorm(q=1), batch_size=3, keep=tmp_path)
    measure(model, x + 0.5, y, measure=GradientNorm(), batch_size=3, keep=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4 * files


def test_a_shard_without_a_batch_is_refused(problem):
    with pytest.raises(UserError, match="`shard`"):
        measure(*problem, measure=GradientNorm(), batch_size=6, shard=(2, 3))
