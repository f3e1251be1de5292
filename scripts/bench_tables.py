# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Tables of benchmarks as Markdown: what ``python -m benchmarks`` prints, and the documents hold.

Each function takes the record of a benchmark, as ``docs/results/bench`` keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Report = dict[str, Any]
P50_P99 = {'p50 [ms]': '{p50_ms:.2f}', 'p99 [ms]': '{p99_ms:.2f}'}
P50_P99_FINE = {'p50 [ms]': '{p50_ms:.3f}', 'p99 [ms]': '{p99_ms:.3f}'}
RATIO = '**{ratio:.2f}**'


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> str:
    """Return a Markdown table; columns after the first ``left`` ones are aligned to the right."""
    lines = [['---' if number < left else '---:' for number in range(len(columns))]]
    shown = [columns, *rows]
    text = '\n'.join('| ' + ' | '.join(map(str, row)) + ' |' for row in shown)
    head, newline, body = re.sub(r'\|  (?=\|)', '| ', text).partition('\n')
    return f'{head}\n|{"|".join(lines[0])}|{newline}{body}'


def listed(values: dict[str, Any], form: str = '{} {}') -> str:
    return ', '.join(form.format(*item) for item in values.items())


def machine_text(report: Report) -> str:
    """Say where figures come from; a load above 0 means that others were at work."""
    machine = report['machine']
    return (
        f'{machine["cpu"]}, {machine["cores"]} cores, Python {machine["python"]}; '
        f'load from elsewhere before the run {machine["load_before"]:.1f}.'
    )


def table_of(
    first: Sequence[str],
    rows: Mapping[Any, Mapping[str, Any]],
    columns: Mapping[str, str] | Sequence[tuple[str, str]],
    more: Iterable[Sequence[object]] = (),
    left: int | None = None,
) -> str:
    """Return a table with a row of figures for each name.

    Args:
        first: columns of the names; where there are several, a name is a tuple.
        rows: figures by name.
        columns: headings, each with the format of its cells; a figure that is not there is blank.
        more: rows at the end.
        left: columns that are aligned to the left; None: those of the names.
    """
    pairs = columns.items() if isinstance(columns, Mapping) else columns
    heads, forms = zip(*pairs, strict=True)
    names = [name if len(first) > 1 else (name,) * len(first) for name in rows]
    cells = [[_cell(form, row) for form in forms] for row in rows.values()]
    lines = [(*name, *found) for name, found in zip(names, cells, strict=True)]
    return table((*first, *heads), [*lines, *more], len(first) if left is None else left)


def _cell(form: str, row: Mapping[str, Any]) -> str:
    try:
        return form.format(**row)
    except KeyError:
        return ''


def text_of(report: Report, *parts: str, about: str = '') -> str:
    """Return the parts of a text, and at its end what figures depend on."""
    return '\n\n'.join((*parts, f'{about} {machine_text(report)}'.lstrip()))


def image_in_text(report: Report) -> str:
    """Return ratios and latencies of images on their way in."""
    sizes = report['sizes']
    latencies = {
        (size, setting): row
        for size, found in sizes.items()
        for setting, row in found['latency'].items()
    }
    ratios = {'profile': 'ratio_profile', 'freed memory kept': 'ratio_memory', 'both': 'ratio'}
    return text_of(
        report,
        table_of(('image',), sizes, {name: f'{{{key}:.2f}}' for name, key in ratios.items()}),
        table_of(('image', 'setting'), latencies, P50_P99 | {'lost': '{lost}'}),
    )


def inference_text(report: Report) -> str:
    return text_of(
        report,
        f'ONNX Runtime is **{report["ratio"]:.1f} times** as fast. The largest difference of '
        f'an action is {report["largest_difference"]:.1e} of half its range.',
        table_of(('runtime',), report['latency'], P50_P99_FINE),
        about=f'{listed(report["versions"])}.',
    )


