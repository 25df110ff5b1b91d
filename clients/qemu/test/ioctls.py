#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""
Usage: ioctls.py stock|patched QEMU COUNT_IOCTLS DEVICE DEVICE DEVICE

TAP: how many ioctls does QEMU need to map memory, and how many instructions do
they take? COUNT_IOCTLS is count_ioctls.c as a shared object. The clock of the
machine that this runs on counts instructions. The lines "cost" are what
docs/clients.md shows. PYTHONPATH is the directory "python" of a QEMU source tree.
"""

import mmap
import struct
import sys

from tap import check, end
from viommu_machine import MIB, ViommuMachine
from virtio_mem_driver import BLOCK, PLUG, UNPLUG, VirtioMem

VARIANT, QEMU, COUNTER = sys.argv[1:4]
DEVICES = sys.argv[4:7]
PATCHED = VARIANT == 'patched'
MEMORY = 1024 * MIB
NAMES = 'map', 'unmap', 'register', 'unregister'
SUMS = '/tmp/ioctls'
SIZE = len(NAMES) * 16


with open(SUMS, 'wb') as new:
    new.write(bytes(SIZE))
with open(SUMS, 'r+b') as sums:
    COUNTED = mmap.mmap(sums.fileno(), SIZE)


def cost(what):
    """Print what has been counted since the last time. Returns the numbers of calls."""
    sums = struct.unpack(f'<{2 * len(NAMES)}Q', COUNTED[:])
    COUNTED[:] = bytes(SIZE)
    calls = dict(zip(NAMES, sums[::2]))
    parts = [f'{calls[name]} {name}' for name in NAMES if calls[name]]
    print(f'# cost {VARIANT}: {what}: {", ".join(parts) or "none"}: '
          f'{sum(sums[1::2]) // 1000} thousand instructions')
    return calls


class Guest(ViommuMachine):
    """The machine. Its memory is there before it is mapped."""

    def __init__(self, devices, *args, iommu=True):
        super().__init__(
            QEMU, devices, MEMORY, '-machine', 'memory-backend=main',
            '-object', f'memory-backend-ram,id=main,size={MEMORY},prealloc=on', *args,
            iommu=iommu, wrapper=['env', f'LD_PRELOAD={COUNTER}', f'COUNT_IOCTLS={SUMS}'])
        self.launch()


def test_viommu():
    """Each device has a container."""
    guest = Guest(DEVICES[:2])
    first = cost('start, two devices behind a virtual IOMMU')
    check(first['map'] > 0 and bool(first['register']) == PATCHED,
          'RAM is ' + ('registered' if PATCHED else 'not registered'))
    guest.set_up()
    cost('their registers are mapped')
    guest.cmd('device_add', driver='vfio-pci', id='edu3', host=DEVICES[2], bus='port3')
    added = cost('a third device is plugged')
    check(added['map'] > 0 and not added['register'], 'nothing is registered for it')
    guest.turn_on()
    cost('the guest turns its IOMMU on')
    for page in range(512):
        guest.map(1, page, 64 * MIB + 0x1000 * page)
    check(cost('the guest maps 512 pages')['map'] == 512, 'one call for a page')
    for page in range(512):
        guest.map(1, page, None)
    check(cost('the guest unmaps 512 pages')['unmap'] == 512, 'one call for a page')
    guest.reset()
    again = cost('reset')
    check(not again['register'] and not again['unregister'], 'a reset registers nothing')
    guest.shutdown()


class MemoryGuest(VirtioMem, Guest):
    """It also has a virtio-mem device."""

    size = 1024 * MIB

    def __init__(self, devices):
        super().__init__(devices, *self.virtio_mem(self.size, 'prealloc=on'), iommu=False)


def test_virtio_mem():
    """Memory is plugged."""
    guest = MemoryGuest(DEVICES[:1])
    cost('start, one device')
    guest.set_up()
    guest.set_up_virtio_mem()
    cost('its registers are mapped')
    blocks = guest.size // BLOCK
    guest.request(PLUG, 0, blocks)
    check(cost('1 GiB of virtio-mem is plugged')['map'] == (1 if PATCHED else blocks),
          'one call maps all' if PATCHED else 'one call for a block')
    guest.cmd('device_add', driver='vfio-pci', id='edu2', host=DEVICES[1], bus='port2')
    check(not cost('a second device is plugged')['map'], 'a second device needs no call')
    guest.request(UNPLUG, 0, blocks)
    cost('1 GiB of virtio-mem is unplugged')
    guest.shutdown()


test_viommu()
test_virtio_mem()
end()
