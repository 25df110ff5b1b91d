// SPDX-License-Identifier: GPL-2.0
/* Pieces of a mapping, unmapped and replaced: page tables, accounting, entries. */
#include "vtest.h"

#define BASE	(4 * SZ_1G)

static u64 min_u64(u64 a, u64 b)
{
	return a < b ? a : b;
}

/*
 * Map with one granule, unmap each second piece one by one, and check tables, charge and
 * entries each time.
 */
static void one_granule(struct vt_container *c, u8 *p, u64 size, u64 granule, u64 pgsize)
{
	bool tables = vt_tables_known(&c->dev[0]);
	/* Up to this the size of pages is that of memory's. */
	u64 most = vt_cuts() ? size : granule;
	u64 at, smallest = -1, locked = size, pinned = vt_pinned(), n;
	u32 avail = vt_dma_avail(c);
	struct vt_tables t;
	struct vt_info info;

	vt_info(c, &info);
	ASSERT_OK(vt_map(c, BASE, p, size, VT_RW, granule));
	ASSERT_EQ(vt_locked(), size);
	ASSERT_EQ(vt_dma_avail(c), avail - 1);
	if (tables) {
		vt_tables_read(&c->dev[0], &t);
		for (at = 0; at < size; at += granule)
			vt_tables_expect(&t, &info, BASE + at, granule, p + at, VT_RW, granule,
					 &smallest);
		vt_tables_free(&t);
		/* This does not depend on where small pages lie: these are large. */
		if (pgsize > SZ_4K && vt_any_pgsize(c))
			ASSERT_GE(smallest, min_u64(most, pgsize));
		else if (pgsize > SZ_4K)
			ASSERT_EQ(smallest, most >= pgsize ? pgsize :
					    most >= SZ_2M ? SZ_2M : SZ_4K);
	}

	if (granule > SZ_4K) {
		ASSERT_EQ(vt_unmap(c, BASE, granule / 2, NULL), -EINVAL);
		ASSERT_EQ(vt_unmap(c, BASE + size - granule / 2, granule / 2, NULL), -EINVAL);
		ASSERT_EQ(vt_locked(), size);
	}

	for (at = granule; at < size; at += 2 * granule) {
		ASSERT_OK(vt_unmap(c, BASE + at, granule, &n));
		ASSERT_EQ(n, granule);
		locked -= granule;
		ASSERT_EQ(vt_locked(), locked);
	}
	ASSERT_EQ(vt_pinned() - pinned, locked / SZ_4K);
	ASSERT_EQ(vt_dma_avail(c), avail - 1);
	if (tables) {
		vt_tables_read(&c->dev[0], &t);
		for (at = 0; at < size; at += granule)
			vt_tables_expect(&t, &info, BASE + at, granule,
					 at / granule % 2 ? NULL : p + at, VT_RW, granule, NULL);
		vt_tables_free(&t);
	}

	ASSERT_OK(vt_unmap(c, BASE, size, &n));
	ASSERT_EQ(n, locked);
	ASSERT_EQ(vt_locked(), 0);
	ASSERT_EQ(vt_pinned(), pinned);
	ASSERT_EQ(vt_dma_avail(c), avail);
	if (tables)
		ASSERT_EQ(vt_pgsize_at(&c->dev[0], BASE), 0);
}

/* shift: how far vaddr is from being congruent to iova. */
static void all_granules(enum vt_mem kind, u64 least, u64 most, u64 shift, u64 pgsize)
{
	struct vt_container c;
	u64 granule, size;
	u8 *p;

	vt_open_granule(&c);
	p = vt_alloc(kind, most + shift);
	for (granule = SZ_4K; granule <= most; granule *= 2) {
		size = min_u64(granule * 4 < least ? least : granule * 4, most);
		vt_diag("%s, shift %#llx: granule %#llx in %#llx", vt_mem_name(kind), shift,
			granule, size);
		one_granule(&c, p + shift, size, granule, pgsize);
	}
}

static void granules_thp(void)
{
	all_granules(VT_MEM_THP, SZ_4M, SZ_1G, 0, SZ_2M);
}

static void granules_hugetlb_2m(void)
{
	all_granules(VT_MEM_HUGE_2M, SZ_4M, 64 * SZ_1M, 0, SZ_2M);
}

static void granules_hugetlb_1g(void)
{
	all_granules(VT_MEM_HUGE_1G, SZ_4M, SZ_1G, 0, SZ_1G);
}

static void granules_4k(void)
{
	all_granules(VT_MEM_4K, SZ_4M, 32 * SZ_1M, 0, SZ_4K);
}

static void granules_scattered(void)
{
	all_granules(VT_MEM_SCATTERED, SZ_4M, 16 * SZ_1M, 0, SZ_4K);
}

static void granules_incongruent_4k(void)
{
	all_granules(VT_MEM_THP, SZ_4M, 32 * SZ_1M, SZ_4K, SZ_4K);
}

static void granules_incongruent_1m(void)
{
	all_granules(VT_MEM_THP, SZ_4M, 32 * SZ_1M, SZ_1M, SZ_4K);
}