def update_text(report: Report) -> str:
    """Return processor times of an update here and in another checkout."""
    columns = {'here [ms]': '{here_ms:.1f}', 'beside [ms]': '{beside_ms:.1f}', 'ratio': RATIO}
    return text_of(
        report,
        table_of(('case',), report['cases'], columns),
        about=f'{report["updates"]} updates of each, in turns, processor time, one thread; '
        f'torch {report["torch"]}.',
    )


def command_text(report: Report) -> str:
    native, stays = report['native'], '`publish()` in a process that stays'
    calls = {'whole': 'the call returns', 'processor': 'processor time in the call'}
    rows = {
        (stays, what): native[name] | ({} if name == 'processor' else {'ratio': 1})
        for name, what in (calls | {'received': 'received'}).items()
    }
    ends = {'whole': 'the process has ended', 'received': 'received'}
    more = []
    for kind, times in report['processes'].items():
        for name, what in ends.items():
            p50, largest = (f'{times[name][key]:.0f}' for key in ('p50_ms', 'max_ms'))
            more.append((kind, what, p50, '', largest, f'{report["ratios"][kind][name]:.0f}'))
    columns = P50_P99_FINE | {'max [ms]': '{max_ms:.3f}', 'ratio': '{ratio}'}
    absent = ''.join(f' {kind}: absent here, not measured.' for kind in report['absent'])
    docker = f' docker exec is by `{report["docker"]}`.' if report.get('docker') else ''
    return text_of(
        report,
        f'Starting a process per command takes **{report["ratio"]:.0f} times** as long.',
        table_of(('one command by', ''), rows, columns, more),
        about=f'{native["commands"]} commands, {native["lost"]} lost; '
        f'{listed(report["starts"], "{1} of {0}")}.{absent}{docker}',
    )


def rate_text(report: Report) -> str:
    """Return ratio, rates and misses of the free-running agent."""
    columns = {'rate [Hz]': '{rate_hz:.4f}', 'sigma [ms]': '{sigma_ms:.3f}'}
    columns |= {'p99 [ms]': '{p99_ms:.2f}', 'max [ms]': '{max_ms:.2f}'}
    columns |= {'ticks missed': '{missed:.0f}', 'commands': '{commands:.0f}'}
    kinds = ('sent', 'received', 'control', 'bare timer')
    runs = report['runs']
    rows = {(run, what): found[what] for run, found in runs.items() for what in kinds}
    repeated = ', '.join(f'{found["repeated"]} {run}' for run, found in runs.items())
    return text_of(
        report,
        f'Loaded to idle, the rate is **{report["ratio"]:.4f}**.\n'
        f'The sigma of *sent* is that of the bare timer times '
        f'{listed(report["ratio_sigma"], "{1:.2f} {0}")}.',
        table_of(('', ''), rows, columns),
        about=f'{report["duration_s"]:g} s each, {report["busy_processes"]} busy processes when '
        f'loaded; commands for a frame that had one already: {repeated}.',
    )


def startup_text(report: Report) -> str:
    """Return ratios and times of starts, and the memory of the nodes."""
    columns = {'first [s]': '{first_s:.2f}', 'again, median [s]': '{again_s:.2f}'}
    columns |= {'slowest [s]': '{slowest_again_s:.2f}', 'processor [s]': '{again_processor_s:.2f}'}
    nodes = {f'`{name}`': row for name, row in report['memory'].items()}
    kinds = ('resident', 'peak', 'proportional')
    used = {f'{kind} [MB]': f'{{{kind}_mb:.0f}}' for kind in kinds}
    return text_of(
        report,
        f'The agent takes **{report["ratio"]:.1f} times** as long as a lifecycle node that does '
        f'nothing.\nWithout a network it takes {report["ratio_no_network"]:.1f} times as long.',
        table_of(('process start → active',), report['starts'], columns),
        table_of(('memory while driving',), nodes, used),
        about=f'{report["turns"]} starts of each.',
    )


