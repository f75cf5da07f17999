"""A fuzz campaign through the command line: configurations, arguments, checkpoints, records, data.

`MESETA_FUZZ=100 pytest tests/fuzz` draws 100 times as many examples, and new ones; see docs/security.md.
"""

import csv
import json
import os
import re
import shutil
from html.parser import HTMLParser

import hostile
import numpy as np
import pytest
import torch
import yaml
from hostile import BOMB, as_json, bright, changed, damaged, encoded, laughs, png, safetensors
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from plotly.offline import get_plotlyjs
from safetensors.torch import save_file
from sandbox import CANARY, cases, ends_well, fresh

import meseta.sweeping.run
import meseta.training.run
from meseta.errors import UserError
from meseta.evaluation.record import read_record
from meseta.models import Mlp, load_weights

REACHED = "the training itself, which a fuzz campaign has no time for"


@pytest.fixture
def untrained(monkeypatch):
    """Let `meseta train` do everything but train."""

    def stop(*_):
        raise UserError(REACHED)

    monkeypatch.setattr(meseta.training.run._Training, "fit", stop)


@pytest.fixture
def unswept(monkeypatch):
    """Let `meseta sweep` do everything but make cells."""

    def stop(*_):
        raise UserError(REACHED)

    monkeypatch.setattr(meseta.sweeping.run, "_work_together", stop)


# Configurations

CONFIG = {
    "name": "fuzzed",
    "out": "runs",
    "data": {"source": "digits", "classes": [1, 7], "val_fraction": 0.1, "train_limit": 64, "test_limit": 16},
    "augment": "none",
    "model": {"class_path": "Mlp", "init_args": {"hidden": [4], "activation": "softplus", "beta": 2.0}},
    "objective": {
        "class_path": "AdversarialTraining",
        "init_args": {"attack": {"class_path": "PGD", "init_args": {"threat": {"norm": "L2", "eps": 0.5}, "steps": 2}}},
    },
    "optimizer": {"class_path": "Adam", "init_args": {"lr": 0.001}},
    "schedule": "Constant",
    "epochs": 1,
    "batch_size": 32,
    "seed": 0,
}


def as_yaml(tree):
    try:
        return yaml.safe_dump(tree, allow_unicode=True).encode()
    except (RecursionError, ValueError, UnicodeEncodeError):
        return as_json(tree)


def trains(world, content):
    (fresh(world.cwd / "in") / "c.yaml").write_bytes(content)
    return ends_well(["train", "--config", "in/c.yaml"], may_write=[world.cwd, world.cache])


@cases(60)
@given(tree=changed(CONFIG))
def test_configurations_with_other_values(world, untrained, tree):
    fresh(world.cwd / "runs")
    trains(world, as_yaml(tree))


@cases(40)
@given(content=damaged(yaml.safe_dump(CONFIG).encode()))
def test_damaged_configurations(world, untrained, content):
    trains(world, content)


SWEEP = {
    "name": "searched",
    "run": {"model": "Mlp", "objective": "InputGradient", "epochs": 1},
    "space": {"objective.weight": {"low": 0.1, "high": 1, "num": 2, "log": True}, "optimizer": ["Adam", "Sgd"]},
    "search": "grid",
    "goal": {"Linf": 0.1},
    "floor": 0.9,
    "storage": "journal",
    "evaluate": {"split": "val", "threats": {"Linf": [0.1]}, "checks": []},
}


