// SPDX-License-Identifier: GPL-2.0
/*
 * Several IOMMU domains in a container. The emulated machines have one IOMMU for all
 * devices, so type1 would put them all into one domain. The test module prevents that. It
 * also takes page sizes away from a domain, adds reserved regions, and makes unmaps fail.
 */
#include "../lib/testdev.h"

#define IOVA	0x40000000ull
#define PIECE	SZ_2M
#define NR	8
#define SIZE	(NR * PIECE)

static void open_one(struct vt_container *c)
{
	td_two_domains();
	vt_open_v2(c);
}

static struct vt_dev *open_two(struct vt_container *c)
{
	open_one(c);
	return td_add_second(c);
}

struct piece {
	void *vaddr;		/* NULL: a hole */
	u32 flags;
	u64 granule;
};

/* Are two neighbours in one mapping, so that an IOMMU page may cover both? */
static bool one_whole(const struct piece *a, const struct piece *b)
{
	return a->vaddr && !a->granule && !b->granule && a->flags == b->flags &&
	       b->vaddr == (u8 *)a->vaddr + PIECE;
}

/* What each of the NR pieces must look like in the tables of a device. */
static void expect_pieces(struct vt_dev *dev, const struct piece *p)
{
	struct vt_info info;
	struct vt_tables t;
	int i, n;

	if (!vt_tables_known(dev))
		return;
	vt_info(dev->c, &info);
	vt_tables_read(dev, &t);
	for (i = 0; i < NR; i += n) {
		for (n = 1; i + n < NR && one_whole(&p[i + n - 1], &p[i + n]); n++)
			;
		vt_tables_expect(&t, &info, IOVA + i * PIECE, n * PIECE, p[i].vaddr, p[i].flags,
				 p[i].granule, NULL);
	}
	vt_tables_free(&t);
}

/* One mapping of NR pieces. */
static void set_pieces(struct piece *p, u8 *mem, u64 granule)
{
	int i;

	for (i = 0; i < NR; i++)
		p[i] = (struct piece){ mem + i * PIECE, VT_RW, granule };
}

static void two_plain(void)
{
	struct vt_container c;
	struct vt_dev *second = open_two(&c);
	u8 *mem = vt_alloc(VT_MEM_THP, SIZE);
	u64 base = vt_locked();
	struct piece p[NR];

	ASSERT_OK(vt_map(&c, IOVA, mem, SIZE, VT_RW, 0));
	set_pieces(p, mem, 0);
	EXPECT_EQ(vt_locked(), base + SIZE);
	expect_pieces(&c.dev[0], p);
	expect_pieces(second, p);
	vt_edu_enable(&c.dev[0]);
	vt_edu_enable(second);
	vt_expect_read(&c.dev[0], IOVA, mem);
	vt_expect_read(second, IOVA + SIZE - SZ_4K, mem + SIZE - SZ_4K);
	ASSERT_OK(vt_unmap(&c, IOVA, SIZE, NULL));
	vt_expect_no_dma(&c.dev[0], IOVA, mem);
	vt_expect_no_dma(second, IOVA, mem);
	vt_close(&c);
	EXPECT_EQ(vt_locked(), base);
}

/* A mapping is copied to a second domain without large pages, too. */
static void late_no_hugepages(void)
{
	struct vt_container c;
	struct vt_dev *second;
	u8 *mem;

	open_one(&c);
	vt_need_granule(&c);
	vt_need_tables(&c.dev[0]);
	mem = vt_alloc(VT_MEM_THP, SIZE);
	vt_set_param("disable_hugepages", 1);
	ASSERT_OK(vt_map(&c, IOVA, mem, SIZE, VT_RW, 0));
	second = td_add_second(&c);
	EXPECT_EQ(vt_pgsize_at(second, IOVA), SZ_4K);
	EXPECT_EQ(vt_pgsize_at(second, IOVA + SIZE - SZ_4K), SZ_4K);
	ASSERT_OK(vt_unmap(&c, IOVA, SIZE, NULL));
}

