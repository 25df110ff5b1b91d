/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The ioctls of a vfio_testdev device, on the device's own file descriptor.  Each returns -1
 * and sets errno if it fails.
 */
#ifndef VFIO_TESTDEV_H
#define VFIO_TESTDEV_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define VTD_READ	0x1	/* as IOMMU_READ */
#define VTD_WRITE	0x2	/* as IOMMU_WRITE */
#define VTD_KTHREAD	0x4	/* VTD_RW only: from a kernel thread */

struct vtd_pin {
	__u64 iova;
	__u64 pfns;		/* user pointer to __u64[npages], or 0 */
	__u32 npages;
	__u32 prot;
};

struct vtd_rw {
	__u64 iova;
	__u64 len;
	__u64 buf;		/* user pointer */
	__u32 flags;		/* VTD_WRITE: to the IOVA, else from it */
	__u32 pad;
};

struct vtd_event {
	__u64 iova;
	__u64 size;
};

struct vtd_log {
	__u64 events;		/* user pointer to struct vtd_event[room] */
	__u32 room;
	__u32 total;		/* out: callbacks since the last VTD_LOG */
};

/* vfio_pin_pages(); returns how many pages it pinned */
#define VTD_PIN		_IOW('V', 0x80, struct vtd_pin)
/* vfio_unpin_pages() of what VTD_PIN pinned; -ENOENT if it did not pin all */
#define VTD_UNPIN	_IOW('V', 0x81, struct vtd_pin)
/* vfio_dma_rw() */
#define VTD_RW		_IOW('V', 0x82, struct vtd_rw)
/* Read and clear the log of dma_unmap callbacks; returns how many it filled in */
#define VTD_LOG		_IOWR('V', 0x83, struct vtd_log)
/* How many pages are pinned now, each counted as often as it is pinned */
#define VTD_PINNED	_IO('V', 0x84)
/*
 * Once, when the device is told to unmap something else, vfio_pin_pages() from within
 * that callback. Returns what the last such call has returned, -ENODATA if there was none.
 */
#define VTD_PIN_LATE	_IOW('V', 0x85, struct vtd_pin)
/* Unpin (0) or keep (1) pages when the device is told to unmap them */
#define VTD_KEEP	_IO('V', 0x86)

#endif