def latency_text(report: Report) -> str:
    """Return ratios and latencies from image to Twist."""
    columns = [('ratio', RATIO)]
    for side, prefix in (('agent', ''), ('plain', 'plain_')):
        columns += [(f'{side} p50 [ms]', f'{{{prefix}p50_ms:.2f}}')]
        columns += [('p99 [ms]', f'{{{prefix}p99_ms:.2f}}'), ('lost', f'{{{prefix}lost}}')]
    return text_of(
        report,
        table_of(('image',), report['cases'], columns),
        about=f'{report["frames"]} frames of each size to each node. '
        f'{listed(report["versions"])}.',
    )


def lockstep_text(report: Report) -> str:
    """Return rates over ROS beside the direct path, and where the rest goes."""
    cases = report['cases']
    columns = {'frames/s': '{frames_per_s:.0f}', 'times real time': '{times_real_time:.1f}'}
    columns['ratio to the direct path'] = '{ratio:.2f}'
    directly = ('direct path, one process', f'{report["direct_frames_per_s"]:.0f}', '', '1')
    first = next(iter(cases.values()))
    stages = {name: f'{{stages_ms[{name}][p50]:.2f}}' for name in first['stages_ms']}
    programs = {name: '' for found in cases.values() for name in found['cpu_ms']}
    used = {name: f'{{cpu_ms[{name}]:.2f}}' for name in programs}
    width, height = report['camera']
    return text_of(
        report,
        table_of(('executor, or composed',), cases, columns, [directly]),
        table_of(('stage, p50 [ms]',), cases, stages),
        table_of(('processor time [ms]',), cases, used),
        about=f'{report["frames"]} frames a drive, camera {width}x{height}.',
    )


def frame_profile_text(report: Report) -> str:
    """Return the processor time of a frame by node and part."""
    nodes = {f'`{name}`': {'us': row} for name, row in report['nodes'].items()}
    parts = next(iter(report['nodes'].values()))
    columns = {part: f'{{us[{part}]:.0f}}' for part in parts}
    width, height = report['camera']
    return text_of(
        report,
        table_of(('processor time under the profiler [us]',), nodes, columns),
        about=f'{report["frames"]} frames, camera {width}x{height}.',
    )


def scaling_text(report: Report) -> str:
    """Return rates and latencies of all cases, and what a vehicle and a megapixel cost."""
    cases = report['cases']
    costs = [
        f'Each additional {unit} costs **{found["ros"]["each"]:.1f} ms** per frame over ROS, '
        f'{found["direct"]["each"]:.1f} ms on the direct path.'
        for unit in ('vehicle', 'megapixel')
        for found in (report[f'ms_per_{unit}'],)
    ]
    size = {'vehicles': '{vehicles}', 'image': '{width}x{height}'}
    rates = {'ratio': RATIO, 'frames/s': '{frames_per_s:.1f}'}
    rates |= {'direct path': '{direct_frames_per_s:.1f}', 'p50 [ms]': '{end_to_end_ms[p50]:.2f}'}
    rates |= {'p99 [ms]': '{end_to_end_ms[p99]:.2f}'}
    programs = next(iter(cases.values()))['cpu_ms']
    used = {f'`{name}`': f'{{cpu_ms[{name}]:.2f}}' for name in programs}
    return text_of(
        report,
        '\n'.join(costs),
        table_of((), cases, size | rates),
        table_of((), cases, size | used),
        about=f'{report["turns"]} drives of {report["frames"]} frames of each case, '
        f'{report["executor"]} executor.',
    )