@cases(20)
@given(tree=changed(SWEEP))
def test_configurations_of_sweeps(world, unswept, tree):
    (fresh(world.cwd / "in") / "c.yaml").write_bytes(as_yaml(tree))
    ends_well(["sweep", "--config", "in/c.yaml"], may_write=[world.cwd, world.cache])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (laughs().encode(), "with every alias written out"),
        (b"a: &a [*a]\n", "with every alias written out"),
        (b"a: " + b"[" * 3000, "nested too deeply"),
        (b"epochs: 3\nepochs: 4\n", "'epochs' stands twice"),
        (b"? [1, 2]\n: 3\n", "a key is no text"),
        (b"name: !!python/object/apply:os.system ['touch canary']\n", "could not determine a constructor"),
        (b"epochs: " + b"9" * 5000, "cannot be read"),
        (b"model: {class_path: Mlp, init_args: {hidden: [0]}}\n", "`hidden` must be a whole number"),
        (b'name: "\\ud800"\n', "half a character"),
        (b"objective: canary_module.X\n", "add --allow canary_module"),
        (b"objective: {class_path: os.system, init_args: {command: 'touch canary'}}\n", "the module os is not allowed"),
        (b"\xff\xfe", "UTF-8"),
        (b"x" * (2**20 + 1), "more than 1 MiB"),
    ],
)
def test_known_bad_configurations(world, untrained, content, message):
    code, _, err = trains(world, content)
    assert (code, message in err) == (2, True), err


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "loop", "sparse"])
@pytest.mark.parametrize("name", ["config.yaml", "record.json", "config.json", "model.safetensors"])
def test_files_that_are_no_files(world, undrawn, kind, name):
    run = world.cwd / "run"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(world.run, run)
    (run / name).unlink()
    if kind == "fifo":
        os.mkfifo(run / name)
    elif kind == "device":
        (run / name).symlink_to("/dev/zero")
    elif kind == "folder":
        (run / name).mkdir()
    elif kind == "loop":
        (run / name).symlink_to(name)
    else:
        with (run / name).open("wb") as file:
            file.truncate(2**43)
    code, _, err = ends_well(["measure", "run", "--n", "2"])
    assert (code, name.split(".")[0] in err) == (2, True), err
    for verb in ("show", "report"):
        code, _, _ = ends_well([verb, "run"], may_write=[run])
        assert code == (2 if name == "record.json" else 0)


# Arguments

WORDS = {
    "train": ["--name", "--out", "--config", "--data.source", "--data.classes", "--model", "--objective", "--epochs"],
    "evaluate": ["--eps", "--norm", "--threats", "--suite", "--attacks", "--n", "--sources", "--device"],
    "measure": ["--measures", "--n", "--split", "--batch_size", "--device", "--config"],
    "certify": ["--bounds", "--attacks", "--n"],
    "surface": ["--axes", "--field", "--index", "--span", "--resolution", "--out", "--norm", "--eps"],
    "figure": ["--out", "--device"],
    "reproduce": ["--scale", "--only", "--out", "--processes"],
    "report": ["--out"],
    "show": [],
    "list": [],
    "demo": ["--config", "--name", "--out"],
    "sweep": ["--name", "--out", "--storage", "--search", "--trials", "--floor", "--workers", "--space"],
}
ARGUMENTS = st.sampled_from(
    [text for text in hostile.TEXTS if "\0" not in text] + ["-9", "[", "{", "[1]", "{a: 1}", "10"]
)


@cases(60)
@given(data=st.data())
def test_arguments(world, untrained, unswept, data):
    verb = data.draw(st.sampled_from(sorted(WORDS)))
    # the run itself is left out where a verb could then take its time
    before = ["nowhere"] if verb in ("evaluate", "measure", "certify", "surface", "report", "show") else []
    options = [*WORDS[verb], "--allow", "--nothing"]
    words = data.draw(st.lists(st.sampled_from(options) | ARGUMENTS, min_size=1, max_size=4))
    assume(f"--allow {CANARY}" not in " ".join(words))  # whoever says so means it
    if verb == "demo":
        words = ["--config", data.draw(ARGUMENTS)]
    if verb == "reproduce":
        words = ["--scale", data.draw(ARGUMENTS), *words]
    ends_well([verb, *before, *words], may_write=[world.cwd, world.cache])


@cases(25)
@given(option=st.sampled_from(["--n", "--batch_size", "--split", "--measures", "--device"]), value=ARGUMENTS)
def test_arguments_beside_a_run(world, option, value):
    run = world.cwd / "run"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(world.run, run)
    ends_well(["measure", "run", "--measures", "[GradientNorm]", f"{option}={value}"], may_write=[run, world.cache])


# Checkpoints


def loads(world, **files):
    run = world.cwd / "run"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(world.run, run)
    for name, content in files.items():
        (run / name.replace("_", ".")).write_bytes(content)
    code = ends_well(["measure", "run", "--n", "2", "--measures", "[GradientNorm]"], may_write=[run, world.cache])[0]
    if code == 2:
        assert (run / "record.json").read_bytes() == (
            files.get("record_json") or (world.run / "record.json").read_bytes()
        )


