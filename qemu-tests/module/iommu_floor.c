// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test only: the least that it can cost to map memory for a device.
 *
 * Each open file of /dev/iommu_floor has a paging domain.  The last edu device of the
 * machine is attached to it.  An ioctl pins memory of the caller and maps and unmaps it
 * there with bare calls of the IOMMU API: one iommu_map() for each physically contiguous
 * run of pages, cut at granules.  It takes the time of only these calls, and of one loop
 * that fills page tables for the same runs.  A benchmark compares VFIO and iommufd with that.
 * Another ioctl looks whether iommu_map() and iommu_map_sg() map what they should.
 */

#include <linux/fs.h>
#include <linux/iommu.h>
#include <linux/ktime.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#ifdef CONFIG_X86
#include <asm/cacheflush.h>
#endif

#include "iommu_floor.h"

#define EDU_VENDOR	0x1234
#define EDU_DEVICE	0x11e8

#define FLOOR_PROT	(IOMMU_READ | IOMMU_WRITE | IOMMU_CACHE)
#define FLOOR_BATCH	512

struct floor {
	struct pci_dev *pdev;
	struct iommu_domain *domain;
};

struct floor_run {
	phys_addr_t phys;
	size_t size;
};

struct floor_memory {
	struct page **pages;
	unsigned long npages;		/* pinned so far */
	struct floor_run *runs;
	unsigned long nruns;
};

static struct pci_dev *floor_device(void)
{
	struct pci_dev *pdev = NULL, *last = NULL;

	while ((pdev = pci_get_device(EDU_VENDOR, EDU_DEVICE, pdev))) {
		pci_dev_put(last);
		last = pci_dev_get(pdev);
	}
	return last;
}

static int floor_open(struct inode *inode, struct file *file)
{
	struct floor *floor;
	int ret;

	floor = kzalloc(sizeof(*floor), GFP_KERNEL);
	if (!floor)
		return -ENOMEM;

	ret = -ENODEV;
	floor->pdev = floor_device();
	if (!floor->pdev)
		goto err_free;

	floor->domain = iommu_paging_domain_alloc(&floor->pdev->dev);
	if (IS_ERR(floor->domain)) {
		ret = PTR_ERR(floor->domain);
		goto err_put;
	}
	ret = iommu_attach_device(floor->domain, &floor->pdev->dev);
	if (ret)
		goto err_domain;

	file->private_data = floor;
	return 0;

err_domain:
	iommu_domain_free(floor->domain);
err_put:
	pci_dev_put(floor->pdev);
err_free:
	kfree(floor);
	return ret;
}

static int floor_release(struct inode *inode, struct file *file)
{
	struct floor *floor = file->private_data;

	iommu_detach_device(floor->domain, &floor->pdev->dev);
	iommu_domain_free(floor->domain);
	pci_dev_put(floor->pdev);
	kfree(floor);
	return 0;
}

static int floor_pin(struct floor_memory *mem, u64 vaddr, u64 size)
{
	unsigned long want = size >> PAGE_SHIFT;

	mem->pages = kvmalloc_array(want, sizeof(*mem->pages), GFP_KERNEL);
	mem->runs = kvmalloc_array(want, sizeof(*mem->runs), GFP_KERNEL);
	if (!mem->pages || !mem->runs)
		return -ENOMEM;

	while (mem->npages < want) {
		int ret = pin_user_pages_fast(vaddr +
					      (mem->npages << PAGE_SHIFT),
					      min(want - mem->npages,
						  (unsigned long)FLOOR_BATCH),
					      FOLL_WRITE | FOLL_LONGTERM,
					      mem->pages + mem->npages);

		if (ret <= 0)
			return ret ?: -EFAULT;
		mem->npages += ret;
	}
	return 0;
}

static void floor_find_runs(struct floor_memory *mem,
			    const struct iommu_floor *arg)
{
	struct floor_run *run = NULL;
	unsigned long i;

	for (i = 0; i < mem->npages; i++) {
		phys_addr_t phys = page_to_phys(mem->pages[i]);
		u64 iova = arg->iova + ((u64)i << PAGE_SHIFT);
		bool cut = arg->granule && !(iova & (arg->granule - 1));

		if (run && !cut && run->phys + run->size == phys) {
			run->size += PAGE_SIZE;
			continue;
		}
		run = &mem->runs[mem->nruns++];
		run->phys = phys;
		run->size = PAGE_SIZE;
	}
}

