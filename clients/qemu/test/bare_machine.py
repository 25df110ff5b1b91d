# SPDX-License-Identifier: GPL-2.0-only
"""A machine without a CPU: the test itself is its guest, by the qtest protocol."""

import base64
import re
import subprocess
import time

from qemu.machine import QEMUQtestMachine

EDU_BUFFER = 0x40000    # an address of the edu device itself


def faults():
    """How many DMA faults the kernel has told of."""
    said = subprocess.run(['dmesg'], check=True, capture_output=True, text=True).stdout
    return len(re.findall(r'DMAR: \[DMA |AMD-Vi: Event logged \[IO_PAGE_FAULT', said))


class BareMachine(QEMUQtestMachine):
    """Memory, PCI configuration and DMA of edu devices."""

    own_edu = False     # QEMU's own edu device needs QEMU's clock.

    def command(self, text):
        """A command of the qtest protocol; returns what follows the OK."""
        answer = self.qtest(text).split()
        if not answer or answer[0] != 'OK':
            raise RuntimeError(f'qtest: {text}: {answer}')
        return answer[1] if len(answer) > 1 else None

    def read(self, kind, address):
        """Read what kind says: b, w, l or q."""
        return int(self.command(f'read{kind} {address:#x}'), 0)

    def write(self, kind, address, value):
        """Write what kind says: b, w, l or q."""
        self.command(f'write{kind} {address:#x} {value:#x}')

    def load(self, address, size):
        """Read bytes."""
        return base64.b64decode(self.command(f'b64read {address:#x} {size:#x}'))

    def store(self, address, data):
        """Write bytes."""
        self.command(f'b64write {address:#x} {len(data):#x} '
                     f'{base64.b64encode(data).decode()}')

    def config_address(self, slot, offset):
        """Choose a register of the PCI configuration space."""
        self.command(f'outl 0xcf8 {0x80000000 | slot << 11 | offset & 0xfc:#x}')

    def config_read(self, slot, offset):
        """Read four bytes of the PCI configuration space."""
        self.config_address(slot, offset)
        return int(self.command('inl 0xcfc'), 0)

    def config_write(self, slot, offset, value):
        """Write four bytes of the PCI configuration space."""
        self.config_address(slot, offset)
        self.command(f'outl 0xcfc {value:#x}')

    def dma(self, edu, address, to_memory):
        """Let edu copy 256 bytes between the memory and its buffer."""
        source, target = (EDU_BUFFER, address) if to_memory else (address, EDU_BUFFER)
        for offset, value in ((0x80, source), (0x88, target), (0x90, 256),
                              (0x98, 3 if to_memory else 1)):
            self.write('q', edu + offset, value)
        if self.own_edu:
            self.command('clock_step 200000000')
        deadline = time.monotonic() + 60
        while self.read('q', edu + 0x98) & 1:
            if time.monotonic() > deadline:
                raise RuntimeError('edu does not end')
            time.sleep(0.02)

    def dma_fails(self, edu, address, to_memory):
        """Does DMA fail? The kernel does not tell of each fault; try it for a while."""
        for _ in range(15):
            before = faults()
            self.dma(edu, address, to_memory)
            time.sleep(1)
            if faults() > before:
                return True
        return False
