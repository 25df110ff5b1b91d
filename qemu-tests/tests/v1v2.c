// SPDX-License-Identifier: GPL-2.0
/*
 * Type1 v1 and v2 for callers that use nothing new. These tests pass on a kernel without the
 * series, and must pass with it.
 */
#include "vtest.h"

#define BASE	(4 * SZ_1G)
#define V1	VFIO_TYPE1_IOMMU
#define V2	VFIO_TYPE1v2_IOMMU

/* argsz of the struct without the granule. */
#define OLD_ARGSZ	offsetofend(struct vfio_iommu_type1_dma_map, size)

static const int both[] = { V1, V2 };

#define for_each_type(t)	for (const int *(t) = both; (t) < both + 2; (t)++)

static void *pages(u64 size)
{
	return vt_alloc(VT_MEM_4K, size);
}

static void extensions(void)
{
	struct vt_container c;

	for_each_type(type) {
		vt_open(&c, *type, 0);
		EXPECT_EQ(vt_check_extension(&c, V1), 1);
		EXPECT_EQ(vt_check_extension(&c, V2), 1);
		EXPECT_EQ(vt_check_extension(&c, VFIO_UNMAP_ALL), 1);
		EXPECT_EQ(vt_check_extension(&c, VFIO_UPDATE_VADDR), 1);
		EXPECT_EQ(vt_check_extension(&c, VFIO_SPAPR_TCE_IOMMU), 0);
		EXPECT_EQ(vt_check_extension(&c, 99), 0);
		vt_close(&c);
	}
}

static void unknown_ioctl_enotty(void)
{
	struct vt_container c;

	vt_open_v2(&c);
	ASSERT_ERRNO(ioctl(c.fd, _IO(VFIO_TYPE, VFIO_BASE + 99), 0), ENOTTY);
}

static void info(void)
{
	struct vfio_iommu_type1_info raw = { .argsz = 4 };
	struct vt_container c;
	struct vt_info i;

	vt_open_v2(&c);
	vt_info(&c, &i);
	EXPECT_EQ(i.dma_avail, vt_get_param("dma_entry_limit"));
	EXPECT_TRUE(i.pgsizes & SZ_4K);
	EXPECT_GE(i.nr_ranges, 1);
	ASSERT_ERRNO(ioctl(c.fd, VFIO_IOMMU_GET_INFO, &raw), EINVAL);
	ASSERT_ERRNO(ioctl(c.fd, VFIO_IOMMU_GET_INFO, NULL), EFAULT);
}

static void map_einval(void)
{
	struct vt_container c;
	u64 p;
	int bit;

	for_each_type(type) {
		vt_open(&c, *type, 0);
		p = (uintptr_t)pages(SZ_64K);
		ASSERT_EQ(vt_map_raw(&c, OLD_ARGSZ - 1, VT_RW, BASE, p, SZ_4K, 0), -EINVAL);
		ASSERT_EQ(vt_map_raw(&c, 0, VT_RW, BASE, p, SZ_4K, 0), -EINVAL);
		ASSERT_MAPS_REFUSED(&c, BASE, (void *)(uintptr_t)p,
			{ 0, 0, SZ_4K, 0, 0, EINVAL },
			{ 0, 0, 0, VT_RW, 0, EINVAL },
			{ 0, 0, 100, VT_RW, 0, EINVAL },
			{ 1, 0, SZ_4K, VT_RW, 0, EINVAL },
			{ 0, 1, SZ_4K, VT_RW, 0, EINVAL },
			{ 0, 0, SZ_4K, VT_RW | VFIO_DMA_MAP_FLAG_VADDR, 0, EINVAL });
		/* Bits that mean nothing today, and for those after it a short argsz. */
		for (bit = 3; bit < 32; bit++)
			ASSERT_EQ(vt_map_raw(&c, OLD_ARGSZ, VT_RW | 1u << bit, BASE, p, SZ_4K, 0),
				  -EINVAL);
		ASSERT_ERRNO(ioctl(c.fd, VFIO_IOMMU_MAP_DMA, NULL), EFAULT);
		EXPECT_EQ(vt_locked(), 0);
		EXPECT_EQ(vt_dma_avail(&c), vt_get_param("dma_entry_limit"));
		vt_close(&c);
	}
}

static void map_longer_argsz(void)
{
	struct {
		struct vfio_iommu_type1_dma_map map;
		u64 more[8];
	} arg = { .map = { .argsz = sizeof(arg), .flags = VT_RW, .iova = BASE, .size = SZ_4K } };
	struct vt_container c;

	memset(arg.more, 0xff, sizeof(arg.more));
	vt_open_v2(&c);
	arg.map.vaddr = (uintptr_t)pages(SZ_4K);
	ASSERT_OK(ioctl(c.fd, VFIO_IOMMU_MAP_DMA, &arg));
	EXPECT_EQ(vt_locked(), SZ_4K);
}

