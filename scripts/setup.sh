#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the workspace in this checkout: .venv, build/, install/, log/. Nothing else is touched, no
# root is needed, and a second run does only what has changed.
#
# Where a ROS 2 is sourced, that one is used. Otherwise ROS 2 comes as Python wheels: ROS=jazzy (the
# default) or ROS=kilted, kept until the other is asked for. PYTHON=/path/to/python chooses the
# interpreter; pip obeys its own PIP_* variables.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD
VENV=$ROOT/.venv
STATE=$VENV/.td3_agent  # stamps: what is installed, and from which inputs
LOGS=$ROOT/build/setup
RUN_AGAIN='then run "make setup" again'

say() { printf 'setup: %s\n' "$*"; }
fail() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}
clock() { date +%s; }

# ---- what is here ------------------------------------------------------------------------------

ros_is_sourced() { [ -n "${ROS_DISTRO:-}" ] && command -v ros2 > /dev/null; }

# Prints the ROS 2 whose wheels are wanted: the one asked for, that of .venv, or Jazzy.
wheels_distro() {
  local distro=${ROS:-}
  if [ -z "$distro" ] && [ "$(cat "$STATE/mode" 2> /dev/null)" = wheels ]; then
    distro=$(cat "$STATE/distro" 2> /dev/null) || true
  fi
  case "${distro:=jazzy}" in
    jazzy | kilted) printf '%s\n' "$distro" ;;
    *) fail "ROS must be jazzy or kilted, the ones there are wheels of, got $distro." ;;
  esac
}

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null; }

in_range() { case "$(version_of "$1")" in 3.10 | 3.11 | 3.12) true ;; *) false ;; esac; }

suits() {
  in_range "$1" || return 1
  [ "$MODE" = wheels ] || "$1" -c 'import rclpy' 2> /dev/null
}

# Prints the interpreter itself: not a shim that may change its mind, not that of another venv.
base_of() {
  "$1" -c 'import os, sys
print(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))' 2> /dev/null
}

# Prints the interpreter that .venv was made from, as long as it serves the same ROS 2.
recorded_python() { sed -n "s|^$ROOT $MODE $DISTRO ||p" "$STATE/base" 2> /dev/null || true; }

refuse_python() {
  if [ "$MODE" = underlay ]; then
    fail "The sourced ROS 2 $DISTRO offers no rclpy to ${1:-any Python 3.10 to 3.12 found}: pass" \
      "its interpreter (make setup PYTHON=/usr/bin/python3), or start from a shell without it."
  fi
  fail "Python 3.10, 3.11 or 3.12 is needed, but ${1:-none of them was found}: install one, for" \
    "example with \"apt install python3 python3-venv python3-dev\", $RUN_AGAIN" \
    "(make setup PYTHON=/path/to/it chooses one)."
}

find_python() {
  local name python
  if [ -n "${PYTHON:-}" ]; then
    python=$(base_of "$PYTHON") || refuse_python "$PYTHON does not run"
    suits "$python" || refuse_python "$PYTHON is $(version_of "$python")"
    printf '%s\n' "$python"
    return
  fi
  for name in "$(recorded_python)" python3 python3.12 python3.11 python3.10 /usr/bin/python3; do
    python=$(base_of "$name") || continue
    if suits "$python"; then
      printf '%s\n' "$python"
      return
    fi
  done
  refuse_python
}

first_of() {
  local name
  for name in "$@"; do
    if [ -n "$name" ] && command -v "${name%% *}" > /dev/null; then return 0; fi
  done
  return 1
}

check_tools() {
  local version
  version=$(version_of "$PYTHON")
  "$PYTHON" -c 'import ensurepip, venv' 2> /dev/null \
    || fail "The venv module of $PYTHON is missing: install it (apt install python$version-venv), $RUN_AGAIN."
  if ! first_of "${CC:-}" cc gcc clang || ! first_of "${CXX:-}" c++ g++ clang++; then
    fail "A C and a C++ compiler are needed to build messages: install them (apt install build-essential), $RUN_AGAIN."
  fi
  "$PYTHON" -c 'import os, sysconfig
raise SystemExit(not os.path.exists(sysconfig.get_paths()["include"] + "/Python.h"))' \
    || fail "The C headers of $PYTHON are missing: install them (apt install python$version-dev), $RUN_AGAIN."
  if [ "$MODE" = wheels ] && [ "$(uname -sm)" != 'Linux x86_64' ]; then
    fail "The ROS 2 wheels exist for Linux on x86-64 only, and this is $(uname -sm): install ROS 2, source it, $RUN_AGAIN."
  fi
}

