#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""
Usage: packets.py stock|patched TESTPMD VFIOSTAT DEVICE [TEST...]

TAP: runs testpmd and churn, a program of this test that scripts/build-dpdk has put beside
it, on two virtio-net devices that are joined. Packets flow while memory is allocated
and freed. Do all of them arrive, with the right data? How many DMA entries and calls of the
kernel does it take? DEVICE is one more device behind vfio-pci. Tests: testpmd, data,
limit, late, others.
"""

import glob
import mmap
import os
import re
import struct
import subprocess
import sys
import time

from tap import check, end

VARIANT, TESTPMD, VFIOSTAT, DEVICE = sys.argv[1:5]
PATCHED = VARIANT == 'patched'
OBJ = os.path.dirname(os.path.dirname(TESTPMD))
CHURN = f'{OBJ}/churn'
COUNTS = '/tmp/counts'
LIMIT = '/sys/module/vfio_iommu_type1/parameters/dma_entry_limit'
GRANULE, SPARSE = 11, 14    # extensions of VFIO
PAGES = '/sys/kernel/mm/hugepages/hugepages-2048kB'


def read(name):
    """A file's contents, without the end of the line."""
    with open(name, encoding='ascii') as file:
        return file.read().strip()


def write(name, text):
    """Write to a file of sysfs."""
    with open(name, 'w', encoding='ascii') as file:
        file.write(text)


def bind():
    """Give the virtio-net devices to vfio-pci; returns their addresses."""
    found = []
    for path in sorted(glob.glob('/sys/bus/pci/devices/*')):
        if (read(f'{path}/vendor'), read(f'{path}/device')) != ('0x1af4', '0x1041'):
            continue
        address = os.path.basename(path)
        found.append(address)
        if os.path.realpath(f'{path}/driver').endswith('/vfio-pci'):
            continue
        write(f'{path}/driver_override', 'vfio-pci')
        if os.path.exists(f'{path}/driver'):
            write(f'{path}/driver/unbind', address)
        write('/sys/bus/pci/drivers_probe', address)
    return found


NICS = bind()
# Huge pages of 2 MiB only
EAL = ['--huge-dir', '/dev/hugepages', '-l', '0-1', '--main-lcore', '0']
DEVICES = [word for nic in NICS for word in ('-a', nic)]


class Program:
    """A DPDK program that is talked to line by line, and whose VFIO calls are counted."""

    def __init__(self, *command, counted=True, hide=None):
        env = dict(os.environ)
        if counted:
            write(COUNTS, '\0' * 16)
            env.update(LD_PRELOAD=f'{OBJ}/count.so', COUNT_FILE=COUNTS)
        if hide:
            env.update(HIDE_FROM=str(hide))
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, env=env,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.said = ''
        self.seen = 0

    def listen(self):
        """Take in what has been said meanwhile."""
        data = self.process.stdout.read()
        self.said += (data or b'').decode(errors='replace')
        return data == b''

    def wait_for(self, pattern, seconds=300):
        """Wait until it has said this; returns the match, or None if it does not."""
        deadline = time.monotonic() + seconds
        over = False
        while True:
            match = re.compile(pattern).search(self.said, self.seen)
            if match:
                self.seen = match.end()
                return match
            if over or time.monotonic() > deadline:
                print('# ' + self.said[-1500:].replace('\n', '\n# '))
                return None
            over = self.listen()
            time.sleep(0.05)

    def say(self, line):
        """Give it a line."""
        self.process.stdin.write(line.encode() + b'\n')
        self.process.stdin.flush()

    def ask(self, line, pattern):
        """Give it a line and wait for its answer."""
        self.say(line)
        return self.wait_for(pattern)

    def entries(self):
        """How many DMA entries its container uses."""
        said = subprocess.run([VFIOSTAT, str(self.process.pid)], check=True,
                              capture_output=True, text=True).stdout
        return int(re.search(r'(\d+) of \d+ DMA entries used', said).group(1))

    def mentions(self, text):
        """How often has it said this?"""
        self.listen()
        return self.said.count(text)

    def end(self):
        """Wait until it has ended; returns its status."""
        try:
            self.process.stdin.close()
            status = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.listen()
        return status


def calls():
    """How often memory was mapped and unmapped."""
    with open(COUNTS, 'rb') as file:
        return struct.unpack('QQ', file.read(16))


def since(before):
    """How often it was, since then."""
    return [now - then for now, then in zip(calls(), before)]


def pages():
    """How many huge pages are in use."""
    return int(read(f'{PAGES}/nr_hugepages')) - int(read(f'{PAGES}/free_hugepages'))


def held(program, base, base_pages, hide=None):
    """Compare the DMA entries of what is allocated with its pages."""
    more, now = program.entries() - base, pages() - base_pages
    if not PATCHED or hide == GRANULE:
        check(more == now > 50, f'{now} pages more take {more} DMA entries more, one for each')
    elif hide == SPARSE:
        check(0 < more < now * 2 / 3 and now > 50, f'{now} pages more take {more} DMA entries more, '
              'one for each allocation')
    else:
        check(more == 0 and now > 50, f'{now} pages more take no DMA entry more')


def churn(*arguments, devices=DEVICES, hide=None):
    """Start churn as a primary process."""
    return Program(CHURN, *EAL, *devices, '--', *arguments, hide=hide)


