// SPDX-License-Identifier: GPL-2.0
/*
 * Dirty bitmaps of pieces. Where a real device can write, all that is mapped is dirty. Only
 * mediated devices can show that a bit is lost, or is set without reason.
 */
#include "testdev.h"

#define BASE	(4 * SZ_1G)
#define PAGES	256			/* looked at, from BASE on */

struct model {
	bool dirty[PAGES];
};

/* A container in which only the test module's device writes. */
static struct vt_dev *open_testdev(struct vt_container *c)
{
	struct vt_dev *dev;

	td_need();
	vt_open_empty(c, VFIO_TYPE1v2_IOMMU);
	dev = td_add(c, 0);
	vt_need_granule(c);
	return dev;
}

/* Ranges are in pages from BASE on. */
static int map(struct vt_container *c, u64 first, const u8 *mem, u64 nr, u64 granule)
{
	return vt_map(c, BASE + first * SZ_4K, mem, nr * SZ_4K, VT_RW, granule * SZ_4K);
}

static int unmap(struct vt_container *c, u64 first, u64 nr)
{
	return vt_unmap(c, BASE + first * SZ_4K, nr * SZ_4K, NULL);
}

static void touch(struct vt_dev *dev, u64 page)
{
	u8 byte = page;

	ASSERT_OK(td_write(dev, BASE + page * SZ_4K + 100, &byte, 1));
}

static void set(struct model *m, u64 first, u64 nr)
{
	memset(m->dirty + first, true, nr);
}

/* The device writes the page, so it is dirty. */
static void dirty(struct vt_dev *dev, struct model *m, u64 page)
{
	touch(dev, page);
	set(m, page, 1);
}

static void clear(struct model *m, u64 first, u64 nr)
{
	memset(m->dirty + first, false, nr);
}

static void compare(const u64 *bitmap, const struct model *m, u64 first, u64 nr)
{
	u64 i;

	for (i = 0; i < nr; i++)
		if (vt_bit(bitmap, i) != m->dirty[first + i])
			FAIL("bit %llu, page %llu, is %d", i, first + i, vt_bit(bitmap, i));
	for (; i < ALIGN_UP(nr, 64); i++)
		if (vt_bit(bitmap, i))
			FAIL("bit %llu behind the end is set", i);
}

/* GET_BITMAP says of these pages what the model says, and writes nothing behind them. */
static void expect(struct vt_container *c, const struct model *m, u64 first, u64 nr)
{
	u64 bitmap[PAGES / 64 + 1] = { 0 }, words = ALIGN_UP(nr, 64) / 64;

	bitmap[words] = 0x5a5a5a5a5a5a5a5a;
	ASSERT_OK(vt_dirty_get(c, BASE + first * SZ_4K, nr * SZ_4K, bitmap, words * 8));
	compare(bitmap, m, first, nr);
	ASSERT_EQ(bitmap[words], 0x5a5a5a5a5a5a5a5a);
}

static void expect_unmap(struct vt_container *c, const struct model *m, u64 first, u64 nr)
{
	u64 bitmap[PAGES / 64 + 1] = { 0 }, words = ALIGN_UP(nr, 64) / 64;

	bitmap[words] = 0x5a5a5a5a5a5a5a5a;
	ASSERT_OK(vt_unmap_dirty(c, BASE + first * SZ_4K, nr * SZ_4K, bitmap, words * 8, NULL));
	compare(bitmap, m, first, nr);
	ASSERT_EQ(bitmap[words], 0x5a5a5a5a5a5a5a5a);
}

/* The same with a bitmap full of ones, also by an unmap */
static void expect_over(struct vt_container *c, const struct model *m, u64 first, u64 nr,
			bool unmap_it)
{
	u64 bitmap[PAGES / 64 + 1], words = ALIGN_UP(nr, 64) / 64;
	u64 iova = BASE + first * SZ_4K, size = nr * SZ_4K;

	memset(bitmap, 0xff, sizeof(bitmap));
	if (unmap_it)
		ASSERT_OK(vt_unmap_dirty(c, iova, size, bitmap, words * 8, NULL));
	else
		ASSERT_OK(vt_dirty_get(c, iova, size, bitmap, words * 8));
	compare(bitmap, m, first, nr);
	ASSERT_EQ(bitmap[words], ~0ull);
}

