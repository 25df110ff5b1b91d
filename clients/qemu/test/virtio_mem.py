#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""
Usage: virtio_mem.py stock|patched QEMU VFIOSTAT DEVICE [TEST...]

TAP: runs QEMU with a virtio-mem device of 256 GiB and, behind vfio-pci, an edu
device. There is no CPU in that machine: this program is its guest, by QEMU's
qtest protocol, and plugs and unplugs blocks of 2 MiB in random order. How many
DMA entries does that take, and where can the device do DMA? PYTHONPATH is the
directory "python" of a QEMU source tree. Tests: large, limit, memslots, migration.
"""

import random
import re
import subprocess
import sys
import time

from bare_machine import BareMachine, faults
from tap import check, end, skip
from virtio_mem_driver import ACK, BLOCK, BUSY, PLUG, UNPLUG, VirtioMem

VARIANT, QEMU, VFIOSTAT, DEVICE = sys.argv[1:5]
PATCHED = VARIANT == 'patched'
GIB = 1 << 30
LIMIT = '/sys/module/vfio_iommu_type1/parameters/dma_entry_limit'
EDU_SLOT, EDU_AT = 0x11, 0xe1000000


class Guest(VirtioMem, BareMachine):
    """A machine with both devices, their driver, and what is plugged."""

    def __init__(self, size, *properties, other=None):
        self.size, self.edu = size, not other
        super().__init__(QEMU, args=[
            '-machine', 'q35', '-nodefaults', '-display', 'none',
            '-m', f'256M,maxmem={size + GIB}', *self.virtio_mem(size, *properties),
            '-device', other or f'vfio-pci,host={DEVICE},addr={EDU_SLOT:x}'],
                         base_temp_dir='/tmp')

    def set_up(self):
        """What firmware and drivers do."""
        if self.edu:
            self.config_write(EDU_SLOT, 0x10, EDU_AT)
            self.config_write(EDU_SLOT, 4, 6)   # memory space, bus master
        self.set_up_virtio_mem()

    def entries(self):
        """How many DMA entries QEMU's container uses."""
        said = subprocess.run([VFIOSTAT, str(self.get_pid())], check=True,
                              capture_output=True, text=True).stdout
        return int(re.search(r'(\d+) of \d+ DMA entries used', said).group(1))

    def monitor(self, line):
        """A command of the human monitor."""
        return self.cmd('human-monitor-command', command_line=line)


def plug_and_unplug(guest, base, steps):
    """Random blocks come and go. Returns the greatest number that was plugged."""
    most, right = 0, True
    for step in range(steps):
        if guest.plugged and (len(guest.plugged) >= 256 or random.random() < 0.4):
            answer = guest.request(UNPLUG, random.choice(sorted(guest.plugged)))
        else:
            answer = guest.request(PLUG, guest.unplugged())
        if answer != ACK:
            print(f'# step {step}: answer {answer}')
            return most, False
        most = max(most, len(guest.plugged))
        if step % 50 == 49:
            want = base + (0 if PATCHED else len(guest.plugged))
            used = guest.entries()
            if used != want:
                print(f'# step {step}: {used} entries, not {want}')
                right = False
    return most, right


