# SPDX-License-Identifier: Apache-2.0
"""Wakes 20 times a second and does nothing else: the pace that the machine allows.

For each number of seconds read, print the times at which it woke [ns, steady].
"""

from __future__ import annotations

import json
import sys
import time

from td3_agent.bench.figures import PERIOD_NS

NANOSECONDS_PER_SECOND = 1_000_000_000


def wake(duration_ns: int) -> list[int]:
    """Return the times of waking [ns, steady] at absolute deadlines over ``duration_ns``."""
    start_ns = time.monotonic_ns()
    woken_ns = []
    for due_ns in range(start_ns + PERIOD_NS, start_ns + duration_ns, PERIOD_NS):
        time.sleep(max(due_ns - time.monotonic_ns(), 0) / NANOSECONDS_PER_SECOND)
        woken_ns.append(time.monotonic_ns())
    return woken_ns


def main() -> None:
    """Answer until the input ends."""
    for line in sys.stdin:
        print(json.dumps(wake(round(float(line) * NANOSECONDS_PER_SECOND))), flush=True)


if __name__ == '__main__':
    main()
