# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Finds what keeps this machine, or a running graph, from driving; says how to mend it.

Gatherers read the machine and the graph, checks judge what they have read. Neither needs ROS 2 to
start: what is broken is looked at from outside.
"""
