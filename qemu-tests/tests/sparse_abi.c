// SPDX-License-Identifier: GPL-2.0
/* VFIO_DMA_MAP_FLAG_SPARSE: discovery, every rule, every errno, and their order. */
#include <linux/capability.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "testdev.h"

#define BASE	(4 * SZ_1G)
#define U	SZ_64K		/* the granule */
#define NR	16
#define SIZE	(NR * U)

#define S		VFIO_DMA_MAP_FLAG_SPARSE
#define G		VFIO_DMA_MAP_FLAG_GRANULE
#define END		VFIO_DMA_UNMAP_FLAG_SPARSE
#define ARGSZ		sizeof(struct vfio_iommu_type1_dma_map)

static u8 *p;

/* A container with one sparse mapping of NR granules at BASE, empty. */
static void set_up(struct vt_container *c)
{
	vt_open_sparse(c);
	p = vt_alloc(VT_MEM_4K, SIZE);
	ASSERT_OK(vt_sparse(c, BASE, p, SIZE, VT_RW, U));
}

/* Granules from the first one on. */
static int fill(struct vt_container *c, u64 first, u64 nr)
{
	return vt_map(c, BASE + first * U, p + first * U, nr * U, VT_RW, 0);
}

static int empty(struct vt_container *c, u64 first, u64 nr, u64 *n)
{
	return vt_unmap(c, BASE + first * U, nr * U, n);
}

/* ---- Discovery ---- */

static void extension_v2(void)
{
	struct vt_container c;

	vt_open_v2(&c);
	ASSERT_EQ(vt_check_extension(&c, VFIO_DMA_SPARSE), 1);
}

static void extension_v1(void)
{
	struct vt_container c;

	vt_open(&c, VFIO_TYPE1_IOMMU, 0);
	ASSERT_EQ(vt_check_extension(&c, VFIO_DMA_SPARSE), 0);
}

static void extension_before_set_iommu(void)
{
	struct vt_container c;

	vt_open_empty(&c, VFIO_TYPE1v2_IOMMU);
	ASSERT_EQ(vt_check_extension(&c, VFIO_DMA_SPARSE), 1);
	ASSERT_EQ(vt_sparse(&c, BASE, (void *)SZ_4K, SIZE, VT_RW, U), -EINVAL);
}

static void extension_iommufd(void)
{
	vt_iommufd_lacks(VFIO_DMA_SPARSE);
}

static void abi_layout(void)
{
	EXPECT_EQ(VFIO_DMA_SPARSE, 14);
	EXPECT_EQ(VFIO_DMA_MAP_FLAG_SPARSE, 1 << 5);
	EXPECT_EQ(VFIO_DMA_UNMAP_FLAG_SPARSE, 1 << 3);
	EXPECT_EQ(VFIO_DMA_EXTENT_SPARSE, 1 << 3);
}

/* ---- Setting up ---- */

static void v1_einval(void)
{
	struct vt_container c;

	vt_open(&c, VFIO_TYPE1_IOMMU, 0);
	p = vt_alloc(VT_MEM_4K, SIZE);
	ASSERT_REFUSED(&c, vt_sparse(&c, BASE, p, SIZE, VT_RW, U), EINVAL);
	ASSERT_REFUSED(&c, vt_sparse(&c, BASE, p, SIZE, VT_RW, 0), EINVAL);
	ASSERT_OK(vt_map(&c, BASE, p, SIZE, VT_RW, 0));
	ASSERT_REFUSED(&c, vt_end_sparse(&c, BASE, SIZE, NULL), EINVAL);
	ASSERT_REFUSED(&c, vt_end_all_sparse(&c, NULL), EINVAL);
	EXPECT_EQ(vt_locked(), SIZE);
}

/* What it cannot go with. */
static void flags_einval(void)
{
	struct vt_container c;
	int bit;

	vt_open_sparse(&c);
	p = vt_alloc(VT_MEM_4K, SIZE);
	/* No granule. */
	ASSERT_REFUSED(&c, vt_sparse(&c, BASE, p, SIZE, VT_RW, 0), EINVAL);
	ASSERT_REFUSED(&c, vt_map_raw(&c, ARGSZ, VT_RW | S, BASE, (uintptr_t)p, SIZE, U), EINVAL);
	/* A vaddr, a super-container, neither read nor write. */
	ASSERT_REFUSED(&c, vt_sparse(&c, BASE, p, SIZE, VFIO_DMA_MAP_FLAG_VADDR, U), EINVAL);
	ASSERT_REFUSED(&c, vt_sparse(&c, BASE, p, SIZE, VFIO_DMA_MAP_FLAG_VADDR, 0), EINVAL);
	ASSERT_REFUSED(&c, vt_sparse(&c, BASE, p, SIZE, VT_RW | VFIO_DMA_MAP_FLAG_SUPER, U),
		       EINVAL);
	ASSERT_REFUSED(&c, vt_sparse(&c, BASE, p, SIZE, 0, U), EINVAL);
	for (bit = 6; bit < 32; bit++)
		ASSERT_EQ(vt_sparse(&c, BASE, p, SIZE, VT_RW | 1u << bit, U), -EINVAL);
	ASSERT_OK(vt_sparse(&c, BASE, p, SIZE, VT_RW, U));
	EXPECT_EQ(vt_locked(), 0);
}

/* SUPER is refused also where it would do. */
static void super_einval(void)
{
	struct vt_container c;
	int super;

	vt_open_sparse(&c);
	super = vt_super_new(&c);
	p = vt_alloc(VT_MEM_4K, SIZE);
	ASSERT_OK(vt_super_register(super, p, SIZE, VT_SUPER_RW));
	ASSERT_REFUSED(&c, vt_sparse(&c, BASE, p, SIZE, VT_RW | VFIO_DMA_MAP_FLAG_SUPER, U),
		       EINVAL);
	ASSERT_OK(vt_sparse(&c, BASE, p, SIZE, VT_RW, U));
	ASSERT_REFUSED(&c, vt_map_super(&c, BASE, p, U, VT_RW, 0), EINVAL);
	ASSERT_REFUSED(&c, vt_map_super(&c, BASE, p, U, VT_RW, U), EINVAL);
	/* A sparse mapping does not keep the super-container attached. */
	ASSERT_OK(vt_super_detach(&c));
	ASSERT_REFUSED(&c, vt_map_super(&c, BASE, p, U, VT_RW, 0), EINVAL);
}

