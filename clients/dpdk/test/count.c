// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counts how often a program calls VFIO_IOMMU_MAP_DMA and VFIO_IOMMU_UNMAP_DMA: LD_PRELOAD=
 * this, and COUNT_FILE= a file of 16 bytes, which has both numbers at any time. With
 * HIDE_FROM= the kernel seems not to have the extensions from this number on. What the program
 * prints comes line by line, also through a pipe.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/vfio.h>

static uint64_t *counts;
static unsigned long hide_from = ULONG_MAX;

__attribute__((constructor)) static void open_counts(void)
{
	const char *name = getenv("COUNT_FILE");
	int fd = name ? open(name, O_RDWR) : -1;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (getenv("HIDE_FROM"))
		hide_from = strtoul(getenv("HIDE_FROM"), NULL, 0);
	if (fd < 0)
		return;
	counts = mmap(NULL, 2 * sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (counts == MAP_FAILED)
		abort();
	close(fd);
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	if (request == VFIO_CHECK_EXTENSION && (unsigned long)arg >= hide_from)
		return 0;
	if (counts && (request == VFIO_IOMMU_MAP_DMA || request == VFIO_IOMMU_UNMAP_DMA))
		__atomic_fetch_add(&counts[request == VFIO_IOMMU_UNMAP_DMA], 1, __ATOMIC_RELAXED);
	return syscall(SYS_ioctl, fd, request, arg);
}
