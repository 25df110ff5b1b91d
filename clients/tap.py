# SPDX-License-Identifier: GPL-2.0-only
"""What the tests print: TAP. Each line names the variant of the client, their first argument."""

import sys

VARIANT = sys.argv[1]
NR = 0
FAILED = False


def report(result, what):
    """The next line of TAP."""
    global NR
    NR += 1
    print(f'{result} {NR} - {VARIANT}: {what}', flush=True)


def check(good, what):
    """A subtest that has ended."""
    global FAILED
    FAILED |= not good
    report('ok' if good else 'not ok', what)


def skip(what, why):
    """A subtest that cannot run."""
    report('ok', f'{what} # SKIP {why}')


def end():
    """The plan, and the end of the program."""
    print(f'1..{NR}')
    sys.exit(FAILED)