/* A superpage that is not aligned to the granule, and a granule of 1 GiB on small pages. */
static void granule_1g_on_small_pages(void)
{
	struct vt_container c;
	u64 n;
	u8 *p;

	vt_open_granule(&c);
	p = vt_alloc(VT_MEM_4K, SZ_1G);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_1G, VT_RW, SZ_1G));
	EXPECT_EQ(vt_locked(), SZ_1G);
	ASSERT_EQ(vt_unmap(&c, BASE, SZ_1G / 2, NULL), -EINVAL);
	ASSERT_OK(vt_unmap(&c, BASE, SZ_1G, &n));
	EXPECT_EQ(n, SZ_1G);
	EXPECT_EQ(vt_locked(), 0);
}

static void disable_hugepages(void)
{
	struct vt_container c;
	u8 *p;

	vt_open_granule(&c);
	p = vt_alloc(VT_MEM_THP, 4 * SZ_2M);
	vt_set_param("disable_hugepages", 1);
	ASSERT_OK(vt_map(&c, BASE, p, 4 * SZ_2M, VT_RW, SZ_2M));
	EXPECT_EQ(vt_locked(), 4 * SZ_2M);
	ASSERT_OK(vt_unmap(&c, BASE + SZ_2M, SZ_2M, NULL));
	EXPECT_EQ(vt_locked(), 3 * SZ_2M);
	vt_need_tables(&c.dev[0]);
	EXPECT_EQ(vt_pgsize_at(&c.dev[0], BASE), SZ_4K);
	EXPECT_EQ(vt_pgsize_at(&c.dev[0], BASE + SZ_2M), 0);
	EXPECT_EQ(vt_pgsize_at(&c.dev[0], BASE + 2 * SZ_2M), SZ_4K);
}

static void expect_map(struct vt_container *c, u64 iova, u64 size, const u8 *p, u32 flags,
		       u64 granule)
{
	struct vt_tables t;
	struct vt_info info;
	u64 at, step = granule ? : size;

	if (!vt_tables_known(&c->dev[0]))
		return;
	vt_info(c, &info);
	vt_tables_read(&c->dev[0], &t);
	for (at = 0; at < size; at += step)
		vt_tables_expect(&t, &info, iova + at, step, p ? p + at : NULL, flags, granule,
				 NULL);
	vt_tables_free(&t);
}

/* Other memory, another granule, another permission, no granule at all. */
static void holes_remapped(void)
{
	struct vt_container c;
	u8 *p, *q, *r;

	vt_open_granule(&c);
	p = vt_alloc(VT_MEM_THP, 8 * SZ_2M);
	q = vt_alloc(VT_MEM_SCATTERED, SZ_2M);
	r = vt_alloc(VT_MEM_THP, SZ_4M);
	ASSERT_OK(vt_map(&c, BASE, p, 8 * SZ_2M, VT_RW, SZ_2M));
	ASSERT_OK(vt_unmap(&c, BASE + SZ_2M, SZ_2M, NULL));
	ASSERT_OK(vt_unmap(&c, BASE + 4 * SZ_2M, SZ_4M, NULL));
	ASSERT_OK(vt_unmap(&c, BASE + 6 * SZ_2M, SZ_2M, NULL));

	ASSERT_OK(vt_map(&c, BASE + SZ_2M, q, SZ_2M, VT_RO, SZ_4K));
	ASSERT_OK(vt_map(&c, BASE + 4 * SZ_2M, r, SZ_4M, VT_RW, SZ_4M));
	ASSERT_OK(vt_map(&c, BASE + 6 * SZ_2M, r, SZ_2M, VT_WO, 0));
	EXPECT_EQ(vt_locked(), 8 * SZ_2M);

	expect_map(&c, BASE, SZ_2M, p, VT_RW, SZ_2M);
	expect_map(&c, BASE + SZ_2M, SZ_2M, q, VT_RO, SZ_4K);
	expect_map(&c, BASE + 2 * SZ_2M, SZ_2M, p + 2 * SZ_2M, VT_RW, SZ_2M);
	expect_map(&c, BASE + 4 * SZ_2M, SZ_4M, r, VT_RW, SZ_4M);
	expect_map(&c, BASE + 3 * SZ_2M, SZ_2M, p + 3 * SZ_2M, VT_RW, SZ_2M);
	expect_map(&c, BASE + 6 * SZ_2M, SZ_2M, r, VT_WO, 0);
	expect_map(&c, BASE + 7 * SZ_2M, SZ_2M, p + 7 * SZ_2M, VT_RW, SZ_2M);

	/* Each keeps its own rules. */
	ASSERT_OK(vt_unmap(&c, BASE + SZ_2M + SZ_4K, SZ_4K, NULL));
	ASSERT_EQ(vt_unmap(&c, BASE + 4 * SZ_2M, SZ_2M, NULL), -EINVAL);
	ASSERT_EQ(vt_unmap(&c, BASE + 6 * SZ_2M, SZ_4K, NULL), -EINVAL);
	EXPECT_EQ(vt_locked(), 8 * SZ_2M - SZ_4K);
	/* The last piece of the first mapping goes. The mappings in its holes stay. */
	ASSERT_OK(vt_unmap(&c, BASE, SZ_2M, NULL));
	ASSERT_OK(vt_unmap(&c, BASE + 2 * SZ_2M, SZ_2M, NULL));
	ASSERT_OK(vt_unmap(&c, BASE + 3 * SZ_2M, SZ_2M, NULL));
	EXPECT_EQ(vt_dma_avail(&c), vt_get_param("dma_entry_limit") - 4);
	ASSERT_OK(vt_unmap(&c, BASE + 7 * SZ_2M, SZ_2M, NULL));
	EXPECT_EQ(vt_dma_avail(&c), vt_get_param("dma_entry_limit") - 3);
	EXPECT_EQ(vt_locked(), 4 * SZ_2M - SZ_4K);
	expect_map(&c, BASE + 4 * SZ_2M, SZ_4M, r, VT_RW, SZ_4M);
	expect_map(&c, BASE + 6 * SZ_2M, SZ_2M, r, VT_WO, 0);
	expect_map(&c, BASE + SZ_2M, SZ_4K, q, VT_RO, SZ_4K);
	expect_map(&c, BASE + SZ_2M + SZ_4K, SZ_4K, NULL, 0, 0);
	expect_map(&c, BASE + SZ_2M + SZ_8K, SZ_4K, q + SZ_8K, VT_RO, SZ_4K);
}

