// SPDX-License-Identifier: GPL-2.0
/*
 * Sparse mappings while DMA, other domains, mediated devices, dirty tracking and other
 * processes come and go.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>

#include "testdev.h"

#define BASE	(4 * SZ_1G)
#define NR	8
#define U	SZ_64K
#define PIECE	SZ_2M
#define RW	(VTD_READ | VTD_WRITE)

static u8 *p;
static u64 granule;

/* Granules from the first one on. */
static int fill(struct vt_container *c, u64 first, u64 nr)
{
	return vt_map(c, BASE + first * granule, p + first * granule, nr * granule, VT_RW, 0);
}

static int empty(struct vt_container *c, u64 first, u64 nr)
{
	return vt_unmap(c, BASE + first * granule, nr * granule, NULL);
}

/* NR granules at BASE, empty. */
static void set_up(struct vt_container *c, enum vt_mem kind, u64 size)
{
	vt_need_sparse(c);
	granule = size;
	p = vt_alloc(kind, NR * granule);
	ASSERT_OK(vt_sparse(c, BASE, p, NR * granule, VT_RW, granule));
}

/* ---- DMA ---- */

/* The device neither writes memory by way of iova, nor finds anything mapped there. */
static void expect_no_dma(struct vt_dev *dev, u64 iova, void *at)
{
	struct vt_faults f;
	u8 buf[64];

	vt_faults_mark(&f);
	memset(at, 0x55, sizeof(buf));
	memset(buf, 0xaa, sizeof(buf));
	vt_dma_write(dev, iova, buf, sizeof(buf));
	memset(buf, 0x55, sizeof(buf));
	if (memcmp(at, buf, sizeof(buf)))
		FAIL("%s wrote to %#llx", dev->name, iova);
	/* The driver of virtio-iommu does not log each fault. */
	if (!vt_machine_is("virtio"))
		EXPECT_TRUE(vt_faults_hit(&f, iova, SZ_4K));
}

static void dma_follows(enum vt_mem kind, u64 size)
{
	struct vt_container c;
	struct vt_faults f;
	struct vt_dev *dev;

	vt_open_v2(&c);
	set_up(&c, kind, size);
	dev = &c.dev[0];
	vt_edu_enable(dev);
	expect_no_dma(dev, BASE + 2 * size, p + 2 * size);
	ASSERT_OK(fill(&c, 2, 2));
	vt_faults_mark(&f);
	vt_expect_read(dev, BASE + 2 * size, p + 2 * size);
	vt_expect_read(dev, BASE + 4 * size - 64, p + 4 * size - 64);
	EXPECT_EQ(vt_faults_count(&f), 0);
	expect_no_dma(dev, BASE + 4 * size, p + 4 * size);
	expect_no_dma(dev, BASE + 2 * size - SZ_4K, p + 2 * size - SZ_4K);

	/* What the IOMMU may have cached goes; what lies beside it stays. */
	ASSERT_OK(empty(&c, 2, 1));
	expect_no_dma(dev, BASE + 2 * size, p + 2 * size);
	vt_faults_mark(&f);
	vt_expect_read(dev, BASE + 3 * size, p + 3 * size);
	EXPECT_EQ(vt_faults_count(&f), 0);

	/* Other memory has come to that address: that is what is filled in now. */
	ASSERT_OK(madvise(p + 2 * size, size, MADV_DONTNEED));
	memset(p + 2 * size, 1, size);
	ASSERT_OK(fill(&c, 2, 1));
	vt_faults_mark(&f);
	vt_expect_read(dev, BASE + 2 * size, p + 2 * size);
	vt_expect_read(dev, BASE + 3 * size - 64, p + 3 * size - 64);
	EXPECT_EQ(vt_faults_count(&f), 0);

	ASSERT_OK(vt_end_sparse(&c, BASE, NR * size, NULL));
	expect_no_dma(dev, BASE + 3 * size, p + 3 * size);
}

static void dma_4k(void)
{
	dma_follows(VT_MEM_4K, SZ_4K);
}

static void dma_2m(void)
{
	dma_follows(VT_MEM_THP, SZ_2M);
}

/* A call uses the largest pages that its memory allows, up to the granule at least. */
static void large_pages(void)
{
	struct vt_container c;
	u64 smallest = ~0ull;
	struct vt_info info;
	struct vt_tables t;

	vt_open_v2(&c);
	set_up(&c, VT_MEM_THP, SZ_2M);
	vt_need_tables(&c.dev[0]);
	ASSERT_OK(fill(&c, 1, 3));
	vt_info(&c, &info);
	vt_tables_read(&c.dev[0], &t);
	vt_tables_expect(&t, &info, BASE, SZ_2M, NULL, VT_RW, SZ_2M, NULL);
	vt_tables_expect(&t, &info, BASE + SZ_2M, 3 * SZ_2M, p + SZ_2M, VT_RW, SZ_2M, &smallest);
	EXPECT_EQ(smallest, SZ_2M);
	vt_tables_expect(&t, &info, BASE + 4 * SZ_2M, 4 * SZ_2M, NULL, VT_RW, SZ_2M, NULL);
	vt_tables_free(&t);
}

/* ---- Other domains ---- */

static void open_one(struct vt_container *c)
{
	td_two_domains();
	vt_open_v2(c);
}