static int get(struct vt_container *c, u64 first, u64 nr)
{
	u64 bitmap[PAGES / 64] = { 0 };

	return vt_dirty_get(c, BASE + first * SZ_4K, nr * SZ_4K, bitmap, sizeof(bitmap));
}

static void cut_einval(void)
{
	struct vt_container c;
	u64 bitmap[4] = { 0 };
	u8 *p;

	vt_open_granule(&c);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	ASSERT_OK(map(&c, 16, p, 64, 4));
	ASSERT_OK(unmap(&c, 24, 8));
	ASSERT_OK(vt_dirty_start(&c));
	ASSERT_EQ(get(&c, 16, 1), -EINVAL);
	ASSERT_EQ(get(&c, 17, 3), -EINVAL);
	ASSERT_EQ(get(&c, 18, 4), -EINVAL);
	ASSERT_EQ(get(&c, 0, 18), -EINVAL);
	ASSERT_EQ(get(&c, 78, 10), -EINVAL);
	ASSERT_EQ(get(&c, 23, 4), -EINVAL);
	ASSERT_EQ(vt_unmap_dirty(&c, BASE + 16 * SZ_4K, SZ_4K, bitmap, 8, NULL), -EINVAL);
	ASSERT_EQ(vt_unmap_dirty(&c, BASE + 20 * SZ_4K, 5 * SZ_4K - SZ_8K, bitmap, 8, NULL),
		  -EINVAL);
	EXPECT_EQ(vt_locked(), 56 * SZ_4K);
	EXPECT_EQ(vt_bits(bitmap, 0, 256), 0);
	/* At the ends of granules, in the hole, and outside. */
	ASSERT_OK(get(&c, 16, 4));
	ASSERT_OK(get(&c, 20, 56));
	ASSERT_OK(get(&c, 25, 3));
	ASSERT_OK(get(&c, 27, 9));
	ASSERT_OK(get(&c, 0, 20));
	ASSERT_OK(get(&c, 0, 256));
}

static void real_device_all_mapped(void)
{
	struct model m = { 0 };
	struct vt_container c;
	u64 i;
	u8 *p;

	vt_open_granule(&c);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	ASSERT_OK(map(&c, 3, p, 99, 1));
	ASSERT_OK(vt_dirty_start(&c));
	ASSERT_OK(map(&c, 104, p, 128, 8));
	set(&m, 3, 99);
	set(&m, 104, 128);
	expect(&c, &m, 0, PAGES);
	for (i = 4; i < 100; i += 3) {
		ASSERT_OK(unmap(&c, i, 1));
		clear(&m, i, 1);
	}
	ASSERT_OK(unmap(&c, 120, 16));
	clear(&m, 120, 16);
	/* As a whole, in parts, and each time the same. */
	expect(&c, &m, 0, PAGES);
	expect(&c, &m, 5, 100 - 5);
	expect(&c, &m, 0, 120);
	expect(&c, &m, 112, 40);
	expect(&c, &m, 0, PAGES);
	/* Into the holes; the bits of one do not wipe out the other's. */
	ASSERT_OK(map(&c, 121, p, 5, 1));
	ASSERT_OK(map(&c, 127, p, 3, 0));
	ASSERT_OK(map(&c, 7, p, 1, 1));
	set(&m, 121, 5);
	set(&m, 127, 3);
	set(&m, 7, 1);
	expect(&c, &m, 0, PAGES);
	expect(&c, &m, 1, PAGES - 1);
	expect(&c, &m, 2, 150);
	expect(&c, &m, 120, 16);

	/* Unmapped with their bitmap. */
	expect_unmap(&c, &m, 112, 8);
	clear(&m, 112, 8);
	expect_unmap(&c, &m, 122, 3);
	clear(&m, 122, 3);
	expect(&c, &m, 0, PAGES);
	expect_unmap(&c, &m, 60, 68 + 4);
	clear(&m, 60, 72);
	expect(&c, &m, 0, PAGES);
	expect_unmap(&c, &m, 0, PAGES);
	EXPECT_EQ(vt_locked(), 0);
}

