# SPDX-License-Identifier: Apache-2.0
#
# Source it from bash or zsh, anywhere: the virtual environment, ROS 2, the built workspace and
# td3_agent on the PATH. Discovery stays on this machine. Sourcing it twice changes nothing.

_td3_source() {
  local root bin state mode distro
  # Each shell names the sourced file in its own way, and neither understands the other's.
  if [ -n "${ZSH_VERSION:-}" ]; then
    eval 'root=${${(%):-%x}:A:h}'
  else
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
  fi
  state=$root/.venv/.td3_agent
  if [ ! -e "$state/package" ] || [ ! -e "$root/install/local_setup.bash" ]; then
    echo "env.sh: this workspace is not built yet: run \"make setup\" in $root first." >&2
    return 1
  fi
  read -r mode < "$state/mode"
  read -r distro < "$state/distro"

  bin=$root/.venv/bin
  case ":$PATH:" in *":$bin:"*) ;; *) export PATH="$bin:$PATH" ;; esac
  export VIRTUAL_ENV=$root/.venv

  if [ "$mode" = wheels ]; then
    _td3_wheels "$root/.venv" "$distro"
    _td3_workspace "$root/install/local_setup"
  else
    _td3_workspace "$root/install/setup"
  fi
  _td3_prepend PATH "$root/install/td3_agent/lib/td3_agent"
  _td3_loopback "$root"
}

# _td3_prepend NAME DIRECTORY: put the directory first in the list, once.
_td3_prepend() {
  local list
  eval "list=\${$1:-}"
  case ":$list:" in *":$2:"*) ;; *) export "$1=$2${list:+:$list}" ;; esac
}

# The wheels make the virtual environment a ROS 2 prefix. Naming their libraries here spares each
# Python the restart by which ros-wheels-bootstrapper would set them.
_td3_wheels() {
  local libs
  export ROS_DISTRO=$2 ROS_VERSION=2 ROS_PYTHON_VERSION=3
  _td3_prepend AMENT_PREFIX_PATH "$1"
  _td3_prepend CMAKE_PREFIX_PATH "$1"
  while read -r libs; do
    _td3_prepend LD_LIBRARY_PATH "$libs"
  done <<_TD3_LIBS
$(find "$1"/lib/python3*/site-packages -maxdepth 1 -name 'ros_*.libs')
$1/lib
_TD3_LIBS
  export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
}

_td3_workspace() {
  if [ -n "${ZSH_VERSION:-}" ]; then
    . "$1.zsh"
  else
    . "$1.bash"
  fi
}

# Nothing leaves the machine, large images get through, and two checkouts do not hear each other.
_td3_loopback() {
  if [ -z "${FASTRTPS_DEFAULT_PROFILES_FILE:-}${FASTDDS_DEFAULT_PROFILES_FILE:-}" ]; then
    # As td3_agent/fastdds.py has it.
    case "$ROS_DISTRO" in
      humble | iron | jazzy) export FASTRTPS_DEFAULT_PROFILES_FILE=$1/config/fastdds_loopback.xml ;;
      *) export FASTDDS_DEFAULT_PROFILES_FILE=$1/config/fastdds_loopback.xml ;;
    esac
  fi
  if [ "$ROS_DISTRO" = humble ]; then
    export ROS_LOCALHOST_ONLY=1
  else
    export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST
  fi
  if [ -z "${ROS_DOMAIN_ID:-}" ]; then
    ROS_DOMAIN_ID=$(($(printf '%s' "$1" | cksum | cut -d ' ' -f 1) % 100 + 1))
    export ROS_DOMAIN_ID
  fi
}

_td3_source
_td3_status=$?
unset -f _td3_source _td3_prepend _td3_wheels _td3_workspace _td3_loopback
eval "unset _td3_status; return $_td3_status"
