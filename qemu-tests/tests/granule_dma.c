// SPDX-License-Identifier: GPL-2.0
/* DMA beside pieces that are unmapped and mapped, and into the holes */

#include "vtest.h"

#define BASE	(4 * SZ_1G)

static int open_all(struct vt_container *c)
{
	int i, n = vt_edu_count();

	vt_open_v2(c);
	vt_need_granule(c);
	for (i = 1; i < n; i++)
		vt_add_edu(c, i);
	for (i = 0; i < n; i++)
		vt_edu_enable(&c->dev[i]);
	return n;
}

/*
 * Devices use pieces 0, 2, 4, ..., which stay mapped. Meanwhile the pieces between them are
 * unmapped and mapped again, one by one and several at a time.
 */
static void neighbours(enum vt_mem kind, u64 granule, unsigned int cycles)
{
	struct vt_worker w[VT_MAX_DEVS];
	struct vt_container c;
	struct vt_faults f;
	u64 locked, size, at, n;
	unsigned int i;
	int k, devs;
	u8 *p;

	devs = open_all(&c);
	size = (2 * devs + 1) * granule;
	p = vt_alloc(kind, size);
	locked = vt_locked();
	ASSERT_OK(vt_map(&c, BASE, p, size, VT_RW, granule));
	vt_faults_mark(&f);
	for (k = 0; k < devs; k++) {
		at = 2 * k * granule;
		w[k].dev = &c.dev[k];
		w[k].from_iova = BASE + at;
		w[k].from = p + at;
		/* From the first page of its piece to the last one, if it has two. */
		if (granule > SZ_4K) {
			at += granule - SZ_4K;
			w[k].to_iova = BASE + at;
			w[k].to = p + at;
		} else {
			w[k].to_iova = c.dev[k].bounce_iova;
			w[k].to = c.dev[k].bounce;
		}
		vt_worker_start(&w[k]);
	}

	for (i = 0; i < cycles || !vt_workers_did(w, devs, 12); i++) {
		at = (2 * (i % devs) + 1) * granule;
		ASSERT_OK(vt_unmap(&c, BASE + at, granule, &n));
		ASSERT_EQ(n, granule);
		ASSERT_EQ(vt_locked(), locked + size - granule);
		/* Its old place in memory, or one small page after the other. */
		if (i % 8 || granule > SZ_2M)
			ASSERT_OK(vt_map(&c, BASE + at, p + at, granule, VT_RW, granule));
		else
			ASSERT_OK(vt_map(&c, BASE + at, p + at, granule, VT_RW, SZ_4K));
	}
	vt_diag("%u cycles next to %llu copies by %d devices", i, vt_workers_stop(w, devs), devs);
	ASSERT_EQ(vt_faults_count(&f), 0);
}

static void neighbours_4k(void)
{
	neighbours(VT_MEM_4K, SZ_4K, 5000);
}

static void neighbours_64k(void)
{
	neighbours(VT_MEM_THP, SZ_64K, 4000);
}

static void neighbours_2m_thp(void)
{
	neighbours(VT_MEM_THP, SZ_2M, 3000);
}

static void neighbours_2m_small_pages(void)
{
	neighbours(VT_MEM_SCATTERED, SZ_2M, 600);
}

static void neighbours_hugetlb(void)
{
	neighbours(VT_MEM_HUGE_1G, SZ_4M, 1000);
}