# ---- stamps ------------------------------------------------------------------------------------

# A step is done when its stamp holds the digest of its inputs.
is_done() { [ "$(cat "$STATE/$1" 2> /dev/null)" = "$2" ]; }
mark_done() { printf '%s\n' "$2" > "$STATE/$1"; }
digest() { sha256sum | cut -d ' ' -f 1; }

foundation() {
  echo "$ROOT" "$MODE" "$DISTRO" "$PYTHON"
}

environment_key() {
  {
    foundation
    cat requirements/*.in requirements/lock*.txt
  } | digest
}

messages_key() {
  {
    foundation
    if [ "$MODE" = wheels ]; then grep -E '^(cmake|empy|numpy|ros-)' "$ROS_IN" "$LOCK"; fi
    find interfaces/carla_msgs -type f | LC_ALL=C sort | xargs sha256sum
  } | digest
}

# Names suffice where links lead to the sources.
package_key() {
  {
    environment_key
    messages_key
    sha256sum setup.py setup.cfg package.xml
    find config launch resource security -type f -not -path '*/__pycache__/*' \
      2> /dev/null | LC_ALL=C sort || true
  } | digest
}

# ---- Python environment ------------------------------------------------------------------------

pip_install() {
  "$VENV/bin/python" -m pip install --disable-pip-version-check "$@" >> "$LOGS/pip.log" 2>&1 && return
  if grep -qE 'Retrying \(|NewConnectionError|ConnectTimeout|name resolution|ProxyError' "$LOGS/pip.log"; then
    fail "No network: pip reaches no package index; connect, or set PIP_INDEX_URL or PIP_PROXY to one it" \
      "can reach, $RUN_AGAIN (details: build/setup/pip.log)."
  fi
  tail -n 15 "$LOGS/pip.log" >&2
  fail "pip could not install the locked packages: see build/setup/pip.log, mend the cause, $RUN_AGAIN."
}

venv_is_usable() {
  [ "$(cat "$STATE/base" 2> /dev/null)" = "$ROOT $MODE $DISTRO $PYTHON" ] && "$VENV/bin/python" -c '' 2> /dev/null
}

make_venv() {
  venv_is_usable && return
  say "Python environment in .venv ($PYTHON)"
  rm -rf "$VENV" "$ROOT/build/carla_msgs" "$ROOT/build/td3_agent" "$ROOT/install"
  local options=()
  [ "$MODE" = wheels ] || options+=(--system-site-packages)
  "$PYTHON" -m venv "${options[@]}" "$VENV" > "$LOGS/venv.log" 2>&1 \
    || fail "$PYTHON cannot make a virtual environment: see build/setup/venv.log, mend the cause, $RUN_AGAIN."
  mkdir -p "$STATE"
  echo "$MODE" > "$STATE/mode"  # these two for env.sh
  echo "$DISTRO" > "$STATE/distro"
  echo "$ROOT $MODE $DISTRO $PYTHON" > "$STATE/base"
}

# The ROS 2 of this machine was compiled against its own NumPy, so that one must stay.
write_constraints() {
  if [ "$MODE" = wheels ]; then
    cp "$LOCK" "$STATE/constraints.txt"
    return
  fi
  cp requirements/constraints.in "$STATE/constraints.txt"
  "$PYTHON" -c 'import numpy; print("numpy==" + numpy.__version__)' >> "$STATE/constraints.txt"
}

install_ros() {
  if [ "$MODE" = wheels ]; then
    say "ROS 2 ${DISTRO^} wheels and build tools"
    pip_install -c "$STATE/constraints.txt" -r "$ROS_IN"
    "$VENV/bin/python" scripts/repair_cmake_exports.py >> "$LOGS/pip.log"
  elif ! "$VENV/bin/python" -c 'import colcon_core, colcon_ros' 2> /dev/null; then
    say 'colcon'
    pip_install -c "$STATE/constraints.txt" colcon-common-extensions
  fi
}

install_rest() {
  say 'PyTorch, simulator and test tools'
  pip_install -c "$STATE/constraints.txt" \
    -r requirements/runtime.in -r requirements/sim.in -r requirements/dev.in
  install_optional onnx 'ONNX Runtime'
  install_optional ray Ray
  install_optional watch Rerun
}

# An old NumPy of a sourced ROS 2 may have no fitting wheels.
install_optional() {
  "$VENV/bin/python" -m pip install --disable-pip-version-check -c "$STATE/constraints.txt" \
    -r "requirements/$1.in" >> "$LOGS/pip.log" 2>&1 \
    || say "$2 is not to be had: its tests will be skipped (details: build/setup/pip.log)"
}

# ---- colcon ------------------------------------------------------------------------------------

use_environment() {
  export PATH=$VENV/bin:$PATH
  # setuptools warns about the very commands colcon depends on.
  export PYTHONWARNINGS=ignore
  [ "$MODE" = wheels ] || return 0
  unset COLCON_PREFIX_PATH
  export ROS_DISTRO=$DISTRO ROS_VERSION=2 ROS_PYTHON_VERSION=3
  export AMENT_PREFIX_PATH=$VENV CMAKE_PREFIX_PATH=$VENV LD_LIBRARY_PATH=$VENV/lib
}

colcon_build() {
  local log=$LOGS/$1.log
  shift
  "$VENV/bin/python" -m colcon build "$@" > "$log" 2>&1 && return
  tail -n 30 "$log" >&2
  fail "colcon could not build: see ${log#"$ROOT"/}, mend the cause, $RUN_AGAIN."
}

# Only an underlay can bring its own; ours must not shadow it.
messages_are_installed() {
  [ "$MODE" = underlay ] || return 1
  local prefix paths=${AMENT_PREFIX_PATH:-}
  while read -r prefix; do
    if [ -n "$prefix" ] && [ "$prefix" != "$ROOT/install/carla_msgs" ] \
      && [ -e "$prefix/share/ament_index/resource_index/packages/carla_msgs" ]; then return 0; fi
  done <<< "${paths//:/$'\n'}"
  return 1
}

messages_are_built() { [ -d install/carla_msgs ] && is_done messages "$1"; }

build_messages() {
  local options=(-DPython3_EXECUTABLE="$VENV/bin/python" -DBUILD_TESTING=OFF)
  rm -rf build/carla_msgs install/carla_msgs
  colcon_build carla_msgs --paths interfaces/carla_msgs --cmake-args "${options[@]}"
}

build_package() {
  say 'td3_agent'
  colcon_build td3_agent --symlink-install --paths .
}

# ---- the whole ---------------------------------------------------------------------------------

setup_environment_and_messages() {
  local environment=$1 messages=$2 build=
  if ! is_done environment "$environment"; then
    rm -f "$STATE/environment" "$LOGS/pip.log"
    write_constraints
    install_ros
  fi
  use_environment
  if ! messages_are_installed && ! messages_are_built "$messages"; then
    say 'carla_msgs, in the background'
    rm -f "$STATE/messages"
    set -m  # a process group of its own, so that it can be stopped as a whole
    build_messages &
    set +m
    build=$!
    # shellcheck disable=SC2064 # the number is wanted as it is now
    trap "kill -- -$build 2> /dev/null || true" EXIT
  fi
  if ! is_done environment "$environment"; then
    install_rest
    mark_done environment "$environment"
  fi
  if [ -n "$build" ]; then
    wait "$build" || exit 1
    trap - EXIT
    mark_done messages "$messages"
  fi
}

everything_is_built() {
  [ -d install/td3_agent ] && is_done package "$2" && venv_is_usable \
    && { messages_are_installed || messages_are_built "$1"; }
}

main() {
  local started environment messages package
  started=$(clock)
  MODE=wheels DISTRO=
  if ros_is_sourced; then
    MODE=underlay DISTRO=$ROS_DISTRO
    [ "${ROS:-$DISTRO}" = "$DISTRO" ] \
      || fail "ROS=$ROS was asked for and $DISTRO is sourced: start from a shell without it, $RUN_AGAIN."
  elif [ "$(cat "$STATE/mode" 2> /dev/null)" = underlay ]; then
    fail 'This workspace was built on a sourced ROS 2: source that one, or env.sh, first' \
      '("make distclean" to use the wheels instead).'
  else
    unset PYTHONPATH
    DISTRO=$(wheels_distro)
  fi
  ROS_IN=requirements/ros_$DISTRO.in LOCK=requirements/lock_$DISTRO.txt  # of the wheels
  PYTHON=$(find_python)
  mkdir -p "$LOGS"
  if command -v flock > /dev/null; then
    exec 9> "$LOGS/lock"
    flock 9
  fi
  environment=$(environment_key) messages=$(messages_key) package=$(package_key)
  if everything_is_built "$messages" "$package"; then return; fi
  check_tools
  make_venv
  setup_environment_and_messages "$environment" "$messages"
  build_package
  mark_done package "$package"
  say "done in $(($(clock) - started)) s, $(du -sh .venv | cut -f 1) in .venv; now: source env.sh"
}

main