static void floor_release_memory(struct floor_memory *mem)
{
	if (mem->npages)
		unpin_user_pages(mem->pages, mem->npages);
	kvfree(mem->pages);
	kvfree(mem->runs);
}

static int floor_once(struct floor *floor, const struct floor_memory *mem,
		      struct iommu_floor *arg)
{
	u64 iova = arg->iova, start, mapped, done;
	unsigned long i;
	int ret = 0;

	start = ktime_get_ns();
	for (i = 0; i < mem->nruns && !ret; i++) {
		ret = iommu_map(floor->domain, iova, mem->runs[i].phys,
				mem->runs[i].size, FLOOR_PROT, GFP_KERNEL);
		iova += ret ? 0 : mem->runs[i].size;
	}
	mapped = ktime_get_ns();
	if (iova > arg->iova &&
	    iommu_unmap(floor->domain, arg->iova, iova - arg->iova) !=
	    iova - arg->iova)
		ret = ret ?: -EIO;
	done = ktime_get_ns();

	arg->map_ns = mapped - start;
	arg->unmap_ns = done - mapped;
	return ret;
}

/*
 * The least that a page table can cost: one loop fills tables of 512 entries for this memory,
 * as the IOMMU has them. No driver reads them. As for an IOMMU that does not snoop, each table
 * is written back.
 */
struct floor_tables {
	u64 *table[3];		/* The last one of pages of 4 KiB, 2 MiB and 1 GiB */
	struct list_head all;
};

static void floor_write_back(void *table)
{
#ifdef CONFIG_X86
	clflush_cache_range(table, PAGE_SIZE);
#endif
}

/* Returns the entry for @iova, in a new table if it is the first of a table. */
static u64 *floor_entry(struct floor_tables *tables, unsigned int level, u64 iova)
{
	unsigned int index = iova >> (PAGE_SHIFT + 9 * level) & 511;
	struct page *page;
	u64 *above;

	if (tables->table[level] && index)
		return tables->table[level] + index;

	if (tables->table[level])
		floor_write_back(tables->table[level]);
	page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	if (!page)
		return NULL;
	list_add(&page->lru, &tables->all);
	tables->table[level] = page_address(page);
	if (level < 2) {
		above = floor_entry(tables, level + 1, iova);
		if (!above)
			return NULL;
		*above = page_to_phys(page) | 3;
	}
	return tables->table[level] + index;
}

static int floor_fill(const struct floor_memory *mem, struct iommu_floor *arg)
{
	struct floor_tables tables = { .all = LIST_HEAD_INIT(tables.all) };
	u64 iova = arg->iova, start = ktime_get_ns(), *entry = NULL;
	struct page *page, *next;
	unsigned int last = 0;
	unsigned long i;
	int ret = 0;

	for (i = 0; i < mem->nruns; i++) {
		u64 phys = mem->runs[i].phys, end = iova + mem->runs[i].size;

		while (iova < end) {
			unsigned int level = 0;
			u64 size = SZ_4K;

			/* Most entries come after one of 4 KiB in the same table. */
			if (!last && entry && iova & (SZ_2M - 1)) {
				*entry++ = phys | 3;
				iova += SZ_4K;
				phys += SZ_4K;
				continue;
			}
			if (!((iova | phys) & (SZ_2M - 1)) && end - iova >= SZ_2M) {
				level = (iova | phys) & (SZ_1G - 1) || end - iova < SZ_1G ? 1 : 2;
				size = level == 1 ? SZ_2M : SZ_1G;
			}
			/* The next entry is in another table, or is the first of all? */
			if (level != last || !(iova & (size * 512 - 1)) || !entry) {
				entry = floor_entry(&tables, level, iova);
				if (!entry) {
					ret = -ENOMEM;
					goto out;
				}
				last = level;
			}
			*entry++ = phys | 3;
			iova += size;
			phys += size;
		}
	}
out:
	for (i = 0; i < ARRAY_SIZE(tables.table); i++)
		if (tables.table[i])
			floor_write_back(tables.table[i]);
	arg->fill_ns = ktime_get_ns() - start;
	list_for_each_entry_safe(page, next, &tables.all, lru)
		__free_page(page);
	return ret;
}