/* DMA to a hole: the kernel logs a fault, memory does not change, neighbours work on. */
static void hole_faults(void)
{
	u8 buf[VT_DMA_MAX], back[VT_DMA_MAX];
	struct vt_container c;
	struct vt_faults f;
	u8 *p;

	vt_open_granule(&c);
	vt_edu_enable(&c.dev[0]);
	p = vt_alloc(VT_MEM_THP, 3 * SZ_2M);
	vt_fill(p, 3 * SZ_2M, 1);
	vt_fill(buf, sizeof(buf), 2);
	ASSERT_OK(vt_map(&c, BASE, p, 3 * SZ_2M, VT_RW, SZ_2M));
	/* Let the IOMMU cache what is about to go. */
	vt_dma_read(&c.dev[0], BASE + SZ_2M, back, sizeof(back));
	EXPECT_EQ(memcmp(back, p + SZ_2M, sizeof(back)), 0);
	ASSERT_OK(vt_unmap(&c, BASE + SZ_2M, SZ_2M, NULL));

	vt_faults_mark(&f);
	vt_dma_write(&c.dev[0], BASE + SZ_2M, buf, sizeof(buf));
	EXPECT_TRUE(vt_faults_hit(&f, BASE + SZ_2M, SZ_4K));
	EXPECT_TRUE(vt_filled(p, 3 * SZ_2M, 1));

	vt_faults_mark(&f);
	memset(back, 0, sizeof(back));
	vt_dma_read(&c.dev[0], BASE + SZ_4M - SZ_4K, back, sizeof(back));
	EXPECT_TRUE(vt_faults_hit(&f, BASE + SZ_4M - SZ_4K, SZ_4K));
	EXPECT_NE(memcmp(back, p + SZ_4M - SZ_4K, sizeof(back)), 0);

	/* The bytes on both sides of the hole. */
	vt_faults_mark(&f);
	vt_dma_write(&c.dev[0], BASE + SZ_2M - SZ_4K, buf, sizeof(buf));
	vt_dma_write(&c.dev[0], BASE + SZ_4M, buf, sizeof(buf));
	EXPECT_TRUE(vt_filled(p + SZ_2M - SZ_4K, sizeof(buf), 2));
	EXPECT_TRUE(vt_filled(p + SZ_4M, sizeof(buf), 2));
	EXPECT_EQ(vt_faults_count(&f), 0);
}

/* DMA reaches what is mapped in the hole, not what was there before. */
static void remapped_hole(void)
{
	u8 buf[VT_DMA_MAX], back[VT_DMA_MAX];
	struct vt_container c;
	struct vt_faults f;
	u8 *p, *q;

	vt_open_granule(&c);
	vt_edu_enable(&c.dev[0]);
	p = vt_alloc(VT_MEM_THP, 3 * SZ_2M);
	q = vt_alloc(VT_MEM_SCATTERED, SZ_2M);
	vt_fill(p, 3 * SZ_2M, 1);
	vt_fill(q, SZ_2M, 2);
	vt_fill(buf, sizeof(buf), 3);
	ASSERT_OK(vt_map(&c, BASE, p, 3 * SZ_2M, VT_RW, SZ_2M));
	vt_dma_read(&c.dev[0], BASE + SZ_2M, back, sizeof(back));
	ASSERT_OK(vt_unmap(&c, BASE + SZ_2M, SZ_2M, NULL));
	ASSERT_OK(vt_map(&c, BASE + SZ_2M, q, SZ_1M, VT_RW, SZ_4K));
	ASSERT_OK(vt_map(&c, BASE + SZ_2M + SZ_1M, q + SZ_1M, SZ_1M, VT_RO, SZ_1M));

	vt_faults_mark(&f);
	vt_dma_read(&c.dev[0], BASE + SZ_2M, back, sizeof(back));
	EXPECT_TRUE(vt_filled(back, sizeof(back), 2));
	vt_dma_write(&c.dev[0], BASE + SZ_2M + 5 * SZ_4K, buf, sizeof(buf));
	EXPECT_TRUE(vt_filled(q + 5 * SZ_4K, sizeof(buf), 3));
	vt_dma_read(&c.dev[0], BASE + SZ_2M + SZ_1M, back, sizeof(back));
	EXPECT_EQ(memcmp(back, q + SZ_1M, sizeof(back)), 0);
	EXPECT_EQ(vt_faults_count(&f), 0);
	EXPECT_TRUE(vt_filled(p, 3 * SZ_2M, 1));

	/*
	 * Read-only now. Another page than the one just read: QEMU drops a write to
	 * a page that its IOTLB knows as read-only, but reports no fault.
	 */
	memcpy(back, q + SZ_1M + SZ_64K, sizeof(back));
	vt_dma_write(&c.dev[0], BASE + SZ_2M + SZ_1M + SZ_64K, buf, sizeof(buf));
	EXPECT_TRUE(vt_faults_hit(&f, BASE + SZ_2M + SZ_1M + SZ_64K, SZ_4K));
	EXPECT_EQ(memcmp(back, q + SZ_1M + SZ_64K, sizeof(back)), 0);
	EXPECT_TRUE(vt_filled(p, 3 * SZ_2M, 1));
}

#define MAX_TAKEN	64

/*
 * Gets back a huge page that was freed: allocates huge pages until it comes, and frees the
 * others. NULL if it does not come.
 */