/* Bits that one call has shifted into place must not show in the next one. */
static void get_twice_other_offset(void)
{
	struct model m = { 0 };
	struct vt_container c;
	u8 *p;

	vt_open_granule(&c);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	ASSERT_OK(map(&c, 9, p, 2, 1));
	ASSERT_OK(map(&c, 40, p, 70, 2));
	ASSERT_OK(vt_dirty_start(&c));
	set(&m, 9, 2);
	set(&m, 40, 70);
	expect(&c, &m, 0, PAGES);
	expect(&c, &m, 9, 101);
	expect(&c, &m, 9, 2);
	expect(&c, &m, 40, 80);
	ASSERT_OK(unmap(&c, 10, 1));
	clear(&m, 10, 1);
	expect(&c, &m, 5, 40 - 5);
	expect(&c, &m, 9, 31);
	expect_unmap(&c, &m, 9, 31);
}

static void written_pages_only(void)
{
	struct model m = { 0 }, none = { 0 };
	struct vt_container c;
	struct vt_dev *dev;
	u8 *p;

	dev = open_testdev(&c);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	ASSERT_OK(map(&c, 16, p, 160, 4));
	ASSERT_OK(vt_dirty_start(&c));
	expect(&c, &none, 0, PAGES);
	dirty(dev, &m, 17);
	dirty(dev, &m, 63);
	dirty(dev, &m, 64);
	dirty(dev, &m, 130);
	/* Asking about a piece clears that piece's, and no other's. */
	expect(&c, &m, 16, 4);
	clear(&m, 17, 1);
	expect(&c, &m, 60, 4);
	clear(&m, 63, 1);
	expect(&c, &m, 16, 160);
	expect(&c, &none, 0, PAGES);
}

static void hole_is_clean(void)
{
	struct model m = { 0 };
	struct vt_container c;
	struct vt_dev *dev;
	u8 *p, *q, byte = 1;

	dev = open_testdev(&c);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	q = vt_alloc(VT_MEM_4K, SZ_1M);
	ASSERT_OK(vt_dirty_start(&c));
	ASSERT_OK(map(&c, 0, p, 128, 4));
	dirty(dev, &m, 3);
	touch(dev, 5);
	dirty(dev, &m, 8);
	touch(dev, 66);
	ASSERT_OK(unmap(&c, 4, 4));
	ASSERT_OK(unmap(&c, 64, 4));
	ASSERT_LT(td_write(dev, BASE + 5 * SZ_4K, &byte, 1), 0);
	/* What lives there now begins clean, and is dirty by itself. */
	ASSERT_OK(map(&c, 4, q, 3, 1));
	expect(&c, &m, 0, 128);
	clear(&m, 0, 128);
	dirty(dev, &m, 2);
	dirty(dev, &m, 6);
	dirty(dev, &m, 8);
	/* Of the guest alone: the host's bits of the same word stay for later. */
	expect(&c, &m, 4, 3);
	clear(&m, 6, 1);
	expect(&c, &m, 0, 128);
	clear(&m, 0, 128);
	dirty(dev, &m, 5);
	dirty(dev, &m, 9);
	expect_unmap(&c, &m, 4, 4);
	clear(&m, 5, 1);
	expect(&c, &m, 0, 128);
}

static void unmap_tells_the_piece(void)
{
	struct model m = { 0 };
	struct vt_container c;
	struct vt_dev *dev;
	u8 *p;

	dev = open_testdev(&c);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	ASSERT_OK(map(&c, 5, p, 150, 1));
	ASSERT_OK(vt_dirty_start(&c));
	dirty(dev, &m, 5);
	dirty(dev, &m, 70);
	dirty(dev, &m, 71);
	dirty(dev, &m, 72);
	dirty(dev, &m, 154);
	expect_unmap(&c, &m, 71, 1);
	clear(&m, 71, 1);
	expect(&c, &m, 0, PAGES);
	clear(&m, 0, PAGES);
	expect(&c, &m, 0, PAGES);
	dirty(dev, &m, 69);
	expect_unmap(&c, &m, 40, 80);
	clear(&m, 69, 1);
	expect(&c, &m, 0, PAGES);
}

/*
 * The bits of a hole are 0, whatever was in the caller's bitmap: with a hole at the start or
 * the end of the range, inside a word, over whole words, and with only holes. writer: the
 * only device that can write; it writes each seventh page. NULL: all that is mapped is dirty.
 */
