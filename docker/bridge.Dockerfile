# syntax=docker/dockerfile:1
# SPDX-License-Identifier: Apache-2.0
#
# The CARLA ROS bridge, with the CARLA wheel of the server's version.
#
#   docker build -f docker/bridge.Dockerfile -t carla_ros_bridge .
#
# By default the fork that follows CARLA 0.9.16 on Jazzy, so that both ends speak one version of
# Fast DDS. PyPI has no CARLA wheel for Jazzy's Python 3.12 before 0.9.16: an older server needs
# another distribution, e.g. 0.9.15 the Python 3.10 of Humble, and with it upstream's own branch:
#   --build-arg CARLA_VERSION=0.9.15 \
#   --build-arg ROS_DISTRO=humble \
#   --build-arg BRIDGE_REPOSITORY=https://github.com/carla-simulator/ros-bridge \
#   --build-arg BRIDGE_COMMIT=e9063d97ff5a724f76adbb1b852dc71da1dcfeec

ARG ROS_DISTRO=jazzy
FROM ros:${ROS_DISTRO}-ros-base
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ARG ROS_DISTRO
ENV PIP_BREAK_SYSTEM_PACKAGES=1

RUN apt-get update \
    && apt-get install -y --no-install-recommends \
       git \
       python3-pip \
       python3-transforms3d \
       "ros-${ROS_DISTRO}-cv-bridge" \
       "ros-${ROS_DISTRO}-derived-object-msgs" \
       "ros-${ROS_DISTRO}-tf2-ros" \
       "ros-${ROS_DISTRO}-visualization-msgs" \
    && rm -rf /var/lib/apt/lists/*

ARG CARLA_VERSION=0.9.16
RUN pip install --no-cache-dir "carla==${CARLA_VERSION}"

ARG BRIDGE_REPOSITORY=https://github.com/ika-rwth-aachen/carla-ros-bridge
ARG BRIDGE_COMMIT=c66861a241041a3d545399e82c1ee558dd570500
WORKDIR /opt/bridge
# The bridge refuses any server but the one of its version file.
RUN git clone "$BRIDGE_REPOSITORY" src \
    && git -C src checkout "$BRIDGE_COMMIT" \
    && git -C src submodule update --init --depth 1 \
    && echo "$CARLA_VERSION" > src/carla_ros_bridge/src/carla_ros_bridge/CARLA_VERSION \
    && . "/opt/ros/${ROS_DISTRO}/setup.bash" \
    && colcon build --merge-install --packages-select \
       carla_msgs carla_common ros_compatibility carla_ros_bridge carla_spawn_objects \
       carla_twist_to_control \
    && rm -rf build log src/.git

COPY config/fastdds_camera.xml config/objects.json /opt/td3_agent/config/
ENV FASTRTPS_DEFAULT_PROFILES_FILE=/opt/td3_agent/config/fastdds_camera.xml
RUN { echo '#!/usr/bin/env bash'; \
      echo "source /opt/ros/${ROS_DISTRO}/setup.bash"; \
      echo 'source /opt/bridge/install/setup.bash'; \
      echo 'exec "$@"'; } > /entrypoint.sh \
    && chmod +x /entrypoint.sh \
    && { id --user 1000 > /dev/null 2>&1 || useradd --uid 1000 --create-home driver; }
# One user for all containers that share /dev/shm; the base image may have it under another name.
USER 1000
ENTRYPOINT ["/entrypoint.sh"]
HEALTHCHECK --interval=30s --timeout=15s --start-period=60s --retries=3 \
    CMD ["/entrypoint.sh", "bash", "-c", "ros2 node list | grep -qx /carla_ros_bridge"]
CMD ["ros2", "launch", "carla_ros_bridge", "carla_ros_bridge.launch.py", "timeout:=30", \
     "synchronous_mode:=True", "synchronous_mode_wait_for_vehicle_control_command:=True", \
     "fixed_delta_seconds:=0.05", "ego_vehicle_role_name:=['ego_vehicle']"]
