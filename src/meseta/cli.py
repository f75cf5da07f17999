"""The command line: verbs only. Each verb imports what it needs, so that `meseta --help` answers at once."""

import os
import re
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from meseta.allowed import allow
from meseta.errors import UserError, is_text, printable, require, unknown_name
from meseta.processes import rank
from meseta.version import __version__

if TYPE_CHECKING:
    from meseta.evaluation.record import Masking, Record
    from meseta.processes import Team
    from meseta.report.figure import Figure
    from meseta.reproductions import Scale
    from meseta.workflow import Run

Config = TypeVar("Config")

HELP = """usage: meseta VERB [OPTIONS]

The geometry of a classifier's input space: train robust image classifiers, measure, attack, report.

verbs:
  demo      train, attack and measure several objectives side by side, and write their report
  train     train one run
  evaluate  masking checks, clean and robust accuracy of a run: worst case per example over a suite of attacks
  measure   curvature and gradients of a run, per example
  certify   bounds on the distance to the nearest adversarial example: sound ones, estimates, proxies and attacks apart
  surface   a decision or loss surface around an example, or around the parameters, of runs side by side
  figure    a figure of one of the papers, from runs
  reproduce a paper's tables and figures beside ours, from training to page
  sweep     a search for settings: cells trained and attacked once each, by several processes, on held-out data
  report    one HTML page, figures and tables (Markdown, CSV, LaTeX) from the records of runs
  show      the comparison of runs in the terminal, and for one run what it takes to run it again
  list      every objective, attack, measure, model and data set, in one line each

`meseta VERB --help` tells its options; numbers may be written 8/255. `meseta --version` tells the version. With
`--allow MODULE` every verb takes your own objectives, attacks, models, ... from a module in this folder or an installed
one, whose code is run.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return 0, or 2 after an error of the user's, shown in one line."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0
    if arguments[0] == "--version":
        print(__version__)
        return 0
    _print_anything()
    try:
        if broken := [argument for argument in arguments if not is_text(argument)]:
            raise UserError(f"arguments: {broken[0]!r} is not in UTF-8, and no record could hold it. Rename it.")
        if arguments[0] not in VERBS:
            raise unknown_name("verb", arguments[0], VERBS)
        names, others = _allowed(arguments[1:])
        with allow(names):
            VERBS[arguments[0]](others)
        sys.stdout.flush()
    except UserError as error:
        return _fail(str(error))
    except BrokenPipeError:  # `meseta list | head` has read enough; what Python flushes at its end goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        return _fail(f"{error.filename or 'file'}: {error.strerror or error}")
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        return _fail("out of memory. Take smaller batches (--batch_size), fewer processes or a smaller model.")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "torch":
            raise
        return _fail(f"`meseta {arguments[0]}` needs torch. Install it with: pip install torch")
    except KeyboardInterrupt:
        print("meseta: interrupted", file=sys.stderr)
        return 130
    return 0


def _print_anything() -> None:
    """Let no name stop the output: what a terminal's encoding does not have, or is half a character, prints as ?."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether Python, or torch on any device, found no memory."""
    return isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "allocate memory" in str(error)


def _fail(message: str) -> int:
    """Tell what is wrong in one line that can be read; return 2."""
    line = printable(" ".join(message.split()))
    if len(line) > 2000:  # a name of a thousand letters, for example
        line = f"{line[:1500]} … {line[-400:]}"
    whose = f" (process {rank()})" if rank() else ""
    print(f"meseta: error{whose}: {line}", file=sys.stderr)
    return 2