static int floor_run(struct floor *floor, struct iommu_floor *arg)
{
	struct floor_memory mem = {};
	u64 i;
	int ret;

	if (!arg->size || !arg->times ||
	    (arg->vaddr | arg->iova | arg->size) & ~PAGE_MASK ||
	    (arg->granule && !is_power_of_2(arg->granule)))
		return -EINVAL;

	ret = floor_pin(&mem, arg->vaddr, arg->size);
	if (ret)
		goto out;
	floor_find_runs(&mem, arg);
	arg->calls = mem.nruns;

	arg->pair_ns = 0;
	for (i = 0; i < arg->times && !ret; i++) {
		ret = floor_once(floor, &mem, arg);
		arg->pair_ns += i ? arg->map_ns + arg->unmap_ns : 0;
		cond_resched();
	}
	if (i > 1)
		arg->pair_ns /= i - 1;
	if (!ret)
		ret = floor_fill(&mem, arg);
out:
	floor_release_memory(&mem);
	return ret;
}

static ssize_t floor_map(struct floor *floor, struct floor_memory *mem,
			 const struct iommu_floor_look *arg)
{
	struct sg_table sgt;
	ssize_t ret;

	if (!arg->segment) {
		ret = iommu_map(floor->domain, arg->iova,
				page_to_phys(mem->pages[0]), arg->size,
				FLOOR_PROT, GFP_KERNEL);
		return ret ?: arg->size;
	}
	ret = sg_alloc_table_from_pages_segment(&sgt, mem->pages, mem->npages,
						0, arg->size, arg->segment,
						GFP_KERNEL);
	if (ret)
		return ret;
	ret = iommu_map_sg(floor->domain, arg->iova, sgt.sgl, sgt.orig_nents,
			   FLOOR_PROT, GFP_KERNEL);
	sg_free_table(&sgt);
	return ret;
}

/* Does each page have its translation; or none, but the one that was mapped before? */
static bool floor_translates(struct floor *floor,
			     const struct floor_memory *mem,
			     const struct iommu_floor_look *arg, bool mapped)
{
	unsigned long i;

	for (i = 0; i < mem->npages; i++) {
		u64 iova = arg->iova + (i << PAGE_SHIFT);
		phys_addr_t want = 0;

		if (mapped || (arg->taken && i == arg->taken))
			want = page_to_phys(mem->pages[i]) + 8;
		if (iommu_iova_to_phys(floor->domain, iova + 8) != want)
			return false;
	}
	return true;
}

static int floor_look(struct floor *floor, const struct iommu_floor_look *arg)
{
	u64 taken = arg->iova + ((u64)arg->taken << PAGE_SHIFT);
	struct floor_memory mem = {};
	ssize_t ret, mapped = 0;

	if (!arg->size || (arg->vaddr | arg->iova | arg->size) & ~PAGE_MASK ||
	    arg->taken >= arg->size >> PAGE_SHIFT)
		return -EINVAL;

	ret = floor_pin(&mem, arg->vaddr, arg->size);
	if (ret)
		goto out;
	if (arg->taken) {
		ret = iommu_map(floor->domain, taken,
				page_to_phys(mem.pages[arg->taken]), PAGE_SIZE,
				FLOOR_PROT, GFP_KERNEL);
		if (ret)
			goto out;
	}

	mapped = floor_map(floor, &mem, arg);
	if (!floor_translates(floor, &mem, arg, mapped > 0))
		ret = -EBADMSG;
	if (mapped > 0 &&
	    (mapped != arg->size ||
	     iommu_unmap(floor->domain, arg->iova, mapped) != mapped))
		ret = -EIO;
	else if (mapped < 0 && arg->taken)
		iommu_unmap(floor->domain, taken, PAGE_SIZE);
out:
	floor_release_memory(&mem);
	return ret ?: min(mapped, 0);
}

static long floor_ioctl(struct file *file, unsigned int cmd, unsigned long uarg)
{
	void __user *user = (void __user *)uarg;
	struct iommu_floor_look look;
	struct iommu_floor arg;
	int ret;

	if (cmd == IOMMU_FLOOR_LOOK) {
		if (copy_from_user(&look, user, sizeof(look)))
			return -EFAULT;
		return floor_look(file->private_data, &look);
	}
	if (cmd != IOMMU_FLOOR_RUN)
		return -ENOTTY;
	if (copy_from_user(&arg, user, sizeof(arg)))
		return -EFAULT;
	ret = floor_run(file->private_data, &arg);
	if (!ret && copy_to_user(user, &arg, sizeof(arg)))
		return -EFAULT;
	return ret;
}

static const struct file_operations floor_fops = {
	.owner		= THIS_MODULE,
	.open		= floor_open,
	.release	= floor_release,
	.unlocked_ioctl	= floor_ioctl,
};

static struct miscdevice floor_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "iommu_floor",
	.fops	= &floor_fops,
};

module_misc_device(floor_misc);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("The least that mapping memory for a device can cost");