def test_testpmd():
    """Packets go round in testpmd while another process allocates and frees."""
    steps = 1500
    testpmd = Program(TESTPMD, *EAL, *DEVICES, '--', '-i', '--total-num-mbufs=2048',
                      '--rxd=256', '--txd=256', '--no-flush-rx', '--forward-mode=io')
    if not testpmd.wait_for('testpmd> '):
        check(False, 'testpmd starts')
        testpmd.process.kill()
        return
    base, base_pages, before = testpmd.entries(), pages(), calls()
    print(f'# {base} DMA entries at the start, {before[0]} calls to map')

    def received():
        return int(testpmd.ask('show port stats 0', r'RX-packets: (\d+)').group(1))

    testpmd.say('start tx_first')
    time.sleep(2)
    first = received()
    other = Program(CHURN, '--proc-type=secondary', '--no-pci', '-l', '0', '--huge-dir',
                    '/dev/hugepages', '--', 'alloc', str(steps), counted=False)
    check(other.wait_for('held: .*'), f'another process allocates and frees {steps} times')
    held(testpmd, base, base_pages)
    last = received()
    check(last - first > 1000, f'{last - first} packets have come through port 0 meanwhile')
    other.ask('', 'freed: .*')
    other.say('')
    check(other.end() == 0, 'its memory is what it has written')
    check(testpmd.entries() == base, 'when all is freed, all entries have come back')
    maps, unmaps = since(before)
    print(f'# {maps} calls to map, {unmaps} to unmap')

    # What is on its way when forwarding stops is received afterwards.
    total = r'Accumulated forward statistics[^$]*?RX-packets: (\d+) [^$]*?' \
        r'TX-packets: (\d+) +TX-dropped: (\d+)'
    match = testpmd.ask('stop', total)
    got, sent, dropped = (int(n) for n in match.groups())
    testpmd.say('set fwd rxonly')
    testpmd.say('start')
    time.sleep(2)
    rest = int(testpmd.ask('stop', total).group(1))
    check(sent == got + rest and rest == 64 and not dropped,
          f'{sent} packets sent, {got} received and {rest} on their way')
    check(not testpmd.mentions('DMA remapping'), 'no call has failed')
    testpmd.say('quit')
    check(testpmd.end() == 0, 'testpmd ends')


def send_from_new_memory(hide=None):
    """Packets are sent from memory that has just been allocated."""
    if hide:
        print(f'# the kernel seems not to have the extensions from {hide} on')
    program = churn('data', '1500', hide=hide)
    if not program.wait_for('started: .*'):
        check(False, 'churn starts')
        return
    base, base_pages, before = program.entries(), pages(), calls()
    match = program.ask('', r'held: (\d+) allocated, (\d+) freed, (\d+) sent, (\d+) received')
    if not match:
        check(False, 'all packets arrive as they were sent')
        program.end()
        return
    print(f'# {match.group(0)}')
    check(match.group(3) == match.group(4), f'{match.group(3)} packets from memory that comes '
          'and goes arrive as they were sent')
    held(program, base, base_pages, hide)
    program.ask('', 'freed: .*')
    maps, unmaps = since(before)
    print(f'# {maps} calls to map, {unmaps} to unmap')
    check(program.entries() == base, 'when all is freed, all entries have come back')
    check(not program.mentions('DMA remapping'), 'no call has failed')
    program.say('')
    check(program.end() == 0, 'churn ends well')


def test_data():
    """The same with what the kernel may lack."""
    send_from_new_memory()
    if PATCHED:
        send_from_new_memory(SPARSE)
        send_from_new_memory(GRANULE)


def test_limit():
    """What happens where a container may have 64 DMA entries?"""
    limit = read(LIMIT)
    write(LIMIT, '64')
    program = churn('data', '300')
    program.wait_for('started: .*')
    good = program.ask('', '(held|failed): .*').group(1) == 'held'
    refused = program.mentions('Cannot set up DMA remapping, error 28')
    check(good == PATCHED, '64 DMA entries: packets ' +
          ('arrive' if good else 'from memory that could not be mapped are lost'))
    check((refused > 0) != PATCHED, 'the kernel has refused ' +
          (f'to map {refused} times' if refused else 'nothing'))
    if good:
        program.ask('', 'freed: .*')
        program.say('')
    program.end()
    write(LIMIT, limit)


def test_late():
    """The ports are attached when there is memory, of which some is freed then."""
    program = churn('late', *NICS, devices=['-a', '0000:ff:1f.7'])
    good = program.wait_for('(freed|failed): .*').group(1) == 'freed'
    check(good == PATCHED, 'memory that was there before the ports is freed and allocated again: '
          'packets from it are ' + ('right' if good else 'wrong'))
    wrong = program.mentions('of DMA remapping cleared instead of')
    check((wrong > 0) != PATCHED, f'{wrong} calls have unmapped another size than they were to')
    if good:
        program.say('')
    program.end()


def test_others():
    """Memory that is not DPDK's own, and a second container."""
    program = churn('others', DEVICE)
    program.wait_for(r'external memory: \d+ allocated')
    program.ask('', r'second container: \d+ allocated')
    program.ask('', 'freed: .*')
    program.say('')
    check(program.end() == 0, 'the user maps external memory, and DPDK\'s in a second container')
    said = dict(re.findall('unmapping (.*): (.*)', program.said))
    refused = 'Operation not supported'
    for what in 'external memory', 'memory elsewhere':
        check(said.get(f'a page of {what}') == ('done' if PATCHED else refused),
              f'a page of it {"can" if PATCHED else "cannot"} be unmapped: {what}')
    check(said.get('a page of unknown memory') == refused and said.get('unknown memory') == 'done',
          'memory that EAL does not know is unmapped as it was mapped')


def main():
    """Run all tests, or those named."""
    if len(NICS) != 2:
        check(False, f'there are {len(NICS)} virtio-net devices, not 2')
    else:
        for name in sys.argv[5:] or TESTS:
            TESTS[name]()
    end()


TESTS = {'testpmd': test_testpmd, 'data': test_data, 'others': test_others,
         'late': test_late, 'limit': test_limit}
main()