static void late_plain(void)
{
	struct vt_container c;
	u64 base, size = 0;
	struct piece p[NR];
	struct vt_dev *second;
	u8 *mem;

	open_one(&c);
	mem = vt_alloc(VT_MEM_THP, SIZE);
	base = vt_locked();
	ASSERT_OK(vt_map(&c, IOVA, mem, SIZE, VT_RW, 0));
	set_pieces(p, mem, 0);
	second = td_add_second(&c);
	EXPECT_EQ(vt_locked(), base + SIZE);
	expect_pieces(second, p);
	vt_remove(&c.dev[0]);
	EXPECT_EQ(vt_locked(), base + SIZE);
	expect_pieces(second, p);
	ASSERT_OK(vt_unmap(&c, IOVA, SIZE, &size));
	EXPECT_EQ(size, SIZE);
	EXPECT_EQ(vt_locked(), base);
	vt_close(&c);
}

/* The first domain fails at the last moment: what it was to map is not pinned or charged. */
static void cookie_fails(void)
{
	u64 base, pinned, size = 0;
	struct vt_container c;
	u8 *mem;

	td_arm();
	vt_open_empty(&c, VFIO_TYPE1v2_IOMMU);
	td_add(&c, 0);
	/* A kernel without granules may lack the fix. */
	vt_need_granule(&c);
	mem = vt_alloc(VT_MEM_4K, SIZE);
	ASSERT_OK(vt_map(&c, IOVA, mem, SIZE, VT_RW, 0));
	base = vt_locked();
	pinned = vt_pinned();
	td_set("sw_msi", 1);
	td_set("fail_cookie_times", 1);
	ASSERT_EQ(vt_try_add_group(&c, vt_edu_group(0), vt_edu_bdf(0), NULL), -ENOMEM);
	ASSERT_EQ(td_get("fail_cookie_times"), 0);
	td_set("sw_msi", 0);
	ASSERT_EQ(vt_locked(), base);
	ASSERT_EQ(vt_pinned(), pinned);

	vt_add_edu(&c, 0);
	ASSERT_EQ(vt_locked(), base + SIZE);
	ASSERT_OK(vt_unmap(&c, IOVA, SIZE, &size));
	ASSERT_EQ(size, SIZE);
	ASSERT_EQ(vt_locked(), base);
	ASSERT_EQ(vt_pinned(), pinned);
	vt_close(&c);
}

/* A piece is unmapped in both domains; its neighbours stay mapped in both. */
static void two_pieces(void)
{
	struct vt_container c;
	struct vt_dev *second = open_two(&c);
	u64 base, size = 0;
	struct piece p[NR];
	u8 *mem;

	vt_need_granule(&c);
	mem = vt_alloc(VT_MEM_THP, SIZE);
	vt_edu_enable(&c.dev[0]);
	vt_edu_enable(second);
	base = vt_locked();
	ASSERT_OK(vt_map(&c, IOVA, mem, SIZE, VT_RW, PIECE));
	set_pieces(p, mem, PIECE);
	EXPECT_EQ(vt_locked(), base + SIZE);
	expect_pieces(&c.dev[0], p);
	expect_pieces(second, p);

	/* Now the IOTLB knows them, and must forget them. */
	vt_expect_read(&c.dev[0], IOVA + 3 * PIECE, mem + 3 * PIECE);
	vt_expect_read(second, IOVA + 4 * PIECE - SZ_4K, mem + 4 * PIECE - SZ_4K);

	ASSERT_OK(vt_unmap(&c, IOVA + 3 * PIECE, PIECE, &size));
	EXPECT_EQ(size, PIECE);
	p[3].vaddr = NULL;
	EXPECT_EQ(vt_locked(), base + SIZE - PIECE);
	expect_pieces(&c.dev[0], p);
	expect_pieces(second, p);

	vt_expect_read(&c.dev[0], IOVA + 3 * PIECE - SZ_4K, mem + 3 * PIECE - SZ_4K);
	vt_expect_read(second, IOVA + 4 * PIECE, mem + 4 * PIECE);
	vt_expect_no_dma(&c.dev[0], IOVA + 3 * PIECE, mem + 3 * PIECE);
	vt_expect_no_dma(second, IOVA + 4 * PIECE - SZ_4K, mem + 4 * PIECE - SZ_4K);

	/* Back again, with small pages, in both. */
	ASSERT_OK(vt_map(&c, IOVA + 3 * PIECE, mem + 3 * PIECE, PIECE, VT_RW, SZ_4K));
	p[3] = (struct piece){ mem + 3 * PIECE, VT_RW, SZ_4K };
	expect_pieces(&c.dev[0], p);
	expect_pieces(second, p);
	vt_expect_read(second, IOVA + 3 * PIECE, mem + 3 * PIECE);
	ASSERT_OK(vt_unmap(&c, IOVA, SIZE, &size));
	EXPECT_EQ(size, SIZE);
	EXPECT_EQ(vt_locked(), base);
	vt_close(&c);
}