/* Of the granules those with their bit set are what a device has got. */
static void expect_filled(struct vt_dev *dev, unsigned int mask)
{
	struct vt_info info;
	struct vt_tables t;
	int i;

	if (!vt_tables_known(dev))
		return;
	vt_info(dev->c, &info);
	vt_tables_read(dev, &t);
	for (i = 0; i < NR; i++)
		vt_tables_expect(&t, &info, BASE + i * granule, granule,
				 mask & 1 << i ? p + i * granule : NULL, VT_RW, granule, NULL);
	vt_tables_free(&t);
}

/* A second domain gets what is filled, then both get what is filled and emptied. */
static void second_domain(void)
{
	struct vt_container c;
	struct vt_dev *first, *second;
	u64 base;
	u32 avail;

	open_one(&c);
	set_up(&c, VT_MEM_THP, PIECE);
	first = &c.dev[0];
	base = vt_locked();
	ASSERT_OK(fill(&c, 1, 2));
	ASSERT_OK(fill(&c, 5, 1));
	avail = vt_dma_avail(&c);
	second = td_add_second(&c);
	EXPECT_EQ(vt_locked(), base + 3 * PIECE);
	EXPECT_EQ(vt_dma_avail(&c), avail);
	expect_filled(first, 0x26);
	expect_filled(second, 0x26);

	ASSERT_OK(fill(&c, 3, 2));
	ASSERT_OK(empty(&c, 1, 1));
	ASSERT_EQ(fill(&c, 0, NR), -EEXIST);
	expect_filled(first, 0x3c);
	expect_filled(second, 0x3c);
	EXPECT_EQ(vt_locked(), base + 4 * PIECE);

	vt_edu_enable(second);
	vt_expect_read(second, BASE + 4 * PIECE, p + 4 * PIECE);
	expect_no_dma(second, BASE + PIECE, p + PIECE);
	ASSERT_OK(vt_unmap(&c, second->bounce_iova, SZ_4K, NULL));

	/* The first domain goes, and comes again. */
	vt_remove(first);
	EXPECT_EQ(vt_locked(), base + 4 * PIECE);
	ASSERT_OK(empty(&c, 5, 1));
	ASSERT_OK(fill(&c, 7, 1));
	expect_filled(second, 0x9c);
	vt_add_edu(&c, 0);
	expect_filled(first, 0x9c);
	vt_remove(second);
	ASSERT_OK(empty(&c, 0, NR));
	expect_filled(first, 0);
	EXPECT_EQ(vt_locked(), base);
	EXPECT_EQ(vt_dma_avail(&c), avail);
	/* Empty, into a domain that comes then. */
	second = td_add_second(&c);
	ASSERT_OK(fill(&c, 0, 1));
	expect_filled(first, 1);
	expect_filled(second, 1);
	ASSERT_OK(vt_end_all_sparse(&c, NULL));
	expect_filled(second, 0);
	vt_close(&c);
	EXPECT_EQ(vt_locked(), base);
}

/* One of two domains cannot map all of it: neither has any of it then. */
static void second_domain_fails(void)
{
	struct vt_container c;
	struct vt_dev *second;
	struct vt_state was;
	u64 base, pinned;
	int i, ret;

	open_one(&c);
	set_up(&c, VT_MEM_SCATTERED, SZ_64K);
	second = td_add_second(&c);
	base = vt_locked();
	ASSERT_OK(fill(&c, 0, 1));
	pinned = vt_pinned();
	/* Until that many calls do not come: at least one in each domain. */
	for (i = 0; ; i++) {
		td_set("fail_map_skip", i);
		td_set("fail_map_times", 1);
		vt_state(&c, &was);
		ret = fill(&c, 1, 4);
		if (!ret)
			break;
		ASSERT_EQ(ret, -ENOMEM);
		vt_state_same(&c, &was, "-ENOMEM");
		EXPECT_EQ(vt_pinned(), pinned);
		expect_filled(&c.dev[0], 1);
		expect_filled(second, 1);
	}
	td_set("fail_map_times", 0);
	vt_diag("%d calls can fail", i);
	ASSERT_GE(i, 2);
	expect_filled(&c.dev[0], 0x1f);
	expect_filled(second, 0x1f);
	EXPECT_EQ(vt_locked(), base + 5 * SZ_64K);
}

/* An IOMMU that cannot keep the granule is refused, whether anything is filled or not. */
static void granule_refused(void)
{
	struct vt_container c;
	int filled;

	open_one(&c);
	set_up(&c, VT_MEM_THP, SZ_64K);
	td_need_hiding();
	for (filled = 0; filled < 2; filled++) {
		td_set("hide_pgsizes", SZ_2M - SZ_4K);
		ASSERT_REFUSED(&c, td_try_second(&c), EINVAL);
		td_set("hide_pgsizes", 0);
		ASSERT_OK(fill(&c, 3 * filled, 1));
		expect_filled(&c.dev[0], filled ? 9 : 1);
	}
	/* It is empty again, and then it is gone. */
	ASSERT_OK(vt_unmap_all(&c, NULL));
	td_set("hide_pgsizes", SZ_2M - SZ_4K);
	ASSERT_REFUSED(&c, td_try_second(&c), EINVAL);
	ASSERT_OK(vt_end_all_sparse(&c, NULL));
	ASSERT_OK(td_try_second(&c));
}

static void fill_reserved_in_child(struct vt_container *c)
{
	/* Whose it is comes before whether it can be used. */
	ASSERT_EQ(fill(c, 4, 1), -EPERM);
	ASSERT_EQ(fill(c, 1, 1), -EEXIST);
}

