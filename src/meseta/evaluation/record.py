"""The record of a run: every figure that was measured, and what it takes to measure it again.

Plain pydantic models without torch, so that reports are rebuilt from records on any machine. JSON on disk; a field
that the schema does not know is an error, and so is a file of another schema version.
"""

import json
import re
from base64 import b64decode
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from meseta.errors import UserError
from meseta.files import LARGE, read_text, write_text

SCHEMA_VERSION = 1
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Radius = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A frozen part of the record; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Provenance(Section):
    """Who measured what, with which versions, where and for how long."""

    command: str
    """The command line, or the Python call, that made the figures."""
    created: str
    """UTC time in ISO 8601."""
    seconds: float
    """Wall-clock seconds spent on this section."""
    seed: int | None
    device: str
    versions: dict[str, str]
    """Versions of meseta, Python and torch."""
    commit: str | None
    """The git commit of the working folder, with "+changes" where it had uncommitted ones; None outside git."""


class LeftOut(Section):
    """A step of training that was left out, since something was not finite."""

    step: Count
    why: str


class Training(Section):
    """How a model was trained and what it cost."""

    provenance: Provenance
    objective: str
    """The objective with all its settings, as written in Python."""
    epochs: int
    steps: int
    parameters: int
    examples: int
    seconds_per_epoch: float
    metrics: dict[str, float | None]
    """The last logged value of every term, for example `train/cross_entropy` and `val/accuracy`."""
    history: dict[str, list[float | None]] = {}
    """What was logged once an epoch, a value for each epoch; None where that epoch has none."""
    precision: str = "float32"
    processes: int = 1
    resumed: list[Count] = []
    """The steps at which training went on after an interruption."""
    left_out: list[LeftOut] = []
    weight_factor: float = 1.0
    """What the weights of penalties were multiplied with in the end, after divergences."""


class AttackResult(Section):
    """One attack at one threat: the accuracy it leaves and what the judge found."""

    attack: str
    """The attack with all its settings, as written in Python."""
    name: str
    """A short name, for tables: `PGD-40 CrossEntropy`."""
    accuracy: Share
    """Share of all examples that stand, in [0, 1]: that this attack broke neither at this eps nor at a smaller one; in
    a cascade, that neither it nor an earlier attack did."""
    violations: Count
    """Examples that the attack returned outside the ball or the bounds, and that the judge brought back."""
    seconds: float
    attacked: int | None = None
    """Examples that the attack met: those standing when it began."""


class RobustAccuracy(Section):
    """Accuracy under one threat: each attack's, and the worst case per example over all of them."""

    norm: Literal["Linf", "L2", "L1"]
    eps: Radius
    worst_case: Share
    """Share of all examples that nothing of this norm broke at this eps or a smaller one, in [0, 1]."""
    attacks: list[AttackResult]
    cascade: bool = False
    """Whether each attack met only the examples that the earlier ones left standing; elsewhere each met all."""
    by_others: Count = 0
    """Examples that masking checks or minimum-norm attacks broke and no attack of the list did; the worst case counts
    them as broken."""


Level = Literal["fine", "suspicious", "broken", "untested"]
Verdict = Literal["trusted", "suspicious", "broken"]


class Finding(Section):
    """What one masking check saw."""

    check: str
    """The check with all its settings, as written in Python."""
    name: str
    """A short name, for tables: `BlackBox`."""
    level: Level
    """"untested" where the check does not apply to the model or the threat."""
    evidence: str
    """One sentence with the numbers."""
    rule: str
    """What makes a model suspicious or broken, in words and numbers."""
    figures: dict[str, float | None]
    """The numbers by name; shares in [0, 1]."""
    seconds: float


class Masking(Section):
    """Whether gradient attacks see what this model does, from several independent checks on its first examples."""

    provenance: Provenance
    norm: Literal["Linf", "L2", "L1"]
    eps: Radius
    split: str
    n: int
    """Examples examined: the correctly classified ones among the first."""
    verdict: Verdict
    """The worst level among the findings; "suspicious" where nothing could be tested."""
    findings: list[Finding]

    @model_validator(mode="after")
    def _verdict_follows_from_the_findings(self) -> Self:
        if self.verdict != verdict_of([finding.level for finding in self.findings]):
            raise ValueError(f"the verdict is {self.verdict!r}, which its findings do not say")
        return self


