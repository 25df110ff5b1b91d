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
import struct
import subprocess
import sys
import time

from bare_machine import BareMachine
from tap import check, end, skip

VARIANT, QEMU, VFIOSTAT, DEVICE = sys.argv[1:5]
PATCHED = VARIANT == 'patched'
MIB = 1 << 20
GIB = 1 << 30
BLOCK = 2 * MIB
LIMIT = '/sys/module/vfio_iommu_type1/parameters/dma_entry_limit'

# PCI devices: slot, BAR and where that is put
MEM_SLOT, MEM_BAR, MEM_AT = 0x10, 4, 0xe0000000
EDU_SLOT, EDU_BAR, EDU_AT = 0x11, 0, 0xe1000000
# In the guest's memory: a virtqueue, a request and its answer
DESC, AVAIL, USED, REQUEST, ANSWER = 0x100000, 0x101000, 0x102000, 0x103000, 0x103100

PLUG, UNPLUG = 0, 1     # requests
ACK, BUSY = 0, 2        # answers


class Guest(BareMachine):
    """A machine with both devices, their driver, and what is plugged."""

    def __init__(self, size, *properties, other=None):
        self.size, self.edu = size, not other
        super().__init__(QEMU, args=[
            '-machine', 'q35', '-nodefaults', '-display', 'none',
            '-m', f'256M,maxmem={size + GIB}',
            '-object', f'memory-backend-ram,id=ram,size={size},reserve=off',
            '-device', ','.join([
                'virtio-mem-pci', 'id=vm', 'memdev=ram', f'addr={MEM_SLOT:x}',
                f'block-size={BLOCK}', f'requested-size={size}', *properties]),
            '-device', other or f'vfio-pci,host={DEVICE},addr={EDU_SLOT:x}'],
                         base_temp_dir='/tmp')
        self.plugged = set()
        self.notify = self.region = self.requests = 0

    def set_up(self):
        """What firmware and drivers do."""
        devices = ((MEM_SLOT, MEM_BAR, MEM_AT), (EDU_SLOT, EDU_BAR, EDU_AT))
        for slot, bar, where in devices if self.edu else devices[:1]:
            self.config_write(slot, 0x10 + 4 * bar, where)
            self.config_write(slot, 4, 6)   # memory space, bus master
        at = self.config_read(MEM_SLOT, 0x34) & 0xff
        parts = {}
        while at:
            head = self.config_read(MEM_SLOT, at)
            if head & 0xff == 9:            # one of virtio's capabilities
                kind = head >> 24
                parts[kind] = MEM_AT + self.config_read(MEM_SLOT, at + 8)
                if kind == 2:
                    factor = self.config_read(MEM_SLOT, at + 16)
            at = head >> 8 & 0xff
        common, self.notify, config = parts[1], parts[2], parts[4]
        for status in (0, 1, 3):
            self.write('b', common + 20, status)
        # Memory that is not plugged is not read; virtio 1.0
        for select, features in ((0, 1 << 1), (1, 1)):
            self.write('l', common + 8, select)
            self.write('l', common + 12, features)
        self.write('b', common + 20, 11)
        if not self.read('b', common + 20) & 8:
            raise RuntimeError('virtio-mem does not take the features')
        self.store(AVAIL, bytes(0x1000))
        self.store(USED, bytes(0x1000))
        self.store(DESC, struct.pack('<QIHHQIHH', REQUEST, 24, 1, 1, ANSWER, 10, 2, 0))
        self.write('w', common + 22, 0)
        for offset, where in ((32, DESC), (40, AVAIL), (48, USED)):
            self.write('l', common + offset, where)
            self.write('l', common + offset + 4, 0)
        self.notify += factor * self.read('w', common + 30)
        self.write('w', common + 28, 1)
        self.write('b', common + 20, 15)
        self.region = self.read('q', config + 16)
        self.requests = 0
        self.plugged.clear()

    def request(self, kind, block, count=1):
        """Plug or unplug blocks; returns virtio-mem's answer."""
        self.store(REQUEST, struct.pack('<H6xQH6x', kind, self.region + block * BLOCK, count))
        self.requests = self.requests + 1 & 0xffff
        self.write('w', AVAIL + 2, self.requests)
        self.write('w', self.notify, 0)
        deadline = time.monotonic() + 60
        while self.read('w', USED + 2) != self.requests:
            if time.monotonic() > deadline:
                raise RuntimeError('virtio-mem does not answer')
        answer = self.read('w', ANSWER)
        if answer == ACK:
            blocks = range(block, block + count)
            if kind == PLUG:
                self.plugged.update(blocks)
            else:
                self.plugged.difference_update(blocks)
        return answer

    def unplugged(self):
        """A random block that is not plugged."""
        while True:
            block = random.randrange(self.size // BLOCK)
            if block not in self.plugged:
                return block

    def entries(self):
        """How many DMA entries QEMU's container uses."""
        said = subprocess.run([VFIOSTAT, str(self.get_pid())], check=True,
                              capture_output=True, text=True).stdout
        return int(re.search(r'(\d+) of \d+ DMA entries used', said).group(1))

    def monitor(self, line):
        """A command of the human monitor."""
        return self.cmd('human-monitor-command', command_line=line)


def faults():
    """How many DMA faults the kernel has told of."""
    said = subprocess.run(['dmesg'], check=True, capture_output=True, text=True).stdout
    return len(re.findall(r'DMAR: \[DMA |AMD-Vi: Event logged \[IO_PAGE_FAULT', said))


def fails(guest, address, to_memory):
    """Does DMA fail? The kernel does not tell of each fault; try it for a while."""
    for _ in range(15):
        before = faults()
        guest.dma(EDU_AT, address, to_memory)
        time.sleep(1)
        if faults() > before:
            return True
    return False


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
        check(fails(guest, nothing, True), f'{life}: DMA to a block that is not plugged fails')
        guest.request(UNPLUG, one)
        check(fails(guest, first, False), f'{life}: DMA from a block that was plugged fails')

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