static void holes_are_zero(struct vt_container *c, struct vt_dev *writer)
{
	static const struct {
		u64 first, nr;
	} hole[] = { { 0, 3 }, { 10, 5 }, { 60, 81 }, { 150, 1 }, { 247, 9 } },
	  range[] = {
		{ 0, PAGES }, { 0, 64 }, { 0, 3 }, { 1, 2 }, { 1, 9 }, { 5, 9 }, { 9, 7 },
		{ 10, 5 }, { 59, 83 }, { 61, 10 }, { 64, 64 }, { 64, 76 }, { 130, 21 },
		{ 150, 1 }, { 141, 115 }, { 250, 6 },
	}, piece[] = {
		{ 0, 2 }, { 0, 9 }, { 9, 7 }, { 11, 3 }, { 64, 64 }, { 57, 86 }, { 150, 1 },
		{ 148, 9 }, { 240, 16 }, { 16, 232 },
	};
	u8 *p = vt_alloc(VT_MEM_4K, SZ_1M);
	struct model m = { 0 };
	size_t i;
	u64 k;

	ASSERT_OK(map(c, 0, p, PAGES, 1));
	for (i = 0; i < ARRAY_SIZE(hole); i++)
		ASSERT_OK(unmap(c, hole[i].first, hole[i].nr));
	ASSERT_OK(vt_dirty_start(c));
	for (k = 0; k < PAGES; k += writer ? 7 : 1)
		set(&m, k, 1);
	for (i = 0; i < ARRAY_SIZE(hole); i++)
		clear(&m, hole[i].first, hole[i].nr);

	for (i = 0; i < ARRAY_SIZE(range); i++) {
		/* What has been told is clean. */
		for (k = 0; writer && k < PAGES; k++)
			if (m.dirty[k])
				touch(writer, k);
		expect_over(c, &m, range[i].first, range[i].nr, false);
	}
	for (i = 0; i < ARRAY_SIZE(piece); i++) {
		expect_over(c, &m, piece[i].first, piece[i].nr, true);
		clear(&m, piece[i].first, piece[i].nr);
	}
	ASSERT_EQ(vt_dma_avail(c), vt_get_param("dma_entry_limit"));
}

static void holes_are_zero_whatever_was_there(void)
{
	struct vt_container c, d;

	vt_open_granule(&c);
	holes_are_zero(&c, NULL);
	holes_are_zero(&d, open_testdev(&d));
}

/* Tracking starts when there are holes, and other mappings in them. */
static void start_with_holes(void)
{
	struct model m = { 0 };
	struct vt_container c;
	struct vt_dev *dev;
	u8 *p;

	dev = open_testdev(&c);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	ASSERT_OK(map(&c, 2, p, 100, 2));
	ASSERT_OK(unmap(&c, 10, 60));
	ASSERT_OK(map(&c, 11, p, 40, 1));
	ASSERT_OK(unmap(&c, 20, 3));
	ASSERT_OK(vt_dirty_start(&c));
	dirty(dev, &m, 9);
	dirty(dev, &m, 11);
	dirty(dev, &m, 23);
	dirty(dev, &m, 71);
	expect(&c, &m, 0, PAGES);
	/* Stop and start again: clean. */
	touch(dev, 9);
	ASSERT_OK(vt_dirty_stop(&c));
	ASSERT_OK(vt_dirty_start(&c));
	clear(&m, 0, PAGES);
	expect(&c, &m, 0, PAGES);
}

/* Pinned pages are dirty for as long as they are pinned. */
static void pinned_pages(void)
{
	struct model m = { 0 };
	struct vt_container c;
	struct vt_dev *dev;
	u8 *p;

	dev = open_testdev(&c);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	ASSERT_OK(map(&c, 0, p, 128, 4));
	ASSERT_EQ(td_pin(dev, BASE + 6 * SZ_4K, 4, VTD_READ | VTD_WRITE, NULL), 4);
	ASSERT_OK(vt_dirty_start(&c));
	set(&m, 6, 4);
	expect(&c, &m, 0, 128);
	expect(&c, &m, 4, 4);
	expect(&c, &m, 0, 128);
	/* The piece goes, and makes the device let go of what is in it. */
	expect_unmap(&c, &m, 4, 4);
	clear(&m, 6, 2);
	expect(&c, &m, 0, 128);
	ASSERT_EQ(td_pinned(dev), 2);
	ASSERT_OK(td_unpin(dev, BASE + 8 * SZ_4K, 2));
	expect(&c, &m, 0, 128);
	clear(&m, 8, 2);
	expect(&c, &m, 0, 128);
}