/* A reserved region is in the way of what is filled, and of what would be. */
static void reserved(void)
{
	struct vt_container c;
	pid_t pid;
	u64 n;

	open_one(&c);
	set_up(&c, VT_MEM_THP, PIECE);
	ASSERT_OK(fill(&c, 1, 2));
	ASSERT_REFUSED(&c, td_try_reserved(&c, BASE + PIECE, SZ_4K), EINVAL);
	ASSERT_REFUSED(&c, td_try_reserved(&c, BASE + PIECE - SZ_4K, SZ_8K), EINVAL);
	ASSERT_REFUSED(&c, td_try_reserved(&c, BASE + 3 * PIECE - SZ_4K, SZ_8K), EINVAL);
	ASSERT_REFUSED(&c, td_try_reserved(&c, BASE, NR * PIECE), EINVAL);
	expect_filled(&c.dev[0], 6);

	/* Where it is empty: accepted, and no longer to be filled. */
	ASSERT_OK(td_try_reserved(&c, BASE + 4 * PIECE + SZ_64K, PIECE));
	ASSERT_REFUSED(&c, fill(&c, 4, 1), EINVAL);
	ASSERT_REFUSED(&c, fill(&c, 5, 1), EINVAL);
	ASSERT_REFUSED(&c, fill(&c, 3, 2), EINVAL);
	ASSERT_REFUSED(&c, fill(&c, 3, 5), EINVAL);
	/* What is filled is told before, and flags and addresses before that. */
	ASSERT_REFUSED(&c, fill(&c, 2, 3), EEXIST);
	ASSERT_REFUSED(&c, vt_map(&c, BASE + 4 * PIECE, p, PIECE, VT_RW, 0), EINVAL);
	/* Whether there is memory is looked at later. */
	ASSERT_OK(munmap(p + 4 * PIECE, PIECE));
	ASSERT_REFUSED(&c, fill(&c, 4, 1), EINVAL);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		fill_reserved_in_child(&c);
		exit(0);
	}
	vt_wait_exit(pid);
	ASSERT_OK(fill(&c, 3, 1));
	ASSERT_OK(fill(&c, 6, 2));
	expect_filled(&c.dev[0], 0xce);
	/* To set one up takes the whole range. */
	ASSERT_OK(vt_end_sparse(&c, BASE, NR * PIECE, &n));
	EXPECT_EQ(n, 5 * PIECE);
	ASSERT_REFUSED(&c, vt_sparse(&c, BASE, p, NR * PIECE, VT_RW, PIECE), EINVAL);
	ASSERT_OK(vt_sparse(&c, BASE, p, 4 * PIECE, VT_RW, PIECE));
}

/* ---- Mediated devices ---- */

static struct vt_dev *open_emulated(struct vt_container *c)
{
	struct vt_dev *dev;

	vt_open_empty(c, VFIO_TYPE1v2_IOMMU);
	dev = td_add(c, 0);
	set_up(c, VT_MEM_4K, U);
	return dev;
}

static void expect_told(struct vt_dev *dev, u64 first, u64 nr)
{
	struct vtd_event ev = { 0 };

	ASSERT_EQ(td_told(dev, &ev, 1), 1);
	EXPECT_EQ(ev.iova, BASE + first * U);
	EXPECT_EQ(ev.size, nr * U);
}

static void mediated_pins(void)
{
	struct vt_container c;
	struct vt_dev *dev = open_emulated(&c);
	u64 pfn[2] = { 0 }, base = vt_locked(), value = 0x1234, got = 0;

	/* Nothing is there to be pinned, or read. */
	EXPECT_EQ(td_pin(dev, BASE, 1, VTD_READ, NULL), -EINVAL);
	EXPECT_EQ(td_read(dev, BASE, &got, sizeof(got)), -EINVAL);
	ASSERT_OK(fill(&c, 1, 3));
	EXPECT_EQ(vt_locked(), base);
	EXPECT_EQ(td_pin(dev, BASE + 4 * U - SZ_4K, 2, RW, NULL), -EINVAL);
	EXPECT_EQ(td_pin(dev, BASE + U - SZ_4K, 2, RW, NULL), -EINVAL);
	ASSERT_EQ(td_pin(dev, BASE + 2 * U - SZ_4K, 2, RW, pfn), 2);
	EXPECT_EQ(pfn[0] * SZ_4K, vt_phys(p + 2 * U - SZ_4K));
	EXPECT_EQ(pfn[1] * SZ_4K, vt_phys(p + 2 * U));
	ASSERT_EQ(td_pin(dev, BASE + 3 * U, 1, RW, NULL), 1);
	EXPECT_EQ(vt_locked(), base + 3 * SZ_4K);
	ASSERT_OK(td_write(dev, BASE + 2 * U - 4, &value, sizeof(value)));
	EXPECT_EQ(memcmp(p + 2 * U - 4, &value, sizeof(value)), 0);
	EXPECT_EQ(td_write(dev, BASE + 4 * U - 4, &value, sizeof(value)), -EINVAL);
	EXPECT_EQ(td_write(dev, BASE + U - 4, &value, sizeof(value)), -EINVAL);

	/* Where it has pinned nothing it need not be told; what goes, it is. */
	td_told(dev, NULL, 0);
	ASSERT_OK(fill(&c, 6, 1));
	ASSERT_OK(empty(&c, 6, 1));
	ASSERT_OK(empty(&c, 4, 4));
	EXPECT_EQ(td_told(dev, NULL, 0), 0);
	ASSERT_OK(empty(&c, 2, 1));
	expect_told(dev, 2, 1);
	EXPECT_EQ(td_pinned(dev), 2);
	EXPECT_EQ(vt_locked(), base + 2 * SZ_4K);
	/* Of a range that is not filled throughout, the pieces. */
	ASSERT_OK(empty(&c, 2, 6));
	expect_told(dev, 3, 1);
	EXPECT_EQ(td_pinned(dev), 1);
	EXPECT_EQ(td_pin(dev, BASE + 2 * U, 1, VTD_READ, NULL), -EINVAL);

	/* Filled again, with its neighbour's pin untouched; then it ends. */
	ASSERT_OK(fill(&c, 2, 1));
	ASSERT_EQ(td_pin(dev, BASE + 2 * U, 1, RW, NULL), 1);
	EXPECT_EQ(td_told(dev, NULL, 0), 0);
	ASSERT_OK(vt_end_sparse(&c, BASE, NR * U, NULL));
	expect_told(dev, 1, 2);
	EXPECT_EQ(td_pinned(dev), 0);
	EXPECT_EQ(vt_locked(), base);
	/* The vaddr cannot change under such a device. */
	ASSERT_OK(vt_sparse(&c, BASE, p, NR * U, VT_RW, U));
	EXPECT_EQ(vt_unmap_vaddr(&c, BASE, NR * U, NULL), -EBUSY);
}

