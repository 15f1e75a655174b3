"""`python -m validation.gpu`."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Of a machine that has torch and little else.
TARGET = str(Path(tempfile.gettempdir()) / "wavelit-site")


def _install(wheels: str) -> None:
    files = sorted(map(str, Path(wheels).glob("*.whl")))
    if not files:
        raise SystemExit(f"{wheels} holds no wheels")
    options = ["--no-index", "--no-deps", "--upgrade", "--target", TARGET]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *options, *files], check=True)
    _add(TARGET)


def _add(folder: str) -> None:
    """To the places where this process and those that it starts look for modules."""
    sys.path.insert(0, folder)
    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = folder if known is None else f"{folder}{os.pathsep}{known}"


if __name__ == "__main__":
    if "--wheels" in sys.argv:
        at = sys.argv.index("--wheels")
        _install(sys.argv[at + 1])
        del sys.argv[at : at + 2]
    _add(str(ROOT / "src"))
    from validation.gpu.campaign import main

    raise SystemExit(main(sys.argv[1:]))