/* The rules of a mapping with a granule. */
static void granule_rules(void)
{
	static const u64 bad[] = { 0, 1, 512, 4097, 3 * SZ_4K, SZ_64K + SZ_4K, -1ull, -SZ_4K,
				   2 * SIZE, 1ull << 63 };
	struct vt_container c;
	struct vt_info info;
	u64 va, end;
	size_t i;
	u32 k;

	vt_open_sparse(&c);
	p = vt_alloc(VT_MEM_4K, SIZE);
	va = (uintptr_t)p;
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		ASSERT_REFUSED(&c, vt_map_raw(&c, ARGSZ, VT_RW | G | S, BASE, va, SIZE, bad[i]),
			       EINVAL);
	for (k = 0; k < ARGSZ; k++)
		ASSERT_EQ(vt_map_raw(&c, k, VT_RW | G | S, BASE, va, SIZE, U), -EINVAL);
	ASSERT_REFUSED(&c, vt_sparse(&c, BASE + SZ_4K, p, SIZE - U, VT_RW, U), EINVAL);
	ASSERT_REFUSED(&c, vt_sparse(&c, BASE, p, SIZE - SZ_4K, VT_RW, U), EINVAL);
	ASSERT_REFUSED(&c, vt_sparse(&c, BASE, p, 0, VT_RW, U), EINVAL);
	ASSERT_REFUSED(&c, vt_sparse(&c, BASE, p + 512, SIZE, VT_RW, U), EINVAL);
	ASSERT_REFUSED(&c, vt_map_raw(&c, ARGSZ, VT_RW | G | S, -U, va, 2 * U, U), EOVERFLOW);
	ASSERT_REFUSED(&c, vt_map_raw(&c, ARGSZ, VT_RW | G | S, BASE, -SZ_4K, 2 * U, U),
		       EOVERFLOW);
	vt_info(&c, &info);
	for (i = 0; i < info.nr_ranges; i++) {
		end = info.range[i].last + 1;
		if (!end)
			continue;
		ASSERT_REFUSED(&c, vt_sparse(&c, end, p, SZ_4K, VT_RW, SZ_4K), EINVAL);
		ASSERT_REFUSED(&c, vt_sparse(&c, end - SZ_4K, p, SZ_8K, VT_RW, SZ_4K), EINVAL);
	}
	EXPECT_EQ(vt_dma_avail(&c), vt_get_param("dma_entry_limit"));

	/* Only page aligned, and only to be read, or written. */
	ASSERT_OK(vt_sparse(&c, BASE, p + SZ_4K, SIZE, VT_RO, U));
	ASSERT_OK(vt_sparse(&c, BASE + SIZE, p, SIZE, VT_WO, SIZE));
	EXPECT_EQ(vt_dma_avail(&c), vt_get_param("dma_entry_limit") - 2);
}

/* One entry, and nothing else: there need be no memory. */
static void maps_nothing(void)
{
	struct vt_container c;
	struct vt_state was, now;
	u64 pinned, n;
	u32 avail;

	vt_open_sparse(&c);
	p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(p != MAP_FAILED);
	avail = vt_dma_avail(&c);
	pinned = vt_pinned();
	vt_state(&c, &was);
	ASSERT_OK(vt_sparse(&c, BASE, p, SIZE, VT_RW, U));
	ASSERT_OK(vt_sparse(&c, BASE + SIZE, (void *)SZ_4K, SIZE, VT_RW, U));
	vt_state(&c, &now);
	EXPECT_EQ(now.locked, was.locked);
	EXPECT_EQ(now.tables, was.tables);
	EXPECT_EQ(vt_dma_avail(&c), avail - 2);
	EXPECT_EQ(vt_pinned(), pinned);
	EXPECT_EQ(vt_phys(p), 0);
	EXPECT_EQ(vt_extents_count(&c, 0, 0), 0);
	ASSERT_OK(vt_unmap(&c, BASE, 2 * SIZE, &n));
	EXPECT_EQ(n, 0);
	EXPECT_EQ(vt_dma_avail(&c), avail - 2);
	/* That there is none is told when it is needed. */
	ASSERT_REFUSED(&c, vt_map(&c, BASE + SIZE, (void *)SZ_4K, U, VT_RW, 0), EFAULT);
}

static void range_is_its_own(void)
{
	struct vt_container c;
	u8 *q = vt_alloc(VT_MEM_4K, SIZE);
	int filled;

	set_up(&c);
	for (filled = 0; filled < 2; filled++) {
		/* Over either end, or all of it: with and without granules, and sparse. */
		ASSERT_MAPS_REFUSED(&c, BASE, q,
			{ -U, 0, 2 * U, VT_RW, 0, EEXIST },
			{ -SZ_4K, 0, SZ_8K, VT_RW, SZ_4K, EEXIST },
			{ SIZE - U, 0, 2 * U, VT_RW, U, EEXIST },
			{ SIZE - SZ_4K, 0, SZ_8K, VT_RW, 0, EEXIST },
			{ -U, 0, SIZE + U, VT_RW, U, EEXIST },
			{ 0, 0, SIZE + U, VT_RW, U, EEXIST },
			{ -U, 0, SIZE + 2 * U, VT_RW, 0, EEXIST },
			{ -U, 0, 2 * U, VT_RW | S, U, EEXIST },
			{ -U, 0, SIZE + 2 * U, VT_RW | S, U, EEXIST },
			{ SIZE - U, 0, 2 * U, VT_RW | S, U, EEXIST });
		/* Another one in it, whatever else is right about it. */
		ASSERT_MAPS_REFUSED(&c, BASE, p,
			{ 0, 0, SIZE, VT_RW | S, U, EEXIST },
			{ U, U, U, VT_RW | S, U, EEXIST },
			{ U, 2 * U, U, VT_RO | S, SZ_4K, EEXIST });
		ASSERT_OK(fill(&c, 5, 2));
		if (filled)
			break;
		ASSERT_OK(empty(&c, 6, 1, NULL));
		ASSERT_OK(fill(&c, 0, 1));
		ASSERT_OK(empty(&c, 5, 1, NULL));
	}
}

/* What lies beside it, and what was there before. */
static void neighbours(void)
{
	struct vt_container c;
	u8 *q = vt_alloc(VT_MEM_4K, SIZE);
	u32 avail;
	u64 n;

	set_up(&c);
	avail = vt_dma_avail(&c);
	ASSERT_OK(vt_map(&c, BASE - U, q, U, VT_RW, 0));
	ASSERT_OK(vt_sparse(&c, BASE + SIZE, q, SIZE, VT_RO, SZ_4K));
	EXPECT_EQ(vt_dma_avail(&c), avail - 2);
	/* From one into the other is in neither. */
	ASSERT_REFUSED(&c, vt_map(&c, BASE + SIZE - U, p + SIZE - U, 2 * U, VT_RW, 0), EEXIST);
	ASSERT_OK(vt_map(&c, BASE + SIZE, q, SZ_4K, VT_RO, 0));
	EXPECT_EQ(vt_dma_avail(&c), avail - 2);

	/* Where something is mapped there can be none. */
	ASSERT_OK(vt_map(&c, BASE + SZ_1G, q, SIZE, VT_RW, U));
	ASSERT_REFUSED(&c, vt_sparse(&c, BASE + SZ_1G + U, q, U, VT_RW, U), EEXIST);
	/* In a hole there can, and what is around it is unmapped as ever. */
	ASSERT_OK(vt_unmap(&c, BASE + SZ_1G + 4 * U, 4 * U, NULL));
	ASSERT_OK(vt_sparse(&c, BASE + SZ_1G + 5 * U, q, 2 * U, VT_RW, SZ_4K));
	ASSERT_REFUSED(&c, vt_map(&c, BASE + SZ_1G + 4 * U, q, 2 * U, VT_RW, 0), EEXIST);
	ASSERT_OK(vt_map(&c, BASE + SZ_1G + 4 * U, q, U, VT_RW, 0));
	ASSERT_OK(vt_map(&c, BASE + SZ_1G + 5 * U, q, SZ_4K, VT_RW, 0));
	ASSERT_OK(vt_unmap(&c, BASE + SZ_1G, SIZE, &n));
	EXPECT_EQ(n, SIZE - 4 * U + U + SZ_4K);
	EXPECT_EQ(vt_dma_avail(&c), avail - 3);
	ASSERT_REFUSED(&c, vt_map(&c, BASE + SZ_1G, q, SIZE, VT_RW, U), EEXIST);
	ASSERT_OK(vt_end_sparse(&c, BASE + SZ_1G, SIZE, &n));
	EXPECT_EQ(n, 0);
	ASSERT_OK(vt_map(&c, BASE + SZ_1G, q, SIZE, VT_RW, U));
}

