#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""
Usage: iotlb.py stock|strict QEMU

TAP: what do QEMU's emulated IOMMUs forget when one 4 KiB page of a cached 2 MiB
page is invalidated? Everything that is cached of it, or nothing, in a strict
QEMU. PYTHONPATH is the directory "python" of a QEMU source tree.
"""

import struct
import sys

from bare_machine import BareMachine
from tap import check, end

VARIANT, QEMU = sys.argv[1:3]
STRICT = VARIANT == 'strict'
EDU_SLOT, EDU_AT = 0x11, 0xe1000000
IOVA = 0x40003000       # in the first 2 MiB of the second GiB
DOMAIN = 5
OLD, NEW = bytes(range(256)), bytes(range(255, -1, -1))
# In memory: tables, and two pages of 2 MiB
ROOT, CONTEXT, LEVEL4, LEVEL3, LEVEL2, LEVEL1, COMMANDS = range(0x200000, 0x207000, 0x1000)
OLD_PAGE, NEW_PAGE = 0x400000, 0x600000


class Machine(BareMachine):
    """A machine with an IOMMU and an edu device behind it."""

    own_edu = True
    iommu = ''

    def __init__(self):
        super().__init__(QEMU, args=[
            '-machine', 'q35,kernel-irqchip=split', '-nodefaults', '-display', 'none', '-m', '256M',
            '-device', self.iommu,
            '-device', f'edu,addr={EDU_SLOT:x},dma_mask=0xffffffffffff'], base_temp_dir='/tmp')

    def put(self, table, index, entry):
        """Write an entry of a table."""
        self.store(table + 8 * index, struct.pack('<Q', entry))

    def entry(self, address, level):
        """An entry that leads to a table of this level, 0: to a page."""
        raise NotImplementedError

    def enable(self):
        """Let the IOMMU translate."""
        raise NotImplementedError

    def invalidate(self, address, order):
        """Invalidate 2^order pages at this address in the domain."""
        raise NotImplementedError

    def set_up(self):
        """Map a page of 2 MiB, and fill all pages."""
        self.config_write(EDU_SLOT, 0x10, EDU_AT)
        self.config_write(EDU_SLOT, 4, 6)
        for address in range(ROOT, COMMANDS + 0x1000, 0x1000):
            self.store(address, bytes(0x1000))
        for page, data in (OLD_PAGE, OLD), (NEW_PAGE, NEW):
            self.store(page + (IOVA & 0x1fffff), data)
            self.store(page + (IOVA & 0x1fffff) + 0x1000, data)
        self.put(LEVEL4, 0, self.entry(LEVEL3, 3))
        self.put(LEVEL3, IOVA >> 30, self.entry(LEVEL2, 2))
        self.put(LEVEL2, 0, self.large_page(OLD_PAGE))
        self.enable()

    def large_page(self, address):
        """An entry that maps 2 MiB."""
        return self.entry(address, 0)

    def cut(self):
        """Put a table in the place of the large page, with one page exchanged."""
        for i in range(512):
            page = NEW_PAGE if i == IOVA >> 12 & 511 else OLD_PAGE
            self.put(LEVEL1, i, self.entry(page + 0x1000 * i, 0))
        self.put(LEVEL2, 0, self.entry(LEVEL1, 1))

    def reads(self, iova):
        """What does the device read at this address?"""
        self.dma(EDU_AT, iova, False)
        # Its buffer can be read through a page that is the same all the time.
        self.dma(EDU_AT, IOVA + 0x1000, True)
        data = self.load(OLD_PAGE + (IOVA & 0x1fffff) + 0x1000, 256)
        self.store(OLD_PAGE + (IOVA & 0x1fffff) + 0x1000, OLD)
        return data


class Intel(Machine):
    """VT-d in legacy mode, without queued invalidation."""

    iommu = 'intel-iommu,aw-bits=48'
    registers = 0xfed90000

    def entry(self, address, level):
        return address | 3

    def large_page(self, address):
        return address | 0x83

    def enable(self):
        self.put(ROOT, 0, CONTEXT | 1)
        self.put(CONTEXT, EDU_SLOT << 4, LEVEL4 | 1)
        self.put(CONTEXT, EDU_SLOT << 4 | 1, DOMAIN << 8 | 2)
        self.write('q', self.registers + 0x20, ROOT)
        self.write('l', self.registers + 0x18, 1 << 30)
        self.write('l', self.registers + 0x18, 1 << 31)

    def invalidate(self, address, order):
        self.write('q', self.registers + 0xf0, address | order)
        self.write('q', self.registers + 0xf8, 1 << 63 | 3 << 60 | DOMAIN << 32)


class Amd(Machine):
    """AMD-Vi with tables of four levels."""

    iommu = 'amd-iommu'
    registers = 0xfed80000
    tail = 0

    def entry(self, address, level):
        return 3 << 61 | level << 9 | address | 1

    def enable(self):
        # A device table of 4 KiB has 128 devices; this one takes two.
        self.put(ROOT, EDU_SLOT << 5, 3 << 61 | 4 << 9 | LEVEL4 | 3)
        self.put(ROOT, EDU_SLOT << 5 | 1, DOMAIN)
        self.write('q', self.registers + 0, ROOT | 1)
        self.write('q', self.registers + 8, 8 << 56 | COMMANDS)
        self.write('q', self.registers + 0x18, 1 << 12 | 1)

    def invalidate(self, address, order):
        if order:
            # The lowest bit that is 0 tells the size.
            address |= (1 << order - 1) - 1 << 12 | 1
        self.store(COMMANDS + self.tail, struct.pack('<QQ', 3 << 60 | DOMAIN << 32, address))
        self.tail += 16
        self.write('q', self.registers + 0x2008, self.tail)


for kind in Intel, Amd:
    vm = kind()
    vm.launch()
    vm.set_up()
    check(vm.reads(IOVA) == OLD, f'{vm.iommu}: a page of 2 MiB translates')
    vm.cut()
    check(vm.reads(IOVA) == OLD, f'{vm.iommu}: it is cached')
    vm.invalidate(IOVA, 0)
    check(vm.reads(IOVA) == (OLD if STRICT else NEW),
          f'{vm.iommu}: to invalidate 4 KiB of it ' + ('is not enough' if STRICT else 'is enough'))
    vm.invalidate(IOVA & ~0x1fffff, 9)
    check(vm.reads(IOVA) == NEW, f'{vm.iommu}: to invalidate 2 MiB is enough')
    vm.put(LEVEL1, IOVA >> 12 & 511, vm.entry(OLD_PAGE + (IOVA & 0x1ff000), 0))
    check(vm.reads(IOVA) == NEW, f'{vm.iommu}: a page of 4 KiB is cached')
    vm.invalidate(IOVA, 0)
    check(vm.reads(IOVA) == OLD, f'{vm.iommu}: to invalidate 4 KiB is enough for it')
    vm.shutdown()
end()