/* Map the same memory in the hole again and again. */
static void hole_and_back(void)
{
	struct vt_container c;
	u64 locked, n;
	u32 avail;
	int i;
	u8 *p;

	vt_open_granule(&c);
	p = vt_alloc(VT_MEM_THP, 4 * SZ_2M);
	ASSERT_OK(vt_map(&c, BASE, p, 4 * SZ_2M, VT_RW, SZ_2M));
	ASSERT_OK(vt_unmap(&c, BASE + SZ_2M, SZ_2M, NULL));
	locked = vt_locked();
	avail = vt_dma_avail(&c);
	for (i = 0; i < 200; i++) {
		ASSERT_OK(vt_map(&c, BASE + SZ_2M, p + SZ_2M, SZ_2M, VT_RW, SZ_2M));
		ASSERT_EQ(vt_locked(), locked + SZ_2M);
		ASSERT_OK(vt_unmap(&c, BASE + SZ_2M, SZ_2M, &n));
		ASSERT_EQ(n, SZ_2M);
		ASSERT_EQ(vt_locked(), locked);
		ASSERT_EQ(vt_dma_avail(&c), avail);
	}
	expect_map(&c, BASE, SZ_2M, p, VT_RW, SZ_2M);
	expect_map(&c, BASE + SZ_2M, SZ_2M, NULL, 0, 0);
	expect_map(&c, BASE + SZ_4M, SZ_4M, p + SZ_4M, VT_RW, SZ_2M);
}

/* One call unmaps mappings with holes, mappings in the holes, and gaps between them. */
static void unmap_spans_all(void)
{
	struct vt_container c;
	u64 n, step = 16 * SZ_64K;
	u32 avail;
	u8 *p;
	int i;

	vt_open_granule(&c);
	avail = vt_dma_avail(&c);
	p = vt_alloc(VT_MEM_4K, step);
	for (i = 0; i < 8; i++) {
		u64 at = BASE + 2 * i * step;

		ASSERT_OK(vt_map(&c, at, p, step, VT_RW, SZ_64K));
		ASSERT_OK(vt_unmap(&c, at + 2 * SZ_64K, 4 * SZ_64K, NULL));
		ASSERT_OK(vt_unmap(&c, at + 8 * SZ_64K, SZ_64K, NULL));
		ASSERT_OK(vt_map(&c, at + 3 * SZ_64K, p, 2 * SZ_64K, VT_RW, SZ_4K));
		ASSERT_OK(vt_unmap(&c, at + 3 * SZ_64K + SZ_4K, SZ_4K, NULL));
		ASSERT_OK(vt_map(&c, at + 8 * SZ_64K + SZ_4K, p, SZ_4K, VT_RW, 0));
	}
	/* Of each: 11 pieces of 64K, 31 of 4K, and one page: 13 * 64K. */
	ASSERT_EQ(vt_locked(), 8 * (13 * SZ_64K));
	ASSERT_EQ(vt_dma_avail(&c), avail - 24);

	/* From the last piece of the 2nd to the first of the 7th. */
	ASSERT_OK(vt_unmap(&c, BASE + 2 * step + step - SZ_64K, 9 * step + 2 * SZ_64K, &n));
	EXPECT_EQ(n, SZ_64K + 4 * (13 * SZ_64K) + SZ_64K);
	EXPECT_EQ(vt_locked(), 4 * (13 * SZ_64K) - 2 * SZ_64K);
	EXPECT_EQ(vt_dma_avail(&c), avail - 12);

	/* From the middle of a hole, over what lies in it, to the middle of another. */
	ASSERT_OK(vt_unmap(&c, BASE + 2 * SZ_64K + SZ_4K, 7 * SZ_64K - SZ_8K, &n));
	EXPECT_EQ(n, 4 * SZ_64K);
	EXPECT_EQ(vt_dma_avail(&c), avail - 10);

	ASSERT_OK(vt_unmap(&c, 0, -SZ_4K, &n));
	EXPECT_EQ(n, 4 * (13 * SZ_64K) - 2 * SZ_64K - 4 * SZ_64K);
	EXPECT_EQ(vt_locked(), 0);
	EXPECT_EQ(vt_dma_avail(&c), avail);
}

