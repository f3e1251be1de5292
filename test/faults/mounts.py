# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""File systems of limited size in mount namespaces of test processes."""

import os
import subprocess

# Words: sh, size, folder, then the command. Without --fork the command keeps the process id.
SMALL = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && shift 2 && exec "$@"'
# Two files of lttng-ust, which rclpy brings, need a page each: without them it ends with SIGBUS.
# Folders that lie in /dev/shm stay visible: a checkout may be one of them.
FULL_SHM = """
small=$(mktemp -d) && mount -t tmpfs -o size=1m tmpfs "$small" &&
for folder in /dev/shm/*/; do
  [ -d "$folder" ] || continue
  mkdir "$small/$(basename "$folder")" &&
  mount --bind "$folder" "$small/$(basename "$folder")" || exit
done
mount --rbind "$small" /dev/shm || exit
left=$(df -k --output=avail /dev/shm | tail -1)
dd if=/dev/zero of=/dev/shm/full bs=1k count=$left 2> /dev/null
truncate -s -16K /dev/shm/full
echo ready
exec sleep 100000
"""


def unshared():
    """Return the words that start a command in a new mount namespace."""
    return ['unshare', '--mount', *([] if os.geteuid() == 0 else ['--map-root-user'])]


def may_mount():
    """Whether this user can mount file systems in a new namespace."""
    command = [*unshared(), 'sh', '-c', SMALL, 'sh', '64k', '/mnt', 'true']
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except OSError:  # no unshare
        return False


def on_small_disk(folder, size_bytes):
    """Return the words before a command that make ``folder`` a file system of a size [bytes].

    Where that is not allowed no file of the command can grow beyond the size.
    """
    if may_mount():
        return [*unshared(), 'sh', '-c', SMALL, 'sh', str(size_bytes), os.fspath(folder)]
    return ['prlimit', f'--fsize={size_bytes}']


def joining(pid):
    """Return the words before a command that put it into the mount namespace of a process."""
    user = [] if os.geteuid() == 0 else ['--user', '--preserve-credentials']
    return ['nsenter', f'--target={pid}', *user, '--mount', '--']