static void map_eoverflow(void)
{
	struct vt_container c;
	u64 p;

	for_each_type(type) {
		vt_open(&c, *type, 0);
		p = (uintptr_t)pages(SZ_64K);
		ASSERT_EQ(vt_map_raw(&c, OLD_ARGSZ, VT_RW, -SZ_4K, p, SZ_8K, 0), -vt_wraps());
		ASSERT_EQ(vt_map_raw(&c, OLD_ARGSZ, VT_RW, BASE, -SZ_4K, SZ_8K, 0), -vt_wraps());
		ASSERT_EQ(vt_map_raw(&c, OLD_ARGSZ, VT_RW, BASE, p, -SZ_4K, 0), -vt_wraps());
		EXPECT_EQ(vt_locked(), 0);
		vt_close(&c);
	}
}

static void map_efault(void)
{
	struct vt_container c;
	u8 *p;

	vt_open_v2(&c);
	p = pages(SZ_64K);
	ASSERT_OK(munmap(p + SZ_64K - SZ_4K, SZ_4K));
	ASSERT_EQ(vt_map(&c, BASE, p, SZ_64K, VT_RW, 0), -EFAULT);
	EXPECT_EQ(vt_locked(), 0);
	ASSERT_OK(mprotect(p, SZ_4K, PROT_READ));
	ASSERT_EQ(vt_map(&c, BASE, p, SZ_4K, VT_RW, 0), -EFAULT);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_4K, VT_RO, 0));
	EXPECT_EQ(vt_locked(), SZ_4K);
	EXPECT_EQ(vt_dma_avail(&c), vt_get_param("dma_entry_limit") - 1);
}

static void map_outside_aperture(void)
{
	struct vt_container c;
	struct vt_info i;
	unsigned int k;
	void *p;

	vt_open_v2(&c);
	vt_info(&c, &i);
	p = pages(SZ_64K);
	for (k = 0; k < i.nr_ranges; k++) {
		if (i.range[k].last + 1)
			EXPECT_EQ(vt_map(&c, i.range[k].last + 1, p, SZ_4K, VT_RW, 0), -EINVAL);
		if (i.range[k].last + 1 + SZ_4K > SZ_4K)
			EXPECT_EQ(vt_map(&c, i.range[k].last + 1 - SZ_4K, p, SZ_8K, VT_RW, 0),
				  -EINVAL);
		if (i.range[k].first)
			EXPECT_EQ(vt_map(&c, i.range[k].first - SZ_4K, p, SZ_8K, VT_RW, 0),
				  -EINVAL);
		EXPECT_EQ(vt_map(&c, i.range[k].last + 1 - SZ_4K, p, SZ_4K, VT_RW, 0), 0);
	}
	EXPECT_EQ(vt_locked(), i.nr_ranges * SZ_4K);
}

static void map_overlap_eexist(void)
{
	struct vt_container c;
	u8 *p;

	for_each_type(type) {
		vt_open(&c, *type, 0);
		p = pages(SZ_1M);
		ASSERT_OK(vt_map(&c, BASE, p, SZ_64K, VT_RW, 0));
		ASSERT_MAPS_REFUSED(&c, BASE, p,
			{ 0, 0, SZ_64K, VT_RW, 0, EEXIST },
			{ 0, 0, SZ_4K, VT_RW, 0, EEXIST },
			{ SZ_8K, 0, SZ_4K, VT_RW, 0, EEXIST },
			{ SZ_64K - SZ_4K, 0, SZ_8K, VT_RW, 0, EEXIST },
			{ -SZ_4K, 0, SZ_8K, VT_RW, 0, EEXIST },
			{ -SZ_4K, 0, SZ_1M, VT_RW, 0, EEXIST });
		ASSERT_OK(vt_map(&c, BASE - SZ_4K, p, SZ_4K, VT_RW, 0));
		ASSERT_OK(vt_map(&c, BASE + SZ_64K, p, SZ_4K, VT_RW, 0));
		EXPECT_EQ(vt_locked(), SZ_64K + 2 * SZ_4K);
		vt_close(&c);
	}
}