static void entry_limit_enospc(void)
{
	struct vt_container c;
	u64 i, k, n;

	vt_set_param("dma_entry_limit", 1);
	set_up(&c);
	EXPECT_EQ(vt_dma_avail(&c), 0);
	ASSERT_REFUSED(&c, vt_sparse(&c, BASE + SIZE, p, SIZE, VT_RW, U), ENOSPC);
	ASSERT_REFUSED(&c, vt_map(&c, BASE + SIZE, p, SIZE, VT_RW, 0), ENOSPC);
	ASSERT_REFUSED(&c, vt_sparse(&c, BASE, p, SIZE, VT_RW, U), EEXIST);
	ASSERT_REFUSED(&c, vt_map(&c, BASE - U, p, 2 * U, VT_RW, 0), EEXIST);
	/* To fill takes none, in as many pieces as there are, again and again. */
	for (k = 0; k < 3; k++) {
		for (i = 0; i < NR; i += 2)
			ASSERT_OK(fill(&c, i, 1));
		for (i = 1; i < NR; i += 2)
			ASSERT_OK(fill(&c, i, 1));
		EXPECT_EQ(vt_dma_avail(&c), 0);
		EXPECT_EQ(vt_locked(), SIZE);
		ASSERT_OK(empty(&c, 0, NR, &n));
		EXPECT_EQ(n, SIZE);
		EXPECT_EQ(vt_dma_avail(&c), 0);
		EXPECT_EQ(vt_locked(), 0);
	}
	/* And nothing else fits where it was, until it ends. */
	ASSERT_REFUSED(&c, vt_map(&c, BASE + SIZE, p, U, VT_RW, 0), ENOSPC);
	ASSERT_OK(vt_end_sparse(&c, BASE, SIZE, NULL));
	EXPECT_EQ(vt_dma_avail(&c), 1);
	ASSERT_OK(vt_map(&c, BASE + SIZE, p, U, VT_RW, 0));
}

/* ---- Filling ---- */

static void fill_parts(void)
{
	struct vfio_dma_extent *e;
	struct vt_container c;
	struct vt_extents x;
	u64 pinned;
	u32 avail;
	size_t i;

	set_up(&c);
	avail = vt_dma_avail(&c);
	pinned = vt_pinned();
	ASSERT_OK(fill(&c, 3, 1));
	/* With the granule said again. */
	ASSERT_OK(vt_map(&c, BASE + 4 * U, p + 4 * U, 2 * U, VT_RW, U));
	ASSERT_OK(fill(&c, NR - 1, 1));
	ASSERT_OK(fill(&c, 0, 1));
	EXPECT_EQ(vt_dma_avail(&c), avail);
	EXPECT_EQ(vt_locked(), 5 * U);
	EXPECT_EQ(vt_pinned(), pinned + 5 * U / SZ_4K);
	EXPECT_EQ(vt_mapped_bytes(&c, 0, 0), 5 * U);

	vt_extents_read(&c, 0, 0, 64, &x);
	for (i = 0; i < x.nr; i++) {
		e = &x.e[i];
		EXPECT_EQ(e->flags, VFIO_DMA_EXTENT_READ | VFIO_DMA_EXTENT_WRITE |
				    VFIO_DMA_EXTENT_SPARSE);
		EXPECT_EQ(e->granule, U);
		EXPECT_EQ(e->vaddr, (uintptr_t)p + (e->iova - BASE));
	}
	vt_extents_free(&x);
	/* What two calls have filled side by side is one run. */
	vt_extents_read(&c, BASE + 3 * U, 3 * U, 64, &x);
	for (i = 1; i < x.nr; i++)
		EXPECT_NE(x.e[i].pgsize, x.e[i - 1].pgsize);
	vt_extents_free(&x);
	ASSERT_OK(fill(&c, 6, NR - 7));
	ASSERT_OK(fill(&c, 1, 2));
	EXPECT_EQ(vt_locked(), SIZE);
	EXPECT_EQ(vt_mapped_bytes(&c, 0, 0), SIZE);
}

static void fill_flags_einval(void)
{
	struct vt_container c;

	set_up(&c);
	ASSERT_REFUSED(&c, vt_map(&c, BASE, p, U, VT_RO, 0), EINVAL);
	ASSERT_REFUSED(&c, vt_map(&c, BASE, p, U, VT_WO, 0), EINVAL);
	ASSERT_REFUSED(&c, vt_map(&c, BASE, p, U, 0, 0), EINVAL);
	ASSERT_REFUSED(&c, vt_map(&c, BASE, p, U, VT_RW | VFIO_DMA_MAP_FLAG_SUPER, 0), EINVAL);
	ASSERT_REFUSED(&c, vt_map(&c, BASE, p, U, VT_RW, SZ_4K), EINVAL);
	ASSERT_REFUSED(&c, vt_map(&c, BASE, p, 2 * U, VT_RW, 2 * U), EINVAL);
	ASSERT_REFUSED(&c, vt_map(&c, BASE, p, U, VT_RW | 1 << 6, 0), EINVAL);
	/* Without the flag granule is not looked at. */
	ASSERT_OK(vt_map_raw(&c, ARGSZ, VT_RW, BASE, (uintptr_t)p, U, 3));

	/* Of one that can only be read, or written, more is too much. */
	ASSERT_OK(vt_sparse(&c, BASE + SZ_1G, p, SIZE, VT_RO, U));
	ASSERT_REFUSED(&c, vt_map(&c, BASE + SZ_1G, p, U, VT_RW, 0), EINVAL);
	ASSERT_REFUSED(&c, vt_map(&c, BASE + SZ_1G, p, U, VT_WO, 0), EINVAL);
	ASSERT_OK(vt_map(&c, BASE + SZ_1G, p, U, VT_RO, 0));
	ASSERT_OK(vt_sparse(&c, BASE + 2 * SZ_1G, p, SIZE, VT_WO, U));
	ASSERT_REFUSED(&c, vt_map(&c, BASE + 2 * SZ_1G, p, U, VT_RW, 0), EINVAL);
	ASSERT_OK(vt_map(&c, BASE + 2 * SZ_1G, p, U, VT_WO, U));
}