/* A mapping in a hole is not part of the mapping around it, whose pieces come and go alone. */
static void unmap_spares_guests(void)
{
	struct vt_container c;
	u8 *p, *q;
	u64 n;

	vt_open_granule(&c);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	q = vt_alloc(VT_MEM_4K, SZ_1M);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_1M, VT_RW, SZ_64K));
	ASSERT_OK(vt_unmap(&c, BASE + 4 * SZ_64K, 8 * SZ_64K, NULL));
	ASSERT_OK(vt_map(&c, BASE + 4 * SZ_64K, q, 8 * SZ_64K, VT_RW, 0));

	/* A range that reaches into the mapping in the hole cuts it. */
	ASSERT_REFUSED(&c, vt_unmap(&c, BASE, 5 * SZ_64K, NULL), EINVAL);
	ASSERT_REFUSED(&c, vt_unmap(&c, BASE + 11 * SZ_64K, 5 * SZ_64K, NULL), EINVAL);
	ASSERT_REFUSED(&c, vt_unmap(&c, BASE + 5 * SZ_64K, SZ_64K, NULL), EINVAL);

	ASSERT_OK(vt_unmap(&c, BASE, 4 * SZ_64K, &n));
	EXPECT_EQ(n, 4 * SZ_64K);
	expect_map(&c, BASE + 4 * SZ_64K, 8 * SZ_64K, q, VT_RW, 0);
	ASSERT_OK(vt_unmap(&c, BASE + 12 * SZ_64K, 4 * SZ_64K, &n));
	EXPECT_EQ(n, 4 * SZ_64K);
	EXPECT_EQ(vt_dma_avail(&c), vt_get_param("dma_entry_limit") - 1);
	expect_map(&c, BASE + 4 * SZ_64K, 8 * SZ_64K, q, VT_RW, 0);
	ASSERT_OK(vt_unmap(&c, BASE, SZ_1M, &n));
	EXPECT_EQ(n, 8 * SZ_64K);
	EXPECT_EQ(vt_locked(), 0);
}

static void entry_limit_then_pieces(void)
{
	struct vt_container c;
	u64 at;
	u8 *p;

	vt_set_param("dma_entry_limit", 1);
	vt_open_granule(&c);
	p = vt_alloc(VT_MEM_4K, SZ_4M);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_4M, VT_RW, SZ_4K));
	ASSERT_EQ(vt_map(&c, BASE + SZ_4M, p, SZ_4K, VT_RW, 0), -ENOSPC);
	for (at = 0; at < SZ_4M; at += SZ_8K)
		ASSERT_OK(vt_unmap(&c, BASE + at, SZ_4K, NULL));
	ASSERT_EQ(vt_dma_avail(&c), 0);
	ASSERT_EQ(vt_locked(), SZ_2M);
	for (at = SZ_4K; at < SZ_4M; at += SZ_8K) {
		ASSERT_EQ(vt_dma_avail(&c), 0);
		ASSERT_OK(vt_unmap(&c, BASE + at, SZ_4K, NULL));
	}
	ASSERT_EQ(vt_dma_avail(&c), 1);
	ASSERT_EQ(vt_locked(), 0);
	ASSERT_OK(vt_map(&c, BASE + SZ_4M, p, SZ_4K, VT_RW, 0));
}

/* The highest addresses there are, where the end of a range is hard to tell. */
static void last_page(void)
{
	struct vt_container c;
	u64 last, top, n;
	u8 *p;

	vt_open_granule(&c);
	p = vt_alloc(VT_MEM_THP, SZ_4M);
	last = vt_last_iova(&c);
	top = last - 4 * SZ_4K + 1;
	ASSERT_OK(vt_map(&c, top, p, 4 * SZ_4K, VT_RW, SZ_4K));
	expect_map(&c, top, 4 * SZ_4K, p, VT_RW, SZ_4K);
	ASSERT_OK(vt_unmap(&c, top + 3 * SZ_4K, SZ_4K, &n));
	EXPECT_EQ(n, SZ_4K);
	expect_map(&c, top, 3 * SZ_4K, p, VT_RW, SZ_4K);
	expect_map(&c, top + 3 * SZ_4K, SZ_4K, NULL, 0, 0);
	ASSERT_OK(vt_map(&c, top + 3 * SZ_4K, p + SZ_64K, SZ_4K, VT_RW, SZ_4K));
	expect_map(&c, top + 3 * SZ_4K, SZ_4K, p + SZ_64K, VT_RW, SZ_4K);
	ASSERT_OK(vt_unmap(&c, top + SZ_4K, 3 * SZ_4K, &n));
	EXPECT_EQ(n, 3 * SZ_4K);
	/* As far as a number can go. */
	ASSERT_OK(vt_unmap(&c, top, -top, &n));
	EXPECT_EQ(n, SZ_4K);
	EXPECT_EQ(vt_locked(), 0);

	if ((last + 1) % SZ_2M)
		return;
	top = last - SZ_4M + 1;
	ASSERT_OK(vt_map(&c, top, p, SZ_4M, VT_RW, SZ_2M));
	expect_map(&c, top, SZ_4M, p, VT_RW, SZ_2M);
	ASSERT_OK(vt_unmap(&c, top + SZ_2M, SZ_2M, &n));
	EXPECT_EQ(n, SZ_2M);
	expect_map(&c, top, SZ_2M, p, VT_RW, SZ_2M);
	EXPECT_EQ(vt_locked(), SZ_2M);
}