@cases(40)
@given(data=st.data())
def test_descriptions_of_models(world, data):
    described = json.loads((world.run / "config.json").read_text())
    loads(world, config_json=data.draw(changed(described).map(as_json) | damaged(as_json(described))))


@cases(40)
@given(data=st.data())
def test_weights(world, data):
    content = (world.run / "model.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    rewritten = changed(header).map(as_json).map(lambda text: safetensors(text, content[8 + size :]))
    loads(world, model_safetensors=data.draw(rewritten | damaged(content)))


@cases(25)
@given(data=st.data())
def test_configurations_of_runs(world, data):
    content = (world.run / "config.yaml").read_bytes()
    loads(world, config_yaml=data.draw(changed(yaml.safe_load(content)).map(as_yaml) | damaged(content)))


@pytest.mark.parametrize(
    "changes",
    [
        {"options": {"hidden": [10**9] * 3}},
        {"options": {"hidden": [10**18]}},
        {"options": {"hidden": [1] * 20_000}},
        {"input_shape": [2 * 10**9]},
        {"classes": 2 * 10**9},
        {"architecture": "canary_module.X"},
        {"architecture": "VggLike", "options": {"width": 10**8}},
        {"architecture": "ResNet31", "options": {"width": 2**30}},
    ],
)
def test_models_that_would_fill_the_memory(world, changes):
    described = json.loads((world.run / "config.json").read_text()) | changes
    loads(world, config_json=json.dumps(described).encode())


def test_a_header_that_claims_terabytes(world):
    entry = {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}
    for content in (
        safetensors({"w": entry}),
        safetensors({"w": entry}, bytes(64)),
        safetensors(b"{}", length=2**62),
        safetensors({"w": {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]}}),
        safetensors({"w": {"dtype": "F32", "shape": [2**63, 2], "data_offsets": [0, 0]}}),
        BOMB,
    ):
        loads(world, model_safetensors=content)


