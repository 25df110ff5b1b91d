// SPDX-License-Identifier: GPL-2.0
/*
 * IOMMU faults, from the kernel's log. QEMU's amd-iommu reports no fault to the driver, nor
 * in its event log in memory: on AMD a test cannot tell whether there was a fault.
 */
#define _FILE_OFFSET_BITS 64
#include <fcntl.h>

#include "vtest.h"

/* The kernel logs a few faults, then none for 5 seconds. */
#define QUIET_USEC	5300000

static void add_fault(struct vt_faults *f, u64 addr)
{
	if (f->count < ARRAY_SIZE(f->addr))
		f->addr[f->count] = addr;
	f->count++;
}

static bool is_amd(void)
{
	return !access("/sys/class/iommu/ivhd0", F_OK);
}

/* ---- The kernel's log ---- */

/* The address in a log line about a fault */
static bool fault_line(const char *line, u64 *addr)
{
	static int words = -1;
	const char *at;

	/* DMAR: [DMA Read NO_PASID] Request device [00:03.0] fault addr 0x1000 [fault ... */
	if (strstr(line, "DMAR:")) {
		at = strstr(line, "fault addr ");
		if (!at)
			return false;
		*addr = strtoull(at + strlen("fault addr "), NULL, 16);
		return true;
	}
	/* AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0001 address=0x1000 flags=0x0000] */
	if (strstr(line, "IO_PAGE_FAULT")) {
		at = strstr(line, "address=");
		*addr = at ? strtoull(at + strlen("address="), NULL, 16) :
			     VT_FAULT_ANYWHERE;
		return true;
	}
	/* virtio_iommu: page fault from EP 1 at 0x1000 [read] */
	at = strstr(line, "fault from EP ");
	if (at) {
		at = strstr(at, " at ");
		*addr = at ? strtoull(at + strlen(" at "), NULL, 16) : VT_FAULT_ANYWHERE;
		return true;
	}
	/*
	 * arm-smmu-v3 9050000.smmuv3: event 0x10 received:
	 * arm-smmu-v3 9050000.smmuv3: <tab>0x0000001000000010, and the third such line
	 * has the address, if it is about one
	 */
	if (strstr(line, ": event 0x") && strstr(line, " received:")) {
		words = 0;
	} else if (words >= 0 && strstr(line, "arm-smmu-v3")) {
		at = strstr(line, "\\x090x");
		if (!at || ++words < 3)
			return false;
		words = -1;
		*addr = strtoull(at + strlen("\\x09"), NULL, 16);
		return true;
	}
	return false;
}

/* Next line of the log; its time in microseconds, or 0 if there is no more. */
static u64 next_line(int fd, char *line, size_t len)
{
	unsigned long long usec = 0;
	ssize_t n;

	do {
		n = read(fd, line, len - 1);
	} while (n < 0 && errno == EPIPE);
	if (n <= 0)
		return 0;
	line[n] = 0;
	if (sscanf(line, "%*u,%*u,%llu,", &usec) != 1)
		FAIL("/dev/kmsg: '%s'", line);
	return usec ? : 1;
}

void vt_faults_mark(struct vt_faults *f)
{
	u64 usec, addr, last = 0, now = vt_now() / 1000;
	static bool told;
	char line[2048];

	memset(f, 0, sizeof(*f));
	if (is_amd() && !told)
		vt_diag("amd-iommu tells of no fault: the test sees only what was written");
	told = true;
	f->fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (f->fd < 0)
		FAIL("/dev/kmsg: %s", strerror(errno));
	while ((usec = next_line(f->fd, line, sizeof(line))))
		if (fault_line(line, &addr))
			last = usec;
	if (last && now < last + QUIET_USEC)
		usleep(last + QUIET_USEC - now);
}

unsigned int vt_faults_count(struct vt_faults *f)
{
	char line[2048];
	u64 addr;

	usleep(200000);
	f->count = f->logged;
	while (next_line(f->fd, line, sizeof(line)))
		if (fault_line(line, &addr))
			add_fault(f, addr);
	f->logged = f->count;
	return f->count;
}

bool vt_faults_hit(struct vt_faults *f, u64 iova, u64 size)
{
	unsigned int i, try;

	if (is_amd())
		return true;
	/* The fault is logged by a thread, which may be late. */
	for (try = 0; try < 25; try++) {
		vt_faults_count(f);
		for (i = 0; i < f->count && i < ARRAY_SIZE(f->addr); i++)
			if (f->addr[i] == VT_FAULT_ANYWHERE ||
			    (f->addr[i] >= iova && f->addr[i] - iova < size))
				return true;
	}
	return false;
}
