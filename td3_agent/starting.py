# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What every program does before its heavy imports: handle signals, and watch its parent.

An interrupt that Python raises in the middle of an import may be swallowed there or surface as
another error. Until a program can shut down in order, a signal ends it at once.

Like ``__main__``, this file keeps to what Python 3.6 can parse.
"""

import os
import signal
import sys
import threading
import time

PARENT_VARIABLE = 'TD3_AGENT_PARENT'  # id of the process that this one must not outlive
PARENT_LOOK_S = 0.5
SIGNALLED = 128  # shells report a death by signal n as exit status 128 + n
INTERRUPTED = SIGNALLED + signal.SIGINT
_state = {'interrupted': False}


def begin() -> None:
    """Handle signals from here on, and end once the parent named in the environment has ended."""
    end_at_once()
    # Launch files start programs with SIGINT blocked; a pending one is delivered here.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    parent = os.environ.get(PARENT_VARIABLE, '')
    if parent.isdigit():
        end_with(int(parent))


def end_at_once() -> None:
    """From now on SIGINT and SIGTERM end this process at once, with one line."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def raise_interrupts() -> None:
    """Undo :func:`end_at_once`: SIGINT raises KeyboardInterrupt again, as usual in Python."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, _raise)
    if signal.getsignal(signal.SIGTERM) is _end:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def was_interrupted() -> bool:
    """Whether an interrupt was raised, even if it surfaced as another exception."""
    return _state['interrupted']


def interrupted_line() -> str:
    """Return the line that an interrupted program prints."""
    name = sys.argv[0].replace(os.sep + '__main__.py', '').rpartition(os.sep)[2]
    if name in {'', '-c', '-m'}:  # -m: Python has not found the module yet
        name = 'td3_agent'
    return f'{name.replace(".py", "")}: interrupted\n'


def end_with(parent: int) -> None:
    """Send SIGTERM to this process once ``parent`` or the process that started this one ends."""
    starter = os.getppid()

    def watch() -> None:
        while os.getppid() == starter and _exists(parent):
            time.sleep(PARENT_LOOK_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name='parent', daemon=True).start()


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it belongs to another user
        pass
    return True


def _end(number: int, _: object) -> None:
    # Not through sys.stderr: the interrupted code may be writing to it.
    os.write(2, interrupted_line().encode())
    os._exit(SIGNALLED + number)


def _raise(*_: object) -> None:
    _state['interrupted'] = True
    raise KeyboardInterrupt
