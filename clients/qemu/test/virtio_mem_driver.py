# SPDX-License-Identifier: GPL-2.0-only
"""A driver for a virtio-mem device, for machines without a CPU."""

import random
import struct
import time

BLOCK = 2 << 20
MEM_SLOT, MEM_BAR, MEM_AT = 0x10, 4, 0xe0000000
# In the guest's memory: a virtqueue, a request and its answer
DESC, AVAIL, USED, REQUEST, ANSWER = 0x100000, 0x101000, 0x102000, 0x103000, 0x103100

PLUG, UNPLUG = 0, 1     # requests
ACK, BUSY = 0, 2        # answers


class VirtioMem:
    """The driver, to be inherited besides BareMachine, and what is plugged."""

    size = 0
    plugged = set()
    notify = region = requests = 0

    @staticmethod
    def virtio_mem(size, *properties):
        """QEMU's arguments for the device."""
        return ['-object', f'memory-backend-ram,id=ram,size={size},reserve=off',
                '-device', ','.join([
                    'virtio-mem-pci', 'id=vm', 'memdev=ram', f'addr={MEM_SLOT:x}',
                    f'block-size={BLOCK}', f'requested-size={size}', *properties])]

    def set_up_virtio_mem(self):
        """What firmware and the driver do."""
        self.config_write(MEM_SLOT, 0x10 + 4 * MEM_BAR, MEM_AT)
        self.config_write(MEM_SLOT, 4, 6)       # memory space, bus master
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
        self.plugged = set()

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
