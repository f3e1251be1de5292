#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Names the libraries of the ROS wheels, then becomes the program. Without it, each Python would
# start itself again to do the same (ros-wheels-bootstrapper).

set -euo pipefail

libraries=/opt/carla_msgs/lib:$VIRTUAL_ENV/lib
for folder in "$VIRTUAL_ENV"/lib/python3*/site-packages/ros_*.libs; do
  libraries=$libraries:$folder
done
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
exec "$@"