static void unmap_einval(void)
{
	u32 old = offsetofend(struct vfio_iommu_type1_dma_unmap, size);
	struct vfio_iommu_type1_dma_unmap arg = { .argsz = old - 1, .iova = BASE, .size = SZ_4K };
	struct vt_container c;
	u64 bitmap = 0;
	int bit;

	for_each_type(type) {
		vt_open(&c, *type, 0);
		ASSERT_OK(vt_map(&c, BASE, pages(SZ_64K), SZ_64K, VT_RW, 0));
		ASSERT_ERRNO(ioctl(c.fd, VFIO_IOMMU_UNMAP_DMA, &arg), EINVAL);
		ASSERT_ERRNO(ioctl(c.fd, VFIO_IOMMU_UNMAP_DMA, NULL), EFAULT);
		ASSERT_UNMAPS_REFUSED(&c, BASE,
			{ 0, 0, 0, EINVAL },
			{ 0, 100, 0, EINVAL },
			{ 1, SZ_64K, 0, EINVAL },
			{ SZ_4K - BASE, 0, 0, EINVAL },
			{ 0, SZ_64K, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP |
				     VFIO_DMA_UNMAP_FLAG_VADDR, EINVAL },
			/* No bitmap behind the struct */
			{ 0, SZ_64K, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP, EINVAL },
			{ 0, 0, VFIO_DMA_UNMAP_FLAG_ALL, EINVAL },
			{ -BASE, SZ_4K, VFIO_DMA_UNMAP_FLAG_ALL, EINVAL },
			{ -BASE, 0, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP |
				    VFIO_DMA_UNMAP_FLAG_ALL, EINVAL });
		ASSERT_EQ(vt_unmap(&c, -SZ_4K, SZ_8K, NULL), -vt_wraps());
		/* Bit 3 ends sparse mappings, where there are such. */
		for (bit = vt_check_extension(&c, 14) == 1 ? 4 : 3; bit < 32; bit++)
			ASSERT_EQ(vt_unmap_flags(&c, 1u << bit, BASE, SZ_64K, NULL), -EINVAL);
		/* No dirty tracking */
		ASSERT_EQ(vt_unmap_dirty(&c, BASE, SZ_64K, &bitmap, 8, NULL), -EINVAL);
		EXPECT_EQ(vt_locked(), SZ_64K);
		vt_close(&c);
	}
}

static void v2_cut_einval(void)
{
	struct vt_container c;
	u64 n;

	vt_open_v2(&c);
	ASSERT_OK(vt_map(&c, BASE, pages(SZ_64K), SZ_64K, VT_RW, 0));
	ASSERT_UNMAPS_REFUSED(&c, BASE,
		{ 0, SZ_4K, 0, EINVAL },
		{ SZ_4K, SZ_4K, 0, EINVAL },
		{ SZ_64K - SZ_4K, SZ_4K, 0, EINVAL },
		{ -SZ_4K, SZ_8K, 0, EINVAL },
		{ SZ_4K, SZ_64K, 0, EINVAL });
	EXPECT_EQ(vt_locked(), SZ_64K);
	ASSERT_OK(vt_unmap(&c, BASE, SZ_64K, &n));
	EXPECT_EQ(n, SZ_64K);
	EXPECT_EQ(vt_locked(), 0);
}

static void v2_unmap_nothing(void)
{
	struct vt_container c;
	u64 n = 1;

	vt_open_v2(&c);
	ASSERT_OK(vt_unmap(&c, BASE, SZ_64K, &n));
	EXPECT_EQ(n, 0);
	n = 1;
	ASSERT_OK(vt_unmap_all(&c, &n));
	EXPECT_EQ(n, 0);
}

/* v1: a mapping that begins before the range stays; one that begins in it is unmapped whole. */
static void v1_quirks(void)
{
	struct vt_container c;
	u64 n = 1;

	vt_open(&c, V1, 0);
	ASSERT_OK(vt_map(&c, BASE, pages(SZ_64K), SZ_64K, VT_RW, 0));
	ASSERT_OK(vt_unmap(&c, BASE + SZ_4K, SZ_4K, &n));
	EXPECT_EQ(n, 0);
	EXPECT_EQ(vt_locked(), SZ_64K);
	ASSERT_OK(vt_unmap(&c, BASE, SZ_4K, &n));
	EXPECT_EQ(n, SZ_64K);
	EXPECT_EQ(vt_locked(), 0);

	/* The first is cut at its tail: nothing goes, not even the second. */
	ASSERT_OK(vt_map(&c, BASE, pages(SZ_64K), SZ_64K, VT_RW, 0));
	ASSERT_OK(vt_map(&c, BASE + SZ_64K, pages(SZ_64K), SZ_64K, VT_RW, 0));
	ASSERT_OK(vt_unmap(&c, BASE + SZ_4K, 2 * SZ_64K, &n));
	EXPECT_EQ(n, 0);
	ASSERT_OK(vt_unmap(&c, BASE - SZ_4K, SZ_64K + SZ_8K, &n));
	EXPECT_EQ(n, 2 * SZ_64K);
	EXPECT_EQ(vt_locked(), 0);
}

