# SPDX-License-Identifier: Apache-2.0
"""Rows in which the policy is not what it should be: on disk, or while it drives."""

from __future__ import annotations

from dataclasses import dataclass
import io
import json
import os
import pickle
import shutil
import time
from typing import TYPE_CHECKING, Any
import zipfile

from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np

from td3_agent.faults.inside import ROLE, Inside, Vehicle, is_sound, is_stop, resources
from td3_agent.faults.row import Outcome, row
from td3_agent.faults.scene import LONGEST_NAMING_S, LONGEST_STOP_S
from td3_agent.nodes import topics
from td3_agent.nodes.diagnostics import INSTANCE, instance_of
from td3_agent.nodes.td3_agent_node import Td3AgentNode
from td3_agent.nodes.twist_to_control_node import TwistToControlNode
from td3_agent.policy.policy_file import MANIFEST_KEY, policy_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from td3_agent.faults.scene import Scene

MOST_GROWTH_MB = 128.0  # what torch keeps or gives back; a claim that is believed is far more
HUGE_BYTES = 1 << 40
SLOW_S = 0.7  # far beyond max_frame_age_s, 0.5 s
DEADLINE_S = 0.2


class Canary:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        """Leave ``path`` behind."""
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        """Run a program, as a hostile pickle does."""
        return os.system, (f'touch {self.path}',)


def _truncated(share: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])

    return damage


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _header(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """Change the header of the file, tensors as they were."""

    def damage(path: Path) -> None:
        data = path.read_bytes()
        end = 8 + int.from_bytes(data[:8], 'little')
        header = json.loads(data[8:end])
        change(header)
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, 'little') + text + data[end:])

    return damage


def _edited(*keys: Any, value: Any) -> Callable[[Path], None]:  # noqa: ANN401  JSON
    """Change the manifest."""

    def change(header: dict[str, Any]) -> None:
        content = json.loads(header['__metadata__'][MANIFEST_KEY])
        part = content
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value
        header['__metadata__'][MANIFEST_KEY] = json.dumps(content)

    return _header(change)


