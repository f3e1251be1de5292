# syntax=docker/dockerfile:1
# SPDX-License-Identifier: Apache-2.0
#
# Bridge and agent in one image, on an installed ROS 2. For comparison: nearly four times as large
# as the agent, and every change of the code sets the workspace up again. compose.yaml does not use
# it.
#
#   docker build -f docker/bridge.Dockerfile -t carla_ros_bridge .
#   docker build -f docker/merged.Dockerfile -t td3_agent-merged .

ARG BRIDGE_IMAGE=carla_ros_bridge
# hadolint ignore=DL3006
FROM ${BRIDGE_IMAGE}
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
USER 0
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
       build-essential python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
WORKDIR /opt/td3_agent
COPY . .
RUN . /opt/bridge/install/setup.bash \
    && PIP_EXTRA_INDEX_URL="$TORCH_INDEX_URL" PIP_NO_CACHE_DIR=1 make setup PYTHON=/usr/bin/python3 \
    && { echo '#!/usr/bin/env bash'; \
         echo 'source /opt/bridge/install/setup.bash'; \
         echo 'source /opt/td3_agent/env.sh'; \
         echo 'exec "$@"'; } > /entrypoint.sh \
    && install -d -o 1000 /results
USER 1000
# A drive, which ends, in a domain of its own; the base image checks for a node.
HEALTHCHECK NONE
CMD ["td3_agent", "demo", "--out", "/results/demo"]