static void fill_addresses_einval(void)
{
	struct vt_container c;
	u8 *q = vt_alloc(VT_MEM_4K, SIZE);

	set_up(&c);
	ASSERT_REFUSED(&c, vt_map(&c, BASE, q, U, VT_RW, 0), EINVAL);
	ASSERT_MAPS_REFUSED(&c, BASE, p,
		{ 0, U, U, VT_RW, 0, EINVAL },
		{ U, 0, U, VT_RW, 0, EINVAL },
		{ U, U + SZ_4K, U, VT_RW, 0, EINVAL },
		{ 0, 0, SZ_4K, VT_RW, 0, EINVAL },
		{ 0, 0, U - SZ_4K, VT_RW, 0, EINVAL },
		{ 0, 0, U + SZ_4K, VT_RW, 0, EINVAL },
		{ SZ_4K, SZ_4K, U, VT_RW, 0, EINVAL },
		{ SZ_4K, SZ_4K, U - SZ_4K, VT_RW, 0, EINVAL },
		{ 512, 0, U, VT_RW, 0, EINVAL },
		{ 0, 512, U, VT_RW, 0, EINVAL },
		{ 0, 0, 0, VT_RW, 0, EINVAL },
		{ 0, 0, U + 512, VT_RW, 0, EINVAL });
	ASSERT_OK(fill(&c, 0, NR));
}

static void filled_eexist(void)
{
	struct vt_container c;

	set_up(&c);
	ASSERT_OK(fill(&c, 4, 2));
	ASSERT_MAPS_REFUSED(&c, BASE, p,
		{ 4 * U, 4 * U, 2 * U, VT_RW, 0, EEXIST },
		{ 5 * U, 5 * U, U, VT_RW, 0, EEXIST },
		{ 3 * U, 3 * U, 2 * U, VT_RW, 0, EEXIST },
		{ 5 * U, 5 * U, 2 * U, VT_RW, 0, EEXIST },
		{ 0, 0, SIZE, VT_RW, 0, EEXIST });
	ASSERT_OK(empty(&c, 5, 1, NULL));
	ASSERT_REFUSED(&c, fill(&c, 4, 2), EEXIST);
	ASSERT_OK(fill(&c, 5, 1));
	ASSERT_OK(fill(&c, 0, 4));
	ASSERT_OK(fill(&c, 6, NR - 6));
	ASSERT_REFUSED(&c, fill(&c, 0, NR), EEXIST);
	EXPECT_EQ(vt_locked(), SIZE);
}

/* An earlier rule's errno comes, whatever else is wrong. */
static void order_of_one_process(void)
{
	struct vt_container c;
	u8 *q = vt_alloc(VT_MEM_4K, 2 * SIZE);
	u64 va;

	set_up(&c);
	va = (uintptr_t)p;
	ASSERT_OK(fill(&c, 2, 1));

	/* What every map is checked for comes before the overlap. */
	ASSERT_REFUSED(&c, vt_map_raw(&c, ARGSZ, VT_RW, BASE + U, va, -U, 0), vt_wraps());
	ASSERT_REFUSED(&c, vt_map_raw(&c, ARGSZ, VT_RW | G | S, BASE + SIZE - U, va, 0ull - BASE, U),
		       EOVERFLOW);
	ASSERT_REFUSED(&c, vt_map(&c, BASE - U, q + 512, 2 * U, VT_RW, 0), EINVAL);
	ASSERT_REFUSED(&c, vt_map(&c, BASE - U, q, 2 * U, 0, 0), EINVAL);
	ASSERT_REFUSED(&c, vt_map_raw(&c, ARGSZ, VT_RW | G, BASE - U, va, 2 * U, 3), EINVAL);
	ASSERT_REFUSED(&c, vt_sparse(&c, BASE, p, SIZE, VT_RW, 0), EINVAL);
	ASSERT_REFUSED(&c, vt_map(&c, BASE + 2 * U, q, U, VT_RW, 2 * U + SZ_4K), EINVAL);

	/* The overlap before flags and addresses. */
	ASSERT_REFUSED(&c, vt_map(&c, BASE - U, q, 2 * U, VT_RO, 0), EEXIST);
	ASSERT_REFUSED(&c, vt_map(&c, BASE - SZ_4K, q, SZ_8K, VT_RW, SZ_4K), EEXIST);
	ASSERT_REFUSED(&c, vt_sparse(&c, BASE + U, q, SZ_4K, VT_RO, SZ_4K), EEXIST);

	/* Those before what is filled. */
	ASSERT_REFUSED(&c, vt_map(&c, BASE + 2 * U, p + 2 * U, U, VT_RO, 0), EINVAL);
	ASSERT_REFUSED(&c, vt_map(&c, BASE + 2 * U, q, U, VT_RW, 0), EINVAL);
	ASSERT_REFUSED(&c, vt_map(&c, BASE + 2 * U, p + 2 * U, SZ_4K, VT_RW, 0), EINVAL);
	ASSERT_REFUSED(&c, vt_map(&c, BASE + 2 * U, p + 2 * U, U, VT_RW, SZ_4K), EINVAL);
	ASSERT_REFUSED(&c, vt_map(&c, BASE + 2 * U, p + 2 * U, U, VT_RW | VFIO_DMA_MAP_FLAG_SUPER,
				  0), EINVAL);

	/* What is filled before the vaddr that is invalid, and that before the memory. */
	ASSERT_OK(vt_unmap_vaddr(&c, BASE, SIZE, NULL));
	ASSERT_REFUSED(&c, fill(&c, 2, 1), EEXIST);
	ASSERT_REFUSED(&c, fill(&c, 1, 2), EEXIST);
	ASSERT_OK(munmap(p + 4 * U, U));
	ASSERT_REFUSED(&c, fill(&c, 4, 1), EINVAL);
	ASSERT_OK(vt_map_vaddr(&c, BASE, p, SIZE));
	ASSERT_REFUSED(&c, fill(&c, 4, 1), EFAULT);
	/* What is filled before the memory. */
	ASSERT_REFUSED(&c, fill(&c, 2, 3), EEXIST);
}

static void order_in_child(struct vt_container *c)
{
	/* Overlap, flags and addresses, filled: all before whose it is. */
	ASSERT_EQ(vt_map(c, BASE - U, p, 2 * U, VT_RW, 0), -EEXIST);
	ASSERT_EQ(vt_sparse(c, BASE, p, SIZE, VT_RW, U), -EEXIST);
	ASSERT_EQ(vt_map(c, BASE, p, U, VT_RO, 0), -EINVAL);
	ASSERT_EQ(vt_map(c, BASE, p + U, U, VT_RW, 0), -EINVAL);
	ASSERT_EQ(vt_map(c, BASE, p, SZ_4K, VT_RW, 0), -EINVAL);
	ASSERT_EQ(fill(c, 2, 1), -EEXIST);
	ASSERT_EQ(fill(c, 1, 2), -EEXIST);
	/* That before the vaddr, and before the memory. */
	ASSERT_EQ(fill(c, 1, 1), -EPERM);
	ASSERT_OK(munmap(p + 4 * U, U));
	ASSERT_EQ(fill(c, 4, 1), -EPERM);
	ASSERT_EQ(vt_locked(), 0);
}

