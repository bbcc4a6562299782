"""The compiled kernels on the vectors of other CPUs, as far as this one can run them."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="the compiled kernels need Numba")

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names x86 processors")
@pytest.mark.parametrize(("cpu", "features", "lanes"), [
    ("haswell", "+avx,+avx2,+fma", 8),
    ("nehalem", "+sse4.2", 4),              # the tiling of ARM's vectors too
])
def test_the_kernels_hold_on_narrower_vectors(cpu, features, lanes):
    environment = os.environ | {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features,
                                "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    code = ("from minirewind import kernels; kernels.backend('cpu'); "
            "from minirewind.kernels.cpu.simd import LANES; print(LANES)")
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout == f"{lanes}\n"
    tests = [sys.executable, "-m", "pytest", "-q", "-x", "tests/test_kernels.py", "-k", "not compiles"]
    done = subprocess.run(tests, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-3000:]