/* IOVA 0 is an address like any other. */
static void first_page(void)
{
	struct vt_container c;
	u64 n;
	u8 *p;

	vt_open_granule(&c);
	p = vt_alloc(VT_MEM_4K, SZ_64K);
	ASSERT_OK(vt_map(&c, 0, p, SZ_64K, VT_RW, SZ_4K));
	ASSERT_OK(vt_unmap(&c, 0, SZ_4K, &n));
	EXPECT_EQ(n, SZ_4K);
	expect_map(&c, 0, SZ_4K, NULL, 0, 0);
	expect_map(&c, SZ_4K, SZ_64K - SZ_4K, p + SZ_4K, VT_RW, SZ_4K);
	ASSERT_OK(vt_map(&c, 0, p, SZ_4K, VT_RW, 0));
	expect_map(&c, 0, SZ_64K, p, VT_RW, SZ_4K);
	EXPECT_EQ(vt_locked(), SZ_64K);
}

/* Each mapping is charged, and uncharged to the same process, also if memory is shared. */
static void same_memory_twice(void)
{
	struct vt_container c;
	u8 *p;

	vt_open_granule(&c);
	p = vt_alloc(VT_MEM_THP, SZ_4M);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_4M, VT_RW, SZ_4K));
	ASSERT_OK(vt_map(&c, BASE + SZ_4M, p, SZ_4M, VT_RW, SZ_2M));
	EXPECT_EQ(vt_locked(), 2 * SZ_4M);
	ASSERT_OK(vt_unmap(&c, BASE + SZ_4K, SZ_4K, NULL));
	ASSERT_OK(vt_unmap(&c, BASE + SZ_4M, SZ_2M, NULL));
	EXPECT_EQ(vt_locked(), 2 * SZ_4M - SZ_4K - SZ_2M);
	/* Pages stay pinned where they are still mapped. */
	expect_map(&c, BASE + SZ_4M + SZ_2M, SZ_2M, p + SZ_2M, VT_RW, SZ_2M);
	expect_map(&c, BASE + SZ_8K, SZ_4M - SZ_8K, p + SZ_8K, VT_RW, SZ_4K);
	vt_close(&c);
	EXPECT_EQ(vt_locked(), 0);
}

/* The device leaves a container with holes: only what is left is uncharged. */
static void close_with_holes(void)
{
	struct vt_container c;
	u64 at;
	u8 *p;

	vt_open_granule(&c);
	p = vt_alloc(VT_MEM_4K, SZ_4M);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_4M, VT_RW, SZ_64K));
	for (at = 0; at < SZ_4M; at += 2 * SZ_64K)
		ASSERT_OK(vt_unmap(&c, BASE + at, SZ_64K, NULL));
	ASSERT_OK(vt_map(&c, BASE + 2 * SZ_64K, p, SZ_64K, VT_RW, SZ_4K));
	ASSERT_EQ(vt_locked(), SZ_2M + SZ_64K);
	vt_close(&c);
	EXPECT_EQ(vt_locked(), 0);
}

/* A device that comes later sees the pieces and the holes. */
static void second_device(void)
{
	struct vt_container c;
	struct vt_tables t;
	struct vt_info info;
	struct vt_dev *dev;
	u64 at;
	u8 *p;

	vt_edu_bdf(1);
	vt_open_granule(&c);
	p = vt_alloc(VT_MEM_THP, 8 * SZ_2M);
	ASSERT_OK(vt_map(&c, BASE, p, 8 * SZ_2M, VT_RW, SZ_2M));
	for (at = SZ_2M; at < 8 * SZ_2M; at += SZ_4M)
		ASSERT_OK(vt_unmap(&c, BASE + at, SZ_2M, NULL));
	dev = vt_add_edu(&c, 1);
	vt_need_tables(dev);
	vt_info(&c, &info);
	vt_tables_read(dev, &t);
	for (at = 0; at < 8 * SZ_2M; at += SZ_2M)
		vt_tables_expect(&t, &info, BASE + at, SZ_2M, at / SZ_2M % 2 ? NULL : p + at,
				 VT_RW, SZ_2M, NULL);
	vt_tables_free(&t);
	vt_remove(&c.dev[0]);
	EXPECT_EQ(vt_locked(), 4 * SZ_2M);
	ASSERT_OK(vt_unmap(&c, BASE, SZ_2M, NULL));
	EXPECT_EQ(vt_locked(), 3 * SZ_2M);
	EXPECT_EQ(vt_pgsize_at(dev, BASE), 0);
	EXPECT_GE(vt_pgsize_at(dev, BASE + SZ_4M), SZ_2M);
}

