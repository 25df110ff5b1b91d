// SPDX-License-Identifier: GPL-2.0
/* VFIO_DMA_UNMAP_FLAG_VADDR and VFIO_DMA_MAP_FLAG_VADDR on mappings with holes. */
#define _GNU_SOURCE
#include "vtest.h"

#define BASE	(4 * SZ_1G)
#define U	SZ_64K			/* the granule, mostly */

#define VADDR_ALL	(VFIO_DMA_UNMAP_FLAG_VADDR | VFIO_DMA_UNMAP_FLAG_ALL)

static u8 *p, *q;

/* Eight pieces, of which 0, 3, 4 and 7 are gone. */
static void open_holey(struct vt_container *c)
{
	vt_open_v2(c);
	vt_need_granule(c);
	p = vt_alloc(VT_MEM_4K, 8 * U);
	q = vt_alloc(VT_MEM_4K, 8 * U);
	ASSERT_OK(vt_map(c, BASE, p, 8 * U, VT_RW, U));
	ASSERT_OK(vt_unmap(c, BASE, U, NULL));
	ASSERT_OK(vt_unmap(c, BASE + 3 * U, 2 * U, NULL));
	ASSERT_OK(vt_unmap(c, BASE + 7 * U, U, NULL));
	ASSERT_EQ(vt_locked(), 4 * U);
}

/* The mapping at BASE has a valid vaddr: updating it is refused. */
static bool is_valid(struct vt_container *c)
{
	return vt_map_vaddr(c, BASE, p, 8 * U) == -EINVAL;
}

static void leaving_out_a_piece_einval(void)
{
	struct vt_container c;

	open_holey(&c);
	ASSERT_REFUSED(&c, vt_unmap_vaddr(&c, BASE + U, U, NULL), EINVAL);
	ASSERT_REFUSED(&c, vt_unmap_vaddr(&c, BASE + U, 2 * U, NULL), EINVAL);
	ASSERT_REFUSED(&c, vt_unmap_vaddr(&c, BASE, 3 * U, NULL), EINVAL);
	ASSERT_REFUSED(&c, vt_unmap_vaddr(&c, BASE + 2 * U, 5 * U, NULL), EINVAL);
	ASSERT_REFUSED(&c, vt_unmap_vaddr(&c, BASE + U, 5 * U, NULL), EINVAL);
	ASSERT_REFUSED(&c, vt_unmap_vaddr(&c, BASE + 4 * U, 4 * U, NULL), EINVAL);
	/* The first of the pieces cut. */
	ASSERT_REFUSED(&c, vt_unmap_vaddr(&c, BASE + U + SZ_4K, 7 * U, NULL), EINVAL);
	EXPECT_TRUE(is_valid(&c));
}

static void over_remaining_pieces(void)
{
	struct vt_container c;
	u64 n;

	open_holey(&c);
	/* The range is what is left, without the holes at both ends. */
	ASSERT_OK(vt_unmap_vaddr(&c, BASE + U, 6 * U, &n));
	EXPECT_EQ(n, 4 * U);
	EXPECT_TRUE(!is_valid(&c));
	EXPECT_TRUE(is_valid(&c));
	ASSERT_OK(vt_unmap_vaddr(&c, BASE, 8 * U, &n));
	EXPECT_EQ(n, 4 * U);
	ASSERT_EQ(vt_unmap_vaddr(&c, BASE, 8 * U, NULL), -EINVAL);
	ASSERT_OK(vt_map_vaddr(&c, BASE, q, 8 * U));
	/* Into the holes, not at multiples of the granule. */
	ASSERT_OK(vt_unmap_vaddr(&c, BASE + SZ_4K, 8 * U - SZ_8K, &n));
	EXPECT_EQ(n, 4 * U);
	ASSERT_OK(vt_map_vaddr(&c, BASE, q, 8 * U));
	EXPECT_EQ(vt_locked(), 4 * U);
}

static void over_holes_only(void)
{
	struct vt_container c;
	u64 n;

	open_holey(&c);
	n = 1;
	ASSERT_OK(vt_unmap_vaddr(&c, BASE, U, &n));
	EXPECT_EQ(n, 0);
	n = 1;
	ASSERT_OK(vt_unmap_vaddr(&c, BASE + 3 * U + SZ_4K, SZ_4K, &n));
	EXPECT_EQ(n, 0);
	n = 1;
	ASSERT_OK(vt_unmap_vaddr(&c, BASE + 7 * U, 4 * U, &n));
	EXPECT_EQ(n, 0);
	EXPECT_TRUE(is_valid(&c));
}

