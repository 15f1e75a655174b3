"""The growth of the linear part of the shipped models (`wavelit.model.growth`).

.venv/bin/python scripts/linear_part.py
"""

from wavelit import load
from wavelit.model.growth import growth
from wavelit.model.pretrained import pretrained

if __name__ == "__main__":
    for name in pretrained():
        print(f"{name} {growth(load(name)):.3f}")
