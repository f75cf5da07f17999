"""Runs of untrained networks on random images: small enough to measure everything in a moment."""

import torch

from meseta.data import ImageData, Split
from meseta.evaluation.record import Record, read_record, write_record
from meseta.models import SiluCnn
from meseta.training import RunConfig
from meseta.workflow import Run


def tiny_run(folder, name="erm", seed=0, shape=(1, 8, 8), data_seed=0, model=None):
    """Return a run with its record in the folder; those of one data seed and shape share their data."""
    images = torch.rand(24, *shape, generator=torch.Generator().manual_seed(data_seed))
    labels = torch.arange(24) % 3
    split = Split(images, labels)
    data = ImageData("random", split, split, split, ("a", "b", "c"))
    model = (model or SiluCnn()).build(shape, 3, generator=torch.Generator().manual_seed(seed)).eval()
    folder = folder / name
    folder.mkdir()
    write_record(Record(name=name, model="SiluCnn()", data="random images", config={}), folder / "record.json")
    return Run(folder, read_record(folder), RunConfig(name=name), model, data)


def drawn(figure, runs):
    """Measure what the figure needs, and draw it from the records."""
    said = []
    figure.take(runs, said.append)
    return figure.draw([read_record(run.folder) for run in runs]), said
