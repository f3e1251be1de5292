#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Renews requirements/lock_*.txt from requirements/*.in, for Python 3.10, 3.11 and 3.12 at once.
# Needs uv, which reads its own settings (UV_INDEX_URL and so on), not those of pip.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v uv > /dev/null; then
  echo 'lock: uv is needed to renew the locks: install it (pip install uv), then run "make lock" again.' >&2
  exit 1
fi

lock=$(mktemp)
trap 'rm -f "$lock"' EXIT

# PyTorch is pinned in runtime.in. Its GPU libraries are no requirement of ours: whether they come
# along is up to the index that serves PyTorch. Other systems than Linux have no ROS 2 wheels.
for distro in jazzy kilted; do
  uv pip compile --quiet --universal --python-version 3.10 --no-annotate --no-header \
    --no-emit-package torch --constraint requirements/constraints.in \
    "requirements/ros_$distro.in" requirements/runtime.in requirements/onnx.in requirements/ray.in \
    requirements/sim.in requirements/watch.in requirements/dev.in > "$lock"
  file=requirements/lock_$distro.txt
  {
    echo '# SPDX-License-Identifier: Apache-2.0'
    echo '# Made by "make lock"; do not edit.'
    grep -vE "^(nvidia|cuda|triton)[-a-z0-9]*==|sys_platform == 'win32'" "$lock" \
      | sed "s/ ; sys_platform != 'win32'$//; s/ ; sys_platform == 'linux'$//; s/ ; platform_python_implementation != 'PyPy'$//"
  } > "$file"
  echo "lock: $(grep -c == "$file") packages in $file"
done