/*
 * A domain that joins later gets everything that is mapped: the pieces, each with its
 * granule, and the mappings in the holes. Then the first domain can leave.
 */
static void late_holes(void)
{
	struct vt_container c;
	struct vt_dev *second;
	u64 base, size = 0;
	u8 *mem, *other;
	struct piece p[NR];
	u32 avail;

	open_one(&c);
	vt_need_granule(&c);
	mem = vt_alloc(VT_MEM_THP, SIZE);
	/* Its granule is kept though larger pages would do. */
	other = vt_alloc(VT_MEM_THP, PIECE);
	base = vt_locked();
	ASSERT_OK(vt_map(&c, IOVA, mem, SIZE, VT_RW, PIECE));
	ASSERT_OK(vt_unmap(&c, IOVA + PIECE, 2 * PIECE, NULL));
	ASSERT_OK(vt_unmap(&c, IOVA + 5 * PIECE, PIECE, NULL));
	ASSERT_OK(vt_unmap(&c, IOVA + 7 * PIECE, PIECE, NULL));
	ASSERT_OK(vt_map(&c, IOVA + 5 * PIECE, other, PIECE, VT_RO, SZ_4K));
	set_pieces(p, mem, PIECE);
	p[1].vaddr = NULL;
	p[2].vaddr = NULL;
	p[5] = (struct piece){ other, VT_RO, SZ_4K };
	p[7].vaddr = NULL;
	avail = vt_dma_avail(&c);

	second = td_add_second(&c);
	EXPECT_EQ(vt_locked(), base + SIZE - 3 * PIECE);
	EXPECT_EQ(vt_dma_avail(&c), avail);
	expect_pieces(&c.dev[0], p);
	expect_pieces(second, p);

	vt_edu_enable(second);
	vt_expect_read(second, IOVA + 4 * PIECE, mem + 4 * PIECE);
	vt_expect_read(second, IOVA + 5 * PIECE, other);
	vt_expect_no_write(second, IOVA + 5 * PIECE, other);
	vt_expect_no_dma(second, IOVA + PIECE, mem + PIECE);
	ASSERT_OK(vt_unmap(&c, second->bounce_iova, SZ_4K, NULL));

	ASSERT_OK(vt_unmap(&c, IOVA + 4 * PIECE, PIECE, NULL));
	p[4].vaddr = NULL;
	vt_remove(&c.dev[0]);
	EXPECT_EQ(vt_locked(), base + SIZE - 4 * PIECE);
	expect_pieces(second, p);
	ASSERT_OK(vt_unmap(&c, IOVA + 6 * PIECE, PIECE, NULL));
	p[6].vaddr = NULL;
	expect_pieces(second, p);

	/* And once more, from the domain that came late. */
	vt_add_edu(&c, 0);
	expect_pieces(&c.dev[0], p);
	vt_remove(second);
	EXPECT_EQ(vt_locked(), base + SIZE - 5 * PIECE);
	ASSERT_OK(vt_unmap(&c, IOVA, PIECE, NULL));
	p[0].vaddr = NULL;
	expect_pieces(&c.dev[0], p);
	ASSERT_OK(vt_unmap_all(&c, &size));
	EXPECT_EQ(size, 2 * PIECE);
	EXPECT_EQ(vt_locked(), base);
	vt_close(&c);
}

/* A group was refused: nothing has changed. */
static void expect_unharmed(struct vt_container *c, const struct piece *p, u64 locked,
			    const struct vt_info *was)
{
	struct vt_info info;

	EXPECT_EQ(vt_locked(), locked);
	vt_info(c, &info);
	EXPECT_EQ(info.pgsizes, was->pgsizes);
	EXPECT_EQ(info.dma_avail, was->dma_avail);
	EXPECT_EQ(info.nr_ranges, was->nr_ranges);
	EXPECT_EQ(memcmp(info.range, was->range, sizeof(info.range)), 0);
	expect_pieces(&c->dev[0], p);
}

