# SPDX-License-Identifier: GPL-2.0-only
"""A machine without a CPU whose edu devices are behind vfio-pci and an emulated VT-d."""

import glob
import re
import struct

from bare_machine import BareMachine

MIB = 1 << 20
EDU_AT = 0xe1000000     # each bus has the next MiB
REGISTERS = 0xfed90000  # of VT-d
PORTS = 3               # root ports; the n-th leads to bus n, which has one slot
# In memory: the root table, then a context table for each bus, and four page tables
ROOT, CONTEXT, TABLES = 0x200000, 0x201000, 0x210000
IOVA = 1 << 30          # 512 pages of 4 KiB, then one of 2 MiB


class ViommuMachine(BareMachine):
    """Each device has an address space and a domain of its own, both named by its bus."""

    def __init__(self, qemu, devices, memory, *args, iommu=True, wrapper=()):
        self.iommu = iommu
        line = ['-machine', 'q35,kernel-irqchip=split', '-nodefaults', '-display', 'none',
                '-m', f'{memory // MIB}M,slots=4,maxmem=16G', *args]
        if iommu:
            line += ['-device', 'intel-iommu,caching-mode=on,aw-bits=48']
        for bus in range(1, PORTS + 1):
            line += ['-device', f'pcie-root-port,id=port{bus},chassis={bus},addr={bus + 2}']
        for bus, device in enumerate(devices, 1):
            line += ['-device', f'vfio-pci,id=edu{bus},host={device},bus=port{bus}']
        super().__init__(qemu, args=line, wrapper=wrapper, base_temp_dir='/tmp')

    @staticmethod
    def edu(bus):
        """Where the registers of the device are."""
        return EDU_AT + bus * MIB

    def set_up(self):
        """What firmware does. The IOMMU is off."""
        for bus in range(1, PORTS + 1):
            port, at = bus + 2, self.edu(bus)
            self.config_write(port, 0x18, bus << 16 | bus << 8)
            self.config_write(port, 0x20, at & 0xfff00000 | at >> 16)
            self.config_write(port, 4, 6)       # memory space, bus master
            self.config_write(bus << 5, 0x10, at)
            self.config_write(bus << 5, 4, 6)

    def reset(self):
        """Reset the machine. Devices that are to be unplugged go then."""
        self.cmd('system_reset')
        self.event_wait('RESET', timeout=60)
        self.set_up()

    def put(self, table, index, *entries):
        """Write entries of a table."""
        self.store(table + 8 * index, struct.pack(f'<{len(entries)}Q', *entries))

    def turn_on(self):
        """Let the IOMMU translate. Nothing is mapped."""
        self.store(ROOT, bytes(0x1000 * (PORTS + 2)))
        for bus in range(1, PORTS + 1):
            context, tables = CONTEXT + 0x1000 * bus, TABLES + 0x10000 * bus
            self.store(tables, bytes(0x4000))
            self.put(tables, 0, tables + 0x1000 | 3)
            self.put(tables + 0x1000, IOVA >> 30, tables + 0x2000 | 3)
            self.put(tables + 0x2000, 0, tables + 0x3000 | 3)
            self.put(context, 0, tables | 1, bus << 8 | 2)
            self.put(ROOT, 2 * bus, context | 1)
        self.write('q', REGISTERS + 0x20, ROOT)
        self.write('l', REGISTERS + 0x18, 1 << 30)
        self.write('l', REGISTERS + 0x18, 1 << 31)

    def map(self, bus, page, address):
        """Map a page of 4 KiB, or unmap it if address is None. Page 512 has 2 MiB."""
        tables = TABLES + 0x10000 * bus
        order = 9 if page == 512 else 0
        entry = 0 if address is None else address | 3 | (0x80 if order else 0)
        if order:
            self.put(tables + 0x2000, 1, entry)
        else:
            self.put(tables + 0x3000, page, entry)
        self.write('q', REGISTERS + 0xf0, IOVA + 0x1000 * page | order)
        self.write('q', REGISTERS + 0xf8, 1 << 63 | 3 << 60 | bus << 32)

    def locked(self):
        """How much is charged to QEMU's locked memory, in bytes."""
        with open(f'/proc/{self.get_pid()}/status', encoding='ascii') as file:
            return int(re.search(r'VmLck:\s+(\d+) kB', file.read()).group(1)) << 10

    def super(self):
        """What QEMU's super-container says, a dictionary; empty if there is none."""
        for name in glob.glob(f'/proc/{self.get_pid()}/fdinfo/*'):
            with open(name, encoding='ascii', errors='replace') as file:
                said = file.read()
            if 'registered:' in said:
                return {key: int(value)
                        for key, value in re.findall(r'^(\w+):\s+(\d+)', said, re.M)}
        return {}