static void unmap_spans_mappings(void)
{
	struct vt_container c;
	u64 n;
	int i;
	u8 *p;

	for_each_type(type) {
		vt_open(&c, *type, 0);
		p = pages(16 * SZ_64K);
		for (i = 0; i < 16; i += 2)
			ASSERT_OK(vt_map(&c, BASE + i * SZ_64K, p + i * SZ_64K, SZ_64K, VT_RW, 0));
		EXPECT_EQ(vt_locked(), 8 * SZ_64K);
		ASSERT_OK(vt_unmap(&c, BASE + 2 * SZ_64K, 10 * SZ_64K, &n));
		EXPECT_EQ(n, 5 * SZ_64K);
		EXPECT_EQ(vt_locked(), 3 * SZ_64K);
		EXPECT_EQ(vt_dma_avail(&c), vt_get_param("dma_entry_limit") - 3);
		ASSERT_OK(vt_unmap_all(&c, &n));
		EXPECT_EQ(n, 3 * SZ_64K);
		EXPECT_EQ(vt_locked(), 0);
		EXPECT_EQ(vt_dma_avail(&c), vt_get_param("dma_entry_limit"));
		vt_close(&c);
	}
}

static void entry_limit_enospc(void)
{
	struct vt_container c;
	u8 *p;
	int i;

	vt_set_param("dma_entry_limit", 5);
	for_each_type(type) {
		vt_open(&c, *type, 0);
		EXPECT_EQ(vt_dma_avail(&c), 5);
		p = pages(SZ_64K);
		for (i = 0; i < 5; i++) {
			ASSERT_OK(vt_map(&c, BASE + i * SZ_4K, p + i * SZ_4K, SZ_4K, VT_RW, 0));
			EXPECT_EQ(vt_dma_avail(&c), 4 - i);
		}
		ASSERT_EQ(vt_map(&c, BASE + i * SZ_4K, p, SZ_4K, VT_RW, 0), -ENOSPC);
		/* What is in the way is told before that there is no entry. */
		ASSERT_EQ(vt_map(&c, BASE, p, SZ_4K, VT_RW, 0), -EEXIST);
		EXPECT_EQ(vt_locked(), 5 * SZ_4K);
		ASSERT_OK(vt_unmap(&c, BASE, SZ_4K, NULL));
		EXPECT_EQ(vt_dma_avail(&c), 1);
		ASSERT_OK(vt_map(&c, BASE + i * SZ_4K, p, SZ_4K, VT_RW, 0));
		vt_close(&c);
	}
}

static void accounting(void)
{
	struct vt_container c;
	void *p = pages(SZ_1M);

	vt_open_v2(&c);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_1M, VT_RW, 0));
	EXPECT_EQ(vt_locked(), SZ_1M);
	/* Pages are charged once for each time they are mapped. */
	ASSERT_OK(vt_map(&c, BASE + SZ_1M, p, SZ_1M, VT_RW, 0));
	EXPECT_EQ(vt_locked(), 2 * SZ_1M);
	ASSERT_OK(vt_unmap(&c, BASE, SZ_1M, NULL));
	EXPECT_EQ(vt_locked(), SZ_1M);
	vt_close(&c);
	EXPECT_EQ(vt_locked(), 0);
}

static void rlimit_enomem(void)
{
	struct vt_container c;
	u8 *p = pages(SZ_1M);

	vt_open_v2(&c);
	/* CAP_IPC_LOCK lifts the limit ... */
	ASSERT_OK(vt_map(&c, BASE, p, SZ_1M, VT_RW, 0));
	ASSERT_OK(vt_unmap(&c, BASE, SZ_1M, NULL));
	/* ... so do without. */
	vt_limit_locked(SZ_64K);
	ASSERT_EQ(vt_map(&c, BASE, p, SZ_64K + SZ_4K, VT_RW, 0), -ENOMEM);
	EXPECT_EQ(vt_locked(), 0);
	EXPECT_EQ(vt_dma_avail(&c), vt_get_param("dma_entry_limit"));
	ASSERT_OK(vt_map(&c, BASE, p, SZ_64K, VT_RW, 0));
	EXPECT_EQ(vt_locked(), SZ_64K);
	ASSERT_EQ(vt_map(&c, BASE + SZ_1M, p, SZ_4K, VT_RW, 0), -ENOMEM);
	ASSERT_OK(vt_unmap(&c, BASE, SZ_64K, NULL));
	ASSERT_OK(vt_map(&c, BASE + SZ_1M, p, SZ_4K, VT_RW, 0));
	EXPECT_EQ(vt_locked(), SZ_4K);
}

