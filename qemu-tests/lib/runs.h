/* SPDX-License-Identifier: GPL-2.0 */
/* Runs of IOVA, and how VFIO_IOMMU_DMA_EXTENTS has to tell of them. */
#ifndef RUNS_H
#define RUNS_H

#include "vtest.h"

#define RUN_R	VFIO_DMA_EXTENT_READ
#define RUN_W	VFIO_DMA_EXTENT_WRITE
#define RUN_ROOM	64

/* What a machine lets us know of the IOMMU's page size. */
enum known {
	IN_TABLES,		/* the tables can be read */
	BY_DRIVER,		/* the driver tells, but nobody else does */
	UNKNOWN,		/* the driver cannot tell */
};

enum known run_known(struct vt_container *c);

/* A run of IOVA that one mapping has without a hole. */
struct run {
	u64 iova, size;
	const void *vaddr;
	u64 granule;
	u32 flags;		/* RUN_R, RUN_W */
};

void run_map(struct vt_container *c, const struct run *r);
/* Is e what is to be told first, where r has left bytes more from at on? */
void run_check(const struct vfio_dma_extent *e, const struct run *r, u64 at, u64 left);
/*
 * [iova, iova + size), size 0: to the end, has exactly these runs, clipped to it,
 * each told in as few extents as page sizes allow.
 */
void run_expect(struct vt_container *c, u64 iova, u64 size, const struct run *r, size_t nr);

/* A few mappings from base on that differ in everything; in order of iova. */
#define RUN_FEW	5
void run_map_few(struct vt_container *c, u64 base, struct run *r);

#endif
