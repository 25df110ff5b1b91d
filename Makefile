# SPDX-License-Identifier: GPL-2.0-only
# Each verb calls one script. "make help" prints what follows ##. A variable without such a
# line is an error.

## To use it:
help:		## print this
	@scripts/help
packages:	## install the Debian packages that all of this needs (as root)
	@scripts/install-packages all
demo:		## build what is missing, boot a guest, show what the series does
	@scripts/demo
run:		## run a program in a guest: CMD="./prog arguments" SHARE=directory
	@scripts/guest $(KERNEL_VARIANT) $(MACHINE) run
boot:		## boot a guest with a shell, with SHARE= in it
	@scripts/guest $(KERNEL_VARIANT) $(MACHINE) shell
kernel:		## build the kernel with the series
	@scripts/build-kernel $(KERNEL_VARIANT)
headers:	## install the uAPI headers of the series; builds no kernel
	@scripts/build-headers
where:		## print KERNEL= HEADERS= SOURCE= BASE=; use make -s; builds no kernel
	@scripts/where

## To prove it:
test:		## run the tests in TEST=, or all for this kernel and machine
	@scripts/test $(KERNEL_VARIANT) $(MACHINE) $(TEST)
check:		## run all tests and gates; the last line counts passed, failed, skipped
	@scripts/check-all
check-arm64:	## test kernels for ARM on an emulated SMMUv3
	@scripts/check-all arm64
gates:		## run the part of check that looks at the source: compilers, analyzers, form
	@scripts/check-all gates
clients:	## build QEMU and DPDK with and without the patches in clients/, compare them
	@scripts/clients
coverage:	## print which lines of the series no test reaches; make lcov's report
	@scripts/coverage
soak:		## run random tests with ever new seeds, for HOURS=
	@scripts/soak $(HOURS)
bench:		## measure what mapping costs, beside iommufd and the base kernel
	@scripts/bench
tested:		## write records/tested.md from the results of the checks
	@scripts/tested

## To change it and to post it:
html:		## render the documentation of the series, with the uAPI reference
	@scripts/html
apply:		## make a git tree of the kernel, with one commit for each patch
	@scripts/apply
refresh:	## write the commits of that tree back to patches/ and series
	@scripts/refresh
bisect:		## build, boot and test each prefix of the series, or FROM= TO=
	@scripts/bisect '$(FROM)' '$(TO)' $(TEST)
mail:		## write the series to build/mail as mails that can be sent
	@scripts/mail

## To package it:
drop-in:	## write the series as debian/patches, as patches.suse, and as an mbox for git am
	@scripts/drop-in
deb:		## make packages of the changed modules, for DKMS and built (BASE=6.12)
	@scripts/deb
deb-test:	## test these packages on Debian's own kernel image
	@scripts/deb-test $(MACHINE) $(TEST)

## To clean up:
clean:		## remove what was built for BASE, keep what was downloaded
	@scripts/clean
distclean:	## remove also downloads and mails
	@scripts/clean all

## Variables, on the command line of make or in the environment, for each guest:
## KERNEL_VARIANT  plain (default), debug, unpatched, or arm64 with MACHINE=smmu
## MACHINE         intel (default), amd, virtio, or smmu, see qemu-tests/machines/
## TEST            names of tests in qemu-tests/tests.list
## CMD             what to run, a line for /bin/sh; the guest sets VFIO_DEVICES and
##                 VFIO_GROUPS to its devices' addresses and groups
## SHARE           a directory that the guest can read and write, and where CMD runs
## QEMU            the QEMU to use
## QEMU_ARGS       more arguments for it, separated by blanks: devices, memory
## APPEND          more words for the kernel's command line
## ACCEL           an accelerator other than TCG: kvm; it is tried out first
## HUGEPAGES       how many huge pages of 2 MiB there are (default 64)
## GDB=1           a kernel with debug information that waits for a debugger
## CONFIG          a file of Kconfig lines, on top of the project's own
## DRYRUN=1        print QEMU's command line, and do nothing
## Other variables:
## BASE            a file in bases/: 7.3 (default) or 6.12, which has the backport
## BUILD           where everything generated goes (default build)
## KERNEL_SRC      your own kernel source: a tree, a tarball or a git clone
## KERNEL_REV      which commit of that clone (default HEAD)
## QEMU_SRC        your own QEMU source for make clients: a tree, a tarball or a git clone
## DPDK_SRC        likewise, of DPDK
## APT_MIRROR      the Debian mirror that has the source packages
## JOBS            how many compilers run at once (default: one for each CPU)
## FROM            number of the patch where make bisect begins; "changed": only the
##                 patches that records/bisected-BASE does not have
## TO              number of the patch where it ends
## HOURS           how long make soak goes on
## RESULTS         where make bench writes (default bench/results/BASE)
## FORCE=1         let apply, refresh and clean throw away unsaved commits
## AGAIN=1         let check run also what has passed and not changed since
## MINUTES         after so many minutes check begins nothing new (default 65)
KERNEL_VARIANT ?= plain
MACHINE ?= intel

known := $(shell sed -n 's/^\#\# \([A-Z_]*\)[ =].*/\1/p' $(firstword $(MAKEFILE_LIST)))
given := $(foreach v,$(.VARIABLES),$(if $(filter command,$(origin $(v))),$(v)))
$(foreach v,$(filter-out $(known),$(given)),$(error there is no variable $(v): make help lists them))
$(foreach v,GDB DRYRUN FORCE AGAIN,$(if $(filter-out 1,$($v)),$(error $v=$($v): say $v=1 or leave it out)))
export $(filter-out KERNEL_VARIANT MACHINE TEST FROM TO,$(known))
ifdef CMD
# A $ in it is for the guest's shell, not for make.
override CMD := $(value CMD)
endif

.PHONY: $(shell sed -n 's/^\([a-z0-9-]*\):.*/\1/p' $(firstword $(MAKEFILE_LIST)))