static void vaddr_rules(void)
{
	struct vt_container c;
	u64 n;
	u8 *p = pages(4 * SZ_64K);

	vt_open_v2(&c);
	ASSERT_EQ(vt_map_vaddr(&c, BASE, p, SZ_64K), -ENOENT);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_64K, VT_RW, 0));
	ASSERT_OK(vt_map(&c, BASE + SZ_64K, p + SZ_64K, SZ_64K, VT_RW, 0));
	/* Not invalid. */
	ASSERT_EQ(vt_map_vaddr(&c, BASE, p, SZ_64K), -EINVAL);
	/* Cut. */
	ASSERT_EQ(vt_unmap_vaddr(&c, BASE, SZ_4K, NULL), -EINVAL);
	ASSERT_EQ(vt_unmap_vaddr(&c, BASE + SZ_64K, 2 * SZ_64K - SZ_4K, &n), 0);
	EXPECT_EQ(n, SZ_64K);
	/* The second is invalid already: neither is touched. */
	ASSERT_EQ(vt_unmap_vaddr(&c, BASE, 2 * SZ_64K, NULL), -EINVAL);
	ASSERT_EQ(vt_map_vaddr(&c, BASE, p, SZ_64K), -EINVAL);
	ASSERT_OK(vt_unmap_vaddr(&c, BASE, SZ_64K, &n));
	EXPECT_EQ(n, SZ_64K);
	/* What names another range than was mapped. */
	ASSERT_EQ(vt_map_vaddr(&c, BASE, p, SZ_4K), -EINVAL);
	ASSERT_EQ(vt_map_vaddr(&c, BASE, p, 2 * SZ_64K), -EINVAL);
	ASSERT_EQ(vt_map_vaddr(&c, BASE + SZ_4K, p, SZ_4K), -EINVAL);
	ASSERT_OK(vt_map_vaddr(&c, BASE, p + 2 * SZ_64K, SZ_64K));
	EXPECT_EQ(vt_locked(), 2 * SZ_64K);
	/* One whose vaddr is invalid can be unmapped. */
	ASSERT_OK(vt_unmap(&c, BASE, 2 * SZ_64K, &n));
	EXPECT_EQ(n, 2 * SZ_64K);
	EXPECT_EQ(vt_locked(), 0);

	ASSERT_OK(vt_map(&c, BASE, p, SZ_64K, VT_RW, 0));
	ASSERT_OK(vt_unmap_flags(&c, VFIO_DMA_UNMAP_FLAG_ALL | VFIO_DMA_UNMAP_FLAG_VADDR, 0, 0,
				 &n));
	EXPECT_EQ(n, SZ_64K);
	ASSERT_OK(vt_map_vaddr(&c, BASE, p, SZ_64K));
}

static void v1_vaddr_quirk(void)
{
	struct vt_container c;
	u64 n = 1;
	u8 *p = pages(SZ_64K);

	vt_open(&c, V1, 0);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_64K, VT_RW, 0));
	ASSERT_OK(vt_unmap_vaddr(&c, BASE + SZ_4K, SZ_4K, &n));
	EXPECT_EQ(n, 0);
	ASSERT_OK(vt_unmap_vaddr(&c, BASE, SZ_4K, &n));
	EXPECT_EQ(n, SZ_64K);
	ASSERT_OK(vt_map_vaddr(&c, BASE, p, SZ_64K));
}

/* The process that gives the new address is charged from then on. */
static void vaddr_moves_charge(void)
{
	struct vt_container c;
	u8 *p = pages(SZ_64K);
	pid_t pid;

	vt_open_v2(&c);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_64K, VT_RW, 0));
	ASSERT_OK(vt_unmap_vaddr(&c, BASE, SZ_64K, NULL));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		EXPECT_EQ(vt_locked(), 0);
		ASSERT_OK(vt_map_vaddr(&c, BASE, p, SZ_64K));
		EXPECT_EQ(vt_locked(), SZ_64K);
		EXPECT_EQ(vt_locked_of(getppid()), 0);
		exit(0);
	}
	vt_wait_exit(pid);
	EXPECT_EQ(vt_locked(), 0);
	ASSERT_OK(vt_unmap(&c, BASE, SZ_64K, NULL));
	EXPECT_EQ(vt_locked(), 0);
}

static void vaddr_move_needs_rlimit(void)
{
	struct vt_container c;
	u8 *p = pages(SZ_64K);
	pid_t pid;

	vt_open_v2(&c);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_64K, VT_RW, 0));
	ASSERT_OK(vt_unmap_vaddr(&c, BASE, SZ_64K, NULL));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		vt_limit_locked(SZ_64K - SZ_4K);
		ASSERT_EQ(vt_map_vaddr(&c, BASE, p, SZ_64K), -ENOMEM);
		EXPECT_EQ(vt_locked(), 0);
		exit(0);
	}
	vt_wait_exit(pid);
	EXPECT_EQ(vt_locked(), SZ_64K);
	ASSERT_OK(vt_map_vaddr(&c, BASE, p, SZ_64K));
}

#define MTTY_UUID	"83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"

