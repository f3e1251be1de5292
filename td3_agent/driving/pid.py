# SPDX-License-Identifier: Apache-2.0
"""PID controller with the three details that decide whether one works.

The derivative acts on the filtered measurement, so that a step of the target does not kick
(Astrom and Hagglund, *Advanced PID Control*, 2006, section 3.3); the integral stops at either
limit alike, so that neither saturation winds it up (section 3.5); the output is limited.
"""

from __future__ import annotations

from dataclasses import dataclass
import math

from td3_agent.driving.command import clamp


@dataclass(frozen=True, kw_only=True)
class PidParams:
    """Gains and limits; the units are those of the controlled quantity, e.g. m/s.

    Attributes:
        kp: proportional gain [output/error], >= 0.
        ki: integral gain [output/(error s)], >= 0.
        kd: derivative gain [output s/error], >= 0.
        derivative_filter_s: time constant of the low pass on the derivative [s], >= 0.
        output_min: lower limit of the output, < ``output_max``.
        output_max: upper limit of the output.

    Raises:
        ValueError: naming every field out of range, with its value.
    """

    kp: float
    ki: float = 0.0
    kd: float = 0.0
    derivative_filter_s: float = 0.1
    output_min: float = -math.inf
    output_max: float = math.inf

    def __post_init__(self) -> None:
        """Refuse negative gains and limits in the wrong order."""
        faults = [
            f'{name} must be >= 0 and finite, got {getattr(self, name)}'
            for name in ('kp', 'ki', 'kd', 'derivative_filter_s')
            if not 0.0 <= getattr(self, name) < math.inf  # written so that NaN fails too
        ]
        if not self.output_min < self.output_max:
            faults.append(
                f'output_min must be < output_max, got {self.output_min} and {self.output_max}'
            )
        if faults:
            raise ValueError('; '.join(faults))


class Pid:
    """Discrete PID for steps of varying length."""

    def __init__(self, params: PidParams) -> None:
        """Start with nothing integrated and no measurement seen."""
        self._params = params
        self.reset()

    def reset(self) -> None:
        """Forget the past: integral, derivative and last measurement."""
        self._integral = 0.0
        self._derivative = 0.0
        self._last_measurement: float | None = None

    @property
    def integral(self) -> float:
        """Contribution of the integral to the output [output]."""
        return self._integral

    def update(self, target: float, measurement: float, step_s: float) -> float:
        """Return the output, within its limits.

        Args:
            target: wanted value.
            measurement: measured value, same unit.
            step_s: time since the last update [s], >= 0; 0 changes neither integral nor
                derivative.

        Raises:
            ValueError: an argument is not finite or ``step_s`` is negative.
        """
        if not (math.isfinite(target) and math.isfinite(measurement)):
            raise ValueError(f'PID input must be finite, got {target} and {measurement}')
        if not 0.0 <= step_s < math.inf:
            raise ValueError(f'step_s must be >= 0 and finite [s], got {step_s}')
        params = self._params
        error = target - measurement
        self._differentiate(measurement, step_s)
        direct = params.kp * error - params.kd * self._derivative
        self._integrate(direct, params.ki * error * step_s)
        return clamp(direct + self._integral, params.output_min, params.output_max)

    def _differentiate(self, measurement: float, step_s: float) -> None:
        """Update the filtered rate of change of the measurement."""
        last, self._last_measurement = self._last_measurement, measurement
        if last is None or step_s == 0.0:
            return
        weight = step_s / (self._params.derivative_filter_s + step_s)
        self._derivative += weight * ((measurement - last) / step_s - self._derivative)

    def _integrate(self, direct: float, increment: float) -> None:
        """Integrate unless that would push the output further beyond a limit."""
        low, high = self._params.output_min, self._params.output_max
        output = direct + self._integral + increment
        winding_up = (output > high and increment > 0.0) or (output < low and increment < 0.0)
        if not winding_up:
            self._integral = clamp(self._integral + increment, low, high)
