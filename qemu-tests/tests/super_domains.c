// SPDX-License-Identifier: GPL-2.0
/*
 * Mappings of a super-container's memory in two domains, and with an IOMMU driver that
 * fails.
 */
#define _GNU_SOURCE
#include "../lib/testdev.h"

#define BASE	(4 * SZ_1G)
#define RW	VT_SUPER_RW
#define SIZE	(4 * SZ_2M)

static struct vt_dev *add_second(struct vt_container *c)
{
	struct vt_dev *dev = td_add_second(c);

	vt_edu_enable(dev);
	return dev;
}

/* Replay maps the registered pages, not what is at their address by then. */
static void replayed(void)
{
	u8 *p, *away, *other;
	struct vt_container c;
	struct vt_dev *second;
	int super;
	u64 base;

	td_two_domains();
	super = vt_open_super(&c);
	p = vt_alloc(VT_MEM_THP, SIZE);
	away = vt_alloc(VT_MEM_4K, SIZE);
	ASSERT_OK(vt_super_register(super, p, SIZE, RW));
	ASSERT_OK(vt_map_super(&c, BASE, p, SIZE, VT_RW, SZ_2M));
	ASSERT_OK(vt_unmap(&c, BASE + SZ_2M, SZ_2M, NULL));
	ASSERT_OK(vt_map_super(&c, BASE + SZ_2M, p, SZ_1M, VT_RO, 0));
	ASSERT_TRUE(mremap(p, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, away) == away);
	other = mmap(p, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		     0);
	ASSERT_TRUE(other == p);
	memset(other, 0x77, SIZE);
	base = vt_locked();

	second = add_second(&c);
	base += SZ_4K;			/* its own page */
	ASSERT_EQ(vt_locked(), base);
	vt_expect_tables(second, BASE, SZ_2M, away, VT_RW, SZ_2M);
	vt_expect_tables(second, BASE + SZ_2M, SZ_1M, away, VT_RO, 0);
	vt_expect_tables(second, BASE + SZ_2M + SZ_1M, SZ_1M, NULL, 0, 0);
	vt_expect_tables(second, BASE + 2 * SZ_2M, 2 * SZ_2M, away + 2 * SZ_2M, VT_RW, SZ_2M);
	vt_expect_dma(second, BASE, away);
	vt_expect_dma(&c.dev[0], BASE + SZ_4K, away + SZ_4K);
	vt_expect_no_dma(second, BASE + SZ_2M, away);

	/* Into both, and out of both. */
	ASSERT_OK(vt_map_super(&c, 2 * BASE, p, SIZE, VT_RW, SZ_2M));
	vt_expect_tables(second, 2 * BASE, SIZE, away, VT_RW, SZ_2M);
	ASSERT_OK(vt_unmap(&c, 2 * BASE, SIZE, NULL));
	vt_expect_tables(second, 2 * BASE, SIZE, NULL, 0, 0);
	vt_expect_tables(&c.dev[0], 2 * BASE, SIZE, NULL, 0, 0);

	/* The first domain goes; what came to the second stays. */
	vt_remove(&c.dev[0]);
	ASSERT_EQ(vt_locked(), base);
	vt_expect_dma(second, BASE + 2 * SZ_2M, away + 2 * SZ_2M);
	ASSERT_SUPER(super, SIZE, SIZE, 1, 1);
	ASSERT_OK(vt_unmap_all(&c, NULL));
	ASSERT_OK(vt_super_detach(&c));
	ASSERT_OK(vt_super_unregister(super, p, SIZE));
	ASSERT_EQ(vt_locked(), 0);
}

/* A domain that cannot keep the granule is refused, and nothing changes. */
static void replay_refused(void)
{
	struct vt_container c;
	int super;
	u64 base;
	u8 *p;

	td_two_domains();
	super = vt_open_super(&c);
	p = vt_alloc(VT_MEM_4K, SZ_2M);
	ASSERT_OK(vt_super_register(super, p, SZ_2M, RW));
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_2M, VT_RW, SZ_64K));
	base = vt_locked();
	td_need_hiding();
	td_set("hide_pgsizes", SZ_2M - SZ_4K);
	ASSERT_EQ(vt_try_add_group(&c, vt_edu_group(1), vt_edu_bdf(1), NULL), -EINVAL);
	ASSERT_EQ(vt_locked(), base);
	ASSERT_SUPER(super, SZ_2M, SZ_2M, 1, 1);
	vt_expect_dma(&c.dev[0], BASE + SZ_64K, p + SZ_64K);
	td_set("hide_pgsizes", 0);
	add_second(&c);
	ASSERT_EQ(vt_locked(), base + SZ_4K);
}

/* ---- An IOMMU driver that fails to unmap ---- */