/* A device that has not let go when the container is closed. */
static void mediated_close(void)
{
	struct vt_container c;
	struct vt_dev *dev = open_emulated(&c);
	u64 base = vt_locked();

	ASSERT_OK(fill(&c, 1, 3));
	ASSERT_EQ(td_pin(dev, BASE + U, 5, RW, NULL), 5);
	vt_close(&c);
	EXPECT_EQ(vt_locked(), base);
}

/* The first IOMMU comes when some is filled, goes, and comes again. */
static void mediated_then_edu(void)
{
	struct vt_container c;
	struct vt_dev *dev = open_emulated(&c), *edu;
	u64 base = vt_locked();
	int turn;

	ASSERT_OK(fill(&c, 1, 2));
	ASSERT_EQ(td_pin(dev, BASE + 2 * U, 1, RW, NULL), 1);
	for (turn = 0; turn < 2; turn++) {
		EXPECT_EQ(vt_locked(), base + SZ_4K);
		edu = vt_add_edu(&c, 0);
		EXPECT_EQ(vt_locked(), base + 2 * U);
		expect_filled(edu, 6);
		ASSERT_OK(fill(&c, 5, 1));
		ASSERT_OK(empty(&c, 1, 1));
		expect_filled(edu, 0x24);
		EXPECT_EQ(vt_locked(), base + 2 * U);
		vt_edu_enable(edu);
		vt_expect_read(edu, BASE + 5 * U, p + 5 * U);
		ASSERT_OK(vt_unmap(&c, edu->bounce_iova, SZ_4K, NULL));
		ASSERT_OK(fill(&c, 1, 1));
		ASSERT_OK(empty(&c, 5, 1));
		vt_remove(edu);
	}
	/* While it is empty, and filled only then. */
	ASSERT_OK(empty(&c, 0, NR));
	EXPECT_EQ(td_pinned(dev), 0);
	edu = vt_add_edu(&c, 0);
	EXPECT_EQ(vt_locked(), base);
	ASSERT_OK(fill(&c, 0, NR));
	EXPECT_EQ(vt_locked(), base + NR * U);
	expect_filled(edu, 0xff);
	ASSERT_EQ(td_pin(dev, BASE, 1, RW, NULL), 1);
	EXPECT_EQ(vt_locked(), base + NR * U);
	vt_remove(edu);
	EXPECT_EQ(vt_locked(), base + SZ_4K);
	ASSERT_OK(empty(&c, 0, NR));
	EXPECT_EQ(vt_locked(), base);
}

/* A first IOMMU that cannot have all that is filled: as if it had never come. */
static void mediated_then_refused(void)
{
	struct vt_container c;
	struct vt_dev *edu;
	u64 base;
	int i, ret;

	td_arm();
	open_emulated(&c);
	base = vt_locked();
	ASSERT_OK(fill(&c, 1, 2));
	ASSERT_OK(fill(&c, 6, 1));
	/* Until that many calls do not come: at least one for each piece. */
	for (i = 0; ; i++) {
		td_set("fail_map_skip", i);
		td_set("fail_map_times", 1);
		ret = vt_try_add_group(&c, vt_edu_group(1), vt_edu_bdf(1), &edu);
		if (!ret)
			break;
		ASSERT_EQ(ret, -ENOMEM);
		EXPECT_EQ(vt_locked(), base);
		EXPECT_EQ(vt_mapped_bytes(&c, 0, 0), 3 * U);
	}
	td_set("fail_map_times", 0);
	vt_diag("%d calls can fail", i);
	ASSERT_GE(i, 2);
	expect_filled(edu, 0x46);
	EXPECT_EQ(vt_locked(), base + 3 * U);
}

/* ---- Dirty tracking ---- */

#define PAGES	(NR * U / SZ_4K)

static void touch(struct vt_dev *dev, u64 page)
{
	u8 byte = page;

	ASSERT_OK(td_write(dev, BASE + page * SZ_4K + 100, &byte, 1));
}