def poisoned(kind):
    weights = Mlp(hidden=(4,)).build((4,), 2).state_dict()
    return {
        "code": BOMB,
        "code beside": {"state_dict": weights, "hook": hostile.Payload()},
        "list": [1, 2],
        "nothing": {},
        "nan": weights | {"body.1.bias": torch.full((4,), float("nan"))},
        "sparse": weights | {"body.1.weight": torch.zeros(4, 4).to_sparse()},
        "huge": weights | {"body.1.weight": torch.zeros(1).expand(2**40)},
        "meta": weights | {"body.1.weight": torch.empty(4, 4, device="meta")},
        "itself": weights | {"state_dict": weights},
        "good": {"epoch": 9, "state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}},
    }[kind]


@pytest.mark.parametrize(
    "kind", ["code", "code beside", "list", "nothing", "nan", "sparse", "huge", "meta", "itself", "good"]
)
def test_state_dicts_of_others(tmp_path, kind):
    file, content = tmp_path / "w.pt", poisoned(kind)
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    takes(file)


def takes(file):
    """Load weights into a model: they are taken, or refused in one line with the model as it was; nothing is run."""
    from sandbox import WATCH

    model = Mlp(hidden=(4,)).build((4,), 2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    WATCH.seen, WATCH.may_write, WATCH.count = [], [], WATCH.count + 1
    try:
        load_weights(model, file)
        refused = ""
    except UserError as error:
        refused = str(error)
    finally:
        WATCH.may_write = None
    assert WATCH.seen == []
    assert "\n" not in refused
    if refused:
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@cases(60)
@given(data=st.data())
def test_damaged_state_dicts(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("weights") / data.draw(st.sampled_from(["w.pt", "w.safetensors"]))
    torch.save(poisoned("good"), file, _use_new_zipfile_serialization=data.draw(st.booleans()))
    file.write_bytes(data.draw(damaged(file.read_bytes())))
    takes(file)


# Records


@cases(50)
@given(data=st.data())
def test_records_in_the_terminal(world, data):
    record = json.loads((world.run / "record.json").read_text())
    shows(world, data.draw(changed(record).map(as_json) | damaged(as_json(record))))


def shows(world, content):
    (fresh(world.cwd / "shown") / "record.json").write_bytes(content)
    ends_well(["show", "shown"])


class Page(HTMLParser):
    """What a browser would run, load or show of a page."""

    def __init__(self):
        super().__init__()
        self.scripts, self.bad = 0, []

    def handle_starttag(self, tag, attributes):
        self.scripts += tag == "script"
        names = {name for name, _ in attributes}
        links = [
            value for name, value in attributes if name in ("src", "href") and not value.startswith(("data:", "#"))
        ]
        if (
            links
            or any(name.startswith("on") for name in names)
            or tag in ("iframe", "object", "embed", "link", "base")
        ):
            self.bad.append((tag, attributes))


def reports(world, content):
    folder = fresh(world.cwd / "reported")
    (folder / "record.json").write_bytes(content)
    code, _, _ = ends_well(["report", "reported"], may_write=[folder])
    if code == 2:
        assert [file.name for file in folder.iterdir()] == ["record.json"]
        return
    page = Page()
    page.feed((folder / "report.html").read_text(encoding="utf-8").replace(get_plotlyjs(), ""))
    assert (page.scripts, page.bad) == (3, [])
    with (folder / "report.csv").open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if re.match(r"\s*[=+@]|-(?![\d.])", cell)]
    assert not re.search(r"\\(input|write)", (folder / "report.tex").read_text(encoding="utf-8"))
    assert not re.search(r"(?<!\\)[<>]|!\[x\]", (folder / "report.md").read_text(encoding="utf-8"))


@pytest.fixture
def undrawn(monkeypatch):
    """Leave out the files of figures, which take most of a report's time; the page has them all."""
    monkeypatch.setattr("meseta.report.write_figures", lambda *_: [])


@cases(15)
@given(data=st.data())
def test_records_on_pages(world, undrawn, data):
    record = json.loads((world.run / "record.json").read_text())
    reports(world, as_json(data.draw(changed(record, most=6))))


def everywhere(tree, text, own=()):
    """Return the tree with the text in place of every string that the schema leaves free."""
    if isinstance(tree, dict):
        return {key: everywhere(value, text, own) for key, value in tree.items()}
    if isinstance(tree, list):
        return [everywhere(value, text, own) for value in tree]
    return text if isinstance(tree, str) and tree not in own and len(tree) < 2000 else tree


OWN = ["test", "Linf", "L2", "L1", "input", "parameters", "fine", "suspicious", "broken", "untested", "trusted"]
OWN += ["sound", "estimate", "proxy", "attack", "adversarial", "gradient"]


@pytest.mark.parametrize(
    "text",
    [
        "</script>\"'><img src=x onerror=alert(1)>{{ 7 }}",
        "\x1b[2J\u202e\\input{/etc/passwd}![x](https://evil.example/x.png)",
        "=cmd|'/C calc'!A0",
        "../../outside/x[bold]x[/nothing]",
    ],
)
def test_one_text_everywhere(world, text):
    record = read_record(world.run).model_dump(mode="json")
    pictures = [one | {"pictures": {}} for one in record["pictured"]]
    shown = [name for one in record["surfaces"] for name in one["shown"]]
    content = as_json(everywhere(record | {"pictured": pictures}, text, [*OWN, *shown]))
    shows(world, content)
    reports(world, content)


# Data


def images(folder, content, name="0.png"):
    """Write an image folder of two classes, one file of which has this content."""
    good = encoded(Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)), "PNG")
    for label in ("a", "b"):
        (folder / "train" / label).mkdir(parents=True)
        for i in range(3):
            (folder / "train" / label / f"good{i}.png").write_bytes(good)
    (folder / "train" / "a" / name).write_bytes(content)


def trains_on(world, source):
    fresh(world.cwd / "runs")
    arguments = ["--model", "Mlp", "--data.val_fraction", "0.3"]
    code, _, err = ends_well(["train", "--data.source", source, *arguments], may_write=[world.cwd, world.cache, "/tmp"])
    assert code == 2
    return err


GOOD = [
    encoded(Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)), form)
    for form in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
]