/* ---- A device's registers, which are mapped, but neither pinned nor charged ---- */

#define BAR_SIZE	SZ_1M		/* of an edu device */

/* All of BAR0 at an address; the device is enabled. */
static u8 *bar_at(struct vt_dev *dev, u8 *at)
{
	struct vfio_region_info bar = {
		.argsz = sizeof(bar),
		.index = VFIO_PCI_BAR0_REGION_INDEX,
	};

	ASSERT_OK(ioctl(dev->fd, VFIO_DEVICE_GET_REGION_INFO, &bar));
	ASSERT_EQ(bar.size, BAR_SIZE);
	if (mmap(at, BAR_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, dev->fd,
		 bar.offset) != at)
		FAIL("BAR0 of %s: %s", dev->name, strerror(errno));
	return at;
}

/* BAR0 from this offset on is mapped there, with pages up to the granule. */
static void expect_bar(struct vt_container *c, u64 iova, u64 size, u64 offset, u64 granule)
{
	char path[128], line[128];
	const struct vt_pte *pte;
	struct vt_tables t;
	u64 at, phys;

	if (!vt_tables_known(&c->dev[0]))
		return;
	/* The first line is BAR0. */
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource", c->dev[0].name);
	ASSERT_EQ(vt_read_file(path, line, sizeof(line)), (ssize_t)sizeof(line) - 1);
	phys = strtoull(line, NULL, 16) + offset;
	vt_tables_read(&c->dev[0], &t);
	for (at = 0; at < size; at += pte->size) {
		pte = vt_tables_find(&t, iova + at);
		if (!pte)
			FAIL("%#llx is not mapped", iova + at);
		ASSERT_EQ(pte->iova, iova + at);
		ASSERT_EQ(pte->phys, phys + at);
		ASSERT_TRUE(pte->size <= granule || vt_cuts());
		ASSERT_TRUE(pte->read && pte->write);
	}
	ASSERT_EQ(at, size);
	vt_tables_free(&t);
}

/* Only RAM is charged and pinned: this much more than base and pinned. */
static void expect_ram(u64 base, u64 pinned, u64 ram)
{
	ASSERT_EQ(vt_locked(), base + ram);
	ASSERT_EQ(vt_pinned(), pinned + ram / SZ_4K);
}

/* One mapping of RAM, the BAR, and RAM. Its pieces are unmapped in mixed order. */
static void mmio_between_ram(struct vt_container *c, u8 *p, u64 granule)
{
	u64 size = 3 * BAR_SIZE, nr = size / granule, base = vt_locked(), pinned = vt_pinned();
	u64 ram = size - BAR_SIZE, k, at, n;
	u32 avail = vt_dma_avail(c);

	ASSERT_OK(vt_map(c, BASE, p, size, VT_RW, granule));
	expect_ram(base, pinned, ram);
	expect_map(c, BASE, BAR_SIZE, p, VT_RW, granule);
	expect_bar(c, BASE + BAR_SIZE, BAR_SIZE, 0, granule);
	expect_map(c, BASE + 2 * BAR_SIZE, BAR_SIZE, p + 2 * BAR_SIZE, VT_RW, granule);
	for (k = 0; k < nr; k++) {
		/* Each piece once, since 7 divides no number of pieces */
		at = (k * 7 + nr / 2) % nr * granule;
		ASSERT_OK(vt_unmap(c, BASE + at, granule, &n));
		ASSERT_EQ(n, granule);
		if (at / BAR_SIZE != 1)
			ram -= granule;
		expect_ram(base, pinned, ram);
		ASSERT_EQ(vt_dma_avail(c), avail - (k + 1 < nr));
		if (k == nr / 2)
			expect_map(c, BASE + at, granule, NULL, 0, 0);
	}
	ASSERT_EQ(ram, 0);
}