/* With only a mediated device nothing is pinned until a domain joins, and VADDR is refused. */
static void emulated_first(void)
{
	struct vt_container c;
	u8 *p = pages(SZ_64K);
	struct vt_dev *mtty, *edu;
	int group;

	group = vt_mdev_create(VT_MTTY_TYPE, MTTY_UUID);
	vt_open_empty(&c, V2);
	mtty = vt_add_group(&c, group, MTTY_UUID);
	EXPECT_EQ(vt_check_extension(&c, VFIO_UPDATE_VADDR), 0);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_64K, VT_RW, 0));
	ASSERT_EQ(vt_map(&c, BASE, p, SZ_4K, VT_RW, 0), -EEXIST);
	EXPECT_EQ(vt_locked(), 0);
	ASSERT_EQ(vt_unmap_vaddr(&c, BASE, SZ_64K, NULL), -EBUSY);

	edu = vt_add_edu(&c, 0);
	EXPECT_EQ(vt_locked(), SZ_64K);
	ASSERT_EQ(vt_unmap_vaddr(&c, BASE, SZ_64K, NULL), -EBUSY);
	vt_remove(edu);
	EXPECT_EQ(vt_locked(), 0);
	edu = vt_add_edu(&c, 0);
	EXPECT_EQ(vt_locked(), SZ_64K);
	vt_remove(mtty);
	EXPECT_EQ(vt_check_extension(&c, VFIO_UPDATE_VADDR), 1);
	EXPECT_EQ(vt_locked(), SZ_64K);
	vt_remove(edu);
	EXPECT_EQ(vt_locked(), 0);
	vt_close(&c);
}

static void dirty_errors(void)
{
	struct vfio_iommu_type1_dirty_bitmap arg = { .argsz = sizeof(arg) };
	struct vt_container c;
	u64 bitmap[16] = { 0 };
	u8 *p = pages(SZ_1M);

	vt_open(&c, V1, 0);
	ASSERT_EQ(vt_dirty_start(&c), -EACCES);
	vt_close(&c);

	vt_open_v2(&c);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_64K, VT_RW, 0));
	ASSERT_EQ(vt_dirty_get(&c, BASE, SZ_64K, bitmap, 8), -EINVAL);
	ASSERT_OK(vt_dirty_stop(&c));
	arg.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_START | VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP;
	ASSERT_ERRNO(ioctl(c.fd, VFIO_IOMMU_DIRTY_PAGES, &arg), EINVAL);
	arg.flags = 1u << 5;
	ASSERT_ERRNO(ioctl(c.fd, VFIO_IOMMU_DIRTY_PAGES, &arg), EINVAL);
	arg.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP;
	ASSERT_ERRNO(ioctl(c.fd, VFIO_IOMMU_DIRTY_PAGES, &arg), EINVAL);
	arg.argsz = 7;
	ASSERT_ERRNO(ioctl(c.fd, VFIO_IOMMU_DIRTY_PAGES, &arg), EINVAL);

	ASSERT_OK(vt_dirty_start(&c));
	ASSERT_OK(vt_dirty_start(&c));
	ASSERT_EQ(vt_dirty_get(&c, BASE, 0, bitmap, 8), -EINVAL);
	ASSERT_EQ(vt_dirty_get(&c, BASE + 1, SZ_64K, bitmap, 8), -EINVAL);
	ASSERT_EQ(vt_dirty_get(&c, BASE, SZ_64K + 1, bitmap, 8), -EINVAL);
	ASSERT_EQ(vt_dirty_get(&c, BASE, SZ_64K, bitmap, 7), -EINVAL);
	ASSERT_EQ(vt_dirty_get(&c, BASE, SZ_64K, bitmap, 0), -EINVAL);
	ASSERT_EQ(vt_dirty_get(&c, -SZ_4K, SZ_8K, bitmap, 8), -vt_wraps());
	/* Cut. */
	ASSERT_EQ(vt_dirty_get(&c, BASE, SZ_4K, bitmap, 8), -EINVAL);
	ASSERT_EQ(vt_dirty_get(&c, BASE + SZ_4K, SZ_64K, bitmap, 8), -EINVAL);
	ASSERT_EQ(vt_unmap_dirty(&c, BASE, SZ_4K, bitmap, 8, NULL), -EINVAL);
	ASSERT_EQ(vt_unmap_dirty(&c, BASE, SZ_64K, bitmap, 7, NULL), -EINVAL);
	EXPECT_EQ(vt_bits(bitmap, 0, 16 * 64), 0);
	EXPECT_EQ(vt_locked(), SZ_64K);
	ASSERT_EQ(vt_dirty_get(&c, BASE, SZ_64K, NULL, 8), -EFAULT);
	ASSERT_OK(vt_dirty_get(&c, BASE, SZ_64K, bitmap, 8));
	EXPECT_EQ(bitmap[0], 0xffff);
	ASSERT_OK(vt_dirty_stop(&c));
	ASSERT_EQ(vt_dirty_get(&c, BASE, SZ_64K, bitmap, 8), -EINVAL);
}

