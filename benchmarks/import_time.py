"""How long `meseta --help` takes, and what importing meseta adds to importing torch.

Every figure is the wall time of a fresh Python process, the files in the system's cache.
"""

from common import Options, Page, Spread, interleaved, options, run_python, table

from meseta.evaluation import provenance

PYTHON, HELP, TORCH = "python -c pass", "python -m meseta --help", "import torch"
METHODS = "import torch, then meseta.objectives, .attacks and .geometry"
COMMANDS = {
    PYTHON: ("-c", "pass"),
    HELP: ("-m", "meseta", "--help"),
    TORCH: ("-c", "import torch"),
    "import torch, then meseta": ("-c", "import torch, meseta"),
    METHODS: ("-c", "import torch, meseta.objectives, meseta.attacks, meseta.geometry"),
}
BEYOND = {name: PYTHON if name in (PYTHON, HELP) else TORCH for name in COMMANDS}


def main(given: Options) -> None:
    stop = provenance.start(None, "cpu")
    calls = {name: lambda arguments=arguments: run_python(*arguments) for name, arguments in COMMANDS.items()}
    times = interleaved(calls, 2 if given.quick else 21)
    total = {name: Spread.of(times[name]) for name in COMMANDS}
    extra = {
        name: Spread.of([t - b for t, b in zip(times[name], times[BEYOND[name]], strict=True)]) for name in COMMANDS
    }
    rows = [
        [f"`{name}`", *(f"{1e3 * v:.0f}" for v in (total[name].median, total[name].min, total[name].max))]
        + ([f"{1e3 * extra[name].median:.0f}", f"`{BEYOND[name]}`"] if name != BEYOND[name] else ["", ""])
        for name in COMMANDS
    ]
    n = total[HELP].n
    text = f"Milliseconds; {n} processes each, in turns. `beyond` is the median difference within a round.\n\n"
    text += table(["process", "median", "min", "max", "beyond", "that of"], rows)
    measured = {
        name: {"seconds": total[name], "beyond": BEYOND[name], "seconds_beyond": extra[name]} for name in COMMANDS
    }
    Page("Start-up time", measured, text).write("import_time", given, stop)


if __name__ == "__main__":
    main(options(__doc__))