def _allowed(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the modules of all `--allow MODULE`, and the other arguments."""
    names, others = list[str](), list[str]()
    rest = iter(arguments)
    for argument in rest:
        option, equals, value = argument.partition("=")
        if option == "--allow":
            names.append(value if equals else next(rest, ""))
        else:
            others.append(argument)
    return names, others


class _Parser(ArgumentParser):
    """A parser whose errors are as those of every other verb."""

    def error(self, message: str) -> NoReturn:
        """Raise, in place of printing the usage and leaving."""
        raise UserError(f"{message}. `{self.prog} --help` tells the options.")


def demo(arguments: list[str]) -> None:
    """Compare objectives as a recipe says, and write the report."""
    from meseta.comparing import Comparison, compare
    from meseta.configuration import parse, parser

    options = parser(Comparison, prog="meseta demo", description="Compare objectives side by side, as a recipe says.")
    require("report", "jinja2", "matplotlib", "plotly")  # before hours of training, not after
    own = any(argument.split("=")[0] == "--config" for argument in arguments)
    config, _ = parse(options, Comparison, _with_recipes(arguments if own else ["--config", "demo", *arguments]))
    page = config.folder / "report.html"
    _check_page(page)
    records = compare(config, progress=sys.stderr.isatty(), say=_say)
    _report(records, page)


def sweep(arguments: list[str]) -> None:
    """Search for settings, and write what was found."""
    from rich.console import Console

    from meseta.configuration import parse, parser
    from meseta.files import check_file
    from meseta.report import to_rich, write_sweep_page
    from meseta.report.swept import in_words, swept_table

    require("sweep", "optuna", "filelock")
    require("report", "jinja2", "plotly")
    from meseta.sweeping import SweepConfig
    from meseta.sweeping import sweep as carry_out

    options = parser(
        SweepConfig,
        prog="meseta sweep",
        description="Search for the settings that make the most robust model among those that are accurate enough, on "
        "held-out data. After an interruption the same command goes on; started twice, the two share the work.",
    )
    config, _ = parse(options, SweepConfig, _with_recipes(arguments))
    page = config.folder / "sweep.html"
    check_file(page)
    swept = carry_out(config, say=_say)
    Console().print(to_rich(swept_table(swept)))
    write_sweep_page(swept, page)
    _say(f"page: {page}")
    if swept.best is None:
        _say("best: none; no cell is feasible. Lower the floor, or widen the space.")
    else:
        _say(f"best: {in_words(swept.best)}")
        _say(f"on the test set: meseta evaluate {config.folder / 'cells' / swept.best.name}")


def train(arguments: list[str]) -> None:
    """Train one run."""
    from meseta.configuration import parse, parser
    from meseta.training import RunConfig
    from meseta.training import train as train_run

    options = parser(RunConfig, prog="meseta train", description="Train one run and write its folder.")
    config, _ = parse(options, RunConfig, _with_recipes(arguments))
    folder = train_run(config, progress=sys.stderr.isatty(), say=_say)
    if rank() == 0:
        _say(f"trained {folder}; next: meseta evaluate {folder}")


def evaluate(arguments: list[str]) -> None:
    """Attack a run."""
    from meseta.configuration import parser
    from meseta.workflow import EvaluateConfig, evaluate_run

    options = parser(
        EvaluateConfig,
        prog="meseta evaluate",
        usage="meseta evaluate RUN [--norm Linf --eps 2/255 4/255 [--norm L2 --eps 0.5 ...]] [--suite SUITE] [OPTIONS]",
        description="Masking checks with their verdict, clean accuracy, and the worst case per example over a suite of "
        "attacks. `--norm NORM --eps EPS ...` may be repeated and stands for --threats. After an interruption the same "
        "command goes on where it stopped.",
    )
    config, run, team = _with_run(options, EvaluateConfig, _threats(arguments))
    with _progress("checking, then attacking", len(run.examples(config.split, config.n)), team) as advance:
        record = evaluate_run(run, config, team=team, progress=advance, examined=_say_verdict)
    if not team.leads:
        return
    _say_doubt(record.evaluation.masking if record.evaluation else None)
    if run.record.evaluation is not None:
        _say("the earlier evaluation in this run's record was replaced")
    _show([record])


def _say_verdict(masking: "Masking | None") -> None:
    """Tell what the masking checks found."""
    if masking is None:
        _say("masking: not checked")
        return
    _say(f"masking: {masking.verdict} ({len(masking.findings)} checks on {masking.n} examples)")
    for finding in masking.findings:
        if finding.level in ("suspicious", "broken"):
            _say(f"  {finding.level}: {finding.name}: {finding.evidence}")


def _say_doubt(masking: "Masking | None") -> None:
    """Tell what the attacks on all examples added to the checks' findings."""
    for finding in masking.findings if masking else []:
        if finding.name == "Evaluation" and masking:
            _say(f"masking: {masking.verdict}\n  {finding.level}: {finding.evidence}")


def measure(arguments: list[str]) -> None:
    """Measure a run."""
    from meseta.configuration import parser
    from meseta.files import check_folder
    from meseta.workflow import MeasureConfig, measure_run

    options = parser(MeasureConfig, prog="meseta measure", description="Curvature and gradients of a run.")
    config, run, team = _with_run(options, MeasureConfig, arguments)
    check_folder(run.folder / "figures")
    total = len(run.examples(config.split, config.n)) * len(config.measures)
    with _progress("measuring", total, team) as advance:
        record = measure_run(run, config, team=team, progress=advance)
    if not team.leads:
        return
    _show([record])
    _draw(record, run.folder / "figures")


def certify(arguments: list[str]) -> None:
    """Take bounds on a run."""
    from meseta.configuration import parser
    from meseta.files import check_folder
    from meseta.workflow import CertifyConfig, certify_run, settle

    options = parser(
        CertifyConfig,
        prog="meseta certify",
        description="Certified radii, estimates, proxies and the smallest attacks of a run, per example.",
    )
    config, run, team = _with_run(options, CertifyConfig, arguments)
    check_folder(run.folder / "figures")
    config, refused = settle(run, config)
    for reason in refused if team.leads else []:
        _say(f"left out: {reason}")
    total = len(run.examples(config.split, config.n)) * len(config.sections())
    with _progress("certifying", total, team) as advance:
        record = certify_run(run, config, team=team, progress=advance)
    if not team.leads:
        return
    _show([record])
    _draw(record, run.folder / "figures")


def surface(arguments: list[str]) -> None:
    """Look at a surface of runs."""
    from meseta.configuration import parse, parser
    from meseta.files import check_folder
    from meseta.looking import SurfaceConfig, surface_runs
    from meseta.report.surfaces import surface_figures
    from meseta.workflow import load_run

    options = parser(
        SurfaceConfig,
        prog="meseta surface",
        usage="meseta surface RUN [RUN ...] [--index 7] [--space input] [--axes random adversarial] "
        "[--field decision ...] [OPTIONS]",
        description="Fields on a plane through an example, or through the parameters, of runs side by side: maps with "
        "the decision boundary, the ball of the threat and the way of an attack, and reliefs to turn. `--axes` and "
        "`--field` take names as `meseta list` has them, in small letters too; `loss` is the cross-entropy.",
    )
    options.add_argument("runs", nargs="+", type=str, metavar="RUN", help="folders of runs")
    options.add_argument(
        "--out", type=str, default=None, help="the folder for PDF, PNG and page; RUN/figures if left out"
    )
    options.add_argument("--device", type=str, default=None, help="cpu, cuda, ...; the GPU if there is one")
    config, parsed = parse(options, SurfaceConfig, _names(_names(arguments, "axes", "axes"), "field", "fields"))
    require("report", "jinja2", "matplotlib", "plotly")  # before the work, not after
    folder = Path(parsed["out"] or Path(parsed["runs"][0], "figures"))
    check_folder(folder)
    runs = [load_run(Path(run), device=parsed["device"]) for run in parsed["runs"]]
    side = config.resolution or (101 if config.space == "input" else 31)
    with _progress("looking", len(runs) * side**2) as advance:
        sections = surface_runs(runs, config, progress=advance)
    seen = [run.record.model_copy(update={"surfaces": [one]}) for run, one in zip(runs, sections, strict=True)]
    for drawn in surface_figures(seen):
        for note in drawn.notes:
            _say(note)
        _save_figure(drawn, folder)


def _names(arguments: Sequence[str], option: str, field: str) -> list[str]:
    """Translate `--axes random adversarial` into `--axes=[Random, Adversarial]`; names of anything else stay."""
    from meseta.registry import methods

    known = {"axes": "axes", "fields": "scalar fields"}[field]
    by_word = {name.lower(): name for name in methods(known)} | ({"loss": "CrossEntropy"} if field == "fields" else {})
    kept, words, options = list[str](), list[str](), (f"--{option}", f"--{field}")
    reading = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name in options:
            reading, argument = True, value
            if not equals:
                continue
        found = by_word.get(argument.lower().replace("_", "").replace("-", "")) if reading else None
        if found:
            words.append(found)
        elif reading and not words:  # nothing was read yet: a list as in a file, or a mistake
            if not argument.startswith("["):
                raise unknown_name(option, argument, sorted(by_word))
            kept.append(f"--{field}={argument}")
            reading = False
        else:
            kept.append(argument)
            reading = False
    if reading and not words:
        raise UserError(f"`--{option}` needs names, such as {', '.join(sorted(by_word)[:2])}.")
    return [*kept, f"--{field}=[{', '.join(words)}]"] if words else kept


def report(arguments: list[str]) -> None:
    """Write the report of runs."""
    from meseta.evaluation.record import find_records

    parser = _Parser(
        prog="meseta report",
        description="One HTML page, figures as PDF and PNG, and the table as Markdown, CSV and LaTeX, from records.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders, or folders of runs")
    parser.add_argument(
        "--out", type=Path, help="the page, NAME.html; report.html beside the first run's record if left out"
    )
    parsed = parser.parse_args(arguments)
    first = parsed.runs[0] if parsed.runs[0].is_dir() else parsed.runs[0].parent
    records, page = find_records(parsed.runs), parsed.out or first / "report.html"
    _check_page(page)
    _report(records, page)


def show(arguments: list[str]) -> None:
    """Show runs in the terminal."""
    from meseta.evaluation.record import find_records

    parser = _Parser(
        prog="meseta show",
        description="The comparison of runs, from their records; for one run also its settings and where its figures "
        "are from.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders, folders of runs, or records")
    records = find_records(parser.parse_args(arguments).runs)
    _show(records, rerun=len(records) == 1)


def figure(arguments: list[str]) -> None:
    """Draw a figure of one of the papers."""
    from meseta.configuration import parse, parser
    from meseta.evaluation.record import read_record
    from meseta.files import check_folder
    from meseta.registry import paper_figures, summary
    from meseta.workflow import load_run

    figures = paper_figures()
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: meseta figure FIGURE [RUN ...] [--out FOLDER] [OPTIONS]\n\nA figure of one of the papers.\n")
        print("\n".join(f"  {name:<12}{summary(method)}" for name, method in figures.items()))
        print("\n`meseta figure FIGURE --help` tells its options.")
        return
    name = next((one for one in figures if one.lower() == arguments[0].lower().replace("-", "")), None)
    if name is None:
        raise unknown_name("figure", arguments[0], figures)
    options = parser(figures[name], prog=f"meseta figure {name}", description=summary(figures[name]))
    options.add_argument("runs", nargs="*", type=str, metavar="RUN", help="folders of runs")
    options.add_argument("--out", type=str, default="figures", help="the folder for PDF, PNG and page")
    options.add_argument("--device", type=str, default=None, help="cpu, cuda, ...; the GPU if there is one")
    chosen, parsed = parse(options, figures[name], arguments[1:])
    chosen.check_runs(len(parsed["runs"]))
    require("report", "jinja2", "matplotlib", "plotly")
    folder = Path(parsed["out"])
    check_folder(folder)
    runs = [load_run(Path(run), device=parsed["device"]) for run in parsed["runs"]]
    chosen.take(runs, _say)
    _save_figure(chosen.draw([read_record(run.folder) for run in runs]), folder)


def reproduce(arguments: list[str]) -> None:
    """Reproduce a paper."""
    from meseta.configuration import parse, parser, plain
    from meseta.files import check_folder
    from meseta.registry import reproductions, summary
    from meseta.reproductions import SCALES
    from meseta.reproductions import reproduce as carry_out

    known = reproductions()
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: meseta reproduce PAPER [--scale smoke|short|paper] [--only PART ...] [--processes N] [OPTIONS]\n")
        print("A paper's tables and figures beside ours, with what an honest evaluation says of each.\n")
        for name, method in known.items():
            print(f"  {name:<12}{summary(method)}\n{'':<14}parts: {', '.join(method().parts())}")
        print("\n`meseta reproduce PAPER --help` tells its options. After an interruption the same command goes on.")
        return
    if arguments[0] not in known:
        raise unknown_name("paper", arguments[0], known)
    chosen = known[arguments[0]]
    scale = _scale(arguments[1:], SCALES)
    options = parser(
        chosen,
        prog=f"meseta reproduce {chosen.paper}",
        description=f"{summary(chosen)} The scale sets all options that are not given.",
    )
    options.add_argument("--scale", choices=SCALES, default="short", help="how near to the paper: smoke, short, paper")
    options.add_argument("--only", nargs="+", default=[], help=f"parts: {', '.join(chosen().parts())}")
    options.add_argument("--out", type=str, default="runs/reproductions", help="the folder for all of it")
    options.add_argument("--processes", type=int, default=1, help="how many trainings are under way at once")
    options.set_defaults(plain(chosen.at(scale))["init_args"])
    reproduction, parsed = parse(options, chosen, arguments[1:])
    require("report", "jinja2", "matplotlib", "plotly")
    check_folder(Path(parsed["out"]))
    page = carry_out(
        reproduction,
        parsed["scale"],
        out=Path(parsed["out"]),
        only=parsed["only"],
        processes=parsed["processes"],
        say=_say,
    )
    _say(f"page: {page}")


def _scale(arguments: Sequence[str], known: "Sequence[Scale]") -> "Scale":
    """Return the scale that is asked for, whose settings are the defaults of all other options."""
    parser = _Parser(prog="meseta reproduce", add_help=False)
    parser.add_argument("--scale", default="short")
    name = parser.parse_known_args(arguments)[0].scale
    found = next((scale for scale in known if scale == name), None)
    if found is None:
        raise unknown_name("scale", name, known)
    return found


def _save_figure(drawn: "Figure", folder: Path) -> None:
    """Write a figure as PDF, PNG and page."""
    from meseta.report import write_figure_page
    from meseta.report.printed import save

    files = [*save(drawn, folder), folder / f"{drawn.key}.html"]
    write_figure_page(drawn, files[-1])
    _say("figure: " + ", ".join(map(str, files)))


def list_(arguments: list[str]) -> None:
    """List everything by name."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from meseta.data import KNOWN
    from meseta.registry import KINDS, methods, paper_figures, reproductions, summary

    _Parser(prog="meseta list", description="Everything by name.").parse_args(arguments)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    sections = {kind: {name: summary(method) for name, method in methods(kind).items()} for kind in KINDS}
    sections["figures of the papers"] = {name: summary(method) for name, method in paper_figures().items()}
    sections["reproductions"] = {name: summary(method) for name, method in reproductions().items()}
    sections["data sets"] = KNOWN
    sections["recipes"] = {path.stem: _claim(path) for path in sorted(_RECIPES.glob("*.yaml"))}
    for kind, entries in sections.items():
        table.add_row(f"[underline]{kind}[/underline]")
        for name, line in entries.items():
            table.add_row(f"  {name}", Text(line))  # brackets are no markup
    Console().print(table)


VERBS = {
    "demo": demo,
    "train": train,
    "evaluate": evaluate,
    "measure": measure,
    "certify": certify,
    "surface": surface,
    "figure": figure,
    "reproduce": reproduce,
    "sweep": sweep,
    "report": report,
    "show": show,
    "list": list_,
}

_RECIPES = Path(__file__).parent / "recipes"


def _with_run(options: Any, config: "type[Config]", arguments: Sequence[str]) -> "tuple[Config, Run, Team]":
    """Return the settings of a verb that works on one run, that run, and the processes that share the work."""
    from meseta.configuration import parse
    from meseta.processes import join
    from meseta.workflow import load_run

    options.add_argument("run", type=str, help="folder of a run")
    options.add_argument("--device", type=str, default=None, help="cpu, cuda, ...; the GPU if there is one")
    options.add_argument("--devices", type=int, default=1, help="processes that share the work, on each machine")
    options.add_argument("--nodes", type=int, default=1, help="machines, which all see the run's folder")
    settings, parsed = parse(options, config, arguments)
    team, device = join(parsed["devices"], parsed["nodes"], parsed["device"])
    return settings, load_run(Path(parsed["run"]), device=device), team


def _recipe(name: str) -> Path:
    """Return the file of a configuration: a path, or the name of one of meseta's own recipes."""
    own = _RECIPES / f"{Path(name).stem}.yaml"
    if not Path(name).exists() and own.exists() and Path(name).parent.name in ("", "recipes"):
        return own
    if not Path(name).exists():
        recipes = ", ".join(sorted(path.stem for path in _RECIPES.glob("*.yaml")))
        raise UserError(f"config: {name} does not exist. Give the path of a YAML file, or a recipe: {recipes}.")
    return Path(name)


def _with_recipes(arguments: Sequence[str]) -> list[str]:
    """Replace the value of --config by the file it names."""
    found = list(arguments)
    for index, argument in enumerate(found):
        if argument == "--config" and index + 1 < len(found):
            found[index + 1] = str(_recipe(found[index + 1]))
        elif argument.startswith("--config="):
            found[index] = f"--config={_recipe(argument.partition('=')[2])}"
    return found


def _threats(arguments: Sequence[str]) -> list[str]:
    """Translate `--norm Linf --eps 2/255 4/255 --norm L2 --eps 0.5` into the option `--threats`."""
    kept: list[str] = []
    threats: dict[str, list[str]] = {}
    norm, option = "Linf", ""
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name in ("--norm", "--eps"):
            option = name
            if name == "--eps":
                threats.setdefault(norm, [])
            if not equals:
                continue
            argument = value
        if option == "--norm":
            norm, option = argument, ""
            threats.setdefault(norm, [])
        elif option == "--eps" and re.match(r"[-+]?(\d|\.\d|nan|inf)", argument):
            threats[norm].append({"nan": ".nan", "inf": ".inf"}.get(argument, argument))  # as in YAML
        else:
            option = ""
            kept.append(argument)
    for name, radii in threats.items():
        if not radii:
            raise UserError(f"`--norm {name}` needs radii: --norm {name} --eps 0.5 1.")
    if threats and any(argument.startswith("--threats") for argument in kept):
        raise UserError("`--threats` and `--norm`, `--eps` say the same in two ways. Give one of them.")
    if threats:
        kept.append("--threats={" + ", ".join(f"{n}: [{', '.join(radii)}]" for n, radii in threats.items()) + "}")
    return kept


def _claim(recipe: Path) -> str:
    """Return the first comment line of a recipe."""
    return recipe.read_text(encoding="utf-8").split("\n")[0].lstrip("# ")


_TABLES = (".md", ".csv", ".tex")


def _check_page(page: Path) -> None:
    """Raise where a report cannot be written at `page` and beside it."""
    from meseta.files import check_file, check_folder

    if page.suffix != ".html":
        raise UserError(f"`out` must be a page, NAME.html, got {page}. Tables and figures are written beside it.")
    for suffix in (".html", *_TABLES):
        check_file(page.with_suffix(suffix))
    check_folder(_figures_of(page))


def _figures_of(page: Path) -> Path:
    """Return the folder of a report's figures, one for each page."""
    return page.parent / ("figures" if page.name == "report.html" else f"{page.stem}-figures")


def _report(records: "list[Record]", page: Path) -> None:
    from meseta.files import write_text
    from meseta.report import (
        comparison_table,
        read_with_care,
        to_csv,
        to_latex,
        to_markdown,
        write_figures,
        write_report,
    )

    _show(records)
    former = page.read_text(encoding="utf-8", errors="replace") if page.exists() else ""
    write_report(records, page)
    drawn = {file.stem for file in write_figures(records, _figures_of(page))}
    for key in set(re.findall(r'<figure id="figure-([\w-]+)"', former)) - drawn:  # of runs that it reported before
        for suffix in (".pdf", ".png"):
            (_figures_of(page) / f"{key}{suffix}").unlink(missing_ok=True)
    table = comparison_table(records)
    texts = (to_markdown(table, read_with_care(records)), to_csv(table), to_latex(table))
    for suffix, text in zip(_TABLES, texts, strict=True):
        write_text(page.with_suffix(suffix), text)
    _say(f"report: {page}")


def _draw(record: "Record", folder: Path) -> None:
    """Write a run's figures where matplotlib is installed."""
    from importlib.util import find_spec

    from meseta.report import write_figures

    if find_spec("matplotlib") is None:
        _say("figures need matplotlib: pip install 'meseta[report]'")
    elif files := write_figures([record], folder):
        _say(f"figures: {len(files)} files in {folder}")


def _show(records: "list[Record]", *, rerun: bool = False) -> None:
    from rich.console import Console
    from rich.text import Text

    from meseta.report import comparison_table, read_with_care, to_rerun, to_rich

    console = Console()
    console.print(to_rich(comparison_table(records)))
    for notice in read_with_care(records):
        console.print(Text(f"Read with care: {notice}"))
    if rerun:
        console.print(to_rerun(records[0]))


def _say(text: str) -> None:
    print(printable(text), flush=True)


@contextmanager
def _progress(what: str, total: int, team: "Team | None" = None) -> Iterator[Any]:
    """Show how far this process is, which leads a team of which all have as much to do."""
    from rich.console import Console
    from rich.progress import Progress

    hidden = not sys.stderr.isatty() or (team is not None and not team.leads)
    with Progress(console=Console(stderr=True), transient=True, disable=hidden) as bar:
        task = bar.add_task(what, total=total / (team.size if team else 1))
        yield lambda n: bar.advance(task, n)