static void update_names_original(void)
{
	struct vt_container c;

	open_holey(&c);
	ASSERT_OK(vt_unmap_vaddr(&c, BASE + U, 6 * U, NULL));
	ASSERT_REFUSED(&c, vt_map_vaddr(&c, BASE + U, q + U, 6 * U), EINVAL);
	ASSERT_REFUSED(&c, vt_map_vaddr(&c, BASE, q, 7 * U), EINVAL);
	ASSERT_REFUSED(&c, vt_map_vaddr(&c, BASE + U, q, 7 * U), EINVAL);
	ASSERT_REFUSED(&c, vt_map_vaddr(&c, BASE, q, 9 * U), EINVAL);
	ASSERT_REFUSED(&c, vt_map_vaddr(&c, BASE + U, q + U, U), EINVAL);
	ASSERT_REFUSED(&c, vt_map_vaddr(&c, BASE + 16 * U, q, 8 * U), ENOENT);
	ASSERT_REFUSED(&c, vt_map_vaddr(&c, BASE, q, 8 * U + 1), EINVAL);
	ASSERT_OK(vt_map_vaddr(&c, BASE, q, 8 * U));
	EXPECT_EQ(vt_locked(), 4 * U);
}

/* A mapping in a hole has a vaddr of its own. */
static void guests_untouched(void)
{
	struct vt_container c;
	u64 n;

	open_holey(&c);
	ASSERT_OK(vt_map(&c, BASE + 3 * U, q, 2 * U, VT_RW, SZ_4K));
	ASSERT_OK(vt_unmap(&c, BASE + 3 * U + SZ_4K, SZ_4K, NULL));
	ASSERT_OK(vt_map(&c, BASE + 7 * U, q, U, VT_RW, 0));

	/* Only the mapping in the first hole */
	ASSERT_OK(vt_unmap_vaddr(&c, BASE + 3 * U, 2 * U, &n));
	EXPECT_EQ(n, 2 * U - SZ_4K);
	EXPECT_TRUE(is_valid(&c));
	/* If one of them is invalid already, none is changed. */
	ASSERT_REFUSED(&c, vt_unmap_vaddr(&c, BASE, 8 * U, NULL), EINVAL);
	EXPECT_TRUE(is_valid(&c));
	ASSERT_OK(vt_map_vaddr(&c, BASE + 3 * U, q, 2 * U));

	/* All three become invalid. Each gets its vaddr by its own iova and size. */
	ASSERT_OK(vt_unmap_vaddr(&c, BASE, 8 * U, &n));
	EXPECT_EQ(n, 7 * U - SZ_4K);
	ASSERT_OK(vt_map_vaddr(&c, BASE, p, 8 * U));
	EXPECT_TRUE(is_valid(&c));
	ASSERT_REFUSED(&c, vt_map_vaddr(&c, BASE + 3 * U, q, U), EINVAL);
	ASSERT_OK(vt_map_vaddr(&c, BASE + 3 * U, q, 2 * U));
	ASSERT_REFUSED(&c, vt_map_vaddr(&c, BASE + 3 * U, q, 2 * U), EINVAL);
	ASSERT_OK(vt_map_vaddr(&c, BASE + 7 * U, q, U));
	EXPECT_EQ(vt_locked(), 7 * U - SZ_4K);

	/* Only the mapping in the last hole */
	ASSERT_OK(vt_unmap_vaddr(&c, BASE + 7 * U, U, &n));
	EXPECT_EQ(n, U);
	EXPECT_TRUE(is_valid(&c));
	ASSERT_OK(vt_map_vaddr(&c, BASE + 7 * U, q, U));
}