static void order_of_another_process(void)
{
	struct vt_container c;

	set_up(&c);
	ASSERT_OK(fill(&c, 2, 1));
	vt_in_child(order_in_child, &c);
	ASSERT_OK(vt_unmap_vaddr(&c, BASE, SIZE, NULL));
	vt_in_child(order_in_child, &c);
	EXPECT_EQ(vt_locked(), U);
	EXPECT_EQ(vt_mapped_bytes(&c, 0, 0), U);
}

/* Memory that ends in the middle: what was pinned is let go of, neighbours stay. */
static void memory_ends_efault(void)
{
	struct vt_container c;
	u64 pinned;

	set_up(&c);
	ASSERT_OK(fill(&c, 0, 2));
	ASSERT_OK(fill(&c, NR - 1, 1));
	pinned = vt_pinned();
	ASSERT_OK(munmap(p + 9 * U + SZ_4K, SZ_4K));
	ASSERT_REFUSED(&c, fill(&c, 2, NR - 3), EFAULT);
	ASSERT_REFUSED(&c, fill(&c, 9, 1), EFAULT);
	EXPECT_EQ(vt_pinned(), pinned);
	EXPECT_EQ(vt_mapped_bytes(&c, 0, 0), 3 * U);
	/* What has failed can be done in parts, and when there is memory. */
	ASSERT_OK(fill(&c, 2, 7));
	ASSERT_OK(fill(&c, 10, NR - 11));
	ASSERT_TRUE(mmap(p + 9 * U + SZ_4K, SZ_4K, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
	ASSERT_OK(fill(&c, 9, 1));
	EXPECT_EQ(vt_locked(), SIZE);
	/* Memory that can only be read is no memory to be written. */
	ASSERT_OK(empty(&c, 3, 1, NULL));
	ASSERT_OK(mprotect(p + 3 * U, U, PROT_READ));
	ASSERT_REFUSED(&c, fill(&c, 3, 1), EFAULT);
}

/* CAP_IPC_LOCK in effect or not; it stays permitted. */
static void use_ipc_lock(bool on)
{
	struct __user_cap_header_struct hdr = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct cap[2];

	ASSERT_OK(syscall(SYS_capget, &hdr, cap));
	if (on)
		cap[0].effective |= 1u << CAP_IPC_LOCK;
	else
		cap[0].effective &= ~(1u << CAP_IPC_LOCK);
	ASSERT_OK(syscall(SYS_capset, &hdr, cap));
}

static void limit(u64 bytes)
{
	struct rlimit lim = { .rlim_cur = bytes, .rlim_max = RLIM_INFINITY };

	ASSERT_OK(setrlimit(RLIMIT_MEMLOCK, &lim));
}

/* The limit and the capability are those of the call that fills. */
static void rlimit_enomem(void)
{
	struct vt_container c;

	set_up(&c);
	limit(2 * U);
	use_ipc_lock(false);
	/* It was set up with the capability: that is no matter. */
	ASSERT_REFUSED(&c, fill(&c, 0, 3), ENOMEM);
	ASSERT_OK(fill(&c, 0, 2));
	ASSERT_REFUSED(&c, fill(&c, 2, 1), ENOMEM);
	EXPECT_EQ(vt_locked(), 2 * U);
	/* What is given back is room for another. */
	ASSERT_OK(empty(&c, 0, 1, NULL));
	ASSERT_OK(fill(&c, 5, 1));
	ASSERT_REFUSED(&c, fill(&c, 0, 1), ENOMEM);
	limit(3 * U);
	ASSERT_OK(fill(&c, 0, 1));
	use_ipc_lock(true);
	ASSERT_OK(fill(&c, 6, 4));
	use_ipc_lock(false);
	ASSERT_REFUSED(&c, fill(&c, 10, 1), ENOMEM);
	EXPECT_EQ(vt_locked(), 7 * U);

	/* Set up without a byte to be locked, and filled with the capability. */
	limit(0);
	ASSERT_OK(vt_sparse(&c, BASE + SZ_1G, p, SIZE, VT_RW, U));
	ASSERT_REFUSED(&c, vt_map(&c, BASE + SZ_1G, p, U, VT_RW, 0), ENOMEM);
	use_ipc_lock(true);
	ASSERT_OK(vt_map(&c, BASE + SZ_1G, p, U, VT_RW, 0));
	EXPECT_EQ(vt_locked(), 8 * U);
	/* To give back takes no leave. */
	use_ipc_lock(false);
	ASSERT_OK(vt_end_all_sparse(&c, NULL));
	EXPECT_EQ(vt_locked(), 0);
}

/* The same where a device pins it later, on behalf of who has filled it. */
static void rlimit_of_pins(void)
{
	struct vt_container c;
	struct vt_dev *dev;

	vt_open_empty(&c, VFIO_TYPE1v2_IOMMU);
	dev = td_add(&c, 0);
	vt_need_sparse(&c);
	p = vt_alloc(VT_MEM_4K, SIZE);
	limit(0);
	use_ipc_lock(false);
	ASSERT_OK(vt_sparse(&c, BASE, p, SIZE, VT_RW, U));
	ASSERT_OK(fill(&c, 0, 1));
	ASSERT_EQ(td_pin(dev, BASE, 1, VTD_READ, NULL), -ENOMEM);
	use_ipc_lock(true);
	ASSERT_OK(fill(&c, 1, 1));
	ASSERT_EQ(td_pin(dev, BASE + U, 1, VTD_READ, NULL), 1);
	EXPECT_EQ(vt_locked(), SZ_4K);
	ASSERT_OK(td_unpin(dev, BASE + U, 1));
	use_ipc_lock(false);
	ASSERT_OK(fill(&c, 2, 1));
	ASSERT_EQ(td_pin(dev, BASE + 2 * U, 1, VTD_READ, NULL), -ENOMEM);
	EXPECT_EQ(vt_locked(), 0);
}

/* ---- Emptying ---- */

static void empty_by_granules(void)
{
	struct vt_container c;
	u32 avail;
	u64 n;

	set_up(&c);
	avail = vt_dma_avail(&c);
	ASSERT_OK(fill(&c, 2, 10));
	/* A granule that is filled is not cut. */
	ASSERT_REFUSED(&c, empty(&c, 0, 0, NULL), EINVAL);
	ASSERT_REFUSED(&c, vt_unmap(&c, BASE + 2 * U, SZ_4K, NULL), EINVAL);
	ASSERT_REFUSED(&c, vt_unmap(&c, BASE + 3 * U - SZ_4K, SZ_4K, NULL), EINVAL);
	ASSERT_REFUSED(&c, vt_unmap(&c, BASE + 3 * U - SZ_4K, SZ_8K, NULL), EINVAL);
	ASSERT_REFUSED(&c, vt_unmap(&c, BASE, 2 * U + SZ_4K, NULL), EINVAL);
	ASSERT_REFUSED(&c, vt_unmap(&c, BASE + 12 * U - SZ_4K, SIZE, NULL), EINVAL);
	ASSERT_REFUSED(&c, vt_unmap(&c, BASE + 512, U, NULL), EINVAL);
	/* One that is not has nothing to cut. */
	ASSERT_OK(vt_unmap(&c, BASE, SZ_4K, &n));
	EXPECT_EQ(n, 0);
	ASSERT_OK(vt_unmap(&c, BASE + 12 * U + SZ_4K, U, &n));
	EXPECT_EQ(n, 0);

	ASSERT_OK(empty(&c, 3, 1, &n));
	EXPECT_EQ(n, U);
	ASSERT_OK(empty(&c, 3, 1, &n));
	EXPECT_EQ(n, 0);
	ASSERT_OK(empty(&c, 0, 6, &n));
	EXPECT_EQ(n, 3 * U);
	/* From where it is not filled to where it is not. */
	ASSERT_OK(vt_unmap(&c, BASE + 3 * U + SZ_4K, 3 * U + U - SZ_4K, &n));
	EXPECT_EQ(n, U);
	EXPECT_EQ(vt_locked(), 5 * U);
	EXPECT_EQ(vt_dma_avail(&c), avail);
	ASSERT_OK(vt_unmap(&c, BASE + 6 * U - SZ_4K, U + SZ_4K, &n));
	EXPECT_EQ(n, 0);
	ASSERT_OK(fill(&c, 6, 1));
	EXPECT_EQ(vt_mapped_bytes(&c, 0, 0), 6 * U);
}

/* Whatever covers it: it stays, and is filled again. */
static void emptying_never_ends_it(void)
{
	struct vt_container c;
	u32 avail;
	u64 n;
	int i;

	set_up(&c);
	avail = vt_dma_avail(&c);
	for (i = 0; i < 6; i++) {
		ASSERT_OK(fill(&c, 1, 4));
		switch (i) {
		case 0:
			ASSERT_OK(vt_unmap(&c, BASE, SIZE, &n));
			break;
		case 1:
			ASSERT_OK(vt_unmap(&c, BASE - SZ_1G, SIZE + 2 * SZ_1G, &n));
			break;
		case 2:
			ASSERT_OK(vt_unmap_all(&c, &n));
			break;
		case 3:
			ASSERT_OK(empty(&c, 1, 3, NULL));
			ASSERT_OK(empty(&c, 4, 1, &n));
			n += 3 * U;
			break;
		case 4:
			ASSERT_OK(empty(&c, 1, 4, &n));
			break;
		default:
			/* Of one that is empty there is nothing to unmap. */
			ASSERT_OK(vt_unmap(&c, BASE, SIZE, &n));
			ASSERT_OK(vt_unmap_all(&c, NULL));
			ASSERT_OK(vt_unmap(&c, BASE, SIZE, NULL));
		}
		EXPECT_EQ(n, 4 * U);
		EXPECT_EQ(vt_dma_avail(&c), avail);
		EXPECT_EQ(vt_locked(), 0);
		EXPECT_EQ(vt_extents_count(&c, 0, 0), 0);
		ASSERT_REFUSED(&c, vt_map(&c, BASE - U, p, 2 * U, VT_RW, 0), EEXIST);
		ASSERT_REFUSED(&c, vt_sparse(&c, BASE, p, SIZE, VT_RW, U), EEXIST);
	}
	ASSERT_OK(fill(&c, 0, NR));
}

/* ---- Ending ---- */

static void end_gives_the_entry_back(void)
{
	struct vt_container c;
	u8 *q = vt_alloc(VT_MEM_4K, SIZE);
	u32 avail;
	u64 n;

	set_up(&c);
	avail = vt_dma_avail(&c);
	/* Empty. */
	ASSERT_OK(vt_end_sparse(&c, BASE, SIZE, &n));
	EXPECT_EQ(n, 0);
	EXPECT_EQ(vt_dma_avail(&c), avail + 1);
	/* The range is anybody's. */
	ASSERT_OK(vt_map(&c, BASE + U, q, U, VT_RO, 0));
	ASSERT_OK(vt_end_sparse(&c, BASE, SIZE, &n));
	EXPECT_EQ(n, U);
	ASSERT_OK(vt_end_sparse(&c, BASE, SIZE, &n));
	EXPECT_EQ(n, 0);
	/* Filled, in part and all of it. */
	ASSERT_OK(vt_sparse(&c, BASE, p, SIZE, VT_RW, U));
	ASSERT_OK(fill(&c, 4, 3));
	ASSERT_OK(vt_end_sparse(&c, BASE, SIZE, &n));
	EXPECT_EQ(n, 3 * U);
	EXPECT_EQ(vt_dma_avail(&c), avail + 1);
	EXPECT_EQ(vt_locked(), 0);
	ASSERT_OK(vt_sparse(&c, BASE, p, SIZE, VT_RW, U));
	ASSERT_OK(fill(&c, 0, NR));
	ASSERT_OK(vt_end_sparse(&c, BASE - U, SIZE + 3 * U, &n));
	EXPECT_EQ(n, SIZE);
	EXPECT_EQ(vt_dma_avail(&c), avail + 1);
	EXPECT_EQ(vt_locked(), 0);
	ASSERT_OK(vt_map(&c, BASE, q, SIZE, VT_RW, 0));
	ASSERT_REFUSED(&c, vt_end_sparse(&c, BASE, U, NULL), EINVAL);
}

static void end_in_part_einval(void)
{
	struct vt_container c;
	u8 *q = vt_alloc(VT_MEM_4K, SIZE);
	int filled;
	u32 avail;
	u64 n;

	set_up(&c);
	ASSERT_OK(vt_sparse(&c, BASE + SIZE, q, SIZE, VT_RW, U));
	ASSERT_OK(vt_map(&c, BASE - U, q, U, VT_RW, 0));
	ASSERT_OK(vt_map(&c, BASE + 2 * SIZE, q, U, VT_RW, 0));
	avail = vt_dma_avail(&c);
	for (filled = 0; filled < 2; filled++) {
		ASSERT_REFUSED(&c, vt_end_sparse(&c, BASE, U, NULL), EINVAL);
		ASSERT_REFUSED(&c, vt_end_sparse(&c, BASE, SIZE - U, NULL), EINVAL);
		ASSERT_REFUSED(&c, vt_end_sparse(&c, BASE + U, SIZE - U, NULL), EINVAL);
		ASSERT_REFUSED(&c, vt_end_sparse(&c, BASE + 5 * U, U, NULL), EINVAL);
		ASSERT_REFUSED(&c, vt_end_sparse(&c, BASE - U, 2 * U, NULL), EINVAL);
		/* One whole, but its neighbour in part. */
		ASSERT_REFUSED(&c, vt_end_sparse(&c, BASE, SIZE + U, NULL), EINVAL);
		ASSERT_REFUSED(&c, vt_end_sparse(&c, BASE + SIZE - U, SIZE + U, NULL), EINVAL);
		EXPECT_EQ(vt_dma_avail(&c), avail);
		EXPECT_EQ(vt_locked(), 2 * U + filled * (2 * U + SIZE));
		if (filled)
			break;
		ASSERT_OK(fill(&c, 0, 1));
		ASSERT_OK(fill(&c, NR - 1, 1));
		ASSERT_OK(vt_map(&c, BASE + SIZE, q, SIZE, VT_RW, 0));
	}
	/* Together with what lies beside them; that is not cut either. */
	ASSERT_OK(vt_map(&c, BASE + 4 * SIZE, q, 2 * U, VT_RW, 0));
	ASSERT_REFUSED(&c, vt_end_sparse(&c, BASE, 4 * SIZE + U, NULL), EINVAL);
	ASSERT_OK(vt_end_sparse(&c, BASE - U, 2 * SIZE + 2 * U, &n));
	EXPECT_EQ(n, SIZE + 4 * U);
	EXPECT_EQ(vt_dma_avail(&c), avail + 4 - 1);
	EXPECT_EQ(vt_locked(), 2 * U);
}

static void end_flags(void)
{
	u64 bitmap[SIZE / SZ_4K / 64 + 1] = { 0 }, n;
	struct {
		struct vfio_iommu_type1_dma_unmap unmap;
		struct vfio_bitmap bitmap;
	} arg = {
		.unmap = {
			.argsz = sizeof(arg),
			.flags = END | VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
			.iova = BASE,
			.size = SIZE,
		},
		.bitmap = { .pgsize = SZ_4K, .size = sizeof(bitmap), .data = (void *)bitmap },
	};
	const u32 vaddr = VFIO_DMA_UNMAP_FLAG_VADDR, all = VFIO_DMA_UNMAP_FLAG_ALL;
	struct vt_container c;
	u32 avail;
	int bit;

	set_up(&c);
	ASSERT_OK(fill(&c, 1, 2));
	avail = vt_dma_avail(&c);
	ASSERT_REFUSED(&c, vt_unmap_flags(&c, END | vaddr, BASE, SIZE, NULL), EINVAL);
	ASSERT_REFUSED(&c, vt_unmap_flags(&c, END | vaddr | all, 0, 0, NULL), EINVAL);
	ASSERT_REFUSED(&c, vt_unmap_flags(&c, END | all, BASE, SIZE, NULL), EINVAL);
	ASSERT_REFUSED(&c, vt_unmap_flags(&c, END, BASE, 0, NULL), EINVAL);
	ASSERT_REFUSED(&c, vt_unmap_flags(&c, END, BASE - 512, SIZE + SZ_4K, NULL), EINVAL);
	ASSERT_REFUSED(&c, vt_unmap_flags(&c, END, BASE, -SZ_4K, NULL), EOVERFLOW);
	for (bit = 4; bit < 32; bit++)
		ASSERT_EQ(vt_unmap_flags(&c, END | 1u << bit, BASE, SIZE, NULL), -EINVAL);
	/* With the dirty bits: not while there are none. */
	ASSERT_ERRNO(ioctl(c.fd, VFIO_IOMMU_UNMAP_DMA, &arg), EINVAL);
	EXPECT_EQ(vt_dma_avail(&c), avail);
	EXPECT_EQ(vt_locked(), 2 * U);
	ASSERT_OK(vt_dirty_start(&c));
	arg.unmap.size = SIZE;
	ASSERT_OK(ioctl(c.fd, VFIO_IOMMU_UNMAP_DMA, &arg));
	EXPECT_EQ(arg.unmap.size, 2 * U);
	EXPECT_EQ(vt_bits(bitmap, 0, SIZE / SZ_4K), 2 * U / SZ_4K);
	EXPECT_EQ(vt_bits(bitmap, U / SZ_4K, 2 * U / SZ_4K), 2 * U / SZ_4K);
	EXPECT_EQ(vt_dma_avail(&c), avail + 1);

	/* All of them, at both ends of the IOVA space too. */
	ASSERT_OK(vt_sparse(&c, BASE, p, SIZE, VT_RW, U));
	ASSERT_OK(vt_sparse(&c, 0, p, U, VT_RW, U));
	ASSERT_OK(vt_sparse(&c, vt_last_iova(&c) + 1 - U, p, U, VT_RW, U));
	ASSERT_OK(vt_map(&c, vt_last_iova(&c) + 1 - U, p, U, VT_RW, 0));
	ASSERT_OK(vt_map(&c, BASE + SIZE, p, U, VT_RW, 0));
	ASSERT_OK(vt_end_all_sparse(&c, &n));
	EXPECT_EQ(n, 2 * U);
	EXPECT_EQ(vt_dma_avail(&c), vt_get_param("dma_entry_limit"));
	EXPECT_EQ(vt_locked(), 0);
}

/* ---- vaddr ---- */

static void vaddr_whole_range(void)
{
	struct vt_container c;
	u64 n;
	int i;

	set_up(&c);
	for (i = 0; i < 3; i++) {
		/* Empty, filled in the middle, filled at the ends. */
		if (i == 1)
			ASSERT_OK(fill(&c, 4, 2));
		if (i == 2) {
			ASSERT_OK(fill(&c, 0, 1));
			ASSERT_OK(fill(&c, NR - 1, 1));
		}
		/* In part, whether that is filled or all that is filled. */
		ASSERT_REFUSED(&c, vt_unmap_vaddr(&c, BASE, U, NULL), EINVAL);
		ASSERT_REFUSED(&c, vt_unmap_vaddr(&c, BASE, SIZE - U, NULL), EINVAL);
		ASSERT_REFUSED(&c, vt_unmap_vaddr(&c, BASE + U, SIZE - U, NULL), EINVAL);
		ASSERT_REFUSED(&c, vt_unmap_vaddr(&c, BASE + 4 * U, 2 * U, NULL), EINVAL);
		ASSERT_REFUSED(&c, vt_unmap_vaddr(&c, BASE + 8 * U, SZ_4K, NULL), EINVAL);
		ASSERT_REFUSED(&c, vt_unmap_vaddr(&c, BASE - SZ_1G, SZ_1G + U, NULL), EINVAL);
		/* It is valid still. */
		ASSERT_REFUSED(&c, vt_map_vaddr(&c, BASE, p, SIZE), EINVAL);
		/* Whole. */
		if (i == 1)
			ASSERT_OK(vt_unmap_vaddr(&c, BASE, SIZE, &n));
		else if (i == 2)
			ASSERT_OK(vt_unmap_vaddr(&c, BASE - SZ_1G, 2 * SZ_1G, &n));
		else
			ASSERT_OK(vt_unmap_flags(&c, VFIO_DMA_UNMAP_FLAG_VADDR |
						 VFIO_DMA_UNMAP_FLAG_ALL, 0, 0, &n));
		EXPECT_EQ(n, (2 * i) * U);
		ASSERT_REFUSED(&c, vt_unmap_vaddr(&c, BASE, SIZE, NULL), EINVAL);
		/* By its original range. */
		ASSERT_REFUSED(&c, vt_map_vaddr(&c, BASE, p, U), EINVAL);
		ASSERT_REFUSED(&c, vt_map_vaddr(&c, BASE + 4 * U, p + 4 * U, 2 * U), EINVAL);
		ASSERT_REFUSED(&c, vt_map_vaddr(&c, BASE, p, SIZE + U), EINVAL);
		ASSERT_OK(vt_map_vaddr(&c, BASE, p, SIZE));
	}
	EXPECT_EQ(vt_locked(), 4 * U);
}

static void vaddr_invalid_einval(void)
{
	struct vt_container c;
	u8 *q = vt_alloc(VT_MEM_4K, SIZE);
	u32 avail;
	u64 n;

	set_up(&c);
	avail = vt_dma_avail(&c);
	ASSERT_OK(fill(&c, 0, 4));
	ASSERT_OK(vt_unmap_vaddr(&c, BASE, SIZE, &n));
	EXPECT_EQ(n, 4 * U);
	ASSERT_REFUSED(&c, fill(&c, 8, 1), EINVAL);
	/* To empty it needs no vaddr. */
	ASSERT_OK(empty(&c, 1, 1, &n));
	EXPECT_EQ(n, U);
	ASSERT_REFUSED(&c, fill(&c, 1, 1), EINVAL);
	ASSERT_OK(empty(&c, 0, NR, &n));
	EXPECT_EQ(n, 3 * U);
	/* The new one counts. */
	ASSERT_OK(vt_map_vaddr(&c, BASE, q, SIZE));
	ASSERT_REFUSED(&c, fill(&c, 1, 1), EINVAL);
	ASSERT_OK(vt_map(&c, BASE + U, q + U, U, VT_RW, 0));
	EXPECT_EQ(vt_locked(), U);
	/* One that ends takes its invalid vaddr along: a group can join. */
	ASSERT_OK(vt_unmap_vaddr(&c, BASE, SIZE, &n));
	EXPECT_EQ(n, U);
	if (vt_edu_count() > 1)
		ASSERT_EQ(vt_try_add_group(&c, vt_edu_group(1), vt_edu_bdf(1), NULL), -EBUSY);
	ASSERT_OK(vt_unmap_all(&c, NULL));
	if (vt_edu_count() > 1)
		ASSERT_EQ(vt_try_add_group(&c, vt_edu_group(1), vt_edu_bdf(1), NULL), -EBUSY);
	ASSERT_OK(vt_end_sparse(&c, BASE, SIZE, NULL));
	if (vt_edu_count() > 1)
		ASSERT_OK(vt_try_add_group(&c, vt_edu_group(1), vt_edu_bdf(1), NULL));
	EXPECT_EQ(vt_dma_avail(&c), avail + 1);
	ASSERT_EQ(vt_map_vaddr(&c, BASE, q, SIZE), -ENOENT);
}

/* ---- Sizes ---- */

/* As many granules as there can be, where nothing is pinned. */
static void most_granules(void)
{
	u64 nr = (1ull << 31) - 1, size = nr * SZ_4K, n, word = 0;
	struct vt_container c;

	vt_open_empty(&c, VFIO_TYPE1v2_IOMMU);
	td_add(&c, 0);
	vt_need_sparse(&c);
	ASSERT_REFUSED(&c, vt_sparse(&c, 0, (void *)SZ_4K, size + SZ_4K, VT_RW, SZ_4K), EINVAL);
	ASSERT_OK(vt_sparse(&c, 0, (void *)SZ_4K, size, VT_RW, SZ_4K));
	ASSERT_OK(vt_map_raw(&c, ARGSZ, VT_RW, 0, SZ_4K, SZ_4K, 0));
	ASSERT_OK(vt_map_raw(&c, ARGSZ, VT_RW, size - SZ_8K, SZ_4K + size - SZ_8K, SZ_8K, 0));
	ASSERT_REFUSED(&c, vt_map_raw(&c, ARGSZ, VT_RW, 0, SZ_4K, size, 0), EEXIST);
	ASSERT_REFUSED(&c, vt_map_raw(&c, ARGSZ, VT_RW, size - SZ_4K, size, SZ_8K, 0), EEXIST);
	ASSERT_OK(vt_unmap(&c, SZ_4K, size - SZ_4K, &n));
	EXPECT_EQ(n, SZ_8K);
	ASSERT_OK(vt_map_raw(&c, ARGSZ, VT_RW, SZ_4K, SZ_8K, size - SZ_4K, 0));
	EXPECT_EQ(vt_mapped_bytes(&c, 0, 0), size);
	/* One page more, and there are no dirty bits, empty or not. */
	ASSERT_OK(vt_end_sparse(&c, 0, size, &n));
	EXPECT_EQ(n, size);
	ASSERT_OK(vt_sparse(&c, 0, (void *)SZ_4K, 1ull << 43, VT_RW, SZ_1G));
	ASSERT_EQ(vt_dirty_start(&c), -EINVAL);
	ASSERT_EQ(vt_dirty_get(&c, 0, SZ_1M, &word, 8), -EINVAL);
	ASSERT_OK(vt_end_all_sparse(&c, NULL));
	ASSERT_OK(vt_dirty_start(&c));
	ASSERT_REFUSED(&c, vt_sparse(&c, 0, (void *)SZ_4K, 1ull << 43, VT_RW, SZ_1G), EINVAL);
	ASSERT_OK(vt_sparse(&c, 0, (void *)SZ_4K, 1ull << 42, VT_RW, SZ_1G));
}

static void permissions(void)
{
	static const u32 flags[] = { VT_RO, VT_WO, VT_RW };
	struct vt_container c;
	struct vt_tables t;
	struct vt_info info;
	unsigned int i;

	vt_open_sparse(&c);
	p = vt_alloc(VT_MEM_4K, SIZE);
	vt_info(&c, &info);
	for (i = 0; i < 3; i++) {
		ASSERT_OK(vt_sparse(&c, BASE + i * SIZE, p, SIZE, flags[i], SZ_8K));
		ASSERT_OK(vt_map(&c, BASE + i * SIZE + U, p + U, U, flags[i], 0));
	}
	EXPECT_EQ(vt_locked(), 3 * U);
	vt_need_tables(&c.dev[0]);
	vt_tables_read(&c.dev[0], &t);
	for (i = 0; i < 3; i++) {
		vt_tables_expect(&t, &info, BASE + i * SIZE, U, NULL, flags[i], SZ_8K, NULL);
		vt_tables_expect(&t, &info, BASE + i * SIZE + U, U, p + U, flags[i], SZ_8K, NULL);
		vt_tables_expect(&t, &info, BASE + i * SIZE + 2 * U, SIZE - 2 * U, NULL, flags[i],
				 SZ_8K, NULL);
	}
	vt_tables_free(&t);
}

VTEST_MAIN(
	VTEST(extension_v2),
	VTEST(extension_v1),
	VTEST(extension_before_set_iommu),
	VTEST(extension_iommufd),
	VTEST(abi_layout),
	VTEST(v1_einval),
	VTEST(flags_einval),
	VTEST(super_einval),
	VTEST(granule_rules),
	VTEST(maps_nothing),
	VTEST(range_is_its_own),
	VTEST(neighbours),
	VTEST(entry_limit_enospc),
	VTEST(fill_parts),
	VTEST(fill_flags_einval),
	VTEST(fill_addresses_einval),
	VTEST(filled_eexist),
	VTEST(order_of_one_process),
	VTEST(order_of_another_process),
	VTEST(memory_ends_efault),
	VTEST(rlimit_enomem),
	VTEST(rlimit_of_pins),
	VTEST(empty_by_granules),
	VTEST(emptying_never_ends_it),
	VTEST(end_gives_the_entry_back),
	VTEST(end_in_part_einval),
	VTEST(end_flags),
	VTEST(vaddr_whole_range),
	VTEST(vaddr_invalid_einval),
	VTEST(most_granules),
	VTEST(permissions),
)
