# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What deployment needs of learning: networks, policy, checkpoint, ONNX. PyTorch; no ROS."""