def verdict_of(levels: Sequence[Level]) -> Verdict:
    """Return the worst of the levels. Trusted is a model that some check finds fine and none faults: where nothing
    could be tested, nobody knows, which is suspicious."""
    if "broken" in levels:
        return "broken"
    return "suspicious" if "suspicious" in levels or "fine" not in levels else "trusted"


class Transformed(Section):
    """Accuracy under a transformation of the inputs that is no norm ball: rotation and translation, Gaussian noise."""

    transformation: str
    """The transformation with all its settings, as written in Python."""
    name: str
    accuracy: Share
    """Of examples classified correctly both as they are and transformed."""
    alone: Share | None = None
    """Of examples classified correctly when transformed, whatever they were before; papers print this one."""
    seconds: float


class Evaluation(Section):
    """Clean and robust accuracy on `n` examples."""

    provenance: Provenance
    split: str
    n: Count
    clean_accuracy: Share
    nonfinite_logits: Count
    """Examples with NaN or infinite logits; they count as misclassified."""
    robust: list[RobustAccuracy]
    suite: str | None = None
    """The name of the suite of attacks; None where they were chosen one by one."""
    masking: Masking | None = None
    """None where nothing was checked: then nobody knows whether to trust the figures."""
    transformed: list[Transformed] = []
    settings: str | None = None
    """A digest of all settings and of the models transferred from, by which a run knows that this is done."""


class Distribution(Section):
    """One number per example, and its summary over the finite ones."""

    mean: float | None
    median: float | None
    quantile_05: float | None
    quantile_95: float | None
    nonfinite: Count
    """Examples whose value is NaN or infinite; left out of the summary, never counted as flat."""
    values: list[float | None]


class Curve(Section):
    """A list of m numbers per example (a spectrum, the steps of an iteration), each summarised over the examples."""

    mean: list[float | None]
    median: list[float | None]
    quantile_05: list[float | None]
    quantile_95: list[float | None]
    nonfinite: Count
    """Examples with a NaN or infinite entry; left out of every summary."""


class _PerExample(Distribution):
    """A distribution that knows how many examples it is of, and whose parts are of the same."""

    n: int
    parts: dict[str, Distribution] = {}

    @model_validator(mode="after")
    def _as_many_values_as_examples(self) -> Self:
        columns: list[Distribution] = [self, *self.parts.values()]
        lengths = {len(column.values) for column in columns}
        if self.n < 1 or lengths != {self.n}:
            raise ValueError(f"n is {self.n}, and there are {sorted(lengths)} values")
        return self


class Measured(_PerExample):
    """One geometric measure, per example and in summary."""

    provenance: Provenance
    name: str
    """The class name of the measure, with its scalar field: `SpectralCurvature(CrossEntropy)`."""
    measure: str
    """The measure with all its settings, as written in Python."""
    split: str
    n: int
    converged: float | None
    """Share of examples whose iteration met its tolerance; None where the measure is not iterative."""
    residual: float | None = None
    """Median over the finite values of the error that the measure itself reports, in its units; None where none."""
    parts: dict[str, Distribution] = {}
    """What else was found on the way, one number per example."""
    curves: dict[str, Curve] = {}
    """What else was found on the way, a list of numbers per example."""


class Bounded(_PerExample):
    """The distance per example within which one bound, or one attack, speaks about the prediction.

    `kind` says what it may be taken for: "sound", no adversarial example of this norm is nearer; "estimate", the same
    if constants seen at sampled points held everywhere; "proxy", a distance in a simplified model of the classifier;
    "attack", an adversarial example was found at this distance, so the true one is at most that.
    """

    provenance: Provenance
    name: str
    bound: str
    """The bound or the attacks with all settings, as written in Python."""
    kind: Literal["sound", "estimate", "proxy", "attack"]
    norm: Literal["Linf", "L2", "L1"]
    split: str
    n: int
    correct: int
    """Examples classified correctly; all others have distance 0."""
    ignored: int = 0
    """Results of attacks that the judge did not accept: outside the bounds, not finite, or classified correctly."""
    parts: dict[str, Distribution] = {}
    """What the bound is made of, one number per example."""

    def accuracy(self, radius: float) -> float:
        """Return the share of all examples that are correct and whose distance is above the radius.

        Certified accuracy for a sound bound; for attacks the accuracy that they leave.
        """
        return sum(v is None or v > radius for v in self.values) / self.n