def ros_env_text(report: Report) -> str:
    names = {'direct': '`td3_agent/Driving-v0`', 'ros': '`td3_agent/RosDriving-v0`'}
    rows = {names[name]: row for name, row in report['environments'].items()}
    columns = {'steps/s': '{steps_per_s:.0f}', 'reset [ms]': '{reset_ms:.0f}'}
    columns |= {'resets': '{resets}', 'steps/s, resets counted': '{with_resets_per_s:.0f}'}
    return text_of(
        report,
        table_of(('environment',), rows, columns),
        about=f'The direct one is **{report["ratio"]:.1f} times** as fast, resets counted. '
        f'{report["turns"]} turns of {report["steps"]} steps.',
    )


def sim_steps_text(report: Report) -> str:
    """Return steps per second of the simulator by number of vehicles."""
    rates = {'steps/s': '{steps_per_s:.0f}'}
    rates |= {'steps per second of processor time': '{steps_per_processor_s:.0f}'}
    return text_of(report, table_of(('vehicles',), report['traffic'], rates, left=0))


def learner_text(report: Report) -> str:
    rows = []
    for name, figures in report['cases'].items():
        unit = next(iter(figures)).replace('_per_s', '/s')
        mine, other, ratio, *sbx = figures.values()
        row = [name, f'{mine:.1f} {unit}', f'{other:.1f} {unit}', f'**{ratio:.2f}**']
        row += [f'{sbx[0]:.1f} {unit}', f'**{sbx[1]:.2f}**'] if sbx else ['-', '-']
        rows.append(row)
    versions = listed(report['versions']).replace('stable_b', 'stable-b')
    head = ('case', 'td3_agent', 'Stable-Baselines3', 'ratio', 'SBX', 'ratio')
    lines = table(head, rows)
    return text_of(report, lines, about=f'{versions}, one thread each.')


def ray_text(report: Report) -> str:
    """Return the rates of all runs, and of what each part does alone."""
    columns = {'steps/s, stored only': '{store[steps_per_s]:.0f}'}
    columns |= {'steps/s, training': '{train[steps_per_s]:.1f}'}
    columns |= {'updates/s': '{train[updates_per_s]:.1f}'}
    columns |= {'learner at work': '{train[learner_cpu_share]:.0%}'}
    parts, ray = report['parts'], report['ray']
    alone = (
        ('a worker: steps with the policy [1/s]', f'{parts["worker_steps_per_s"]:.0f}'),
        ('the learner: updates [1/s]', f'{parts["updates_per_s"]:.1f}'),
        ('the learner: steps unpacked and stored [1/s]', f'{parts["stored_steps_per_s"]:.0f}'),
        ('on the wire: one step [B]', f'{parts["bytes_per_step"]:.0f}'),
        ('on the wire: one policy [B]', parts['policy_bytes']),
    )
    return text_of(
        report,
        table_of(('workers',), report['runs'], columns, left=0).replace('%', ' %'),
        table(('alone, on one thread', ''), alone),
        about=f'`{report["env"].rpartition(":")[2]}`, batch {report["batch_size"]}, '
        f'{report["updates_per_step"]:g} updates per step, fragments of {ray["fragment_steps"]} '
        f'steps, a policy every {ray["broadcast_every"]} updates. {listed(report["versions"])}.',
    )


def containers_text(report: Report) -> str:
    """Return the size of each image and of its layers, and the drive with them."""
    rows = []
    for image, sizes in report['images'].items():
        layers = {name: f'{size_mb:.0f}' for name, size_mb in sizes.items()}
        rows.append((image, listed(layers), f'{sum(sizes.values()):.0f}'))
    drive = report['drive']
    return (
        f'{table(("image", "layers [MB]", "MB"), rows, left=2)}\n\n'
        f'{report["tool"]}, base: {report["base"]}. {drive["containers"]} containers drove '
        f'{drive["frames"]} frames; health checks and ledger check passed.'
    )


# ---- what is projected from the parts of a distributed training --------------------------------

PROJECTED = (1, 2, 4, 16, 64, 256, 1000)
LINKS_GBIT_PER_S = (1.0, 10.0)
BYTES_PER_GBIT = 1e9 / 8.0