static void mmio_pieces(void)
{
	u64 base, pinned, n, at;
	struct vt_container c;
	struct vt_dev *dev;
	u8 *p, *q, *bar;
	u32 avail;

	vt_open_granule(&c);
	dev = &c.dev[0];
	vt_edu_enable(dev);
	p = vt_alloc(VT_MEM_4K, SZ_4M);
	q = vt_alloc(VT_MEM_THP, SZ_4M);
	bar = bar_at(dev, p + BAR_SIZE);
	mmio_between_ram(&c, p, SZ_4K);
	mmio_between_ram(&c, p, SZ_64K);
	mmio_between_ram(&c, p, SZ_1M);
	base = vt_locked();
	pinned = vt_pinned();
	avail = vt_dma_avail(&c);

	/* Side by side, each by itself; pieces of both in one call. */
	ASSERT_OK(vt_map(&c, BASE, bar, BAR_SIZE, VT_RW, SZ_64K));
	expect_ram(base, pinned, 0);
	ASSERT_OK(vt_map(&c, BASE + BAR_SIZE, q, SZ_4M, VT_RW, SZ_64K));
	expect_ram(base, pinned, SZ_4M);
	expect_bar(&c, BASE, BAR_SIZE, 0, SZ_64K);
	ASSERT_EQ(vt_unmap(&c, BASE, SZ_4K, NULL), -EINVAL);
	ASSERT_OK(vt_unmap(&c, BASE + 2 * SZ_64K, SZ_64K, NULL));
	expect_ram(base, pinned, SZ_4M);
	ASSERT_OK(vt_unmap(&c, BASE + BAR_SIZE - SZ_64K, 2 * SZ_64K, &n));
	ASSERT_EQ(n, 2 * SZ_64K);
	expect_ram(base, pinned, SZ_4M - SZ_64K);
	expect_map(&c, BASE + 2 * SZ_64K, SZ_64K, NULL, 0, 0);
	expect_bar(&c, BASE + 3 * SZ_64K, BAR_SIZE - 4 * SZ_64K, 3 * SZ_64K, SZ_64K);
	expect_map(&c, BASE + BAR_SIZE + SZ_64K, SZ_4M - SZ_64K, q + SZ_64K, VT_RW, SZ_64K);
	ASSERT_OK(vt_unmap_all(&c, &n));
	/* The device's own page is one of them. */
	ASSERT_EQ(n, BAR_SIZE - 2 * SZ_64K + SZ_4M - SZ_64K + SZ_4K);
	base -= SZ_4K;
	pinned--;
	avail++;
	expect_ram(base, pinned, 0);
	ASSERT_EQ(vt_dma_avail(&c), avail);

	/* The BAR in a hole of RAM, and RAM in a hole of that. */
	ASSERT_OK(vt_map(&c, BASE, q, SZ_4M, VT_RW, SZ_64K));
	ASSERT_OK(vt_unmap(&c, BASE + SZ_1M, BAR_SIZE, NULL));
	ASSERT_OK(vt_map(&c, BASE + SZ_1M, bar, BAR_SIZE, VT_RW, SZ_4K));
	expect_ram(base, pinned, SZ_4M - BAR_SIZE);
	ASSERT_OK(vt_unmap(&c, BASE + SZ_1M + SZ_64K, SZ_64K, NULL));
	ASSERT_OK(vt_map(&c, BASE + SZ_1M + SZ_64K, p, SZ_64K, VT_RO, SZ_4K));
	expect_ram(base, pinned, SZ_4M - BAR_SIZE + SZ_64K);
	ASSERT_EQ(vt_dma_avail(&c), avail - 3);
	expect_map(&c, BASE, SZ_1M, q, VT_RW, SZ_64K);
	expect_bar(&c, BASE + SZ_1M, SZ_64K, 0, SZ_4K);
	expect_map(&c, BASE + SZ_1M + SZ_64K, SZ_64K, p, VT_RO, SZ_4K);
	expect_bar(&c, BASE + SZ_1M + 2 * SZ_64K, BAR_SIZE - 2 * SZ_64K, 2 * SZ_64K, SZ_4K);
	/* RAM around it goes, last piece first: the BAR stays, and costs nothing. */
	for (at = SZ_4M; at; at -= SZ_64K)
		if (at <= SZ_1M || at > SZ_1M + BAR_SIZE)
			ASSERT_OK(vt_unmap(&c, BASE + at - SZ_64K, SZ_64K, NULL));
	expect_ram(base, pinned, SZ_64K);
	ASSERT_EQ(vt_dma_avail(&c), avail - 2);
	expect_bar(&c, BASE + SZ_1M, SZ_64K, 0, SZ_4K);
	ASSERT_OK(vt_unmap(&c, BASE + SZ_1M + SZ_4K, SZ_64K, &n));
	ASSERT_EQ(n, SZ_64K);
	expect_ram(base, pinned, SZ_64K - SZ_4K);
	ASSERT_OK(vt_unmap(&c, BASE + SZ_1M + SZ_64K, SZ_64K, &n));
	ASSERT_EQ(n, SZ_64K - SZ_4K);
	expect_ram(base, pinned, 0);
	ASSERT_EQ(vt_dma_avail(&c), avail - 1);
	ASSERT_OK(vt_unmap(&c, BASE, SZ_4M, &n));
	ASSERT_EQ(n, BAR_SIZE - 2 * SZ_64K + SZ_4K);
	expect_ram(base, pinned, 0);
	ASSERT_EQ(vt_dma_avail(&c), avail);
}

#define MTTY_UUID	"83b8f4f2-509f-382f-3c1e-e6bfe0fa1002"

static void open_emulated(struct vt_container *c)
{
	int group = vt_mdev_create(VT_MTTY_TYPE, MTTY_UUID);

	vt_open_empty(c, VFIO_TYPE1v2_IOMMU);
	vt_add_group(c, group, MTTY_UUID);
	vt_need_granule(c);
}