class Picture(Section):
    """An array of one or three channels as bytes: 0 stands for `low`, 255 for `high`, in between linearly."""

    shape: tuple[int, int, int]
    """Channels, height, width."""
    pixels: str
    """The bytes in that order, in base64."""
    low: float
    high: float

    @model_validator(mode="after")
    def _as_many_bytes_as_pixels(self) -> Self:
        channels, height, width = self.shape
        try:
            size = len(b64decode(self.pixels, validate=True))
        except ValueError:
            raise ValueError("the pixels are not base64") from None
        if channels not in (1, 3) or min(height, width) < 1 or size != channels * height * width:
            raise ValueError(f"a picture of shape {self.shape} cannot have {size} bytes")
        return self


class Pictured(Section):
    """One example in pictures: itself, and what was found at it."""

    provenance: Provenance
    kind: Literal["adversarial", "gradient"]
    name: str
    """A short name of what was found, for tables."""
    settings: str
    """The attack, or the field whose gradient it is, with all settings, as written in Python."""
    split: str
    index: int
    """Of the example in its split."""
    label: int
    predicted: int
    found: int | None = None
    """The class predicted at the adversarial example; None where none was found, or none was looked for."""
    norm: Literal["Linf", "L2", "L1"] | None = None
    distance: float | None = None
    """Of the adversarial example, in that norm."""
    pictures: dict[str, Picture]
    """By what they show: `input`, `perturbation`, `adversarial`, `gradient`, `normalized`, `hessian`."""


class Direction(Section):
    """One axis of a surface."""

    name: str
    axis: str
    """The axis with all its settings, as written in Python."""
    forwards: float | None
    """The coordinate at which the decision first changes along the axis, to six digits; None where it does not within
    the span, and for surfaces without one."""
    backwards: float | None
    """The same against the axis, positive as well."""
    orthogonal_part: bool = False
    """Whether the axis is the part of its direction that is orthogonal to the other axis, on which it leans."""


class AttackPath(Section):
    """The way of an attack, seen on a plane."""

    attack: str
    points: list[tuple[float, float]]
    """Coordinates of each point, of those of the plane the nearest one (L2)."""
    off: float
    """The distance of the last point from the plane over its distance from the origin, L2; 0 for a path in it."""
    succeeded: bool
    """Whether the last point is classified otherwise than the label says."""


class Surface(Section):
    """Scalar fields on a plane through an input, or through the parameters."""

    provenance: Provenance
    settings: str
    """The surface with all its settings, as written in Python."""
    space: Literal["input", "parameters"]
    plane: str
    """A digest of the origin and both axes: surfaces with the same one show the same plane."""
    of: str
    """The name of the run whose gradients the axes follow."""
    split: str
    index: int | None
    """Of the example in its split; None for a mean over the first n."""
    n: int
    example: str | None
    """A digest of the example's values: surfaces with the same one are around the same input."""
    label: int | None
    predicted: int | None
    """At the example itself; None where its logits are not finite, which is an error."""
    norm: Literal["Linf", "L2", "L1"] | None
    """The norm in which the axes have length 1; None in the space of parameters, where they are filter-normalised."""
    eps: float | None
    clipped: bool
    """Whether points outside the bounds were brought back to them, entry by entry."""
    axes: tuple[Direction, Direction]
    cosine: float
    """Of the angle between the two directions that the axes were asked for."""
    x: list[float]
    """Coordinates along the first axis."""
    y: list[float]
    fields: dict[str, list[list[float | None]]]
    """By name, for example `Decision`: a row for each coordinate of y, a value for each of x; None where not finite."""
    shown: list[str]
    """The fields that were asked for; the decision function is among the fields whether or not it was."""
    ball: list[tuple[float, float]] = []
    """The outline of the threat's ball on the plane."""
    path: AttackPath | None = None

    @model_validator(mode="after")
    def _a_value_for_each_point(self) -> Self:
        for name, rows in self.fields.items():
            if [len(row) for row in rows] != [len(self.x)] * len(self.y):
                raise ValueError(f"the field {name} does not have {len(self.y)} rows of {len(self.x)} values")
        if not self.shown or not set(self.shown) <= set(self.fields):
            raise ValueError(f"the fields {sorted(self.fields)} are not all of those shown, {self.shown}")
        return self


