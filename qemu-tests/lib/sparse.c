// SPDX-License-Identifier: GPL-2.0
/* Sparse mappings. */
#include "vtest.h"

int vt_sparse(struct vt_container *c, u64 iova, const void *vaddr, u64 size, u32 flags,
	      u64 granule)
{
	return vt_map(c, iova, vaddr, size, flags | VFIO_DMA_MAP_FLAG_SPARSE, granule);
}

int vt_end_sparse(struct vt_container *c, u64 iova, u64 size, u64 *unmapped)
{
	return vt_unmap_flags(c, VFIO_DMA_UNMAP_FLAG_SPARSE, iova, size, unmapped);
}

int vt_end_all_sparse(struct vt_container *c, u64 *unmapped)
{
	return vt_unmap_flags(c, VFIO_DMA_UNMAP_FLAG_SPARSE | VFIO_DMA_UNMAP_FLAG_ALL, 0, 0,
			      unmapped);
}

void vt_need_sparse(struct vt_container *c)
{
	if (vt_check_extension(c, VFIO_DMA_SPARSE) != 1)
		SKIP("this kernel has no VFIO_DMA_SPARSE");
}

void vt_open_sparse(struct vt_container *c)
{
	vt_open_v2(c);
	vt_need_sparse(c);
}

u64 vt_mapped_bytes(struct vt_container *c, u64 iova, u64 size)
{
	struct vt_extents x;
	u64 sum = 0;
	size_t i;

	vt_extents_read(c, iova, size, 256, &x);
	for (i = 0; i < x.nr; i++)
		sum += x.e[i].size;
	vt_extents_free(&x);
	return sum;
}
