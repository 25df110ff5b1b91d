#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""
Usage: linux_guest.py stock|patched QEMU VFIOSTAT DEVICE KERNEL INITRAMFS

TAP: runs QEMU with a virtio-mem device of 256 GiB and an edu device behind
vfio-pci, and Linux as the guest. Its driver plugs and unplugs what QEMU asks for;
how many DMA entries does that take? PYTHONPATH is the directory "python" of a
QEMU source tree.
"""

import re
import subprocess
import sys
import time

from qemu.machine import QEMUMachine

from tap import check, end

VARIANT, QEMU, VFIOSTAT, DEVICE, KERNEL, INITRAMFS = sys.argv[1:7]
PATCHED = VARIANT == 'patched'
MIB = 1 << 20
GIB = 1 << 30
BLOCK = 2 * MIB
CONSOLE = '/tmp/console'


def wait_for(condition, seconds=900):
    """Wait until the condition holds, and tell whether it does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def booted(times):
    """Has the guest come up so often?"""
    with open(CONSOLE, encoding='utf-8', errors='replace') as file:
        return file.read().count('GUEST IS UP') >= times


vm = QEMUMachine(QEMU, args=[
    '-machine', 'q35', '-accel', 'tcg', '-cpu', 'max,la57=off,erms=off', '-nodefaults',
    '-display', 'none', '-m', '256M,maxmem=257G', '-serial', f'file:{CONSOLE}',
    '-kernel', KERNEL, '-initrd', INITRAMFS,
    '-append', 'console=ttyS0 quiet memhp_default_state=online_movable',
    '-object', 'memory-backend-ram,id=ram,size=256G,reserve=off',
    '-device', f'virtio-mem-pci,id=vm,memdev=ram,block-size={BLOCK},requested-size=0',
    '-device', f'vfio-pci,host={DEVICE}'], base_temp_dir='/tmp')


def entries():
    """How many DMA entries QEMU's container uses."""
    said = subprocess.run([VFIOSTAT, str(vm.get_pid())], check=True,
                          capture_output=True, text=True).stdout
    return int(re.search(r'(\d+) of \d+ DMA entries used', said).group(1))


def plugged():
    """How much the guest has plugged."""
    return vm.cmd('qom-get', path='/machine/peripheral/vm', property='size')


def ask_for(size):
    """Ask the guest to have so much plugged, and wait for it."""
    vm.cmd('qom-set', path='/machine/peripheral/vm', property='requested-size', value=size)
    return wait_for(lambda: plugged() == size)


vm.launch()
check(wait_for(lambda: booted(1)), 'Linux boots')
base = entries()
sizes = [GIB, 256 * MIB, 768 * MIB, 0, 512 * MIB]
for life in 1, 2:
    for size in sizes:
        check(ask_for(size), f'Linux has {size // MIB} MiB plugged')
        want = base + (0 if PATCHED else size // BLOCK)
        used = entries()
        check(used == want, f'{used - base} DMA entries more than at the start')
    if life == 1:
        vm.cmd('system_reset')
        check(wait_for(lambda: booted(2)), 'Linux boots again')
        vm.cmd('qom-set', path='/machine/peripheral/vm', property='requested-size', value=0)
        check(wait_for(lambda: plugged() == 0) and entries() == base,
              'a reset gives all entries back')
vm.shutdown()
end()