/* The bitmap cannot be written, not at all or not from its second page on. */
static void efault_loses_nothing(void)
{
	struct model m = { 0 };
	struct vt_container c;
	struct vt_dev *dev;
	u8 *p, *edge;

	dev = open_testdev(&c);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	edge = vt_half_there(PROT_NONE);
	ASSERT_OK(map(&c, 0, p, 250, 1));
	ASSERT_OK(unmap(&c, 100, 20));
	ASSERT_OK(map(&c, 103, p, 7, 1));
	ASSERT_OK(vt_dirty_start(&c));
	dirty(dev, &m, 1);
	dirty(dev, &m, 63);
	dirty(dev, &m, 64);
	dirty(dev, &m, 105);
	dirty(dev, &m, 201);
	ASSERT_EQ(vt_dirty_get(&c, BASE, PAGES * SZ_4K, edge, 32), -EFAULT);
	ASSERT_EQ(vt_dirty_get(&c, BASE, PAGES * SZ_4K, edge - 8, 32), -EFAULT);
	ASSERT_EQ(vt_dirty_get(&c, BASE, PAGES * SZ_4K, edge - 16, 32), -EFAULT);
	ASSERT_EQ(vt_dirty_get(&c, BASE, PAGES * SZ_4K, edge - 24, 32), -EFAULT);
	expect(&c, &m, 0, PAGES);
}

/*
 * Without granules nothing is written to the user's bitmap before the bits are. So the copy
 * faults at the second mapping, when the bits of the first have been copied.
 */
static void efault_second_mapping(void)
{
	struct model m = { 0 };
	struct vt_container c;
	struct vt_dev *dev;
	u8 *p, *edge;

	dev = open_testdev(&c);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	edge = vt_half_there(PROT_NONE);
	ASSERT_OK(map(&c, 0, p, 64, 0));
	ASSERT_OK(map(&c, 64, p, 64, 0));
	ASSERT_OK(vt_dirty_start(&c));
	dirty(dev, &m, 1);
	dirty(dev, &m, 63);
	dirty(dev, &m, 70);
	ASSERT_EQ(vt_dirty_get(&c, BASE, 128 * SZ_4K, edge - 8, 16), -EFAULT);
	expect(&c, &m, 0, 128);
}

/* 15 mappings side by side, with 8 MiB of free IOVA space on either side */
#define CHUNK		(16 * SZ_1M)
#define CHUNKS		15
#define AROUND		(CHUNKS * CHUNK + 2 * 8 * SZ_1M)

/* How much of each the kernel says is left. Returns the sum. */
static u64 what_is_left(struct vt_container *c, u64 *left)
{
	struct vt_extents x;
	u64 sum = 0;
	size_t i;

	memset(left, 0, CHUNKS * sizeof(*left));
	vt_extents_read(c, BASE, AROUND, 1024, &x);
	for (i = 0; i < x.nr; i++) {
		left[(x.e[i].iova - BASE - CHUNK / 2) / CHUNK] += x.e[i].size;
		sum += x.e[i].size;
	}
	vt_extents_free(&x);
	return sum;
}

/* Maps it, and the device writes it; writer as above. */
static bool dirty_page(u64 page, const u64 *left, struct vt_dev *writer)
{
	u64 at = page * SZ_4K - CHUNK / 2;

	return at < CHUNKS * CHUNK && left[at / CHUNK] && (!writer || page % 61 == 0);
}

/*
 * An unmap with a bitmap whose second page cannot be written. The bits of the mapping in the
 * middle are in both pages. The call may unmap some of the range. Then every way to ask says
 * the same about what is left, no bit is lost, and the next unmap takes exactly the rest.
 * At most the first mapping has a granule: the kernel clears the bits of holes beforehand.
 */