/* A domain without pages as small as a granule cannot join. */
static void pgsize_refused(void)
{
	struct vt_container c;
	struct vt_info info;
	struct piece p[NR];
	u64 locked, gone = 0;
	u8 *mem;

	open_one(&c);
	vt_need_granule(&c);
	mem = vt_alloc(VT_MEM_THP, SIZE);
	ASSERT_OK(vt_map(&c, IOVA, mem, SIZE, VT_RW, SZ_64K));
	set_pieces(p, mem, SZ_64K);
	vt_info(&c, &info);
	locked = vt_locked();

	td_need_hiding();
	td_set("hide_pgsizes", SZ_2M - SZ_4K);
	EXPECT_EQ(td_try_second(&c), -EINVAL);
	expect_unharmed(&c, p, locked, &info);

	/* A whole 2 MiB hole changes nothing: the rest of it is 64 KiB pieces. */
	ASSERT_OK(vt_unmap(&c, IOVA, PIECE, NULL));
	EXPECT_EQ(td_try_second(&c), -EINVAL);

	td_set("hide_pgsizes", 0);
	td_add_second(&c);
	ASSERT_OK(vt_unmap_all(&c, &gone));
	EXPECT_EQ(gone, SIZE - PIECE);
	vt_close(&c);
}

/* A granule as large as the smallest page joins, and is then the limit. */
static void pgsize_accepted(void)
{
	struct vt_container c;
	struct vt_dev *second;
	struct vt_info info;
	struct piece p[NR];
	u8 *mem;

	open_one(&c);
	vt_need_granule(&c);
	mem = vt_alloc(VT_MEM_THP, SIZE);
	ASSERT_OK(vt_map(&c, IOVA, mem, SIZE, VT_RW, PIECE));
	ASSERT_OK(vt_unmap(&c, IOVA + 2 * PIECE, PIECE, NULL));
	set_pieces(p, mem, PIECE);
	p[2].vaddr = NULL;

	td_need_hiding();
	td_set("hide_pgsizes", SZ_2M - SZ_4K);
	second = td_add_second(&c);
	vt_info(&c, &info);
	EXPECT_EQ(info.pgsizes & -info.pgsizes, SZ_2M);
	expect_pieces(&c.dev[0], p);
	expect_pieces(second, p);

	/* Type1 warns of mapping with a smallest page above PAGE_SIZE: not here. */
	vt_remove(second);
	vt_info(&c, &info);
	EXPECT_EQ(info.pgsizes & -info.pgsizes, SZ_4K);
	ASSERT_OK(vt_unmap(&c, IOVA + 4 * PIECE, PIECE, NULL));
	ASSERT_OK(vt_map(&c, IOVA + 4 * PIECE, mem, PIECE, VT_RW, SZ_4K));
	vt_close(&c);
}

/* One domain with superpages, one without: each uses the largest pages that it has. */
static void pgsize_mixed(void)
{
	struct piece p[NR];
	struct vt_container c;
	struct vt_dev *second;
	struct vt_tables t;
	u8 *mem;

	open_one(&c);
	vt_need_granule(&c);
	vt_need_tables(&c.dev[0]);
	if (vt_linux() < 7 && vt_machine_is("intel"))
		SKIP("VT-d's driver in Linux 6 sets page sizes when a domain is attached");
	mem = vt_alloc(VT_MEM_THP, SIZE);
	ASSERT_OK(vt_map(&c, IOVA, mem, SIZE, VT_RW, PIECE));
	td_set("hide_pgsizes", MORE_THAN_4K);
	second = td_add_second(&c);
	EXPECT_GE(vt_pgsize_at(&c.dev[0], IOVA), SZ_2M);
	EXPECT_EQ(vt_pgsize_at(second, IOVA), SZ_4K);
	ASSERT_OK(vt_unmap(&c, IOVA + PIECE, PIECE, NULL));
	EXPECT_EQ(vt_pgsize_at(&c.dev[0], IOVA + PIECE), 0);
	EXPECT_EQ(vt_pgsize_at(second, IOVA + PIECE), 0);
	EXPECT_EQ(vt_pgsize_at(second, IOVA + PIECE - SZ_4K), SZ_4K);
	EXPECT_EQ(vt_pgsize_at(second, IOVA + 2 * PIECE), SZ_4K);

	/* New mappings likewise, and back to where there is one domain. */
	ASSERT_OK(vt_map(&c, IOVA + PIECE, mem + PIECE, PIECE, VT_RW, PIECE));
	EXPECT_EQ(vt_pgsize_at(second, IOVA + PIECE), SZ_4K);
	vt_remove(second);
	set_pieces(p, mem, PIECE);
	vt_tables_read(&c.dev[0], &t);
	EXPECT_EQ(vt_tables_find(&t, IOVA)->size, SZ_2M);
	vt_tables_free(&t);
	ASSERT_OK(vt_unmap(&c, IOVA, PIECE, NULL));
	vt_close(&c);
}

