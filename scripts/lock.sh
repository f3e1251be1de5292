#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Renews requirements/lock.txt from requirements/*.in, for Python 3.10, 3.11 and 3.12 at once.
# Needs uv, which reads its own settings (UV_INDEX_URL and so on), not those of pip.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v uv > /dev/null; then
  echo 'lock: uv is needed to renew the lock: install it (pip install uv), then run "make lock" again.' >&2
  exit 1
fi

lock=$(mktemp)
trap 'rm -f "$lock"' EXIT
uv pip compile --quiet --universal --python-version 3.10 --no-annotate --no-header \
  --no-emit-package torch --constraint requirements/constraints.in \
  requirements/ros.in requirements/runtime.in requirements/onnx.in requirements/ray.in \
  requirements/sim.in requirements/dev.in > "$lock"

# PyTorch is pinned in runtime.in. Its GPU libraries are no requirement of ours: whether they come
# along is up to the index that serves PyTorch. Other systems than Linux have no ROS 2 wheels.
{
  echo '# SPDX-License-Identifier: Apache-2.0'
  echo '# Made by "make lock"; do not edit.'
  grep -vE "^(nvidia|cuda|triton)[-a-z0-9]*==|sys_platform == 'win32'" "$lock" \
    | sed "s/ ; sys_platform != 'win32'$//; s/ ; sys_platform == 'linux'$//; s/ ; platform_python_implementation != 'PyPy'$//"
} > requirements/lock.txt
echo "lock: $(grep -c == requirements/lock.txt) packages in requirements/lock.txt"
