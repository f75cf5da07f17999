"""Install each given wheel or sdist in an environment of its own, and try it there: `python tests/try_dist.py dist/*`.

The packages that meseta needs are seen from the environment that runs this, meseta itself is not.
"""

import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

DATA = ("meseta/py.typed", "meseta/recipes/demo.yaml", "meseta/report/page.html", "meseta/report/page.css")
BUILD_AND_TEST = ("pyproject.toml", "README.md", "LICENSE", "Makefile", "constraints.txt", "tests/test_docs.py")
STRANGERS = ("tests/", "results/", "benchmarks/", "docs/", "examples/", "runs/")
TRIAL = """
import importlib.resources, sys, meseta
assert sys.prefix in meseta.__file__, meseta.__file__
assert (importlib.resources.files("meseta") / "recipes" / "demo.yaml").is_file()
print("import meseta", meseta.__version__)
"""


def check_contents(archive: Path) -> None:
    """Raise where files are missing, or where a wheel brings what belongs to the repository."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            names = wheel.namelist()
        assert not [name for name in names if name.startswith(STRANGERS)], "the wheel holds more than the package"
        assert not [name for name in names if name.endswith((".safetensors", ".ckpt", ".png"))]
        wanted = DATA
    else:
        with tarfile.open(archive) as sdist:
            names = [name.partition("/")[2] for name in sdist.getnames()]
        wanted = (*(f"src/{name}" for name in DATA), *BUILD_AND_TEST)
    missing = [name for name in wanted if name not in names]
    assert not missing, f"{archive.name} lacks {missing}"
    print(f"{archive.name}: {archive.stat().st_size / 1024:.0f} KiB, {len(names)} files")


def try_installed(archive: Path, folder: Path) -> None:
    """Install the archive below `folder` and run its commands from there."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", archive.resolve()], check=True)
    scheme = {"base": str(folder), "platbase": str(folder)}
    outer = Path(sysconfig.get_path("purelib")).resolve()
    # A path alone: the .pth file of an editable meseta over there is not read.
    Path(sysconfig.get_path("purelib", vars=scheme), "outer.pth").write_text(f"{outer}\n")
    for command in (
        [python, "-c", TRIAL],
        [folder / "bin" / "meseta", "--version"],
        [folder / "bin" / "meseta", "list"],
    ):
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        print("  ", done.stdout.strip().split("\n")[0])


if __name__ == "__main__":
    for name in sys.argv[1:]:
        check_contents(Path(name))
        with tempfile.TemporaryDirectory() as folder:
            try_installed(Path(name), Path(folder))