static bool in_ranges(const struct vt_info *info, u64 iova)
{
	unsigned int i;

	for (i = 0; i < info->nr_ranges; i++)
		if (iova >= info->range[i].first && iova <= info->range[i].last)
			return true;
	return false;
}

static void reserved_plain(void)
{
	struct vt_container c;
	struct vt_info info;
	struct piece p[NR];
	u64 locked;
	u8 *mem;

	open_one(&c);
	mem = vt_alloc(VT_MEM_THP, SIZE);
	ASSERT_OK(vt_map(&c, IOVA, mem, SIZE, VT_RW, 0));
	set_pieces(p, mem, 0);
	vt_info(&c, &info);
	locked = vt_locked();
	EXPECT_EQ(td_try_reserved(&c, IOVA + SIZE - SZ_4K, SZ_64K), -EINVAL);
	expect_unharmed(&c, p, locked, &info);
	EXPECT_EQ(td_try_reserved(&c, IOVA + SIZE, SZ_64K), 0);
	EXPECT_EQ(vt_map(&c, IOVA + SIZE, mem, SZ_64K, VT_RW, 0), -EINVAL);
	vt_close(&c);
}

/* A reserved region conflicts with what is mapped, not with holes. */
static void reserved_holes(void)
{
	struct vt_container c;
	struct vt_info info;
	struct piece p[NR];
	u64 locked;
	u8 *mem;

	open_one(&c);
	vt_need_granule(&c);
	mem = vt_alloc(VT_MEM_THP, SIZE);
	ASSERT_OK(vt_map(&c, IOVA, mem, SIZE, VT_RW, PIECE));
	ASSERT_OK(vt_unmap(&c, IOVA + 2 * PIECE, 2 * PIECE, NULL));
	ASSERT_OK(vt_unmap(&c, IOVA + 6 * PIECE, PIECE, NULL));
	ASSERT_OK(vt_map(&c, IOVA + 6 * PIECE, mem, SZ_64K, VT_RW, SZ_4K));
	vt_info(&c, &info);
	set_pieces(p, mem, PIECE);
	locked = vt_locked();

	/* In a piece, over the edge of one on either side, over all of it. */
	EXPECT_EQ(td_try_reserved(&c, IOVA + PIECE, SZ_4K), -EINVAL);
	EXPECT_EQ(td_try_reserved(&c, IOVA + 2 * PIECE - SZ_4K, SZ_8K), -EINVAL);
	EXPECT_EQ(td_try_reserved(&c, IOVA + 4 * PIECE - SZ_4K, SZ_8K), -EINVAL);
	EXPECT_EQ(td_try_reserved(&c, IOVA + 2 * PIECE, 3 * PIECE), -EINVAL);
	EXPECT_EQ(td_try_reserved(&c, 0x1000000, SZ_1G), -EINVAL);
	/* In a hole, but something else lives there. */
	EXPECT_EQ(td_try_reserved(&c, IOVA + 6 * PIECE + SZ_64K - SZ_4K, SZ_8K), -EINVAL);
	EXPECT_EQ(vt_locked(), locked);
	EXPECT_EQ(vt_map(&c, IOVA + 2 * PIECE, mem, PIECE, VT_RW, 0), 0);
	ASSERT_OK(vt_unmap(&c, IOVA + 2 * PIECE, PIECE, NULL));

	/* Wholly in a hole: accepted, and no longer to be mapped. */
	EXPECT_EQ(td_try_reserved(&c, IOVA + 2 * PIECE + SZ_64K, 2 * PIECE - SZ_64K), 0);
	EXPECT_EQ(vt_locked(), locked);
	vt_info(&c, &info);
	EXPECT_EQ(in_ranges(&info, IOVA + 3 * PIECE), 0);
	EXPECT_EQ(in_ranges(&info, IOVA + 2 * PIECE), 1);
	EXPECT_EQ(in_ranges(&info, IOVA + 4 * PIECE), 1);
	EXPECT_EQ(vt_map(&c, IOVA + 2 * PIECE, mem, PIECE, VT_RW, SZ_4K), -EINVAL);
	ASSERT_OK(vt_map(&c, IOVA + 2 * PIECE, mem, SZ_64K, VT_RW, SZ_4K));
	ASSERT_OK(vt_unmap(&c, IOVA + PIECE, PIECE, NULL));
	vt_close(&c);
}

