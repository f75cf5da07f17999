"""What each of two processes runs for `tests/test_processes.py`: all verbs that share their work, in turn."""

import sys

from meseta.cli import main

TRAIN = [
    *("train", "--data.train_limit", "150", "--data.test_limit", "30", "--model", "Mlp", "--model.norm", "group"),
    *("--objective", "InputGradient", "--optimizer", "Sgd", "--optimizer.lr", "0.05", "--precision", "float64"),
    *("--epochs", "2", "--batch_size", "32", "--accelerator", "cpu"),
]
"""150 less 5 % are four whole batches and one of 14 or 15 examples, which two processes share unevenly."""
EVALUATE = ["--suite", "quick", "--eps", "0.1", "--n", "25", "--batch_size", "10", "--checks", "[OneStep]"]
NEAREST = ["--nearest", "[DeepFool]", "--pictured", "0"]
MEASURE = ["--measures", "[GradientNorm]", "--n", "25", "--batch_size", "10"]
CERTIFY = ["--bounds", "[LinearPiece]", "--n", "25", "--batch_size", "10"]


def verbs(folder: str, devices: str) -> list[list[str]]:
    """Return the command lines that train, attack, measure and certify one run."""
    shared = ["--devices", devices]
    alone = ["--device", "cpu", *shared]
    run = f"{folder}/run"
    return [
        [*TRAIN, "--out", folder, "--name", "run", *shared],
        ["evaluate", run, *EVALUATE, *NEAREST, *alone],
        ["measure", run, *MEASURE, *alone],
        ["certify", run, *CERTIFY, *alone],
    ]


if __name__ == "__main__":
    sys.exit(max(main(verb) for verb in verbs(*sys.argv[1:])))