/* A mapping, and one in its hole, that were made at the same iova */
static void same_start(void)
{
	struct vt_container c;

	open_holey(&c);
	ASSERT_OK(vt_map(&c, BASE, q, U, VT_RW, SZ_4K));
	ASSERT_OK(vt_unmap(&c, BASE, SZ_4K, NULL));
	ASSERT_OK(vt_map(&c, BASE, q, SZ_4K, VT_RW, 0));
	ASSERT_OK(vt_unmap_vaddr(&c, BASE, 8 * U, NULL));
	ASSERT_REFUSED(&c, vt_map_vaddr(&c, BASE, q, SZ_8K), EINVAL);
	ASSERT_OK(vt_map_vaddr(&c, BASE, q, U));
	ASSERT_REFUSED(&c, vt_map_vaddr(&c, BASE, q, U), EINVAL);
	ASSERT_OK(vt_map_vaddr(&c, BASE, q, SZ_4K));
	ASSERT_OK(vt_map_vaddr(&c, BASE, q, 8 * U));
	EXPECT_TRUE(is_valid(&c));
	EXPECT_EQ(vt_locked(), 5 * U);
}

static void unmap_all_vaddr(void)
{
	struct vt_container c;
	u64 n;

	open_holey(&c);
	ASSERT_OK(vt_map(&c, BASE + 4 * U, q, U, VT_RW, 0));
	ASSERT_OK(vt_unmap_flags(&c, VADDR_ALL, 0, 0, &n));
	EXPECT_EQ(n, 5 * U);
	ASSERT_EQ(vt_unmap_flags(&c, VADDR_ALL, 0, 0, NULL), -EINVAL);
	ASSERT_OK(vt_map_vaddr(&c, BASE + 4 * U, q, U));
	ASSERT_REFUSED(&c, vt_unmap_flags(&c, VADDR_ALL, 0, 0, NULL), EINVAL);
	ASSERT_OK(vt_map_vaddr(&c, BASE, p, 8 * U));
	ASSERT_OK(vt_unmap_flags(&c, VADDR_ALL, 0, 0, &n));
	EXPECT_EQ(n, 5 * U);
}

/* Pieces can be unmapped while vaddr is invalid. The rest can still get a new vaddr. */
static void unmap_while_invalid(void)
{
	struct vt_container c;
	u64 n;

	open_holey(&c);
	ASSERT_OK(vt_unmap_vaddr(&c, BASE, 8 * U, NULL));
	ASSERT_OK(vt_unmap(&c, BASE + U, U, &n));
	EXPECT_EQ(n, U);
	EXPECT_EQ(vt_locked(), 3 * U);
	ASSERT_OK(vt_map_vaddr(&c, BASE, q, 8 * U));
	EXPECT_EQ(vt_locked(), 3 * U);

	ASSERT_OK(vt_unmap_vaddr(&c, BASE, 8 * U, &n));
	EXPECT_EQ(n, 3 * U);
	ASSERT_OK(vt_unmap(&c, BASE, 8 * U, &n));
	EXPECT_EQ(n, 3 * U);
	EXPECT_EQ(vt_locked(), 0);
	ASSERT_EQ(vt_map_vaddr(&c, BASE, q, 8 * U), -ENOENT);
}

/* While a vaddr is invalid no group can join. */
static void groups_wait(void)
{
	struct vt_container c;
	int group;

	vt_edu_bdf(1);
	open_holey(&c);
	group = vt_edu_group(1);
	ASSERT_OK(vt_unmap_vaddr(&c, BASE, 8 * U, NULL));
	ASSERT_EQ(vt_try_add_group(&c, group, vt_edu_bdf(1), NULL), -EBUSY);
	/* When its last pieces are unmapped, its invalid vaddr is gone, too. */
	ASSERT_OK(vt_unmap(&c, BASE + U, 2 * U, NULL));
	ASSERT_EQ(vt_try_add_group(&c, group, vt_edu_bdf(1), NULL), -EBUSY);
	ASSERT_OK(vt_unmap(&c, BASE + 5 * U, 2 * U, NULL));
	ASSERT_OK(vt_try_add_group(&c, group, vt_edu_bdf(1), NULL));
}

