/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the patched VFIO type1 needs of a kernel that has none of the patches to
 * the IOMMU drivers.  Nothing tells page sizes there: type1 goes by PAGE_SIZE, and
 * VFIO_IOMMU_DMA_EXTENTS reports a pgsize of 0.  And each granule is made visible
 * on its own.
 */
#ifndef VFIO_TYPE1_COMPAT_H
#define VFIO_TYPE1_COMPAT_H

#include "uapi/linux/vfio.h"	/* in place of the kernel's own */
#include <linux/iommu.h>

static inline phys_addr_t
iommu_iova_to_phys_length(struct iommu_domain *domain, dma_addr_t iova,
			  size_t *pgsize)
{
	*pgsize = 0;
	return iommu_iova_to_phys(domain, iova);
}

static inline int iommu_map_nosync(struct iommu_domain *domain,
				   unsigned long iova, phys_addr_t paddr,
				   size_t size, int prot, gfp_t gfp)
{
	return iommu_map(domain, iova, paddr, size, prot, gfp);
}

static inline int iommu_sync_map(struct iommu_domain *domain,
				 unsigned long iova, size_t size)
{
	return 0;
}

#endif /* VFIO_TYPE1_COMPAT_H */