static void unmap_efault_once(struct vt_container *c, struct vt_dev *writer, u64 granule)
{
	u64 all[CHUNKS], left[CHUNKS], base = vt_locked(), border = SZ_4K * 8, sum, now, n, i;
	u64 bytes = VT_BITMAP_BYTES(AROUND);
	u32 avail = vt_dma_avail(c), entries = 0;
	u8 *p = vt_alloc(VT_MEM_4K, CHUNK), *two, *good, byte = 1;

	ASSERT_EQ(bytes, SZ_8K);
	two = mmap(NULL, SZ_8K, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(two != MAP_FAILED);
	two[SZ_4K] = 0;
	ASSERT_OK(mprotect(two + SZ_4K, SZ_4K, PROT_READ));
	good = calloc(1, bytes);
	ASSERT_TRUE(good);

	for (i = 0; i < CHUNKS; i++)
		ASSERT_OK(vt_map(c, BASE + CHUNK / 2 + i * CHUNK, p, CHUNK, VT_RW,
				 i ? 0 : granule));
	ASSERT_OK(vt_dirty_start(c));
	sum = what_is_left(c, all);
	ASSERT_EQ(sum, CHUNKS * CHUNK);
	for (i = 0; writer && i < AROUND / SZ_4K; i++)
		if (dirty_page(i, all, writer))
			ASSERT_OK(td_write(writer, BASE + i * SZ_4K, &byte, 1));

	ASSERT_EQ(vt_unmap_dirty(c, BASE, AROUND, two, bytes, NULL), -EFAULT);
	now = what_is_left(c, left);
	vt_diag("granule %#llx: %llu MiB are left", granule, now / SZ_1M);
	for (i = 0; i < CHUNKS; i++) {
		ASSERT_TRUE(!left[i] || left[i] == CHUNK);
		entries += !!left[i];
		/* No bit can have been told of these. */
		if (CHUNK / 2 + (i + 1) * CHUNK > border * SZ_4K)
			ASSERT_EQ(left[i], CHUNK);
	}
	ASSERT_EQ(vt_locked() - base, writer ? 0 : now);
	ASSERT_EQ(vt_dma_avail(c), avail - entries);
	for (i = 0; i < border; i++)
		if (!dirty_page(i, left, writer) && dirty_page(i, all, writer))
			ASSERT_TRUE(vt_bit(two, i));

	ASSERT_OK(vt_unmap_dirty(c, BASE, AROUND, good, bytes, &n));
	ASSERT_EQ(n, now);
	for (i = 0; i < AROUND / SZ_4K; i++)
		if (vt_bit(good, i) != dirty_page(i, left, writer))
			FAIL("page %llu: bit is %d", i, vt_bit(good, i));
	ASSERT_EQ(vt_locked(), base);
	ASSERT_EQ(vt_dma_avail(c), avail);
	ASSERT_EQ(what_is_left(c, left), 0);
	ASSERT_OK(vt_dirty_stop(c));
	ASSERT_OK(munmap(two, SZ_8K));
	free(good);
	vt_free(p, VT_MEM_4K, CHUNK);
}

static void unmap_efault(void)
{
	struct vt_container c, d;
	struct vt_dev *dev;

	vt_open_granule(&c);
	unmap_efault_once(&c, NULL, 0);
	unmap_efault_once(&c, NULL, SZ_64K);
	dev = open_testdev(&d);
	unmap_efault_once(&d, dev, 0);
	unmap_efault_once(&d, dev, SZ_64K);
}

/* More than one word at a time, and more than one page of bitmap. */
static void large(void)
{
	u64 pages = SZ_1G / SZ_4K, bytes = pages / 8, i;
	struct vt_container c;
	struct vt_dev *dev;
	u8 byte = 1, *p;
	u64 *bitmap;

	dev = open_testdev(&c);
	p = mmap(NULL, SZ_1G, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_TRUE(p != MAP_FAILED);
	bitmap = calloc(1, bytes);
	ASSERT_TRUE(bitmap);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_1G, VT_RW, SZ_4K));
	ASSERT_OK(vt_dirty_start(&c));
	for (i = 0; i < pages; i += 4099)
		ASSERT_OK(td_write(dev, BASE + i * SZ_4K, &byte, 1));
	for (i = 0; i < pages; i += 2 * 4099)
		ASSERT_OK(vt_unmap(&c, BASE + i * SZ_4K, SZ_4K, NULL));
	ASSERT_OK(vt_dirty_get(&c, BASE, SZ_1G, bitmap, bytes));
	for (i = 0; i < pages; i++)
		if (vt_bit(bitmap, i) != (i % 4099 == 0 && i / 4099 % 2))
			FAIL("page %llu: bit is %d", i, vt_bit(bitmap, i));
}

VTEST_MAIN(
	VTEST(cut_einval),
	VTEST(real_device_all_mapped),
	VTEST(get_twice_other_offset),
	VTEST(written_pages_only),
	VTEST(hole_is_clean),
	VTEST(unmap_tells_the_piece),
	VTEST(holes_are_zero_whatever_was_there),
	VTEST(start_with_holes),
	VTEST(pinned_pages),
	VTEST(efault_loses_nothing),
	VTEST(efault_second_mapping),
	VTEST(unmap_efault),
	VTEST(large),
)