/*
 * An IOMMU driver may not fail an unmap. If one does, the kernel warns and the call returns
 * -EIO. The mapping is gone, but its pages stay pinned and charged for good, since a device
 * may still reach them.
 */

/* So much stays charged for good. */
static void lost(u64 size)
{
	vt_leaks_pins(size / SZ_4K);
}

static void unmap_fails_one(void)
{
	struct vt_container c;
	struct piece p[NR];
	u64 base, size = 1;
	u32 avail;
	u8 *mem;

	open_one(&c);
	vt_need_granule(&c);
	vt_edu_enable(&c.dev[0]);
	mem = vt_alloc(VT_MEM_THP, SIZE);
	base = vt_locked();
	ASSERT_OK(vt_map(&c, IOVA, mem, SIZE, VT_RW, PIECE));
	set_pieces(p, mem, PIECE);
	avail = vt_dma_avail(&c);

	td_fail_unmaps(-1, 0, 0);
	EXPECT_EQ(vt_unmap(&c, IOVA + 3 * PIECE, PIECE, NULL), -EIO);
	td_fail_unmaps(0, 0, 0);
	lost(PIECE);
	EXPECT_EQ(vt_locked(), base + SIZE);
	EXPECT_EQ(vt_dma_avail(&c), avail);
	/* For the driver nothing has changed; that is why the page must be there. */
	expect_pieces(&c.dev[0], p);
	vt_expect_read(&c.dev[0], IOVA + 3 * PIECE, mem + 3 * PIECE);
	ASSERT_OK(vt_unmap(&c, IOVA + 3 * PIECE, PIECE, &size));
	EXPECT_EQ(size, 0);

	/* The others can go, and with the last of them the entry. */
	ASSERT_OK(vt_unmap(&c, IOVA, SIZE, &size));
	EXPECT_EQ(size, SIZE - PIECE);
	EXPECT_EQ(vt_locked(), base + PIECE);
	EXPECT_EQ(vt_dma_avail(&c), avail + 1);
	vt_close(&c);
	EXPECT_EQ(vt_locked(), base - SZ_4K + PIECE);
}

/* The unmap fails after part of a range: that part is uncharged, the rest stays pinned. */
static void unmap_fails_midway(void)
{
	struct vt_container c;
	u64 base, size = 0, at;
	u8 *mem;

	open_one(&c);
	vt_need_granule(&c);
	mem = vt_alloc(VT_MEM_SCATTERED, SZ_1M);
	base = vt_locked();
	for (at = 0; at < SZ_1M; at += SZ_64K)
		ASSERT_OK(vt_map(&c, IOVA + at, mem + at, SZ_64K, VT_RW, SZ_4K));
	td_fail_unmaps(1, 5, 0);
	EXPECT_EQ(vt_unmap(&c, IOVA, SZ_1M, NULL), -EIO);
	td_fail_unmaps(0, 0, 0);
	lost(SZ_64K);
	EXPECT_EQ(vt_locked(), base + 11 * SZ_64K);
	ASSERT_OK(vt_unmap(&c, IOVA, SZ_1M, &size));
	EXPECT_EQ(size, 10 * SZ_64K);
	EXPECT_EQ(vt_locked(), base + SZ_64K);
	vt_close(&c);
	EXPECT_EQ(vt_locked(), base + SZ_64K);
}

