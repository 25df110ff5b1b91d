/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the patched VFIO type1 needs of a kernel that has none of the patches to
 * the IOMMU core, the IOMMU drivers and mm.  Nothing tells page sizes there: type1
 * reads what is mapped page by page, and VFIO_IOMMU_DMA_EXTENTS reports a pgsize of
 * 0.  And each granule is made visible to devices on its own.
 */
#ifndef VFIO_TYPE1_COMPAT_H
#define VFIO_TYPE1_COMPAT_H

#include "uapi/linux/vfio.h"	/* in place of the kernel's own */
#include <linux/iommu.h>
#include <linux/mm.h>

struct iommu_run_iter {
	phys_addr_t phys;
	size_t size;
	size_t max_pgsize;
	void (*next)(struct iommu_run_iter *runs);
};

struct iommu_run {
	dma_addr_t iova;
	phys_addr_t phys;
	size_t size;
	size_t pgsize;
};

typedef int (*iommu_read_run_fn)(const struct iommu_run *run, void *arg);

static inline bool iommu_knows_pgsize(const struct iommu_domain *domain)
{
	return false;
}

static inline phys_addr_t
iommu_iova_to_phys_length(struct iommu_domain *domain, dma_addr_t iova,
			  size_t *mapped_length)
{
	phys_addr_t phys = iommu_iova_to_phys(domain, iova);

	*mapped_length = phys ? PAGE_SIZE - offset_in_page(iova) : 0;
	return phys ?: PHYS_ADDR_MAX;
}

static inline int
iommu_read_runs(struct iommu_domain *domain, dma_addr_t iova, size_t size,
		iommu_read_run_fn fn, void *arg)
{
	struct iommu_run run = {};
	phys_addr_t phys;
	size_t pos;
	int ret;

	for (pos = 0; pos < size; pos += PAGE_SIZE) {
		if (!(pos % (1024 * PAGE_SIZE)))
			cond_resched();
		phys = iommu_iova_to_phys(domain, iova + pos);
		if (!phys)
			continue;

		if (run.size && run.iova + run.size == iova + pos &&
		    run.phys + run.size == phys) {
			run.size += PAGE_SIZE;
			continue;
		}

		if (run.size) {
			ret = fn(&run, arg);
			if (ret)
				return ret;
		}
		run.iova = iova + pos;
		run.phys = phys;
		run.size = PAGE_SIZE;
	}

	return run.size ? fn(&run, arg) : 0;
}

static inline int
iommu_map_runs(struct iommu_domain *domain, unsigned long iova, size_t size,
	       struct iommu_run_iter *runs, int prot, gfp_t gfp, size_t *mapped)
{
	size_t max_pgsize = runs->max_pgsize;
	int ret;

	*mapped = 0;

	while (*mapped != size) {
		size_t len = min(runs->size, size - *mapped);

		if (max_pgsize)
			len = min(len, max_pgsize -
				       ((iova + *mapped) & (max_pgsize - 1)));
		ret = iommu_map(domain, iova + *mapped, runs->phys, len, prot,
				gfp);
		if (ret)
			return ret;

		*mapped += len;
		runs->phys += len;
		runs->size -= len;
		if (!runs->size && *mapped != size)
			runs->next(runs);
		cond_resched();
	}

	return 0;
}

static inline int iommu_sync_map(struct iommu_domain *domain,
				 unsigned long iova, size_t size)
{
	return 0;
}

static inline size_t num_pages_contiguous(struct page **pages, size_t nr_pages)
{
	unsigned long pfn = page_to_pfn(pages[0]);
	size_t i;

	for (i = 1; i < nr_pages; i++) {
		if (page_to_pfn(pages[i]) != pfn + i)
			break;
	}

	return i;
}

static inline bool mmap_write_trylock(struct mm_struct *mm)
{
	if (!down_write_trylock(&mm->mmap_lock))
		return false;

	mm_lock_seqcount_begin(mm);
	return true;
}

#endif /* VFIO_TYPE1_COMPAT_H */
