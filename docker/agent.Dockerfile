# syntax=docker/dockerfile:1
# SPDX-License-Identifier: Apache-2.0
#
# The agent: rclpy from PyPI, PyTorch, and no ROS 2 installation. Three targets:
#   sim     with the embedded simulator, for the profiles `embedded` and `train`
#   ray     the same with Ray, for deploy/ray-cluster.yaml
#   agent   without it (default), for a robot or beside a CARLA bridge
#
#   docker build -f docker/agent.Dockerfile -t td3_agent:0.1.0 .
#   docker build -f docker/agent.Dockerfile -t td3_agent-sim:0.1.0 --target sim .
#   docker build -f docker/agent.Dockerfile -t td3_agent-ray:0.1.0 --target ray .
#
# PyTorch comes for the CPU. Training alone takes a GPU: for that, let `sim` or `ray` have the wheel
# of pip's own index, which brings CUDA along (or that of another index of PyTorch's):
#   --build-arg TORCH_INDEX_URL=
#
# Layers are in the order of how seldom they change; a change of the code rebuilds the last one.

ARG PYTHON_VERSION=3.12

# ---- carla_msgs: needs compilers, which the images do without -----------------------------------

FROM python:${PYTHON_VERSION}-slim-bookworm AS messages
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ gcc make \
    && rm -rf /var/lib/apt/lists/*
ENV VIRTUAL_ENV=/opt/venv PATH=/opt/venv/bin:$PATH
ENV AMENT_PREFIX_PATH=/opt/venv CMAKE_PREFIX_PATH=/opt/venv LD_LIBRARY_PATH=/opt/venv/lib
ENV ROS_DISTRO=jazzy ROS_VERSION=2 ROS_PYTHON_VERSION=3
WORKDIR /build
COPY requirements/ros_jazzy.in requirements/lock_jazzy.txt requirements/
RUN python -m venv /opt/venv \
    && pip install --no-cache-dir -c requirements/lock_jazzy.txt -r requirements/ros_jazzy.in
COPY scripts/repair_cmake_exports.py scripts/
COPY interfaces/carla_msgs interfaces/carla_msgs
RUN python scripts/repair_cmake_exports.py \
    && colcon build --paths interfaces/carla_msgs --install-base /opt/carla_msgs --merge-install \
       --cmake-args -DPython3_EXECUTABLE=/opt/venv/bin/python -DBUILD_TESTING=OFF

# ---- what the agent needs -----------------------------------------------------------------------

FROM python:${PYTHON_VERSION}-slim-bookworm AS base
ARG PYTHON_VERSION
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
# Containers that share /dev/shm must have one user: segments belong to who made them.
RUN useradd --uid 1000 --create-home driver \
    && install -d -o driver /results \
    && python -m venv /opt/venv
ENV VIRTUAL_ENV=/opt/venv PATH=/opt/venv/bin:$PATH
WORKDIR /opt/td3_agent
COPY requirements/ros_runtime.in requirements/lock_jazzy.txt requirements/
RUN pip install --no-cache-dir -c requirements/lock_jazzy.txt -r requirements/ros_runtime.in
COPY requirements/runtime.in requirements/
# Tests, C++ headers and build tools are 250 MB that nothing here reads; torch_shm_manager must exist
# when torch is imported.
RUN pip install --no-cache-dir ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} \
       -c requirements/lock_jazzy.txt -r requirements/runtime.in \
    && find /opt/venv/lib -type f -path '*/torch/bin/*' ! -name torch_shm_manager -delete \
    && find /opt/venv/lib -type d \
       \( -name tests -o -path '*/torch/test' -o -path '*/torch/include' \) -prune -exec rm -r {} +
COPY --from=messages /opt/carla_msgs /opt/carla_msgs
ENV ROS_DISTRO=jazzy ROS_VERSION=2 ROS_PYTHON_VERSION=3 PYTHONUNBUFFERED=1
ENV AMENT_PREFIX_PATH=/opt/carla_msgs:/opt/venv
ENV PYTHONPATH=/opt/td3_agent:/opt/carla_msgs/lib/python${PYTHON_VERSION}/site-packages
ENV FASTRTPS_DEFAULT_PROFILES_FILE=/opt/td3_agent/config/fastdds_camera.xml
ENTRYPOINT ["/opt/td3_agent/docker/entrypoint.sh"]

# ---- and what the embedded simulator and training need ------------------------------------------

FROM base AS sim_base
COPY requirements/sim.in requirements/
# The carla wheel keeps 146 MB of debugging symbols: a stripped library cannot be loaded any more.
RUN pip install --no-cache-dir -c requirements/lock_jazzy.txt -r requirements/sim.in \
    && find /opt/venv/lib -type d -name tests -prune -exec rm -r {} +

FROM sim_base AS sim
COPY . .
USER 1000
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s --retries=3 \
    CMD ["docker/entrypoint.sh", "python", "docker/healthcheck.py", "/carla_ros_bridge"]
CMD ["python", "-m", "td3_agent.nodes.sim_bridge_node", \
     "--ros-args", "--params-file", "config/sim_bridge_node.yaml"]

FROM sim_base AS ray_base
COPY requirements/ray.in requirements/
RUN pip install --no-cache-dir -c requirements/lock_jazzy.txt -r requirements/ray.in \
    && find /opt/venv/lib -type d -name tests -prune -exec rm -r {} +

FROM ray_base AS ray
COPY . .
USER 1000
# Whether this container is part of a cluster.
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s --retries=3 \
    CMD ["docker/entrypoint.sh", "ray", "health-check"]
CMD ["ray", "start", "--head", "--include-dashboard=false", "--disable-usage-stats", "--block"]

FROM base AS agent
COPY . .
USER 1000
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s --retries=3 \
    CMD ["docker/entrypoint.sh", "python", "docker/healthcheck.py", "/td3_agent"]
CMD ["python", "-m", "td3_agent.nodes.td3_agent_node", \
     "--ros-args", "--params-file", "config/td3_agent_node.yaml"]