/*
 * Mappings that begin and end inside a word of the bitmap. All that edu may write to is
 * dirty, so the bitmap shows what is mapped.
 */
static void map_runs(struct vt_container *c, u64 *want)
{
	static const struct {
		unsigned int first, nr;
	} run[] = { { 3, 4 }, { 9, 1 }, { 10, 70 }, { 100, 30 }, { 191, 1 }, { 192, 64 } };
	u8 *p = pages(SZ_1M);
	unsigned int i, b;

	for (i = 0; i < ARRAY_SIZE(run); i++) {
		ASSERT_OK(vt_map(c, BASE + run[i].first * SZ_4K, p, run[i].nr * SZ_4K, VT_RW, 0));
		for (b = run[i].first; b < run[i].first + run[i].nr; b++)
			want[b / 64] |= 1ull << b % 64;
		if (i == 2)
			ASSERT_OK(vt_dirty_start(c));
	}
}

static void dirty_get_unaligned(void)
{
	u64 bitmap[5] = { 0 }, want[5] = { 0 };
	struct vt_container c;

	vt_open_v2(&c);
	map_runs(&c, want);
	want[4] = 0x1234;
	bitmap[4] = 0x1234;
	ASSERT_OK(vt_dirty_get(&c, BASE, SZ_1M, bitmap, 32));
	EXPECT_EQ(memcmp(bitmap, want, 40), 0);
}

static void dirty_unmap_unaligned(void)
{
	u64 bitmap[3] = { 0 }, want[5] = { 0 }, n;
	struct vt_container c;
	unsigned int b;

	vt_open_v2(&c);
	map_runs(&c, want);
	bitmap[2] = 0x1234;
	ASSERT_OK(vt_unmap_dirty(&c, BASE + 9 * SZ_4K, 121 * SZ_4K, bitmap, 16, &n));
	EXPECT_EQ(n, 101 * SZ_4K);
	for (b = 0; b < 128; b++)
		EXPECT_EQ(vt_bit(bitmap, b), b < 121 && vt_bit(want, b + 9));
	EXPECT_EQ(bitmap[2], 0x1234);
	EXPECT_EQ(vt_locked(), 69 * SZ_4K);
}

static void pages_expect(struct vt_container *c, u64 iova, u64 size, const void *p, u64 pgsize)
{
	struct vt_tables t;
	struct vt_info i;
	u64 smallest = -1;

	vt_info(c, &i);
	vt_tables_read(&c->dev[0], &t);
	vt_tables_expect(&t, &i, iova, size, p, VT_RW, 0, &smallest);
	if (pgsize > SZ_4K && vt_any_pgsize(c))
		EXPECT_GE(smallest, pgsize);
	else
		EXPECT_EQ(smallest, pgsize);
	vt_tables_free(&t);
}

static void superpages_of(enum vt_mem kind, u64 size)
{
	u64 pgsize = vt_mem_pgsize(kind);
	struct vt_container c;
	u8 *p;

	vt_open_v2(&c);
	vt_need_tables(&c.dev[0]);
	p = vt_alloc(kind, size);
	ASSERT_OK(vt_map(&c, BASE, p, size, VT_RW, 0));
	pages_expect(&c, BASE, size, p, pgsize);
	ASSERT_OK(vt_unmap(&c, BASE, size, NULL));
	EXPECT_EQ(vt_pgsize_at(&c.dev[0], BASE), 0);
	if (pgsize > SZ_4K && pgsize < SZ_1G) {
		ASSERT_OK(vt_map(&c, BASE + SZ_4K, p, size, VT_RW, 0));
		pages_expect(&c, BASE + SZ_4K, size, p, SZ_4K);
	}
}

static void superpages_scattered(void)
{
	superpages_of(VT_MEM_SCATTERED, SZ_4M);
}

static void superpages_thp(void)
{
	superpages_of(VT_MEM_THP, 4 * SZ_4M);
}

static void superpages_hugetlb_2m(void)
{
	superpages_of(VT_MEM_HUGE_2M, 4 * SZ_4M);
}

static void superpages_hugetlb_1g(void)
{
	superpages_of(VT_MEM_HUGE_1G, SZ_1G);
}

static void disable_hugepages(void)
{
	struct vt_container c;
	u8 *p;

	vt_open_v2(&c);
	vt_need_tables(&c.dev[0]);
	p = vt_alloc(VT_MEM_THP, SZ_4M);
	vt_set_param("disable_hugepages", 1);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_4M, VT_RW, 0));
	EXPECT_EQ(vt_pgsize_at(&c.dev[0], BASE), SZ_4K);
	EXPECT_EQ(vt_locked(), SZ_4M);
	ASSERT_OK(vt_unmap(&c, BASE, SZ_4M, NULL));
	EXPECT_EQ(vt_locked(), 0);
}