/* A list: of so many pages from first on these are dirty, and no others; -1 ends it. */
static void expect_dirty(struct vt_container *c, u64 first, const int *pages)
{
	u64 nr = *pages++, bitmap[PAGES / 64 + 1], i, words = ALIGN_UP(nr, 64) / 64;

	memset(bitmap, 0xff, sizeof(bitmap));
	ASSERT_OK(vt_dirty_get(c, BASE + first * SZ_4K, nr * SZ_4K, bitmap, words * 8));
	for (i = 0; i < nr; i++) {
		bool want = *pages >= 0 && (u64)*pages == first + i;

		if (vt_bit(bitmap, i) != want)
			FAIL("page %llu is %s", first + i, want ? "clean" : "dirty");
		pages += want;
	}
	ASSERT_EQ(*pages, -1);
	ASSERT_EQ(bitmap[words], ~0ull);
}

/* EXPECT_DIRTY(container, first page, number of pages, dirty pages...) */
#define EXPECT_DIRTY(c, first, ...)	\
	expect_dirty(c, first, (const int[]){ __VA_ARGS__, -1 })

static void dirty_bits(void)
{
	u64 bitmap[PAGES / 64 + 1] = { 0 }, n, g = U / SZ_4K;
	struct vt_container c;
	struct vt_dev *dev = open_emulated(&c);

	ASSERT_OK(fill(&c, 1, 2));
	ASSERT_OK(vt_dirty_start(&c));
	EXPECT_DIRTY(&c, 0, PAGES);
	ASSERT_OK(fill(&c, 4, 1));
	touch(dev, g);
	touch(dev, 2 * g + 3);
	touch(dev, 5 * g - 1);
	EXPECT_DIRTY(&c, 2 * g, g, 2 * g + 3);
	EXPECT_DIRTY(&c, 0, PAGES, g, 5 * g - 1);
	EXPECT_DIRTY(&c, 0, PAGES);
	/* A granule that is filled is not cut, one that is not has no bits. */
	ASSERT_EQ(vt_dirty_get(&c, BASE + U, SZ_4K, bitmap, 8), -EINVAL);
	ASSERT_EQ(vt_dirty_get(&c, BASE, U + SZ_4K, bitmap, 8), -EINVAL);
	EXPECT_DIRTY(&c, 3, 5);

	/* What is emptied is forgotten: filled again it is clean. */
	touch(dev, g + 2);
	touch(dev, 2 * g + 5);
	ASSERT_OK(empty(&c, 1, 1));
	EXPECT_DIRTY(&c, 0, g + g / 2);
	ASSERT_OK(fill(&c, 0, 2));
	EXPECT_DIRTY(&c, 0, PAGES, 2 * g + 5);
	touch(dev, g + 3);
	/* Unmapped with its bits, which are then gone, too. */
	ASSERT_OK(vt_unmap_dirty(&c, BASE, 2 * U, bitmap, 8, &n));
	EXPECT_EQ(n, 2 * U);
	EXPECT_EQ(bitmap[0], 1ull << (g + 3));
	ASSERT_OK(fill(&c, 0, 2));
	EXPECT_DIRTY(&c, 0, PAGES);

	/* Pinned pages are dirty as long as they are. */
	ASSERT_EQ(td_pin(dev, BASE, 1, RW, NULL), 1);
	EXPECT_DIRTY(&c, 0, PAGES, 0);
	EXPECT_DIRTY(&c, 0, PAGES, 0);
	ASSERT_OK(empty(&c, 0, 1));
	ASSERT_OK(fill(&c, 0, 1));
	EXPECT_DIRTY(&c, 0, PAGES);

	/* Set up while it is on. */
	ASSERT_OK(vt_end_all_sparse(&c, NULL));
	ASSERT_OK(vt_sparse(&c, BASE, p, NR * U, VT_RW, U));
	EXPECT_DIRTY(&c, 0, PAGES);
	ASSERT_OK(fill(&c, 7, 1));
	touch(dev, 7 * g);
	EXPECT_DIRTY(&c, 0, PAGES, (int)(7 * g));
	ASSERT_OK(vt_dirty_stop(&c));
	ASSERT_OK(vt_dirty_start(&c));
	EXPECT_DIRTY(&c, 0, PAGES);
}

/*
 * While a device can write anywhere all that is filled is dirty. When it has left all is
 * taken to be; what is filled after that is clean.
 */
static void dirty_with_edu(void)
{
	u64 bitmap[PAGES / 64 + 1] = { 0 }, g = U / SZ_4K;
	struct vt_container c;
	struct vt_dev *edu;

	open_emulated(&c);
	edu = vt_add_edu(&c, 0);
	ASSERT_OK(vt_dirty_start(&c));
	ASSERT_OK(fill(&c, 2, 3));
	ASSERT_OK(vt_dirty_get(&c, BASE, NR * U, bitmap, VT_BITMAP_BYTES(NR * U)));
	EXPECT_EQ(vt_bits(bitmap, 0, PAGES), 3 * g);
	EXPECT_EQ(vt_bits(bitmap, 2 * g, 3 * g), 3 * g);
	vt_remove(edu);
	ASSERT_OK(empty(&c, 3, 1));
	ASSERT_OK(fill(&c, 3, 1));
	ASSERT_OK(fill(&c, 7, 1));
	memset(bitmap, 0, sizeof(bitmap));
	ASSERT_OK(vt_dirty_get(&c, BASE, NR * U, bitmap, VT_BITMAP_BYTES(NR * U)));
	EXPECT_EQ(vt_bits(bitmap, 0, PAGES), 2 * g);
	EXPECT_EQ(vt_bits(bitmap, 2 * g, g), g);
	EXPECT_EQ(vt_bits(bitmap, 4 * g, g), g);
	EXPECT_DIRTY(&c, 0, PAGES);
}

