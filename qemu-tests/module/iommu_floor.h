/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The argument of the ioctl of /dev/iommu_floor, which maps these pages with iommu_map(),
 * unmaps them with iommu_unmap(), and tells how long that took. It also fills a page table of
 * its own in one loop.
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

#endif