def asked_per_s(report: Report, workers: int) -> float:
    """Return the steps that workers would take if nothing held them up [1/s].

    Assumed here and below: every worker has a core of its own, as fast as the one of the
    measurement; the learner stores and updates on one thread; each worker has one machine's share
    of no link but the learner's; fragments are sent as they are, and a policy once to each worker.
    """
    return workers * float(report['parts']['worker_steps_per_s'])


def limits_per_s(report: Report, workers: int) -> dict[str, float]:
    """Return the steps per second at which each part is saturated, by name."""
    parts, ray, updates = report['parts'], report['ray'], report['updates_per_step']
    step_s = updates / parts['updates_per_s'] + 1.0 / parts['stored_steps_per_s']
    limits = {'learner': 1.0 / step_s}
    # A worker is sent a policy with every fragment, if there has been a new one since.
    policies_per_step = min(
        1.0 / ray['fragment_steps'], workers * updates / ray['broadcast_every']
    )
    for link in LINKS_GBIT_PER_S:
        bytes_per_s = link * BYTES_PER_GBIT
        limits[f'steps in, {link:g} Gbit/s'] = bytes_per_s / parts['bytes_per_step']
        policies_per_s = bytes_per_s / parts['policy_bytes']
        limits[f'policies out, {link:g} Gbit/s'] = policies_per_s / policies_per_step
    return limits


def projection_text(report: Report) -> str:
    """Return what saturates first, and by how much each part would be, for up to 1000 workers."""
    most = PROJECTED[-1]
    limits, alone, asked = (
        limits_per_s(report, most),
        asked_per_s(report, 1),
        asked_per_s(report, most),
    )
    learner = limits['learner']
    others = {name: limit for name, limit in limits.items() if name != 'learner'}
    next_one = min(others, key=lambda name: others[name])
    if learner < others[next_one]:
        verdict = (
            f'**The learner saturates first**, at {learner:.0f} steps/s: the work of '
            f'{learner / alone:.2f} workers. The next to come is *{next_one}*, at '
            f'{others[next_one]:.0f} steps/s, {others[next_one] / learner:.0f} times as many '
            f'({others[next_one] / alone:.0f} workers).'
        )
    else:
        verdict = (
            f'**The network saturates first**: *{next_one}* at {others[next_one]:.0f} steps/s '
            f'({others[next_one] / alone:.0f} workers), the learner at {learner:.0f}.'
        )
    gigabit = [asked / limits[f'{what}, 1 Gbit/s'] for what in ('steps in', 'policies out')]
    rows = []
    for workers in PROJECTED:
        wanted = asked_per_s(report, workers)
        shares = [wanted / limit for limit in limits_per_s(report, workers).values()]
        cells = (f'{share:.{2 if share < 10.0 else 0}f}' for share in shares)
        rows.append((workers, f'{wanted:.0f}', *cells))
    return (
        f'{verdict}\n\n'
        f'{most} workers would take {asked:.0f} steps/s: {gigabit[0]:.1f} Gbit/s of steps '
        f'to the learner, {gigabit[1]:.1f} Gbit/s of policies from it, and '
        f'{asked * report["updates_per_step"]:.0f} updates/s, of which it makes '
        f'{report["parts"]["updates_per_s"]:.0f}. How many times what each part can carry:\n\n'
        f'{table(("workers", "steps/s they could take", *limits), rows, left=0)}'
    )


TABLES = {
    'command': command_text,
    'frame_profile': frame_profile_text,
    'image_in': image_in_text,
    'inference': inference_text,
    'latency': latency_text,
    'learner': learner_text,
    'lockstep': lockstep_text,
    'rate': rate_text,
    'ray': ray_text,
    'ros_env': ros_env_text,
    'scaling': scaling_text,
    'sim_steps': sim_steps_text,
    'startup': startup_text,
    'update': update_text,
}
