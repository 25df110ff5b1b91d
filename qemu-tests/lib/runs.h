/* SPDX-License-Identifier: GPL-2.0 */
/* Runs of IOVA, and what VFIO_IOMMU_DMA_EXTENTS has to say about them */
#ifndef RUNS_H
#define RUNS_H

#include "vtest.h"

#define RUN_R	VFIO_DMA_EXTENT_READ
#define RUN_W	VFIO_DMA_EXTENT_WRITE
#define RUN_ROOM	64

/* What a test can know of the IOMMU's page size on this machine */
enum known {
	IN_TABLES,		/* the tables can be read */
	BY_DRIVER,		/* the driver tells, but nobody else does */
	UNKNOWN,		/* the driver cannot tell */
};

enum known run_known(struct vt_container *c);

/* A part of a mapping without a hole */
struct run {
	u64 iova, size;
	const void *vaddr;
	u64 granule;
	u32 flags;		/* RUN_R, RUN_W */
};

void run_map(struct vt_container *c, const struct run *r);
/* Is e right for the first extent at "at", where r goes on for "left" bytes? */
void run_check(const struct vfio_dma_extent *e, const struct run *r, u64 at, u64 left);
/*
 * [iova, iova + size) (to the end if size is 0) has exactly these runs, clipped to the range,
 * and each run has as few extents as its page sizes allow.
 */
void run_expect(struct vt_container *c, u64 iova, u64 size, const struct run *r, size_t nr);

/* A few mappings from base on, in order of iova, of which each is different */
#define RUN_FEW	5
void run_map_few(struct vt_container *c, u64 base, struct run *r);

#endif