def test_large():
    """256 GiB, little of it plugged."""
    guest = Guest(256 * GIB)
    guest.launch()
    guest.set_up()
    base = guest.entries()
    print(f'# {base} DMA entries at the start')
    for life in 'at first', 'after a reset':
        most, right = plug_and_unplug(guest, base, 500)
        check(right, f'{life}: 500 blocks come and go, {most} at most, each one ' +
              ('taking no DMA entry' if PATCHED else 'taking a DMA entry'))

        one, other = random.sample(sorted(guest.plugged), 2)
        data = random.randbytes(256)
        # Both ends of a block are the device's, too.
        first = guest.region + one * BLOCK
        second = guest.region + other * BLOCK + BLOCK - 256
        guest.store(first, data)
        before = faults()
        guest.dma(EDU_AT, first, False)
        guest.dma(EDU_AT, second, True)
        check(guest.load(second, 256) == data, f'{life}: DMA from one block to another')
        check(faults() == before, f'{life}: no DMA has failed')
        nothing = guest.region + guest.unplugged() * BLOCK
        check(guest.dma_fails(EDU_AT, nothing, True),
              f'{life}: DMA to a block that is not plugged fails')
        guest.request(UNPLUG, one)
        check(guest.dma_fails(EDU_AT, first, False),
              f'{life}: DMA from a block that was plugged fails')

        if PATCHED:
            extents = guest.cmd('x-query-vfio-dma')[0]['extents']
            sparse = [e for e in extents if e['sparse']]
            blocks = {(e['iova'] - guest.region + i) // BLOCK
                      for e in sparse for i in range(0, e['size'], BLOCK)}
            check(blocks == guest.plugged and {e['granule'] for e in sparse} == {BLOCK},
                  f'{life}: x-query-vfio-dma shows what is plugged')
            pages = {e['page-size'] for e in sparse}
            print(f'# IOMMU page sizes: {sorted(pages)}')
            check(len(re.findall(' sparse', guest.monitor('info vfio-dma'))) == len(sparse),
                  f'{life}: info vfio-dma shows it')
        if life == 'at first':
            guest.cmd('system_reset')
            deadline = time.monotonic() + 60
            while guest.cmd('qom-get', path='/machine/peripheral/vm', property='size') and \
                    time.monotonic() < deadline:
                time.sleep(0.1)
            guest.set_up()
            check(guest.entries() == base, 'a reset unplugs all')
    guest.shutdown()
    warned = 'possibly running out of DMA mappings' in guest.get_log()
    check(warned != PATCHED, 'QEMU ' + ('does not warn' if PATCHED else 'warns') +
          ' that DMA mappings may run out')


def test_limit():
    """What happens where a container may have 64 DMA entries?"""
    with open(LIMIT, encoding='ascii') as file:
        limit = file.read()
    with open(LIMIT, 'w', encoding='ascii') as file:
        file.write('64')
    guest = Guest(4 * GIB)
    guest.launch()
    guest.set_up()
    room = 64 - guest.entries()
    answers = [guest.request(PLUG, 2 * i) for i in range(200)]
    done = answers.count(ACK)
    check(done == (200 if PATCHED else room),
          f'64 DMA entries: {done} of 200 blocks can be plugged')
    check(set(answers) == ({ACK} if PATCHED else {ACK, BUSY}),
          'none is refused' if PATCHED else 'the others are refused')
    guest.shutdown()
    with open(LIMIT, 'w', encoding='ascii') as file:
        file.write(limit)


def test_memslots():
    """Each memslot that is in use is a section with a mapping of its own."""
    guest = Guest(4 * GIB, 'dynamic-memslots=on')
    guest.launch()
    guest.set_up()
    base = guest.entries()
    edge = GIB // BLOCK
    check(guest.request(PLUG, edge - 1, 2) == ACK, 'two blocks in two memslots are plugged')
    check(guest.entries() == base + 2, 'they take an entry each')
    check(guest.request(PLUG, edge + 8, 4) == ACK, 'four more blocks are plugged')
    check(guest.entries() == base + (2 if PATCHED else 6),
          'they take no entry more' if PATCHED else 'they take an entry each')
    guest.request(UNPLUG, edge + 8, 4)
    guest.request(UNPLUG, edge - 1, 2)
    check(guest.entries() == base, 'all entries come back')
    guest.shutdown()


def test_migration():
    """Migrate while blocks are plugged. The device is Linux's sample, mtty."""
    uuid = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001'
    device = f'/sys/bus/mdev/devices/{uuid}'
    with open('/sys/class/mdev_bus/mtty/mdev_supported_types/mtty-1/create', 'w',
              encoding='ascii') as file:
        file.write(uuid)
    guest = Guest(4 * GIB, other=f'vfio-pci,enable-migration=on,sysfsdev={device}')
    guest.launch()
    guest.set_up()
    for block in random.sample(range(4 * GIB // BLOCK), 20):
        guest.request(PLUG, block)
    guest.cmd('migrate', uri='exec:cat >/dev/null')
    deadline = time.monotonic() + 120
    status = 'active'
    while status not in ('completed', 'failed') and time.monotonic() < deadline:
        time.sleep(0.5)
        status = guest.cmd('query-migrate').get('status')
    check(status == 'completed', f'migration with plugged blocks: {status}')
    guest.shutdown()
    with open(f'{device}/remove', 'w', encoding='ascii') as file:
        file.write('1')


TESTS = {'large': test_large, 'limit': test_limit, 'memslots': test_memslots,
         'migration': test_migration}
random.seed(1)
for name in sys.argv[5:] or TESTS:
    if name == 'migration' and not PATCHED:
        skip(name, 'it reads behind the end of an object')
        continue
    TESTS[name]()
end()
