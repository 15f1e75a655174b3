#!/usr/bin/env bash
# Install the built wheel into an empty environment and use it outside of the checkout: the demo,
# a simulated dataset, and everything in Python that docs/your_data.md shows.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A build in the checkout would leave its files there.
mkdir "$work/source" "$work/outside"
cp -r "$root/pyproject.toml" "$root/README.md" "$root/LICENSE" "$root/src" "$work/source"
rm -rf "$work"/source/src/*.egg-info
"${PYTHON:-python3}" -m venv "$work/venv"
pip() { "$work/venv/bin/python" -m pip "$@" --quiet --disable-pip-version-check; }
pip wheel --no-deps --wheel-dir "$work" "$work/source"
wheel=$(echo "$work"/wavelit-*.whl)
pip install --no-compile -c "$root/constraints.txt" "$wheel"

cd "$work/outside"
unset PYTHONPATH
export OMP_NUM_THREADS=1 MPLBACKEND=agg PATH="$work/venv/bin:$PATH"
python -c "import sys, wavelit; assert wavelit.__file__.startswith(sys.prefix), wavelit.__file__"
wavelit data generate shear_flow --size tiny
wavelit demo shear_flow --size tiny --minutes 0.02
wavelit data check datasets/pocketwell/tiny/shear_flow
wavelit rollout --help > /dev/null

# What reads NetCDF and zarr is an extra.
pip install --no-compile -c "$root/constraints.txt" "$wheel[netcdf]"
rm -rf datasets runs
python - "$root/docs/your_data.md" > your_data.py << 'END'
import pathlib, re, sys

text = pathlib.Path(sys.argv[1]).read_text(encoding="utf8")
code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
assert "minutes=1" in code
# What takes time is cut short.
print(re.sub(r"\b(minutes=\d+|steps=\d{2,})", "steps=2", code))
END
python your_data.py
python - << 'END'
import numpy as np, xarray

for i in range(3):
    values = np.random.default_rng(i).normal(size=(20, 8, 16)).cumsum(0)
    values[:, 2:4, 3:6] = np.nan
    xarray.DataArray(values, dims=("time", "y", "x"), name="sst").to_netcdf(f"run{i}.nc")
END
wavelit data convert run*.nc --to datasets/converted --boundary_conditions open periodic \
  --fields sst --mask_from sst --splits 1 1 1
wavelit data check datasets/converted
echo "the wheel works outside of the checkout"
