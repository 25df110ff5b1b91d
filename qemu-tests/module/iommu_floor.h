/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The arguments of the ioctls of /dev/iommu_floor. One maps these pages with iommu_map(),
 * unmaps them with iommu_unmap(), and tells how long that took. It also fills a page table of
 * its own in one loop. The other looks at what is mapped.
 */
#ifndef IOMMU_FLOOR_H
#define IOMMU_FLOOR_H

#include <linux/ioctl.h>
#include <linux/types.h>

struct iommu_floor {
	__u64 vaddr;		/* memory of the caller, pinned meanwhile */
	__u64 iova;
	__u64 size;
	__u64 granule;		/* no iommu_map() goes across one; 0: none */
	__u64 times;		/* how often to map and unmap it all */
	__u64 map_ns;		/* out: the last time, all of iommu_map() */
	__u64 unmap_ns;		/* out: the last time, one iommu_unmap() */
	__u64 pair_ns;		/* out: both, on average of all but the first */
	__u64 calls;		/* out: of iommu_map(), each time */
	__u64 fill_ns;		/* out: the last time, the loop */
};

#define IOMMU_FLOOR_RUN	_IOWR('V', 0xa0, struct iommu_floor)

struct iommu_floor_look {
	__u64 vaddr;		/* memory of the caller, pinned meanwhile */
	__u64 iova;
	__u64 size;
	__u32 segment;		/* iommu_map_sg(), entries of at most that; 0: iommu_map() */
	__u32 taken;		/* this page of the range is mapped before; 0: none is */
};

/*
 * Maps the memory, looks at the translation of each page, and unmaps it. For iommu_map() the
 * memory must be physically contiguous. The error is that of the mapping; -EBADMSG: a page
 * has another translation than it should; -EIO: it was not unmapped.
 */
#define IOMMU_FLOOR_LOOK _IOW('V', 0xa1, struct iommu_floor_look)

#endif