/* ---- What it may cost ---- */

#define SZ_1T	(1ull << 40)

static int one_more(struct vt_container *c, u64 iova, u64 size)
{
	return vt_sparse(c, iova, (void *)SZ_4K, size, VT_RW, SZ_4K);
}

static int track(struct vt_container *c, u64 iova, u64 size)
{
	(void)iova;
	(void)size;
	return vt_dirty_start(c);
}

/*
 * A TiB in granules of 4 KiB takes 32 MiB for what is filled, and as much for what is
 * dirty: a cgroup that has not got that gets -ENOMEM, and no complaint in the log.
 */
static void too_large_enomem(void)
{
	struct vt_container c;
	u64 word = ~0ull;
	u32 avail;

	vt_need_cgroup();
	vt_open_sparse(&c);
	ASSERT_OK(vt_sparse(&c, SZ_1T, (void *)SZ_4K, SZ_1T, VT_RW, SZ_4K));
	granule = U;
	p = vt_alloc(VT_MEM_4K, NR * U);
	ASSERT_OK(vt_sparse(&c, BASE, p, NR * U, VT_RW, U));
	ASSERT_OK(fill(&c, 1, 1));
	avail = vt_dma_avail(&c);
	vt_limit_cgroup("16M");
	vt_expect_enomem(&c, one_more, 4 * SZ_1T, SZ_1T);
	vt_expect_enomem(&c, track, 0, 0);
	EXPECT_EQ(vt_dma_avail(&c), avail);
	/* It is off, for all of them, and they work. */
	ASSERT_EQ(vt_dirty_get(&c, BASE, NR * U, &word, 8), -EINVAL);
	EXPECT_EQ(vt_mapped_bytes(&c, 0, 0), U);
	ASSERT_OK(fill(&c, 2, 1));
	vt_expect_no_oom_kill();
	vt_limit_cgroup("max");
	vt_remove_cgroup();

	/* Where there is memory it was the want of it. */
	ASSERT_OK(vt_dirty_start(&c));
	ASSERT_OK(vt_dirty_get(&c, SZ_1T, 64 * SZ_4K, &word, 8));
	EXPECT_EQ(word, 0);
	ASSERT_OK(vt_dirty_stop(&c));
}

/* ---- Other processes ---- */

static void child_may_not_fill(struct vt_container *c)
{
	u64 n;

	ASSERT_EQ(fill(c, 0, 1), -EPERM);
	ASSERT_EQ(fill(c, 4, 1), -EPERM);
	ASSERT_EQ(vt_locked(), 0);
	/* It may empty it, which uncharges who has filled it. */
	ASSERT_OK(vt_unmap(c, BASE + 2 * U, U, &n));
	ASSERT_EQ(n, U);
	ASSERT_EQ(fill(c, 2, 1), -EPERM);
	/* One of its own is its own. */
	ASSERT_OK(vt_sparse(c, BASE + SZ_1G, p, NR * U, VT_RW, U));
	ASSERT_OK(vt_map(c, BASE + SZ_1G, p, U, VT_RW, 0));
	ASSERT_EQ(vt_locked(), U);
}

static void child_ends_it(struct vt_container *c)
{
	u64 n;

	ASSERT_OK(vt_end_sparse(c, BASE, NR * U, &n));
	ASSERT_EQ(n, 2 * U);
	ASSERT_EQ(vt_locked(), 0);
}

static void *fill_in_thread(void *c)
{
	ASSERT_OK(fill(c, 2, 1));
	return NULL;
}

static void another_process_eperm(void)
{
	struct vt_container c;
	pthread_t thread;
	u32 avail;

	vt_open_v2(&c);
	set_up(&c, VT_MEM_4K, U);
	avail = vt_dma_avail(&c);
	ASSERT_OK(fill(&c, 1, 2));
	vt_in_child(child_may_not_fill, &c);
	EXPECT_EQ(vt_locked(), U);
	/* The child is dead, its mapping is there: nobody can fill it, anybody end it. */
	EXPECT_EQ(vt_dma_avail(&c), avail - 1);
	ASSERT_REFUSED(&c, vt_map(&c, BASE + SZ_1G + U, p + U, U, VT_RW, 0), EPERM);
	ASSERT_OK(vt_end_sparse(&c, BASE + SZ_1G, NR * U, NULL));
	/* A thread is no other address space. */
	ASSERT_OK(pthread_create(&thread, NULL, fill_in_thread, &c));
	ASSERT_OK(pthread_join(thread, NULL));
	EXPECT_EQ(vt_locked(), 2 * U);
	vt_in_child(child_ends_it, &c);
	EXPECT_EQ(vt_locked(), 0);
	EXPECT_EQ(vt_dma_avail(&c), avail + 1);
}

static void child_gives_vaddr(struct vt_container *c)
{
	u64 n;

	ASSERT_OK(vt_map_vaddr(c, BASE, p, NR * U));
	ASSERT_EQ(vt_locked(), 2 * U);
	ASSERT_EQ(vt_locked_of(getppid()), 0);
	ASSERT_OK(fill(c, 5, 1));
	ASSERT_EQ(vt_locked(), 3 * U);
	ASSERT_OK(vt_unmap(c, BASE, 2 * U, &n));
	ASSERT_EQ(n, U);
	ASSERT_EQ(vt_locked(), 2 * U);
}

