"""Where the sources may load pickles, start programs and import by name: here, and nowhere else."""

import ast
from functools import cache
from pathlib import Path

import meseta

ROOT = Path(meseta.__file__).parent

ALLOWED = {
    "import_module": {
        "allowed.py",  # modules that the user allows by name
        "certificates/auto_lirpa.py",  # a constant name
        "lazy.py",  # names from meseta's own tables
        "registry.py",
    },
    "subprocess.run": {"evaluation/provenance.py"},  # git, which tells the commit
    "torch.load": {"models/weights.py", "training/checkpoint.py"},  # weights_only, as the next test says
    "yaml.load": set(),
}
NEVER = {"eval", "exec", "__import__", "compile", "os.system", "os.popen", "pickle.load", "pickle.loads"}
NEVER |= {"yaml.unsafe_load", "yaml.full_load", "runpy.run_path", "runpy.run_module", "numpy.load", "np.load"}
NEVER |= {"marshal.loads", "shelve.open", "joblib.load", "dill.load", "dill.loads", "torch.jit.load", "torch.hub.load"}
MODULES = {"subprocess": {"evaluation/provenance.py"}, "pickle": {"models/weights.py"}}
"""Modules that only these files may import; of pickle, the name of an error."""


@cache
def trees():
    files = sorted(ROOT.rglob("*.py"))
    return [(str(file.relative_to(ROOT)), ast.parse(file.read_text(encoding="utf-8"))) for file in files]


@cache
def calls():
    return [call for file, tree in trees() for call in _calls(file, tree)]


def _calls(file, tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield file, ast.unparse(node.func), node


def test_dangerous_calls_stand_where_they_are_meant_to():
    met = set()
    for file, name, node in calls():
        where = f"{file}:{node.lineno} calls {name}"
        assert name not in NEVER, where
        assert not name.startswith("subprocess.") or name in ALLOWED, where
        for known, files in ALLOWED.items():
            if name == known or name.endswith(f".{known}"):
                assert file in files, where
                met.add(known)
    assert met == {"import_module", "subprocess.run", "torch.load"}, "the test sees the calls that there are"


def test_torch_loads_weights_only():
    """Lightning takes `weights_only` where it resumes from a checkpoint, `ckpt_path`, and passes it on to torch."""
    for file, name, node in calls():
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if name.endswith("torch.load") or given.get("ckpt_path", "None") != "None":
            assert given.get("weights_only") == "True", f"{file}:{node.lineno}"


def test_yaml_is_read_by_the_safe_loader():
    for file, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr.endswith("Loader") and ast.unparse(node.value) == "yaml":
                assert node.attr == "SafeLoader", f"{file}:{node.lineno}"


def test_dangerous_modules_are_imported_where_they_are_meant_to():
    for file, tree in trees():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert file in MODULES.get(name.partition(".")[0], {file}), f"{file}:{node.lineno} imports {name}"
            if "pickle" in names:
                assert ast.unparse(node) == "from pickle import UnpicklingError"


def test_no_code_of_a_hub_repository_is_trusted():
    assert not [file for file, tree in trees() if "trust_remote_code" in ast.dump(tree)]