/* Without an IOMMU nothing is pinned. When one joins, it gets no holes. */
static void emulated_then_device(void)
{
	struct vt_container c;
	struct vt_dev *edu;
	struct vt_tables t;
	struct vt_info info;
	u64 at, n;
	u8 *p;

	open_emulated(&c);
	p = vt_alloc(VT_MEM_THP, 8 * SZ_2M);
	ASSERT_OK(vt_map(&c, BASE, p, 8 * SZ_2M, VT_RW, SZ_2M));
	ASSERT_EQ(vt_unmap(&c, BASE, SZ_1M, NULL), -EINVAL);
	for (at = SZ_2M; at < 8 * SZ_2M; at += SZ_4M) {
		ASSERT_OK(vt_unmap(&c, BASE + at, SZ_2M, &n));
		EXPECT_EQ(n, SZ_2M);
	}
	/* Nothing needs to be there where a hole is. */
	ASSERT_OK(munmap(p + SZ_2M, SZ_2M));
	EXPECT_EQ(vt_locked(), 0);

	edu = vt_add_edu(&c, 0);
	EXPECT_EQ(vt_locked(), 4 * SZ_2M);
	if (vt_tables_known(edu)) {
		vt_info(&c, &info);
		vt_tables_read(edu, &t);
		for (at = 0; at < 8 * SZ_2M; at += SZ_2M)
			vt_tables_expect(&t, &info, BASE + at, SZ_2M,
					 at / SZ_2M % 2 ? NULL : p + at, VT_RW, SZ_2M, NULL);
		vt_tables_free(&t);
	}
	ASSERT_OK(vt_unmap(&c, BASE + SZ_4M, SZ_2M, &n));
	EXPECT_EQ(n, SZ_2M);
	EXPECT_EQ(vt_locked(), 3 * SZ_2M);
	vt_remove(edu);
	EXPECT_EQ(vt_locked(), 0);
	/* Again, and with one hole more. */
	edu = vt_add_edu(&c, 0);
	EXPECT_EQ(vt_locked(), 3 * SZ_2M);
	ASSERT_OK(vt_unmap_all(&c, &n));
	EXPECT_EQ(n, 3 * SZ_2M);
	EXPECT_EQ(vt_locked(), 0);
}

/*
 * Mapping i has the pages i to depth and keeps only its first page. Its hole has mapping
 * i + 1. In the end each address is in the holes of very many mappings. There is no IOMMU, so
 * that nothing is pinned.
 */
static u64 nest(struct vt_container *c, u64 iova, u64 depth)
{
	u64 best = -1, took, start, i, batch, rounds = 200, batches = 20;
	u8 *p = (u8 *)SZ_4K;

	for (i = 0; i < depth; i++) {
		u64 at = iova + i * SZ_4K, size = (depth - i + 1) * SZ_4K;

		ASSERT_OK(vt_map(c, at, p, size, VT_RW, SZ_4K));
		ASSERT_OK(vt_unmap(c, at + SZ_4K, size - SZ_4K, NULL));
	}

	/* The best of many, since other guests may use the CPU, too. */
	for (batch = 0; batch < batches; batch++) {
		start = vt_now();
		for (i = 0; i < rounds; i++) {
			u64 in = iova + depth * SZ_4K, out = iova + i * depth / rounds * SZ_4K;

			/* The innermost hole; a page that is mapped, on the way. */
			ASSERT_OK(vt_map(c, in, p, SZ_4K, VT_RW, SZ_4K));
			ASSERT_EQ(vt_map(c, out, p, SZ_4K, VT_RW, SZ_4K), -EEXIST);
			ASSERT_OK(vt_unmap(c, in, SZ_4K, NULL));
		}
		took = (vt_now() - start) / rounds;
		if (took < best)
			best = took;
	}
	return best;
}

static void nested_60000_deep(void)
{
	u64 shallow, deep, start, n;
	struct vt_container c;

	vt_set_param("dma_entry_limit", 65535);
	open_emulated(&c);
	shallow = nest(&c, BASE, 100);
	ASSERT_OK(vt_unmap_all(&c, &n));
	EXPECT_EQ(n, 100 * SZ_4K);
	start = vt_now();
	deep = nest(&c, BASE, 60000);
	vt_diag("map, refusal and unmap: %llu ns 100 deep, %llu ns 60000 deep; built in %llu ms",
		shallow, deep, (vt_now() - start) / 1000000);
	/* A tree is a few levels higher; a list would take 600 times as long. */
	EXPECT_LT(deep, 10 * shallow);
	ASSERT_OK(vt_unmap_all(&c, &n));
	EXPECT_EQ(n, 60000 * SZ_4K);
	EXPECT_EQ(vt_dma_avail(&c), 65535);
}

VTEST_MAIN(
	VTEST(granules_thp),
	VTEST(granules_hugetlb_2m),
	VTEST(granules_hugetlb_1g),
	VTEST(granules_4k),
	VTEST(granules_scattered),
	VTEST(granules_incongruent_4k),
	VTEST(granules_incongruent_1m),
	VTEST(granule_1g_on_small_pages),
	VTEST(disable_hugepages),
	VTEST(holes_remapped),
	VTEST(hole_and_back),
	VTEST(unmap_spans_all),
	VTEST(unmap_spares_guests),
	VTEST(entry_limit_then_pieces),
	VTEST(last_page),
	VTEST(first_page),
	VTEST(same_memory_twice),
	VTEST(close_with_holes),
	VTEST(second_device),
	VTEST(mmio_pieces),
	VTEST(emulated_then_device),
	VTEST(nested_60000_deep),
)