/* Who last gave its vaddr can fill it, and is charged for what is filled. */
static void vaddr_moves_it(void)
{
	struct vt_container c;
	u64 n;

	vt_open_v2(&c);
	set_up(&c, VT_MEM_4K, U);
	ASSERT_OK(fill(&c, 1, 2));
	ASSERT_OK(vt_unmap_vaddr(&c, BASE, NR * U, &n));
	EXPECT_EQ(n, 2 * U);
	vt_in_child(child_gives_vaddr, &c);
	EXPECT_EQ(vt_locked(), 0);
	ASSERT_REFUSED(&c, fill(&c, 7, 1), EPERM);
	/* Back again, now that the other one is dead. */
	ASSERT_OK(vt_unmap_vaddr(&c, BASE, NR * U, &n));
	EXPECT_EQ(n, 2 * U);
	ASSERT_OK(vt_map_vaddr(&c, BASE, p, NR * U));
	EXPECT_EQ(vt_locked(), 2 * U);
	ASSERT_OK(fill(&c, 7, 1));
	ASSERT_OK(vt_end_sparse(&c, BASE, NR * U, &n));
	EXPECT_EQ(n, 3 * U);
	EXPECT_EQ(vt_locked(), 0);
}

/* What the program that exec() starts is told. */
struct handover {
	struct vt_container c;
	int memory;
	bool vaddr;
};

static void after_exec(const struct handover *h)
{
	struct vt_container c = h->c;
	u64 n;

	c.dev[0].c = &c;
	granule = U;
	p = mmap(h->vaddr ? NULL : (void *)0x600000000000, NR * U, PROT_READ | PROT_WRITE,
		 MAP_SHARED | (h->vaddr ? 0 : MAP_FIXED), h->memory, 0);
	ASSERT_TRUE(p != MAP_FAILED);
	ASSERT_EQ(vt_locked(), 0);
	if (h->vaddr) {
		ASSERT_EQ(fill(&c, 5, 1), -EINVAL);	/* Not at the old vaddr */
		ASSERT_OK(vt_map_vaddr(&c, BASE, p, NR * U));
		ASSERT_EQ(vt_locked(), 2 * U);
		ASSERT_OK(fill(&c, 5, 1));
		ASSERT_EQ(vt_locked(), 3 * U);
	} else {
		ASSERT_EQ(fill(&c, 5, 1), -EPERM);
		ASSERT_EQ(fill(&c, 1, 1), -EEXIST);
	}
	vt_edu_enable(&c.dev[0]);
	vt_expect_read(&c.dev[0], BASE + 2 * U, p + 2 * U);
	ASSERT_OK(vt_unmap(&c, BASE + 2 * U, U, &n));
	ASSERT_EQ(n, U);
	ASSERT_EQ(vt_locked(), (h->vaddr ? 2 * U : 0) + SZ_4K);
	ASSERT_OK(vt_end_all_sparse(&c, NULL));
	ASSERT_EQ(vt_locked(), 0);
	ASSERT_EQ(vt_dma_avail(&c), vt_get_param("dma_entry_limit"));
}

static void exec_with(bool vaddr)
{
	struct handover h = { .vaddr = vaddr };

	vt_open_sparse(&h.c);
	granule = U;
	h.memory = syscall(SYS_memfd_create, "memory", 0);
	ASSERT_GE(h.memory, 0);
	ASSERT_OK(ftruncate(h.memory, NR * U));
	p = mmap((void *)0x600000000000, NR * U, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		 h.memory, 0);
	ASSERT_TRUE(p != MAP_FAILED);
	ASSERT_OK(vt_sparse(&h.c, BASE, p, NR * U, VT_RW, U));
	ASSERT_OK(fill(&h.c, 1, 2));
	if (vaddr)
		ASSERT_OK(vt_unmap_vaddr(&h.c, BASE, NR * U, NULL));
	vt_exec(&h.c, &h, sizeof(h));
}

static void exec_new_vaddr(void)
{
	exec_with(true);
}

static void exec_old_vaddr(void)
{
	exec_with(false);
}

/* ---- Death ---- */

/*
 * A process is killed in the middle of a fill: of that fill nothing is left, of those
 * before all is.
 */
static void killed_in_a_fill(void)
{
	u64 pinned, start;
	struct vt_container c;
	int sock, i;
	pid_t pid;
	u32 avail;

	td_need();
	vt_open_sparse(&c);
	pinned = vt_pinned();
	avail = vt_dma_avail(&c);
	granule = U;
	pid = vt_fork_peer(&sock);
	if (!pid) {
		p = vt_alloc(VT_MEM_SCATTERED, NR * U);
		ASSERT_OK(vt_sparse(&c, BASE, p, NR * U, VT_RW, U));
		ASSERT_OK(fill(&c, 1, 1));
		/* Pages can be pinned then, but not charged. */
		td_hold_mm();
		vt_tell(sock, 1);
		fill(&c, 2, 5);
		FAIL("the fill has come to an end");
	}
	ASSERT_EQ(vt_hear(sock), 1);
	for (start = vt_now(); vt_pinned() <= pinned + U / SZ_4K; usleep(10000))
		ASSERT_LT(vt_now() - start, 30000000000ull);
	vt_kill(pid);
	EXPECT_EQ(vt_dma_avail(&c), avail - 1);
	EXPECT_EQ(vt_mapped_bytes(&c, 0, 0), U);
	EXPECT_EQ(vt_pinned(), pinned + U / SZ_4K);
	if (vt_tables_known(&c.dev[0]))
		for (i = 0; i < NR; i++)
			EXPECT_EQ(!!vt_pgsize_at(&c.dev[0], BASE + i * U), i == 1);
}

