// SPDX-License-Identifier: GPL-2.0
/* VFIO_IOMMU_DMA_EXTENTS: one call, and as many as a range needs */
#include "vtest.h"

int vt_extents(struct vt_container *c, u64 *iova, u64 *size,
	       struct vfio_dma_extent *e, u32 *count)
{
	struct vfio_iommu_type1_dma_extents req = {
		.argsz = sizeof(req),
		.iova = *iova,
		.size = *size,
		.extents = (uintptr_t)e,
		.count = *count,
	};
	int ret = ioctl(c->fd, VFIO_IOMMU_DMA_EXTENTS, &req) < 0 ? -errno : 0;

	*iova = req.iova;
	*size = req.size;
	*count = req.count;
	return ret;
}

static void check_order(const struct vt_extents *x, size_t from, u64 iova)
{
	const struct vfio_dma_extent *e;
	size_t i;

	for (i = from; i < x->nr; i++) {
		e = &x->e[i];
		if (!e->size || (e->iova | e->size) % SZ_4K || e->iova + (e->size - 1) < e->iova)
			FAIL("extent %zu: %#llx bytes at %#llx", i, e->size, e->iova);
		if (e->iova < iova || (i && e->iova - x->e[i - 1].iova < x->e[i - 1].size))
			FAIL("extent %zu at %#llx has been told already", i, e->iova);
	}
}

void vt_extents_read(struct vt_container *c, u64 iova, u64 size, u32 room,
		     struct vt_extents *x)
{
	u64 end = size ? iova + size : 0, start;
	size_t have = 0;
	u32 count;

	memset(x, 0, sizeof(*x));
	do {
		if (x->nr + room > have) {
			have = 2 * have + room;
			x->e = realloc(x->e, have * sizeof(*x->e));
			ASSERT_TRUE(x->e);
		}
		count = room;
		start = iova;
		ASSERT_OK(vt_extents(c, &iova, &size, x->e + x->nr, &count));
		ASSERT_LE(count, room);
		x->nr += count;
		x->calls++;
		check_order(x, x->nr - count, start);
		/* The end of the range does not move. */
		ASSERT_EQ(iova + size, end);
		if (size && iova <= start)
			FAIL("a call from %#llx on goes on from %#llx", start, iova);
	} while (size);
}

void vt_extents_free(struct vt_extents *x)
{
	free(x->e);
	memset(x, 0, sizeof(*x));
}

u64 vt_extents_count(struct vt_container *c, u64 iova, u64 size)
{
	u64 total = 0;
	u32 count;

	do {
		count = 0;
		ASSERT_OK(vt_extents(c, &iova, &size, NULL, &count));
		total += count;
	} while (size);
	return total;
}