/* One domain, or two, and 1 MiB registered. Returns the super-container. */
static int open_scattered(struct vt_container *c, bool two, u8 **p)
{
	int super;

	td_two_domains();
	super = vt_open_super(c);
	if (two)
		add_second(c);
	*p = vt_alloc(VT_MEM_SCATTERED, SZ_1M);
	ASSERT_OK(vt_super_register(super, *p, SZ_1M, RW));
	return super;
}

/*
 * A device may still reach the region: it cannot be unregistered, and its pages stay pinned
 * when the super-container is gone.
 */
static void expect_kept(struct vt_container *c, int super, const void *p, u64 base)
{
	ASSERT_EQ(vt_super_unregister(super, p, SZ_1M), -EBUSY);
	ASSERT_OK(vt_super_detach(c));
	ASSERT_SUPER(super, SZ_1M, SZ_1M, 1, 0);
	vt_close(c);
	ASSERT_EQ(vt_super_unregister(super, p, SZ_1M), -EBUSY);
	vt_leaks_pins(SZ_1M / SZ_4K);
	close(super);
	ASSERT_LOCKED_SOON(getpid(), base);
}

/*
 * The unmap returns -EIO. The mapping is gone, and the memory stays pinned. domain: which one
 * fails; 0: all, 1: the older one.
 */
static void unmap_fails(bool two, int domain)
{
	u64 pinned, locked, base = vt_locked(), n = 1;
	struct vt_container c;
	int super;
	u32 avail;
	u8 *p;

	super = open_scattered(&c, two, &p);
	avail = vt_dma_avail(&c);
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, SZ_64K));
	pinned = vt_pinned();
	locked = vt_locked();

	td_fail_unmaps(-1, 0, domain);
	ASSERT_EQ(vt_unmap(&c, BASE + SZ_64K, 2 * SZ_64K, NULL), -EIO);
	td_fail_unmaps(0, 0, 0);
	ASSERT_EQ(vt_super_detach(&c), -EBUSY);
	ASSERT_EQ(vt_dma_avail(&c), avail - 1);
	ASSERT_EQ(vt_pinned(), pinned);
	ASSERT_EQ(vt_locked(), locked);
	ASSERT_OK(vt_unmap(&c, BASE + SZ_64K, 2 * SZ_64K, &n));
	ASSERT_EQ(n, 0);
	/* What was not asked for is not concerned. */
	vt_expect_dma(&c.dev[0], BASE, p);
	vt_expect_dma(&c.dev[0], BASE + 3 * SZ_64K, p + 3 * SZ_64K);
	ASSERT_OK(vt_unmap(&c, BASE, SZ_1M, &n));
	ASSERT_EQ(n, SZ_1M - 2 * SZ_64K);
	ASSERT_EQ(vt_dma_avail(&c), avail);
	expect_kept(&c, super, p, base);
}

static void unmap_fails_one(void)
{
	unmap_fails(false, 0);
}

static void unmap_fails_first(void)
{
	unmap_fails(true, 1);
}

static void unmap_fails_second(void)
{
	unmap_fails(true, 2);
}

/* The second domain fails to map, and the first fails to undo its part. */
static void undo_fails(void)
{
	u64 base = vt_locked();
	struct vt_container c;
	int super;
	u8 *p;

	super = open_scattered(&c, true, &p);
	td_fail_unmaps(0, 0, 0);
	td_fail_to_undo(1);
	ASSERT_EQ(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, SZ_4K), -ENOMEM);
	td_fail_unmaps(0, 0, 0);
	/* It can be mapped elsewhere. */
	ASSERT_OK(vt_map_super(&c, 2 * BASE, p, SZ_1M, VT_RW, SZ_4K));
	vt_expect_dma(&c.dev[0], 2 * BASE + SZ_64K, p + SZ_64K);
	ASSERT_OK(vt_unmap(&c, 2 * BASE, SZ_1M, NULL));
	expect_kept(&c, super, p, base);
}

/* The container goes, and its domain fails to unmap. */
static void teardown_fails(void)
{
	u64 base = vt_locked();
	struct vt_container c;
	int super;
	u8 *p;

	super = open_scattered(&c, false, &p);
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, SZ_2M / 2));
	td_fail_unmaps(-1, 0, 0);
	vt_close(&c);
	td_fail_unmaps(0, 0, 0);
	ASSERT_SUPER(super, SZ_1M, SZ_1M, 1, 0);
	ASSERT_EQ(vt_super_unregister(super, p, SZ_1M), -EBUSY);
	/* The page that edu copies by way of stays mapped, too. */
	vt_leaks_pins(SZ_1M / SZ_4K + 1);
	close(super);
	ASSERT_LOCKED_SOON(getpid(), base + SZ_4K);
}

VTEST_MAIN(
	VTEST(replayed),
	VTEST(replay_refused),
	VTEST(unmap_fails_one),
	VTEST(unmap_fails_first),
	VTEST(unmap_fails_second),
	VTEST(undo_fails),
	VTEST(teardown_fails),
)
