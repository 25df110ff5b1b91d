#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""
Usage: viommu.py stock|patched QEMU DEVICE DEVICE DEVICE

TAP: runs QEMU without CAP_IPC_LOCK, with edu devices behind vfio-pci and an
emulated VT-d. There is no CPU in that machine: this program is its guest, by
QEMU's qtest protocol. How much memory is locked, what do the devices reach, and
what happens when devices and memory come and go? PYTHONPATH is the directory
"python" of a QEMU source tree.
"""

import random
import sys
import time

from qemu.machine.machine import VMLaunchFailure

from bare_machine import faults
from tap import check, end
from viommu_machine import IOVA, MIB, ViommuMachine
from virtio_mem_driver import ACK, BLOCK, PLUG, UNPLUG, VirtioMem

VARIANT, QEMU = sys.argv[1:3]
DEVICES = sys.argv[3:6]
PATCHED = VARIANT == 'patched'
MEMORY = 256 * MIB
FIRMWARE = MIB          # no more than that is locked for what holds the firmware
DIMM = 32 * MIB
HUGE = 512              # the page of 2 MiB


class Guest(ViommuMachine):
    """The machine; QEMU may lock as many bytes as the limit says."""

    def __init__(self, devices, limit, *args, iommu=True):
        super().__init__(QEMU, devices, MEMORY, *args, iommu=iommu, wrapper=[
            'prlimit', f'--memlock={int(limit)}',
            'setpriv', '--inh-caps=-ipc_lock', '--bounding-set=-ipc_lock'])

    def locks(self, low, high):
        """Is so much locked? What is unlocked may be so a little later."""
        deadline = time.monotonic() + 10
        while not low <= self.locked() <= high:
            if time.monotonic() > deadline:
                print(f'# {self.locked()} bytes are locked')
                return False
            time.sleep(0.1)
        return True

    def locks_once(self, size):
        """Is memory of that size locked once?"""
        return self.locks(size, size + FIRMWARE)

    def copies(self, bus, source, target):
        """Does the device copy from one place to the other? Each is an IOVA and memory."""
        data = random.randbytes(256)
        self.store(source[1], data)
        self.store(target[1], bytes(256))
        self.dma(self.edu(bus), source[0], False)
        self.dma(self.edu(bus), target[0], True)
        return self.load(target[1], 256) == data

    def fails(self, bus, iova):
        """Does DMA to that IOVA fail?"""
        return self.dma_fails(self.edu(bus), iova, True)

    def wait_deleted(self, name):
        """Wait until a device is unplugged."""
        self.event_wait('DEVICE_DELETED', match={'data': {'device': name}})

    def plug_dimm(self, name):
        """Plug memory; returns its address."""
        self.cmd('object-add', {'qom-type': 'memory-backend-ram', 'id': f'mem-{name}',
                                'size': DIMM})
        self.cmd('device_add', {'driver': 'pc-dimm', 'id': name, 'memdev': f'mem-{name}'})
        return self.cmd('qom-get', path=f'/machine/peripheral/{name}', property='addr')

    def unplug_dimm(self, name):
        """Unplug memory, and throw it away."""
        slot = self.cmd('qom-get', path=f'/machine/peripheral/{name}', property='slot')
        self.cmd('device_del', id=name)
        self.command(f'outl 0xa00 {slot}')
        self.command('outb 0xa14 8')
        self.wait_deleted(name)
        self.cmd('object-del', id=f'mem-{name}')

    def unplug_edu(self, *buses):
        """Unplug devices, which takes a reset."""
        for bus in buses:
            self.cmd('device_del', id=f'edu{bus}')
        self.reset()
        for bus in buses:
            self.wait_deleted(f'edu{bus}')

    def plug_edu(self, *buses):
        """Plug devices."""
        for bus in buses:
            self.cmd('device_add', {'driver': 'vfio-pci', 'id': f'edu{bus}',
                                    'host': DEVICES[bus - 1], 'bus': f'port{bus}'})
        self.set_up()


class MemoryGuest(VirtioMem, Guest):
    """It also has a virtio-mem device."""

    size = 1024 * MIB

    def __init__(self, devices, limit):
        super().__init__(devices, limit, *self.virtio_mem(self.size))


def why_not(devices, limit):
    """Why does QEMU not start with that limit? Empty if it does."""
    guest = Guest(devices, limit)
    try:
        guest.launch()
    except VMLaunchFailure:
        return guest.get_log()
    guest.shutdown()
    return ''


def at(page, address, offset=0):
    """A place in a page: its IOVA, and where that is in memory."""
    return IOVA + 0x1000 * page + offset, address + offset


def check_dma(guest):
    """Both devices do DMA, each by its own page tables."""
    locked = guest.locked()
    before = faults()
    good = True
    for bus in 1, 2:
        memory = 64 * MIB * bus
        for page in range(256):
            # Not in order
            guest.map(bus, page, memory + 0x1000 * (page ^ 0x55))
        guest.map(bus, HUGE, memory + 4 * MIB)
        good &= guest.copies(bus, at(7, memory + 0x1000 * (7 ^ 0x55)),
                             at(HUGE, memory + 4 * MIB, 2 * MIB - 256))
        good &= guest.copies(bus, at(HUGE, memory + 4 * MIB),
                             at(255, memory + 0x1000 * (255 ^ 0x55), 0xf00))
    check(good and faults() == before, 'DMA of two devices through the virtual IOMMU is right')
    if PATCHED:
        check(guest.locked() == locked, 'what it maps is not locked again')
    check(guest.fails(1, IOVA + 0x1000 * 400), 'DMA to what is not mapped fails')
    guest.map(2, 7, None)
    check(guest.fails(2, IOVA + 0x7000), 'DMA to what is no longer mapped fails')
    check(guest.copies(2, at(6, 128 * MIB + 0x53000), at(8, 128 * MIB + 0x5d000)),
          'DMA to its neighbours goes on')


def check_sharing(guest):
    """x-query-vfio-dma shows which mappings are of the super-container."""
    containers = guest.cmd('x-query-vfio-dma')
    shared = [{e['iova'] for e in c['extents'] if e['super']} for c in containers]
    plain = [{e['iova'] for e in c['extents'] if not e['super']} for c in containers]
    check(len(shared) == 2 and all(0x100000 in s for s in shared),
          'RAM is mapped out of the super-container')
    check(all({guest.edu(bus) for bus in (1, 2)} == p for p in plain),
          "only the devices' registers are not")


def test_tracking(guest):
    """Dirty tracking begins and ends. No device behind a virtual IOMMU can migrate."""
    guest.cmd('calc-dirty-rate', {'calc-time': 1, 'mode': 'dirty-bitmap'})
    deadline = time.monotonic() + 60
    status = 'measuring'
    while status != 'measured' and time.monotonic() < deadline:
        time.sleep(0.2)
        status = guest.cmd('query-dirty-rate')['status']
    check(status == 'measured', 'dirty pages are tracked for a second')
    check(all(guest.copies(bus, (80 * MIB, 80 * MIB), (81 * MIB, 81 * MIB)) for bus in (1, 2)),
          'DMA is right after that')


def test_memory(guest, locked):
    """Memory is plugged and unplugged."""
    dimm = guest.plug_dimm('a')
    check(guest.locks(locked + DIMM, locked + DIMM), 'plugged memory is locked once')
    check(guest.copies(1, (dimm, dimm), (dimm + DIMM - 256, dimm + DIMM - 256)),
          'DMA from plugged memory to plugged memory')
    guest.unplug_dimm('a')
    check(guest.locks(locked, locked), 'unplugged memory is unlocked')

    dimm = guest.plug_dimm('b')
    guest.turn_on()
    guest.map(1, 1, dimm)
    guest.map(2, 1, 64 * MIB)
    guest.unplug_dimm('b')
    check(guest.locks(locked + DIMM, locked + DIMM),
          'unplugged memory stays locked while the virtual IOMMU maps some of it')
    time.sleep(1)       # until QEMU has unmapped it and can use the address again
    before = faults()
    again = guest.plug_dimm('c')
    guest.map(1, 2, again)
    guest.map(1, 3, again + DIMM - 0x1000)
    check(guest.copies(1, at(2, again), at(3, again + DIMM - 0x1000)),
          'memory that is plugged in its place is another')
    check(guest.locks(locked + DIMM + 0x2000, locked + DIMM + 0x2000),
          'parts of it are locked as they are mapped')
    guest.dma(guest.edu(1), IOVA + 0x1000, True)
    check(faults() == before, 'no DMA has failed')
    guest.map(1, 1, None)
    check(guest.locks(locked + 0x2000, locked + 0x2000),
          'unplugged memory is unlocked when it is no longer mapped')
    guest.reset()
    check(guest.locks(locked + DIMM, locked + DIMM),
          'after a reset all that is plugged is locked once')
    guest.unplug_dimm('c')
    check(guest.locks(locked, locked), 'and unlocked again')


def test_devices(guest, locked):
    """Devices are plugged and unplugged."""
    guest.plug_edu(3)
    check(guest.super().get('containers') == 3 and guest.locks(locked, locked),
          'a third device: nothing more is locked')
    check(guest.copies(3, (64 * MIB, 64 * MIB), (65 * MIB, 65 * MIB)), 'it does DMA')
    guest.turn_on()
    guest.map(3, 0, 64 * MIB)
    check(guest.copies(3, at(0, 64 * MIB), at(0, 64 * MIB, 512)),
          'it does DMA through the virtual IOMMU')
    guest.unplug_edu(1, 3)
    check(guest.super().get('containers') == 1 and guest.locks(locked, locked),
          'one device is left: the memory is locked once')
    guest.unplug_edu(2)
    check(not guest.super() and guest.locks(0, 0), 'no device is left: nothing is locked')
    guest.plug_edu(2, 1)
    check(guest.super().get('containers') == 2 and guest.locks(locked, locked),
          'two devices again: the memory is locked once')


def test_virtio_mem(locked):
    """What comes and goes is not registered."""
    guest = MemoryGuest(DEVICES[:2], 1.5 * MEMORY)
    guest.launch()
    guest.set_up()
    guest.set_up_virtio_mem()
    check(guest.locks(locked, locked), 'virtio-mem: what is not plugged is not locked')
    check(guest.request(PLUG, 100, 20) == ACK, 'virtio-mem: 20 blocks are plugged')
    check(guest.locks(locked + 40 * BLOCK, locked + 40 * BLOCK),
          'virtio-mem: each device locks them')
    first, last = (guest.region + block * BLOCK for block in (100, 119))
    check(all(guest.copies(bus, (first, first), (last, last)) for bus in (1, 2)),
          'virtio-mem: DMA from one block to another')
    guest.turn_on()
    guest.map(1, 0, 64 * MIB)
    guest.map(1, 1, first)
    check(guest.locks(locked + 0x1000, locked + 0x1000),
          'virtio-mem: the virtual IOMMU locks the page that it maps')
    check(guest.copies(1, at(0, 64 * MIB), at(1, first)),
          'virtio-mem: DMA from RAM to a block')
    guest.map(1, 1, None)
    guest.request(UNPLUG, 100, 20)
    check(guest.locks(locked, locked), 'virtio-mem: all of that is unlocked')
    guest.shutdown()


random.seed(1)
LOG = why_not(DEVICES[:2], 1.2 * MEMORY)
if PATCHED:
    check(not LOG, 'two devices, 1.2 times the memory may be locked: QEMU starts')
    check('cannot pin pc.ram' in why_not(DEVICES[:1], 0.9 * MEMORY),
          '0.9 times the memory may be locked: QEMU says why it does not start')
else:
    check('(Cannot allocate memory)' in LOG,
          'two devices, 1.2 times the memory may be locked: QEMU does not start')
    check(not why_not(DEVICES[:1], 1.2 * MEMORY), 'one device: QEMU starts')

GUEST = Guest(DEVICES[:2], (1.2 if PATCHED else 2.4) * MEMORY)
GUEST.launch()
GUEST.set_up()
if PATCHED:
    check(GUEST.locks_once(MEMORY), 'the memory is locked once')
    check_sharing(GUEST)
    test_tracking(GUEST)
    LOCKED = GUEST.locked()
else:
    check(GUEST.locks(1.9 * MEMORY, 2.1 * MEMORY), 'the memory is locked twice')
check(all(GUEST.copies(bus, (80 * MIB, 80 * MIB), (81 * MIB, 81 * MIB)) for bus in (1, 2)),
      'DMA while the virtual IOMMU is off')
GUEST.turn_on()
check_dma(GUEST)
if PATCHED:
    GUEST.reset()
    check(GUEST.locks(LOCKED, LOCKED), 'after a reset the memory is locked once')
    test_memory(GUEST, LOCKED)
    GUEST.reset()
    test_devices(GUEST, LOCKED)
GUEST.shutdown()
if PATCHED:
    SAID = [line for line in GUEST.get_log().splitlines()
            if 'vfio' in line and 'no available reset mechanism' not in line]
    for line in SAID:
        print('#', line)
    check(not SAID, 'QEMU has no complaint')
    GUEST = Guest(DEVICES[:2], 1.2 * MEMORY, iommu=False)
    GUEST.launch()
    check(not GUEST.super() and GUEST.locks_once(MEMORY),
          'without a virtual IOMMU the devices share a container')
    GUEST.shutdown()
    test_virtio_mem(LOCKED)
end()
