# SPDX-License-Identifier: Apache-2.0
"""Tables of benchmarks as Markdown: what ``python -m benchmarks`` prints, and the documents hold.

Each function takes the record of a benchmark, as ``docs/results/bench`` keeps it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Report = dict[str, Any]


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> str:
    """Return a Markdown table; columns after the first ``left`` ones are aligned to the right."""
    lines = [['---' if number < left else '---:' for number in range(len(columns))]]
    shown = [columns, *rows]
    text = '\n'.join('| ' + ' | '.join(map(str, row)) + ' |' for row in shown)
    head, newline, body = re.sub(r'\|  (?=\|)', '| ', text).partition('\n')
    return f'{head}\n|{"|".join(lines[0])}|{newline}{body}'


def listed(values: dict[str, Any], form: str = '{} {}') -> str:
    """Return names and values as an enumeration."""
    return ', '.join(form.format(*item) for item in values.items())


def machine_text(report: Report) -> str:
    """Say where figures come from; a load above 0 means that others were at work."""
    machine = report['machine']
    return (
        f'{machine["cpu"]}, {machine["cores"]} cores, Python {machine["python"]}; '
        f'load from elsewhere before the run {machine["load_before"]:.1f}.'
    )


def p50_p99(row: dict[str, float], digits: int = 2) -> tuple[str, ...]:
    """Return the cells of median and 99th percentile."""
    return tuple(f'{row[name]:.{digits}f}' for name in ('p50_ms', 'p99_ms'))


def image_in_text(report: Report) -> str:
    """Return ratios and latencies of images on their way in."""
    sizes = report['sizes']
    names = ('ratio_profile', 'ratio_memory', 'ratio')
    ratios = ((size, *(f'{row[name]:.2f}' for name in names)) for size, row in sizes.items())
    latencies = (
        (size, setting, *p50_p99(row), row['lost'])
        for size, found in sizes.items()
        for setting, row in found['latency'].items()
    )
    columns = ('image', 'setting', 'p50 [ms]', 'p99 [ms]', 'lost')
    return '\n\n'.join(
        (
            table(('image', 'profile', 'freed memory kept', 'both'), ratios),
            table(columns, latencies, left=2),
            machine_text(report),
        )
    )


def inference_text(report: Report) -> str:
    """Return ratio and latencies of one answer."""
    rows = ((runtime, *p50_p99(row, 3)) for runtime, row in report['latency'].items())
    return (
        f'ONNX Runtime answers **{report["ratio"]:.1f} times** as fast. The largest difference of '
        f'an action is {report["largest_difference"]:.1e} of half its range.\n\n'
        f'{table(("runtime", "p50 [ms]", "p99 [ms]"), rows)}\n\n'
        f'{listed(report["versions"])}. {machine_text(report)}'
    )


def update_text(report: Report) -> str:
    """Return processor times of an update here and in another checkout."""
    rows = (
        (case, f'{row["here_ms"]:.1f}', f'{row["beside_ms"]:.1f}', f'**{row["ratio"]:.2f}**')
        for case, row in report['cases'].items()
    )
    return (
        f'{table(("case", "here [ms]", "beside [ms]", "ratio"), rows)}\n\n'
        f'{report["updates"]} updates of each, in turns, processor time, one thread; '
        f'torch {report["torch"]}. {machine_text(report)}'
    )


def command_text(report: Report) -> str:
    """Return ratio and times of one command."""
    native, rows = report['native'], []
    calls = {'whole': 'the call returns', 'processor': 'processor time in the call'}
    for name, what in (calls | {'received': 'received'}).items():
        ratio = '' if name == 'processor' else '1'
        times = (*p50_p99(native[name], 3), f'{native[name]["max_ms"]:.3f}')
        rows.append(('`publish()` in a process that stays', what, *times, ratio))
    for kind, times in report['processes'].items():
        for name, what in (('whole', 'the process has ended'), ('received', 'received')):
            row, ratio = times[name], f'{report["ratios"][kind][name]:.0f}'
            rows.append((kind, what, f'{row["p50_ms"]:.0f}', '', f'{row["max_ms"]:.0f}', ratio))
    columns = ('one command by', '', 'p50 [ms]', 'p99 [ms]', 'max [ms]', 'ratio')
    counts = f'{native["commands"]} commands, {native["lost"]} lost'
    absent = ''.join(f' {kind}: absent here, not measured.' for kind in report['absent'])
    docker = f' docker exec is by `{report["docker"]}`.' if report.get('docker') else ''
    return (
        f'A process for the command takes **{report["ratio"]:.0f} times** as long.\n\n'
        f'{table(columns, rows, left=2)}\n\n'
        f'{counts}; {listed(report["starts"], "{1} of {0}")}.{absent}{docker} '
        f'{machine_text(report)}'
    )


def rate_text(report: Report) -> str:
    """Return ratio, rates and misses of the free-running agent."""
    names = ('rate [Hz]', 'sigma [ms]', 'p99 [ms]', 'max [ms]', 'ticks missed', 'commands')
    figures = {'rate_hz': 4, 'sigma_ms': 3, 'p99_ms': 2, 'max_ms': 2, 'missed': 0, 'commands': 0}
    rows = (
        (run, what, *(f'{found[what][name]:.{digits}f}' for name, digits in figures.items()))
        for run, found in report['runs'].items()
        for what in ('sent', 'received', 'control', 'bare timer')
    )
    repeated = ', '.join(f'{found["repeated"]} {run}' for run, found in report['runs'].items())
    return (
        f'Loaded to idle, the rate is **{report["ratio"]:.4f}**.\n'
        f'The sigma of *sent* is that of the bare timer times '
        f'{listed(report["ratio_sigma"], "{1:.2f} {0}")}.\n\n'
        f'{table(("", "", *names), rows, left=2)}\n\n'
        f'{report["duration_s"]:g} s each, {report["busy_processes"]} busy processes when loaded; '
        f'commands for a frame that had one already: {repeated}. {machine_text(report)}'
    )


def startup_text(report: Report) -> str:
    """Return ratios and times of starts, and the memory of the nodes."""
    columns = ('first [s]', 'again, median [s]', 'slowest [s]', 'processor [s]')
    starts = (
        (case, *(f'{seconds:.2f}' for seconds in row.values()))
        for case, row in report['starts'].items()
    )
    memory = {'resident [MB]': 'resident_mb', 'peak [MB]': 'peak_mb'}
    memory |= {'proportional [MB]': 'proportional_mb'}
    used = (
        (f'`{name}`', *(f'{row[key]:.0f}' if key in row else '' for key in memory.values()))
        for name, row in report['memory'].items()
    )
    return (
        f'The agent takes **{report["ratio"]:.1f} times** as long as a lifecycle node that does '
        f'nothing.\nWithout a network it takes {report["ratio_no_network"]:.1f} times as long.\n\n'
        f'{table(("process start → active", *columns), starts)}\n\n'
        f'{table(("memory while driving", *memory), used)}\n\n'
        f'{report["turns"]} starts of each. {machine_text(report)}'
    )


def latency_text(report: Report) -> str:
    """Return ratios and latencies from image to Twist."""
    names = ('ratio', 'agent p50 [ms]', 'p99 [ms]', 'lost', 'plain p50 [ms]', 'p99 [ms]', 'lost')
    keys = [f'{side}{name}' for side in ('', 'plain_') for name in ('p50_ms', 'p99_ms', 'lost')]
    rows = (
        (
            size,
            f'**{row["ratio"]:.2f}**',
            *(row[key] if key.endswith('lost') else f'{row[key]:.2f}' for key in keys),
        )
        for size, row in report['cases'].items()
    )
    return (
        f'{table(("image", *names), rows)}\n\n'
        f'{report["frames"]} frames of each size to each node. {listed(report["versions"])}. '
        f'{machine_text(report)}'
    )


def lockstep_text(report: Report) -> str:
    """Return rates over ROS beside the direct path, and where the rest goes."""
    rates = [
        (
            name,
            f'{found["frames_per_s"]:.0f}',
            f'{found["times_real_time"]:.1f}',
            f'{found["ratio"]:.2f}',
        )
        for name, found in report['cases'].items()
    ]
    rates.append(('direct path, one process', f'{report["direct_frames_per_s"]:.0f}', '', '1'))
    columns = ('executor', 'frames/s', 'times real time', 'ratio to the direct path')
    tables = [table(columns, rates)]
    for title, key in (('stage, p50 [ms]', 'stages_ms'), ('processor time [ms]', 'cpu_ms')):
        names = next(iter(report['cases'].values()))[key]
        rows = (
            (name, *(f'{v["p50"] if isinstance(v, dict) else v:.2f}' for v in row[key].values()))
            for name, row in report['cases'].items()
        )
        tables.append(table((title, *names), rows))
    width, height = report['camera']
    about = f'{report["frames"]} frames a drive, camera {width}x{height}.'
    return '\n\n'.join((*tables, f'{about} {machine_text(report)}'))


def scaling_text(report: Report) -> str:
    """Return rates and latencies of all cases, and what a vehicle and a megapixel cost."""
    cases = report['cases'].values()
    costs = [
        f'A {unit} more costs **{found["ros"]["each"]:.1f} ms** per frame over ROS, '
        f'{found["direct"]["each"]:.1f} ms on the direct path.'
        for unit in ('vehicle', 'megapixel')
        for found in (report[f'ms_per_{unit}'],)
    ]
    sizes = [(row['vehicles'], f'{row["width"]}x{row["height"]}') for row in cases]
    rates = [
        (
            f'**{row["ratio"]:.2f}**',
            f'{row["frames_per_s"]:.1f}',
            f'{row["direct_frames_per_s"]:.1f}',
            *(f'{row["end_to_end_ms"][name]:.2f}' for name in ('p50', 'p99')),
        )
        for row in cases
    ]
    used = [[f'{ms:.2f}' for ms in row['cpu_ms'].values()] for row in cases]
    programs = [f'`{name}`' for name in next(iter(cases))['cpu_ms']]
    columns = ('ratio', 'frames/s', 'direct path', 'p50 [ms]', 'p99 [ms]')
    tables = (
        table(
            ('vehicles', 'image', *names),
            ((*size, *row) for size, row in zip(sizes, rows, strict=True)),
            left=0,
        )
        for names, rows in ((columns, rates), (programs, used))
    )
    about = (
        f'{report["turns"]} drives of {report["frames"]} frames of each case, '
        f'{report["executor"]} executor. {machine_text(report)}'
    )
    return '\n\n'.join(('\n'.join(costs), *tables, about))


def ros_env_text(report: Report) -> str:
    """Return steps per second of both environments."""
    names = {'direct': '`td3_agent/Driving-v0`', 'ros': '`td3_agent/RosDriving-v0`'}
    columns = ('environment', 'steps/s', 'reset [ms]', 'resets', 'steps/s, resets counted')
    keys = ('steps_per_s', 'reset_ms', 'resets', 'with_resets_per_s')
    rows = (
        (names[name], *(f'{row[key]:.0f}' for key in keys))
        for name, row in report['environments'].items()
    )
    return (
        f'{table(columns, rows)}\n\n'
        f'The direct one is **{report["ratio"]:.1f} times** as fast, resets counted. '
        f'{report["turns"]} turns of {report["steps"]} steps. {machine_text(report)}'
    )


def sim_steps_text(report: Report) -> str:
    """Return steps per second of the simulator by number of vehicles."""
    columns = ('vehicles', 'steps/s', 'steps per second of processor time')
    rows = (
        (vehicles, *(f'{row[key]:.0f}' for key in ('steps_per_s', 'steps_per_processor_s')))
        for vehicles, row in report['traffic'].items()
    )
    return f'{table(columns, rows, left=0)}\n\n{machine_text(report)}'


def learner_text(report: Report) -> str:
    """Return the rates of both learners."""
    rows = []
    for name, figures in report['cases'].items():
        unit = next(iter(figures)).replace('_per_s', '/s')
        mine, other, ratio = figures.values()
        rows.append((name, f'{mine:.1f} {unit}', f'{other:.1f} {unit}', f'**{ratio:.2f}**'))
    versions = listed(report['versions']).replace('stable_b', 'stable-b')
    return (
        f'{table(("case", "td3_agent", "Stable-Baselines3", "ratio"), rows)}\n\n'
        f'{versions}, one thread each. {machine_text(report)}'
    )


def ray_text(report: Report) -> str:
    """Return the rates of all runs, and of what each part does alone."""
    columns = ('workers', 'steps/s, stored only', 'steps/s, training', 'updates/s')
    rows = (
        (
            workers,
            f'{runs["store"]["steps_per_s"]:.0f}',
            f'{runs["train"]["steps_per_s"]:.1f}',
            f'{runs["train"]["updates_per_s"]:.1f}',
            f'{100.0 * runs["train"]["learner_cpu_share"]:.0f} %',
        )
        for workers, runs in report['runs'].items()
    )
    parts, ray = report['parts'], report['ray']
    alone = (
        ('a worker: steps with the policy [1/s]', f'{parts["worker_steps_per_s"]:.0f}'),
        ('the learner: updates [1/s]', f'{parts["updates_per_s"]:.1f}'),
        ('the learner: steps unpacked and stored [1/s]', f'{parts["stored_steps_per_s"]:.0f}'),
        ('on the wire: one step [B]', f'{parts["bytes_per_step"]:.0f}'),
        ('on the wire: one policy [B]', parts['policy_bytes']),
    )
    return (
        f'{table((*columns, "learner at work"), rows, left=0)}\n\n'
        f'{table(("alone, on one thread", ""), alone)}\n\n'
        f'`{report["env"].rpartition(":")[2]}`, batch {report["batch_size"]}, '
        f'{report["updates_per_step"]:g} updates per step, fragments of {ray["fragment_steps"]} '
        f'steps, a policy every {ray["broadcast_every"]} updates. {listed(report["versions"])}. '
        f'{machine_text(report)}'
    )


def containers_text(report: Report) -> str:
    """Return the images, and what each of their layers takes."""
    rows = []
    for image, layers in report['images'].items():
        sizes = {name: f'{layer["size_mb"]:.0f}' for name, layer in layers.items()}
        whole_mb = sum(layer['size_mb'] for layer in layers.values())
        packages = sum(layer['packages'] for layer in layers.values())
        rows.append((image, listed(sizes), packages, f'{whole_mb:.0f}'))
    return table(('image', 'layers [MB]', 'Python packages', 'MB'), rows, left=2)


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
    'containers': containers_text,
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
