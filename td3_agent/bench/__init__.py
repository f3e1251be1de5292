# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: how fast the parts are, beside what people use instead."""
