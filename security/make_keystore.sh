#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes a keystore for the nodes from policy.xml: keys, certificates, signed permissions.
# usage: make_keystore.sh KEYSTORE [ROLE_NAME]
set -euo pipefail

keystore=${1:?usage: make_keystore.sh KEYSTORE [ROLE_NAME]}
role=${2:-ego_vehicle}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)

if ! [[ $role =~ ^[A-Za-z][A-Za-z0-9_]*$ ]]; then
  echo "make_keystore.sh: ROLE_NAME must be letters, digits and underscores, got '$role'" >&2
  exit 2
fi
if ! ros2 security --help > /dev/null 2>&1; then
  echo 'make_keystore.sh: "ros2 security" is not there: install ros-$ROS_DISTRO-sros2.' >&2
  exit 3
fi

umask 077 # the keys are secret
policy=$(mktemp --suffix .xml)
trap 'rm -f "$policy"' EXIT
sed "s|/carla/ego_vehicle/|/carla/$role/|" "$here/policy.xml" > "$policy"
ros2 security generate_artifacts -k "$keystore" -p "$policy"
echo "made $keystore; before starting a node:"
echo "  export ROS_SECURITY_KEYSTORE=$keystore ROS_SECURITY_ENABLE=true ROS_SECURITY_STRATEGY=Enforce"
echo "and give it its enclave: --ros-args --enclave /td3_agent/agent (gate, synchronizer, route, bridge)"