static u8 *take_again(u64 phys)
{
	u8 *taken[MAX_TAKEN], *found = NULL;
	int i, n;

	for (n = 0; n < MAX_TAKEN && !found; n++) {
		taken[n] = vt_alloc(VT_MEM_THP, SZ_2M);
		if (vt_phys(taken[n]) == phys)
			found = taken[n];
	}
	for (i = 0; i < n; i++)
		if (taken[i] != found)
			vt_free(taken[i], VT_MEM_THP, SZ_2M);
	return found;
}

/* A device writes to a piece while it is unmapped: no byte arrives after that. */
static void unmap_under_dma(void)
{
	unsigned int i, reused = 0;
	struct vt_container c;
	u8 buf[VT_DMA_MAX];
	u8 *p, *q;
	u64 phys;

	vt_open_granule(&c);
	vt_edu_enable(&c.dev[0]);
	vt_fill(buf, sizeof(buf), 3);
	vt_dma_write(&c.dev[0], c.dev[0].bounce_iova, buf, sizeof(buf));
	p = vt_alloc(VT_MEM_THP, 2 * SZ_2M);
	ASSERT_OK(vt_map(&c, BASE, p, 2 * SZ_2M, VT_RW, SZ_2M));
	for (i = 0; i < 8; i++) {
		vt_dma_store_start(&c.dev[0], BASE + SZ_2M, sizeof(buf));
		usleep(i % 2 ? 95000 + i * 2000 : 1000);
		ASSERT_OK(vt_unmap(&c, BASE + SZ_2M, SZ_2M, NULL));
		/* The page is ours alone again: given away, and in other use at once. */
		phys = vt_phys(p + SZ_2M);
		ASSERT_NE(phys, 0);
		ASSERT_OK(madvise(p + SZ_2M, SZ_2M, MADV_DONTNEED));
		q = take_again(phys);
		if (q) {
			reused++;
			vt_fill(q, SZ_2M, i);
			vt_dma_wait(&c.dev[0]);
			if (!vt_filled(q, SZ_2M, i))
				FAIL("round %u: DMA went to memory that was unmapped", i);
			vt_free(q, VT_MEM_THP, SZ_2M);
		}
		vt_dma_wait(&c.dev[0]);
		memset(p + SZ_2M, 0, SZ_2M);
		ASSERT_OK(vt_map(&c, BASE + SZ_2M, p + SZ_2M, SZ_2M, VT_RW, SZ_2M));
	}
	vt_diag("the page that was unmapped was taken again in %u of %u rounds", reused, i);
	ASSERT_GE(reused, i / 2);
}

/* The last page of the IOVA space, beside a hole. */
static void last_page(void)
{
	u8 buf[VT_DMA_MAX];
	struct vt_container c;
	struct vt_faults f;
	u64 top;
	u8 *p;

	vt_open_granule(&c);
	vt_edu_enable(&c.dev[0]);
	p = vt_alloc(VT_MEM_4K, SZ_64K);
	vt_fill(p, SZ_64K, 1);
	vt_fill(buf, sizeof(buf), 2);
	top = vt_last_iova(&c) - SZ_64K + 1;
	/* The device has no more than 48 address lines. */
	if (top >> 48)
		SKIP("the last IOVA is %#llx, beyond the device", vt_last_iova(&c));
	ASSERT_OK(vt_map(&c, top, p, SZ_64K, VT_RW, SZ_4K));
	ASSERT_OK(vt_unmap(&c, top + SZ_64K - SZ_8K, SZ_4K, NULL));
	vt_faults_mark(&f);
	vt_dma_write(&c.dev[0], top + SZ_64K - SZ_4K, buf, sizeof(buf));
	EXPECT_TRUE(vt_filled(p + SZ_64K - SZ_4K, sizeof(buf), 2));
	EXPECT_EQ(vt_faults_count(&f), 0);
	ASSERT_OK(vt_unmap(&c, top + SZ_64K - SZ_4K, SZ_4K, NULL));
	vt_fill(p, SZ_64K, 1);
	vt_dma_write(&c.dev[0], top + SZ_64K - SZ_4K, buf, sizeof(buf));
	EXPECT_TRUE(vt_faults_hit(&f, top + SZ_64K - SZ_4K, SZ_4K));
	EXPECT_TRUE(vt_filled(p, SZ_64K, 1));
}

VTEST_MAIN(
	VTEST(neighbours_4k),
	VTEST(neighbours_64k),
	VTEST(neighbours_2m_thp),
	VTEST(neighbours_2m_small_pages),
	VTEST(neighbours_hugetlb),
	VTEST(hole_faults),
	VTEST(remapped_hole),
	VTEST(unmap_under_dma),
	VTEST(last_page),
)
