"""Imports point one way, and `import meseta` is cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import meseta

ROOT = Path(meseta.__file__).parent

# Each part may import what stands before it. Parts in one row do not import one another, but for the arrows below.
ROWS = [
    {"version", "lazy", "shapes", "errors"},
    {"allowed", "files", "checks"},
    {"processes", "workers"},
    {"linalg", "schedules"},
    {"autodiff", "threat"},
    {"geometry", "attacks", "models", "data"},
    {"certificates", "surfaces"},
    {"objectives"},
    {"registry", "configuration"},
    {"evaluation"},
    {"training", "report"},
    {"workflow"},
    {"comparing", "looking"},
    {"papers", "sweeping"},
    {"reproductions"},
    {"cli"},
    {"__main__", "__init__"},
]
RANK = {part: rank for rank, row in enumerate(ROWS) for part in row}
ARROWS = {("configuration", "registry")}
HEAVY = {
    "lightning": {"training", "processes"},
    "datasets": {"data"},
    "sklearn": {"data"},
    "PIL": {"data", "report"},
    "plotly": {"report"},
    "matplotlib": {"report"},
    "jinja2": {"report"},
    "jsonargparse": {"configuration"},
    "pydantic": {"evaluation", "report"},
    "huggingface_hub": {"models", "data"},
    "rich": {"cli", "report"},
    "optuna": {"sweeping"},
    "sqlalchemy": {"sweeping"},
    "pyautoattack": {"attacks"},
}


def imports():
    for file in ROOT.rglob("*.py"):
        part = file.relative_to(ROOT).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from ((file, part, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield file, part, node.module


def test_imports_point_one_way():
    for file, part, module in imports():
        if module.split(".")[0] != "meseta" or module == "meseta":
            continue
        target = module.split(".")[1]
        if target == part or (part, target) in ARROWS:
            continue
        assert RANK[target] < RANK[part], f"{file.name}: {part} must not import {target}"


def test_the_report_reads_records_and_nothing_else():
    allowed = {"report", "errors", "files", "lazy", "version"}
    for file, part, module in imports():
        if part == "report" and module.startswith("meseta."):
            assert module.split(".")[1] in allowed or module == "meseta.evaluation.record", file.name


def test_heavy_packages_are_imported_by_the_folder_that_needs_them():
    for file, part, module in imports():
        top = module.split(".")[0]
        assert top not in HEAVY or part in HEAVY[top], f"{file.name} imports {top}"


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_meseta_and_help_do_not_even_import_torch():
    code = "import sys, meseta.cli; meseta.cli.main(['--help']); print('torch' in sys.modules)"
    assert run(code).strip().endswith("False")


def test_methods_need_torch_alone():
    """Objectives, attacks and measures run where none of the other dependencies can be imported."""
    code = """
import sys
for name in ("lightning", "datasets", "sklearn", "pydantic", "jsonargparse", "rich", "yaml", "matplotlib", "plotly",
             "jinja2", "huggingface_hub", "PIL", "safetensors", "optuna", "jaxtyping", "beartype"):
    sys.modules[name] = None
import torch
from meseta import Threat
from meseta.attacks import FGSM, PGD
from meseta.geometry import GradientNorm, SpectralCurvature
from meseta.objectives import AdversarialTraining, CrossLipschitz, Erm, InputGradient
model = torch.nn.Linear(4, 3)
x, y = torch.rand(5, 4), torch.tensor([0, 1, 2, 0, 1])
for objective in (Erm, InputGradient, CrossLipschitz, AdversarialTraining):
    objective()(model, x, y).total.backward()
PGD(threat=Threat(norm="Linf", eps=8 / 255, bounds=(0, 1)), steps=40)(model, x, y)
print(SpectralCurvature()(model, x, y).value.shape, GradientNorm()(model, x, y).value.shape)
"""
    assert run(code).strip() == "torch.Size([5]) torch.Size([5])"