class Profile(Section):
    """Functions of one variable at one example, for example the loss along a direction beside its expansions."""

    provenance: Provenance
    name: str
    settings: str
    split: str
    index: int
    x_label: str
    y_label: str
    lengths: dict[Literal["Linf", "L2", "L1"], float] = {}
    """The length of the whole step, x = 1, by norm; empty where x is no share of a step."""
    x: list[float]
    curves: dict[str, list[float | None]]
    """By name, a value for each x; None where not finite."""

    @model_validator(mode="after")
    def _a_value_for_each_x(self) -> Self:
        lengths = {name: len(values) for name, values in self.curves.items()}
        if any(length != len(self.x) for length in lengths.values()):
            raise ValueError(f"there are {len(self.x)} places, and the curves have {lengths} values")
        return self


class Record(Section):
    """Everything measured on one run."""

    schema_version: Literal[1] = 1
    name: str
    model: str
    """The architecture with its settings, or the class name of a user's own module."""
    data: str
    """The data set and its classes, in words."""
    config: dict[str, Any]
    """The resolved configuration that trained the model; empty for a model trained elsewhere."""
    training: Training | None = None
    evaluation: Evaluation | None = None
    other_evaluations: list[Evaluation] = []
    """With other attacks than the evaluation that stands for the run: what figures of papers are drawn from."""
    measures: list[Measured] = []
    bounds: list[Bounded] = []
    surfaces: list[Surface] = []
    profiles: list[Profile] = []
    pictured: list[Pictured] = []


def read_record(path: Path) -> Record:
    """Read a record; `path` is a JSON file or a run folder that holds `record.json`.

    Raises:
        UserError: no such file, not JSON, another schema version, or fields that do not fit the schema.
    """
    file = path / "record.json" if path.is_dir() else path
    if not file.exists():
        raise UserError(f"record: {file} does not exist. Give a run folder that holds a record.json.")
    return parsed_file(Record, "record", file, SCHEMA_VERSION)


Kind = TypeVar("Kind", bound=Section)


def parsed_file(kind: type[Kind], what: str, file: Path, version: int) -> Kind:
    """Return the content of a JSON file that anybody may have made.

    Raises:
        UserError: not JSON, another schema version, fields that do not fit the schema, numbers that are not finite.
    """
    text = read_text(what, file, LARGE)
    if re.search(r"\\u[dD][89a-fA-F]", text) and _unwritable(text):
        raise UserError(f"{what}: {file} holds half a character (a lone surrogate), which no text file can hold.")
    try:
        content = json.loads(text, parse_float=_finite, parse_constant=_finite)
        if isinstance(content, dict) and content.get("schema_version") != version:
            found = content.get("schema_version")
            raise UserError(f"{what}: {file} has schema version {found!r}; this meseta reads version {version}.")
        return kind.model_validate(content)
    except ValidationError as error:
        where = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
        raise UserError(f"{what}: {file} does not fit the schema: {where}") from None
    except UserError:
        raise
    except (ValueError, RecursionError) as error:  # not only JSONDecodeError: a number may have too many digits
        raise UserError(f"{what}: {file} is not JSON: {error}") from None


def _finite(text: str) -> float:
    """Return the number that a JSON text stands for; nothing that we write is NaN or infinite there."""
    if not isfinite(value := float(text)):
        raise ValueError(f"{text} is no finite number")
    return value


def _unwritable(text: str) -> bool:
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except (ValueError, RecursionError):  # which are errors of another kind
        return False
    return False


def write_record(record: Record, path: Path) -> None:
    """Write the record as JSON to `path`, whole or not at all."""
    write_text(path, record.model_dump_json(indent=1) + "\n")


def find_records(paths: Sequence[Path]) -> list[Record]:
    """Return the records of run folders, of folders of runs, and of record files, in the order given.

    Raises:
        UserError: a path without a record.
    """
    found = []
    for path in paths:
        inside = [path] if path.is_file() or (path / "record.json").exists() else sorted(path.glob("*/record.json"))
        if not inside:
            raise UserError(f"run: no record.json in {path} or its folders. Give runs, or a folder of runs.")
        found += [read_record(record) for record in inside]
    return found