@cases(60)
@given(content=st.sampled_from(GOOD).flatmap(damaged))
def test_images(world, untrained, content):
    images(fresh(world.cwd / "images"), content)
    trains_on(world, "images")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (png(2**31 - 1, 2**31 - 1), "cannot be decoded"),
        (bright(11_000, 9_000), "cannot be decoded"),
        (bright(20_000, 9_000), "cannot be decoded"),
        (hostile.POSTSCRIPT, "cannot be decoded"),
        (BOMB, "cannot be decoded"),
        (b"", "cannot be decoded"),
        (bright(9, 9), "Set image_size"),
        (encoded(Image.new("I;16", (8, 8)), "PNG"), "pixel mode"),
        (encoded(Image.new("F", (8, 8)), "TIFF"), "pixel mode"),
    ],
)
def test_known_bad_images(world, untrained, content, message):
    images(fresh(world.cwd / "images"), content)
    assert message in trains_on(world, "images")


def test_folders_with_odd_names_and_links(world, untrained):
    folder = fresh(world.cwd / "images")
    images(folder, GOOD[0])
    (folder / "train" / "a" / "0.png").unlink()
    (folder / "train" / "a" / "loop.png").symlink_to("loop.png")
    (folder / "train" / "a" / "up").symlink_to(folder)
    os.mkfifo(folder / "train" / "a" / "pipe.png")
    (folder / "train" / "a" / "zero.png").symlink_to("/dev/zero")
    assert REACHED in trains_on(world, "images")
    for name in (b"\xff", b"\x1b[2J<script>", "\u202e".encode(), b"=1+1"):
        (folder / "train" / "b").rename(folder / "train" / os.fsdecode(name))
        trains_on(world, "images")
        (folder / "train" / os.fsdecode(name)).rename(folder / "train" / "b")


@cases(30)
@given(data=st.data())
def test_tensors(world, untrained, data):
    folder = fresh(world.cwd / "tensors")
    tensors = {"train_images": torch.zeros(8, 1, 4, 4, dtype=torch.uint8), "train_labels": torch.arange(8) % 2}
    name = data.draw(st.sampled_from(sorted(tensors)))
    kind = data.draw(st.sampled_from([torch.uint8, torch.int64, torch.float32, torch.bool, torch.float8_e5m2]))
    value = data.draw(st.sampled_from([0.0, 1.0, -1.0, 2.0**40, float("nan"), float("inf")]))
    shape = data.draw(
        st.sampled_from([(8,), (8, 1, 4, 4), (0,), (8, 0), (1,), (), (8, 1), (7, 1, 4, 4), (8, 1, 1, 1, 1)])
    )
    if data.draw(st.booleans()):
        tensors[name] = torch.full(shape, value).to(kind)
    save_file(tensors, folder / "d.safetensors")
    if data.draw(st.booleans()):
        (folder / "d.safetensors").write_bytes(data.draw(damaged((folder / "d.safetensors").read_bytes())))
    trains_on(world, "tensors/d.safetensors")


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    """The bytes of a good Parquet file of images."""
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    image = {"bytes": encoded(Image.fromarray(np.zeros((4, 4), np.uint8)), "PNG"), "path": None}
    file = tmp_path_factory.mktemp("parquet") / "train.parquet"
    datasets.Dataset.from_dict({"image": [image] * 8, "label": [0, 1] * 4}, features=features).to_parquet(file)
    return file.read_bytes()


@cases(12)
@given(data=st.data())
def test_parquet(world, untrained, parquet, data):
    (fresh(world.cwd / "hub") / "train.parquet").write_bytes(data.draw(damaged(parquet)))
    trains_on(world, "hub")


def test_a_parquet_file_that_names_files_of_this_machine(world, untrained):
    import datasets

    private = world.root / "outside" / "private.png"
    private.write_bytes(GOOD[0])
    features = datasets.Features({"image": datasets.Image(decode=False), "label": datasets.Value("int64")})
    rows = {"image": [{"bytes": None, "path": str(private)}] * 4, "label": [0, 1, 0, 1]}
    folder = fresh(world.cwd / "hub")
    datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "train.parquet")
    assert "names a file in row 0 in place of an image" in trains_on(world, "hub")
