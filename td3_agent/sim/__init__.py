# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The embedded world: road, vehicle, camera, task and Gymnasium environment; no ROS.

Everything in here is in ROS convention (x forward, y left, z up, metres, radians). ``carla.Map``
is left-handed and speaks degrees; :mod:`td3_agent.sim.road` is the only place that meets it.
"""