/* DMA goes on while vaddr is invalid, and after. */
static void dma_goes_on(void)
{
	u8 buf[VT_DMA_MAX];
	struct vt_container c;
	struct vt_faults f;

	open_holey(&c);
	vt_edu_enable(&c.dev[0]);
	vt_faults_mark(&f);
	ASSERT_OK(vt_unmap_vaddr(&c, BASE, 8 * U, NULL));
	vt_fill(buf, sizeof(buf), 1);
	vt_dma_write(&c.dev[0], BASE + U, buf, sizeof(buf));
	EXPECT_TRUE(vt_filled(p + U, sizeof(buf), 1));
	/* The same memory moves to another address. */
	ASSERT_TRUE(mremap(p, 8 * U, 8 * U, MREMAP_MAYMOVE | MREMAP_FIXED, q) == q);
	ASSERT_OK(vt_map_vaddr(&c, BASE, q, 8 * U));
	vt_fill(buf, sizeof(buf), 2);
	vt_dma_write(&c.dev[0], BASE + 6 * U, buf, sizeof(buf));
	EXPECT_TRUE(vt_filled(q + 6 * U, sizeof(buf), 2));
	EXPECT_EQ(vt_faults_count(&f), 0);
	ASSERT_OK(vt_unmap(&c, BASE, 8 * U, NULL));
	EXPECT_EQ(vt_locked(), SZ_4K);
}

/* The process that gives the new address is charged for what is left, no more. */
static void charge_moves(void)
{
	struct vt_container c;
	pid_t pid;
	u64 n;

	open_holey(&c);
	ASSERT_OK(vt_unmap_vaddr(&c, BASE + U, 6 * U, NULL));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		ASSERT_OK(vt_map_vaddr(&c, BASE, p, 8 * U));
		ASSERT_EQ(vt_locked(), 4 * U);
		ASSERT_EQ(vt_locked_of(getppid()), 0);
		ASSERT_OK(vt_unmap(&c, BASE + U, U, &n));
		ASSERT_EQ(n, U);
		ASSERT_EQ(vt_locked(), 3 * U);
		ASSERT_EQ(vt_locked_of(getppid()), 0);
		exit(0);
	}
	vt_wait_exit(pid);
	EXPECT_EQ(vt_locked(), 0);
	/* The owner is dead; there is nobody left to uncharge. */
	ASSERT_OK(vt_unmap(&c, BASE + 2 * U, U, &n));
	EXPECT_EQ(n, U);
	EXPECT_EQ(vt_locked(), 0);
	/* Take it over again. */
	ASSERT_OK(vt_unmap_vaddr(&c, BASE, 8 * U, &n));
	EXPECT_EQ(n, 2 * U);
	ASSERT_OK(vt_map_vaddr(&c, BASE, p, 8 * U));
	EXPECT_EQ(vt_locked(), 2 * U);
	ASSERT_OK(vt_unmap_all(&c, &n));
	EXPECT_EQ(n, 2 * U);
	EXPECT_EQ(vt_locked(), 0);
}

/* The new owner's limit counts what is left, not what was mapped. */
static void charge_needs_rlimit(void)
{
	struct vt_container c;
	pid_t pid;

	open_holey(&c);
	ASSERT_OK(vt_unmap_vaddr(&c, BASE, 8 * U, NULL));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		vt_limit_locked(4 * U);
		ASSERT_OK(vt_map_vaddr(&c, BASE, p, 8 * U));
		ASSERT_EQ(vt_locked(), 4 * U);
		ASSERT_OK(vt_unmap_vaddr(&c, BASE, 8 * U, NULL));
		exit(0);
	}
	vt_wait_exit(pid);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		vt_limit_locked(4 * U - SZ_4K);
		ASSERT_EQ(vt_map_vaddr(&c, BASE, p, 8 * U), -ENOMEM);
		ASSERT_EQ(vt_locked(), 0);
		exit(0);
	}
	vt_wait_exit(pid);
	ASSERT_OK(vt_map_vaddr(&c, BASE, p, 8 * U));
	EXPECT_EQ(vt_locked(), 4 * U);
}

VTEST_MAIN(
	VTEST(leaving_out_a_piece_einval),
	VTEST(over_remaining_pieces),
	VTEST(over_holes_only),
	VTEST(update_names_original),
	VTEST(guests_untouched),
	VTEST(same_start),
	VTEST(unmap_all_vaddr),
	VTEST(unmap_while_invalid),
	VTEST(groups_wait),
	VTEST(dma_goes_on),
	VTEST(charge_moves),
	VTEST(charge_needs_rlimit),
)