/* The unmap fails at the end of the IOVA space, where an address plus a size wraps. */
static void unmap_fails_last(void)
{
	const u64 at = 0ull - SZ_2M;
	struct vt_container c;
	struct vt_info info;
	u64 base, size = 1;
	u8 *mem;

	open_one(&c);
	vt_need_granule(&c);
	vt_info(&c, &info);
	if (!in_ranges(&info, 0ull - SZ_4K))
		SKIP("the IOMMU does not reach that far");
	mem = vt_alloc(VT_MEM_THP, SZ_2M);
	base = vt_locked();
	ASSERT_OK(vt_map(&c, at, mem, SZ_2M, VT_RW, SZ_64K));
	td_fail_unmaps(-1, 0, 0);
	EXPECT_EQ(vt_unmap(&c, at, SZ_2M, NULL), -EIO);
	td_fail_unmaps(0, 0, 0);
	lost(SZ_2M);
	EXPECT_EQ(vt_locked(), base + SZ_2M);
	ASSERT_OK(vt_unmap(&c, at, SZ_2M, &size));
	EXPECT_EQ(size, 0);
	vt_close(&c);
}

/* One of two domains fails. */
static void unmap_fails_two(int domain)
{
	struct vt_container c;
	struct vt_dev *second;
	u64 base, size = 0;
	u8 *mem;

	second = open_two(&c);
	vt_need_granule(&c);
	mem = vt_alloc(VT_MEM_THP, SIZE);
	base = vt_locked();
	ASSERT_OK(vt_map(&c, IOVA, mem, SIZE, VT_RW, PIECE));

	td_fail_unmaps(-1, 0, domain);
	EXPECT_EQ(vt_unmap(&c, IOVA + 3 * PIECE, PIECE, NULL), -EIO);
	td_fail_unmaps(0, 0, 0);
	lost(PIECE);
	EXPECT_EQ(vt_locked(), base + SIZE);
	if (vt_tables_known(second)) {
		EXPECT_EQ(vt_pgsize_at(domain == 1 ? &c.dev[0] : second, IOVA + 3 * PIECE), SZ_2M);
		EXPECT_EQ(vt_pgsize_at(domain == 2 ? &c.dev[0] : second, IOVA + 3 * PIECE), 0);
	}
	ASSERT_OK(vt_unmap(&c, IOVA, SIZE, &size));
	EXPECT_EQ(size, SIZE - PIECE);
	EXPECT_EQ(vt_locked(), base + PIECE);
	vt_close(&c);
	EXPECT_EQ(vt_locked(), base + PIECE);
}

static void unmap_fails_first(void)
{
	unmap_fails_two(1);
}

static void unmap_fails_second(void)
{
	unmap_fails_two(2);
}

/* The unmap fails when the last group leaves. The pages stay pinned all the same. */
static void teardown_fails(void)
{
	struct vt_container c;
	u64 base, domain;
	u8 *mem;

	for (domain = 0; domain < 2; domain++) {
		open_two(&c);
		vt_need_granule(&c);
		mem = vt_alloc(VT_MEM_THP, PIECE);
		base = vt_locked();
		ASSERT_OK(vt_map(&c, IOVA, mem, PIECE, VT_RW, PIECE));
		vt_remove(&c.dev[1]);
		td_fail_unmaps(-1, 0, domain);
		vt_close(&c);
		td_fail_unmaps(0, 0, 0);
		lost(PIECE);
		EXPECT_EQ(vt_locked(), base + PIECE);
		vt_free(mem, VT_MEM_THP, PIECE);
	}
}

/*
 * A map fails, and to undo it fails, too. What a device may still reach stays pinned and
 * charged; everything else works on. The harness checks that the same amount stays pinned.
 */