static void dma_reads_and_writes(void)
{
	struct vt_container c;
	u8 *p = pages(SZ_64K), buf[VT_DMA_MAX], back[VT_DMA_MAX];
	struct vt_faults f;

	vt_open_v2(&c);
	vt_edu_enable(&c.dev[0]);
	vt_faults_mark(&f);
	vt_fill(buf, VT_DMA_MAX, 1);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_64K, VT_RW, 0));
	vt_dma_write(&c.dev[0], BASE + SZ_8K, buf, VT_DMA_MAX);
	EXPECT_TRUE(vt_filled(p + SZ_8K, VT_DMA_MAX, 1));
	vt_fill(p + SZ_4K, SZ_4K, 2);
	vt_dma_read(&c.dev[0], BASE + SZ_4K, back, VT_DMA_MAX);
	EXPECT_TRUE(vt_filled(back, VT_DMA_MAX, 2));
	EXPECT_EQ(vt_faults_count(&f), 0);
}

static void dma_faults(void)
{
	struct vt_container c;
	u8 *p = pages(SZ_64K), buf[VT_DMA_MAX];
	struct vt_faults f;

	vt_open_v2(&c);
	vt_edu_enable(&c.dev[0]);
	vt_fill(buf, VT_DMA_MAX, 3);
	vt_fill(p, SZ_64K, 4);

	/* Read-only memory. */
	ASSERT_OK(vt_map(&c, BASE, p, SZ_64K, VT_RO, 0));
	vt_faults_mark(&f);
	vt_dma_write(&c.dev[0], BASE, buf, VT_DMA_MAX);
	EXPECT_TRUE(vt_faults_hit(&f, BASE, SZ_4K));
	EXPECT_TRUE(vt_filled(p, SZ_64K, 4));

	/* Memory unmapped. */
	ASSERT_OK(vt_unmap(&c, BASE, SZ_64K, NULL));
	vt_faults_mark(&f);
	vt_dma_write(&c.dev[0], BASE + SZ_4K, buf, VT_DMA_MAX);
	EXPECT_TRUE(vt_faults_hit(&f, BASE + SZ_4K, SZ_4K));
	EXPECT_TRUE(vt_filled(p, SZ_64K, 4));
}

/* Two devices in a container share its mappings. */
static void two_devices(void)
{
	struct vt_container c;
	u8 *p = pages(SZ_64K), buf[VT_DMA_MAX];
	struct vt_dev *second;

	vt_edu_bdf(1);
	vt_open_v2(&c);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_64K, VT_RW, 0));
	second = vt_add_edu(&c, 1);
	EXPECT_EQ(vt_locked(), SZ_64K);
	vt_edu_enable(second);
	vt_fill(buf, VT_DMA_MAX, 5);
	vt_dma_write(second, BASE, buf, VT_DMA_MAX);
	EXPECT_TRUE(vt_filled(p, VT_DMA_MAX, 5));
	vt_remove(&c.dev[0]);
	vt_fill(buf, VT_DMA_MAX, 6);
	vt_dma_write(second, BASE, buf, VT_DMA_MAX);
	EXPECT_TRUE(vt_filled(p, VT_DMA_MAX, 6));
}

VTEST_MAIN(
	VTEST(extensions),
	VTEST(unknown_ioctl_enotty),
	VTEST(info),
	VTEST(map_einval),
	VTEST(map_longer_argsz),
	VTEST(map_eoverflow),
	VTEST(map_efault),
	VTEST(map_outside_aperture),
	VTEST(map_overlap_eexist),
	VTEST(unmap_einval),
	VTEST(v2_cut_einval),
	VTEST(v2_unmap_nothing),
	VTEST(v1_quirks),
	VTEST(unmap_spans_mappings),
	VTEST(entry_limit_enospc),
	VTEST(accounting),
	VTEST(rlimit_enomem),
	VTEST(vaddr_rules),
	VTEST(v1_vaddr_quirk),
	VTEST(vaddr_moves_charge),
	VTEST(vaddr_move_needs_rlimit),
	VTEST(emulated_first),
	VTEST(dirty_errors),
	VTEST(dirty_get_unaligned),
	VTEST(dirty_unmap_unaligned),
	VTEST(superpages_scattered),
	VTEST(superpages_thp),
	VTEST(superpages_hugetlb_2m),
	VTEST(superpages_hugetlb_1g),
	VTEST(disable_hugepages),
	VTEST(dma_reads_and_writes),
	VTEST(dma_faults),
	VTEST(two_devices),
)