/* At any moment of it. The container stays, and is given back whole. */
static void killed_at_any_moment(void)
{
	u64 size = 64 * SZ_1M, at, left, pinned, n, told;
	struct vt_container c;
	struct vt_tables t;
	u32 avail;
	pid_t pid;
	int i;

	vt_open_sparse(&c);
	avail = vt_dma_avail(&c);
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(p != MAP_FAILED);
	memset(p, 1, size);
	pinned = vt_pinned();
	srand(3);
	for (i = vt_kernel_is("debug") ? 5 : 15; i; i--) {
		pid = fork();
		ASSERT_GE(pid, 0);
		if (!pid) {
			ASSERT_OK(vt_sparse(&c, BASE, p, size, VT_RW, SZ_64K));
			for (;;) {
				ASSERT_OK(vt_map(&c, BASE, p, size / 2, VT_RW, 0));
				ASSERT_OK(vt_map(&c, BASE + size / 2, p + size / 2, size / 2, VT_RW,
						 0));
				ASSERT_OK(vt_unmap(&c, BASE + SZ_64K, size - SZ_64K, NULL));
				ASSERT_OK(vt_unmap(&c, BASE, size, NULL));
			}
		}
		usleep(20000 + rand() % 150000);
		vt_kill(pid);
		EXPECT_EQ(vt_locked(), 0);
		EXPECT_GE(vt_dma_avail(&c), avail - 1);
		told = vt_mapped_bytes(&c, 0, 0);
		if (vt_tables_known(&c.dev[0])) {
			left = 0;
			vt_tables_read(&c.dev[0], &t);
			for (at = 0; at < size; at += SZ_4K)
				left += vt_tables_find(&t, BASE + at) ? SZ_4K : 0;
			vt_tables_free(&t);
			EXPECT_EQ(left, told);
		}
		EXPECT_EQ(vt_pinned() - pinned, told / SZ_4K);
		ASSERT_OK(vt_unmap(&c, BASE, size, &n));
		EXPECT_EQ(n, told);
		ASSERT_OK(vt_end_sparse(&c, BASE, size, &n));
		EXPECT_EQ(n, 0);
		EXPECT_EQ(vt_pinned(), pinned);
		EXPECT_EQ(vt_dma_avail(&c), avail);
	}
}

/* The container goes with its process, filled in part. */
static void killed_with_container(void)
{
	struct vt_container c;
	u64 pinned;
	pid_t pid;
	int sock;

	vt_open_sparse(&c);
	vt_close(&c);
	pinned = vt_pinned();
	pid = vt_fork_peer(&sock);
	if (!pid) {
		vt_open_v2(&c);
		set_up(&c, VT_MEM_THP, PIECE);
		ASSERT_OK(fill(&c, 1, 3));
		ASSERT_OK(empty(&c, 2, 1));
		vt_tell(sock, 1);
		pause();
	}
	ASSERT_EQ(vt_hear(sock), 1);
	vt_kill(pid);
	vt_open_v2(&c);
	EXPECT_EQ(vt_dma_avail(&c), vt_get_param("dma_entry_limit"));
	EXPECT_EQ(vt_extents_count(&c, 0, 0), 0);
	ASSERT_PINNED_SOON(pinned);
}

/* The last group leaves: so does the sparse mapping, and a new one begins with all entries. */
static void last_group_leaves(void)
{
	struct vt_container c;
	u64 pinned;

	vt_open_v2(&c);
	pinned = vt_pinned();
	set_up(&c, VT_MEM_4K, U);
	ASSERT_OK(fill(&c, 1, 3));
	vt_remove(&c.dev[0]);
	EXPECT_EQ(vt_locked(), 0);
	EXPECT_EQ(vt_pinned(), pinned);
	vt_add_edu(&c, 0);
	EXPECT_EQ(vt_dma_avail(&c), vt_get_param("dma_entry_limit"));
	ASSERT_OK(vt_map(&c, BASE - U, p, 2 * U, VT_RW, 0));
}

int main(int argc, char **argv)
{
	static const struct vtest tests[] = {
		VTEST(dma_4k),
		VTEST(dma_2m),
		VTEST(large_pages),
		VTEST(second_domain),
		VTEST(second_domain_fails),
		VTEST(granule_refused),
		VTEST(reserved),
		VTEST(mediated_pins),
		VTEST(mediated_close),
		VTEST(mediated_then_edu),
		VTEST(mediated_then_refused),
		VTEST(dirty_bits),
		VTEST(dirty_with_edu),
		VTEST(too_large_enomem),
		VTEST(another_process_eperm),
		VTEST(vaddr_moves_it),
		VTEST(exec_new_vaddr),
		VTEST(exec_old_vaddr),
		VTEST(killed_in_a_fill),
		VTEST(killed_at_any_moment),
		VTEST(killed_with_container),
		VTEST(last_group_leaves),
	};
	struct handover h;

	if (vt_handed_over(&h, sizeof(h))) {
		after_exec(&h);
		return vt_failed();
	}
	return vtest_main(argc, argv, tests, ARRAY_SIZE(tests));
}