def _first(header: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = header[next(name for name in header if name != '__metadata__')]
    return entry


def _replaced(make: Callable[[int], bytes]) -> Callable[[Path], None]:
    """Put something else there, given the size of the file."""
    return lambda path: path.write_bytes(make(path.stat().st_size)) and None


def _pickled(size: int) -> bytes:
    """Return a hostile pickle of the size that is expected."""
    return pickle.dumps(Canary(CANARY.path)).ljust(size, b'.')


@dataclass
class _Place:
    """Where the canary would be; set by the row, before anything is pickled."""

    path: Any = None


CANARY = _Place()


def _zip_bomb(size: int) -> bytes:
    """Return a small archive of something large, padded to the size that is expected."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr('data.pkl', bytes(50_000_000))
    return file.getvalue().ljust(size, b'\0')


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    'missing file': (lambda path: path.unlink(), 'No such file'),
    **{
        f'cut to {share:.1%}': (_truncated(share), words)
        for share, words in (
            (0.0, 'empty (0 bytes)'),
            (0.001, 'header length'),
            (0.5, 'bytes of weights'),
            (0.99, 'bytes of weights'),
        )
    },
    'one bit': (_flipped, 'SHA-256'),
    'shape in the manifest': (_edited('actor', 'state_size', value=5), 'actor.state_size'),
    'another kind': (_edited('kind', value='gymnasium'), 'kind'),
    'schema of tomorrow': (_edited('schema', value=3), 'schema is 3, expected 2'),
    'unknown field': (_edited('extra', value=1), "'extra' is unknown"),
    'endless image': (_edited('actor', 'image_shape', value=[4, 1 << 30, 1 << 30]), 'image'),
    'pickle': (_replaced(_pickled), 'header length'),
    'zip bomb': (_replaced(_zip_bomb), 'header length'),
    'header of 2^62 bytes': (
        _replaced(lambda size: (1 << 62).to_bytes(8, 'little').ljust(size, b'\0')),
        'header length',
    ),
    'tensor of 2^42 numbers': (
        _header(lambda header: _first(header).update(shape=[HUGE_BYTES, 4])),
        'tensor ',
    ),
    'offsets to 2^40': (
        _header(lambda header: _first(header).update(data_offsets=[0, HUGE_BYTES])),
        '',
    ),
    'writable by everyone': (lambda path: path.chmod(0o777), 'writable by everyone'),
    'folder writable by everyone': (
        lambda path: path.parent.chmod(0o777),
        'its folder is writable by everyone',
    ),
}


@row('F14', 'checkpoints that are damaged, or hostile')
def checkpoints(scene: Scene) -> Outcome:
    """Refused with a reason, before memory is taken; nothing runs, nothing is published."""
    outcome = Outcome()
    CANARY.path = scene.folder / 'canary'
    good = policy_file('lane')
    with Inside() as inside:
        vehicle = Vehicle(inside)
        _try(inside, vehicle, good)  # torch is loaded, and what it needs once is there
        before_mb = resources()['rss_mb']
        for number, (what, (damage, words)) in enumerate(DAMAGES.items()):
            path = scene.folder / f'policy_{number}' / good.name
            path.parent.mkdir(mode=0o755)
            shutil.copyfile(good, path)
            damage(path)
            state, said, publishers = _try(inside, vehicle, path)
            refused = said.level == DiagnosticStatus.ERROR and words in said.message
            outcome.check(f'{what} is refused with a reason', refused, said.message[:300], words)
            outcome.equal(f'{what} leaves the node', state, 'unconfigured')
            outcome.equal(f'{what}: publishers of commands', publishers, 0)
        growth_mb = resources()['rss_mb'] - before_mb
        outcome.equal('commands published', len(vehicle.twists), 0)
        state, _, publishers = _try(inside, vehicle, good)
        outcome.equal('the undamaged one', (state, publishers), ('active', 2))
    outcome.equal('code that was run', CANARY.path.exists(), wanted=False)
    outcome.most('memory grown', growth_mb, MOST_GROWTH_MB, 'MB')
    outcome.figures |= {'checkpoints': len(DAMAGES), 'memory_grown_mb': round(growth_mb, 1)}
    return outcome


def _try(inside: Inside, vehicle: Vehicle, policy: Path) -> tuple[str, DiagnosticStatus, int]:
    """Start an agent on a policy; return its state, status and number of command publishers."""
    node = inside.make(Td3AgentNode, driver='td3', policy=str(policy))
    own = instance_of(node)

    def state() -> str:
        return node._state_machine.current_state[1]  # noqa: SLF001  rclpy has no name for it

    inside.wait_for(lambda: state() in {'unconfigured', 'active'}, 'a decision')
    commands = (topics.twist(ROLE), topics.twist_stamped(ROLE))

    inside.wait_for(lambda: vehicle.value('td3_agent', INSTANCE) == own, 'diagnostics')
    publishers = sum(publisher.topic_name in commands for publisher in node.publishers)
    found = state(), vehicle.said['td3_agent'], publishers
    inside.drop(node)
    return found


def _no_number(_: object) -> np.ndarray[Any, Any]:
    return np.array([np.nan, 0.0], np.float32)


def _raises(error: Exception) -> Callable[[object], Any]:
    def act(_: object) -> None:
        raise error

    return act


def _slow(_: object) -> np.ndarray[Any, Any]:
    time.sleep(SLOW_S)
    return np.array([1.0, 0.0], np.float32)


MISBEHAVIOURS: dict[str, tuple[Callable[[object], Any], str]] = {
    'an action that is no number': (_no_number, 'finite'),
    'an action of another size': (lambda _: np.zeros(3, np.float32), 'shape'),
    'a TypeError': (_raises(TypeError('out of order')), 'out of order'),
    'no memory': (_raises(MemoryError('no memory left')), 'no memory left'),
    'a RuntimeError of torch': (_raises(RuntimeError('CUDA out of memory')), 'CUDA'),
    f'an answer after {SLOW_S} s': (_slow, 'driver answered after'),
}


@row('F15', 'a policy that returns NaN, raises, or takes its time')
def misbehaviour(scene: Scene) -> Outcome:
    """The car is stopped, diagnostics say why, and it drives again when the policy does."""
    del scene
    outcome = Outcome()
    with Inside() as inside:
        vehicle = Vehicle(inside)
        # Apart: while the policy sleeps, the gate must not.
        inside.make_apart(TwistToControlNode, deadline_s=DEADLINE_S, silence_s=60.0)
        agent = inside.make_apart(Td3AgentNode, driver='pure_pursuit')
        vehicle.wait_until_driving()
        driver = agent.equipment.driver
        act, slowest_s = driver.act, 0.0
        for what, (bad, words) in MISBEHAVIOURS.items():
            driver.act = bad
            begun_s = time.monotonic()
            command = vehicle.answered(vehicle.give())
            slowest_s = max(slowest_s, time.monotonic() - begun_s)
            outcome.check(f'{what} stops the car', is_stop(command), command, 'full brake')
            told_s = inside.holds_within(
                lambda w=words: vehicle.names('td3_agent', w), LONGEST_NAMING_S + SLOW_S
            )
            outcome.check(f'{what} is diagnosed', told_s is not None, told_s, words)
            driver.act = act
            inside.wait_for(lambda: not is_stop(vehicle.answered(vehicle.give())), 'driving again')
        outcome.most('slowest stop', slowest_s, LONGEST_STOP_S, 's')
        outcome.none('P0 commands out of range', (m for m in vehicle.commands if not is_sound(m)))
    outcome.figures |= {'slowest_stop_s': round(slowest_s, 3), 'kinds': len(MISBEHAVIOURS)}
    return outcome