static void undo_fails(enum vt_mem kind, bool two)
{
	u64 base, left, leaked = 0, iova = IOVA;
	struct vt_container c;
	u32 avail;
	u8 *mem;
	int i, ret;

	open_one(&c);
	vt_need_granule(&c);
	if (two)
		td_add_second(&c);
	mem = vt_alloc(kind, SIZE);
	base = vt_locked();
	avail = vt_dma_avail(&c);

	/* The first call that maps, the second, and so on, as many as there are */
	for (i = 0; i < 5; i++, iova += SZ_1G) {
		td_fail_to_undo(i);
		ret = vt_map(&c, iova, mem, SIZE, VT_RW, SZ_4K);
		td_set("fail_map_times", 0);
		td_fail_unmaps(0, 0, 0);
		if (!ret) {
			ASSERT_OK(vt_unmap(&c, iova, SIZE, NULL));
			break;
		}
		ASSERT_EQ(ret, -ENOMEM);
		left = vt_locked() - base;
		if (!i)
			EXPECT_EQ(left, 0);
		ASSERT_LE(left, SIZE);
		lost(left);
		leaked += left;
		base += left;
		EXPECT_EQ(vt_dma_avail(&c), avail);

		ASSERT_OK(vt_map(&c, iova + SZ_1G / 2, mem, SIZE, VT_RW, SZ_4K));
		EXPECT_EQ(vt_locked(), base + SIZE);
		ASSERT_OK(vt_unmap(&c, iova + SZ_1G / 2, SIZE, NULL));
		EXPECT_EQ(vt_locked(), base);
	}
	if (two)
		ASSERT_GT(leaked, 0);
	vt_close(&c);
	EXPECT_EQ(vt_locked(), base);
}

static void undo_fails_scattered(void)
{
	undo_fails(VT_MEM_SCATTERED, false);
}

static void undo_fails_thp(void)
{
	undo_fails(VT_MEM_THP, false);
}

static void undo_fails_two(void)
{
	undo_fails(VT_MEM_SCATTERED, true);
}

static void undo_fails_two_thp(void)
{
	undo_fails(VT_MEM_THP, true);
}

/* The same in a container without a domain, when the first one joins. */
static void replay_undo_fails(void)
{
	struct vt_container c;
	struct vt_dev *dev;
	u64 base;
	u8 *mem;
	int i;

	td_arm();
	mem = vt_alloc(VT_MEM_SCATTERED, SZ_1M);
	base = vt_locked();
	vt_open_empty(&c, VFIO_TYPE1v2_IOMMU);
	td_add(&c, 0);
	vt_need_granule(&c);
	ASSERT_OK(vt_map(&c, IOVA, mem, SZ_64K, VT_RW, 0));
	ASSERT_OK(vt_map(&c, IOVA + SZ_1M, mem, SZ_1M, VT_RW, SZ_4K));

	for (i = 0; i < 5; i++) {
		u64 left;
		int ret;

		td_fail_to_undo(i);
		ret = td_try_second(&c);
		td_set("fail_map_times", 0);
		td_fail_unmaps(0, 0, 0);
		if (!ret) {
			/* No call is left to fail: the device is there, but td_try_second() has lost it. */
			ASSERT_GT(i, 1);
			vt_remove(&c.dev[1]);
			break;
		}
		ASSERT_EQ(ret, -ENOMEM);
		left = vt_locked() - base;
		if (!i)
			EXPECT_EQ(left, 0);
		else
			EXPECT_GT(left, 0);
		ASSERT_LE(left, SZ_1M + SZ_64K);
		lost(left);
		base += left;
	}
	dev = vt_add_edu(&c, 1);
	EXPECT_EQ(vt_locked(), base + SZ_1M + SZ_64K);
	vt_edu_enable(dev);
	vt_expect_read(dev, IOVA + 3 * SZ_4K, mem + 3 * SZ_4K);
	vt_expect_read(dev, IOVA + 2 * SZ_1M - SZ_4K, mem + SZ_1M - SZ_4K);
	vt_close(&c);
	EXPECT_EQ(vt_locked(), base);
}

VTEST_MAIN(
	VTEST(two_plain),
	VTEST(late_plain),
	VTEST(late_no_hugepages),
	VTEST(reserved_plain),
	VTEST(cookie_fails),
	VTEST(two_pieces),
	VTEST(late_holes),
	VTEST(pgsize_refused),
	VTEST(pgsize_accepted),
	VTEST(pgsize_mixed),
	VTEST(reserved_holes),
	VTEST(unmap_fails_one),
	VTEST(unmap_fails_midway),
	VTEST(unmap_fails_last),
	VTEST(unmap_fails_first),
	VTEST(unmap_fails_second),
	VTEST(teardown_fails),
	VTEST(undo_fails_scattered),
	VTEST(undo_fails_thp),
	VTEST(undo_fails_two),
	VTEST(undo_fails_two_thp),
	VTEST(replay_undo_fails),
)
