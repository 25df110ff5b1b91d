// SPDX-License-Identifier: GPL-2.0
/*
 * Mediated devices, and mappings with and without a granule: pages that they pin, what they
 * are told to unpin, what is charged, and vfio_dma_rw()
 */
#include "../lib/testdev.h"

#define IOVA	0x40000000ull
#define RW	(VTD_READ | VTD_WRITE)
#define PIECE	SZ_64K
#define PAGES(n) ((n) * SZ_4K)

/* Dirty bits are exact only where nothing but pins and dma_rw can write. */
static struct vt_dev *open_emulated(struct vt_container *c)
{
	vt_open_empty(c, VFIO_TYPE1v2_IOMMU);
	return td_add(c, 0);
}

static struct vt_dev *open_granule(struct vt_container *c)
{
	struct vt_dev *dev = open_emulated(c);

	vt_need_granule(c);
	return dev;
}

/* The device was told of [iova, size) and nothing else, in one call. */
static void expect_told(struct vt_dev *dev, u64 iova, u64 size)
{
	struct vtd_event ev = { 0 };

	ASSERT_EQ(td_told(dev, &ev, 1), 1);
	EXPECT_EQ(ev.iova, iova);
	EXPECT_EQ(ev.size, size);
}

static void expect_not_told(struct vt_dev *dev)
{
	struct vtd_event ev = { 0 };

	if (td_told(dev, &ev, 1))
		FAIL("told to unmap %#llx, size %#llx", ev.iova, ev.size);
}

static void pin_charges(void)
{
	struct vt_container c;
	struct vt_dev *dev = open_emulated(&c);
	u64 base = vt_locked(), pfn[4];
	u8 *mem = vt_alloc(VT_MEM_4K, SZ_1M);
	int i;

	ASSERT_OK(vt_map(&c, IOVA, mem, SZ_1M, VT_RW, 0));
	EXPECT_EQ(vt_locked(), base);

	ASSERT_EQ(td_pin(dev, IOVA + PAGES(7), 4, RW, pfn), 4);
	for (i = 0; i < 4; i++)
		EXPECT_EQ(pfn[i] * SZ_4K, vt_phys(mem + PAGES(7 + i)));
	EXPECT_EQ(vt_locked(), base + PAGES(4));

	/* A page is charged once, however often it is pinned. */
	ASSERT_EQ(td_pin(dev, IOVA + PAGES(9), 4, RW, NULL), 4);
	EXPECT_EQ(vt_locked(), base + PAGES(6));
	ASSERT_OK(td_unpin(dev, IOVA + PAGES(9), 4));
	EXPECT_EQ(vt_locked(), base + PAGES(4));
	EXPECT_EQ(td_pinned(dev), 4);

	ASSERT_OK(vt_unmap(&c, IOVA, SZ_1M, NULL));
	expect_told(dev, IOVA, SZ_1M);
	EXPECT_EQ(td_pinned(dev), 0);
	EXPECT_EQ(vt_locked(), base);
	vt_close(&c);
}

static void pin_errors(void)
{
	struct vt_container c;
	struct vt_dev *dev = open_emulated(&c);
	u64 base = vt_locked();
	u8 *mem = vt_alloc(VT_MEM_4K, SZ_1M);

	ASSERT_OK(vt_map(&c, IOVA, mem, SZ_1M, VT_RO, 0));
	EXPECT_EQ(td_pin(dev, IOVA, 1, RW, NULL), -EPERM);
	EXPECT_EQ(td_pin(dev, IOVA + SZ_1M - PAGES(1), 2, VTD_READ, NULL), -EINVAL);
	EXPECT_EQ(td_pin(dev, IOVA + SZ_1M, 1, VTD_READ, NULL), -EINVAL);
	EXPECT_EQ(td_pinned(dev), 0);
	EXPECT_EQ(vt_locked(), base);
	/* vaddr cannot change under a device that may pin at any time. */
	EXPECT_EQ(vt_check_extension(&c, VFIO_UPDATE_VADDR), 0);
	EXPECT_EQ(vt_unmap_vaddr(&c, IOVA, SZ_1M, NULL), -EBUSY);
	vt_close(&c);
	EXPECT_EQ(vt_locked(), base);
}

/* Closing the device, and the container, with pages pinned. */
static void close_with_pins(void)
{
	struct vt_container c;
	struct vt_dev *dev = open_emulated(&c);
	u64 base = vt_locked();
	u8 *mem = vt_alloc(VT_MEM_4K, SZ_1M);

	ASSERT_OK(vt_map(&c, IOVA, mem, SZ_1M, VT_RW, 0));
	ASSERT_EQ(td_pin(dev, IOVA, 16, RW, NULL), 16);
	vt_close(&c);
	EXPECT_EQ(vt_locked(), base);
}

/* A device that does not unpin: nothing is unmapped, and it is told no more than ten times. */
static void keeps_pins_ebusy(void)
{
	struct vt_container c;
	struct vtd_event ev = { 0 };
	struct vt_dev *dev;
	u8 *mem;
	u64 n;

	if (vt_kernel_lacks("keeps"))
		SKIP("such a device is a BUG() there");
	dev = open_emulated(&c);
	mem = vt_alloc(VT_MEM_4K, SZ_1M);
	ASSERT_OK(vt_map(&c, IOVA, mem, SZ_1M, VT_RW, 0));
	ASSERT_EQ(td_pin(dev, IOVA + PAGES(3), 2, RW, NULL), 2);
	td_keep(dev, true);
	ASSERT_REFUSED(&c, vt_unmap(&c, IOVA, SZ_1M, NULL), EBUSY);
	ASSERT_EQ(td_told(dev, &ev, 1), 10);
	EXPECT_EQ(ev.iova, IOVA);
	EXPECT_EQ(ev.size, SZ_1M);
	ASSERT_REFUSED(&c, vt_unmap_all(&c, NULL), EBUSY);
	EXPECT_EQ(td_pinned(dev), 2);
	td_keep(dev, false);
	ASSERT_OK(vt_unmap(&c, IOVA, SZ_1M, &n));
	EXPECT_EQ(n, SZ_1M);
	EXPECT_EQ(td_pinned(dev), 0);
	vt_close(&c);
}

static void last_page_plain(void)
{
	u64 iova = -SZ_4K, base = vt_locked(), val = 0x1234, got = 0, pfn = 0;
	struct vt_container c;
	struct vt_dev *dev = open_emulated(&c);
	u8 *mem = vt_alloc(VT_MEM_4K, SZ_4K);

	ASSERT_OK(vt_map(&c, iova, mem, SZ_4K, VT_RW, 0));
	ASSERT_EQ(td_pin(dev, iova, 1, RW, &pfn), 1);
	EXPECT_EQ(pfn * SZ_4K, vt_phys(mem));
	EXPECT_EQ(vt_locked(), base + SZ_4K);
	ASSERT_OK(td_write(dev, -sizeof(val), &val, sizeof(val)));
	ASSERT_OK(td_read(dev, -sizeof(got), &got, sizeof(got)));
	EXPECT_EQ(got, val);
	EXPECT_EQ(memcmp(mem + SZ_4K - sizeof(val), &val, sizeof(val)), 0);
	ASSERT_OK(vt_unmap(&c, iova, SZ_4K, NULL));
	expect_told(dev, iova, SZ_4K);
	EXPECT_EQ(td_pinned(dev), 0);
	EXPECT_EQ(vt_locked(), base);
	vt_close(&c);
}

/* An IOMMU that reaches the last page joins: the page is charged already. */
static void last_page_then_edu(void)
{
	u64 iova = -SZ_4K, base = vt_locked();
	struct vt_container c;
	struct vt_dev *dev;
	u8 *mem;
	int ret;

	/* A kernel without granules may lack the fix. */
	dev = open_granule(&c);
	mem = vt_alloc(VT_MEM_4K, SZ_4K);
	ASSERT_OK(vt_map(&c, iova, mem, SZ_4K, VT_RW, 0));
	ASSERT_EQ(td_pin(dev, iova, 1, RW, NULL), 1);
	ASSERT_EQ(vt_locked(), base + SZ_4K);
	ret = vt_try_add_group(&c, vt_edu_group(0), vt_edu_bdf(0), NULL);
	if (ret == -EINVAL || ret == -ERANGE)
		SKIP("the IOMMU does not reach that page");
	ASSERT_OK(ret);
	ASSERT_EQ(vt_locked(), base + SZ_4K);
	ASSERT_OK(td_unpin(dev, iova, 1));
	ASSERT_EQ(vt_locked(), base + SZ_4K);
	ASSERT_EQ(td_pin(dev, iova, 1, RW, NULL), 1);
	ASSERT_OK(vt_unmap(&c, iova, SZ_4K, NULL));
	ASSERT_EQ(td_pinned(dev), 0);
	ASSERT_EQ(vt_locked(), base);
	vt_close(&c);
}

static void last_page_granule(void)
{
	u64 iova = -SZ_1M, base = vt_locked(), val = 0x5678, size = 0;
	struct vt_container c;
	struct vt_dev *dev = open_granule(&c);
	u8 *mem = vt_alloc(VT_MEM_4K, SZ_1M);

	ASSERT_OK(vt_map(&c, iova, mem, SZ_1M, VT_RW, PIECE));
	ASSERT_EQ(td_pin(dev, -SZ_4K, 1, RW, NULL), 1);
	ASSERT_EQ(td_pin(dev, -(2 * PIECE), 2, RW, NULL), 2);
	ASSERT_EQ(td_pin(dev, -PIECE - SZ_4K, 2, RW, NULL), 2);
	EXPECT_EQ(vt_locked(), base + PAGES(5));

	EXPECT_EQ(vt_unmap(&c, -SZ_4K, SZ_4K, NULL), -EINVAL);
	expect_not_told(dev);
	ASSERT_OK(vt_unmap(&c, -PIECE, PIECE, &size));
	EXPECT_EQ(size, PIECE);
	expect_told(dev, -PIECE, PIECE);
	EXPECT_EQ(td_pinned(dev), 3);
	EXPECT_EQ(vt_locked(), base + PAGES(3));
	EXPECT_EQ(td_write(dev, -sizeof(val), &val, sizeof(val)), -EINVAL);

	/* Now the last page of the IOVA space has a mapping of its own, in the hole. */
	ASSERT_OK(vt_map(&c, -SZ_4K, mem, SZ_4K, VT_RW, SZ_4K));
	ASSERT_OK(td_write(dev, -sizeof(val), &val, sizeof(val)));
	EXPECT_EQ(memcmp(mem + SZ_4K - sizeof(val), &val, sizeof(val)), 0);
	ASSERT_EQ(td_pin(dev, -SZ_4K, 1, RW, NULL), 1);
	ASSERT_OK(vt_unmap(&c, -SZ_4K, SZ_4K, NULL));
	expect_told(dev, -SZ_4K, SZ_4K);

	ASSERT_OK(vt_unmap(&c, iova, SZ_1M, &size));
	EXPECT_EQ(size, SZ_1M - PIECE);
	EXPECT_EQ(td_pinned(dev), 0);
	EXPECT_EQ(vt_locked(), base);
	vt_close(&c);
}

/* Each piece behaves like a mapping of its own. */
static void pieces(void)
{
	u64 base = vt_locked(), size = 0;
	struct vtd_event ev[32];
	struct vt_container c;
	struct vt_dev *dev = open_granule(&c);
	u8 *mem = vt_alloc(VT_MEM_4K, SZ_1M);
	unsigned int i, n;
	u64 told = 0;

	ASSERT_OK(vt_map(&c, IOVA, mem, SZ_1M, VT_RW, PIECE));
	EXPECT_EQ(vt_locked(), base);
	ASSERT_EQ(td_pin(dev, IOVA + 3 * PIECE + PAGES(2), 5, RW, NULL), 5);
	ASSERT_EQ(td_pin(dev, IOVA + 7 * PIECE - PAGES(1), 3, RW, NULL), 3);

	/* The neighbours on both sides of piece 3. */
	ASSERT_OK(vt_unmap(&c, IOVA + 2 * PIECE, PIECE, NULL));
	ASSERT_OK(vt_unmap(&c, IOVA + 4 * PIECE, PIECE, NULL));
	n = td_told(dev, ev, ARRAY_SIZE(ev));
	for (i = 0; i < n; i++)
		if (ev[i].iova < IOVA + 4 * PIECE && ev[i].iova + ev[i].size > IOVA + 3 * PIECE)
			FAIL("told to unmap %#llx, size %#llx", ev[i].iova, ev[i].size);
	EXPECT_EQ(td_pinned(dev), 8);
	EXPECT_EQ(vt_locked(), base + PAGES(8));

	ASSERT_OK(vt_unmap(&c, IOVA + 3 * PIECE, PIECE, &size));
	EXPECT_EQ(size, PIECE);
	expect_told(dev, IOVA + 3 * PIECE, PIECE);
	EXPECT_EQ(td_pinned(dev), 3);
	EXPECT_EQ(vt_locked(), base + PAGES(3));

	/* A hole cannot be pinned. A pin that ends in a hole pins nothing. */
	EXPECT_EQ(td_pin(dev, IOVA + 3 * PIECE, 1, VTD_READ, NULL), -EINVAL);
	EXPECT_EQ(td_pin(dev, IOVA + 2 * PIECE - PAGES(3), 4, VTD_READ, NULL), -EINVAL);
	EXPECT_EQ(vt_locked(), base + PAGES(3));

	/* An unmap of the rest: the device is told of its pins, not of holes. */
	ASSERT_OK(vt_unmap(&c, IOVA, SZ_1M, &size));
	EXPECT_EQ(size, SZ_1M - 3 * PIECE);
	n = td_told(dev, ev, ARRAY_SIZE(ev));
	for (i = 0; i < n; i++) {
		if (ev[i].iova < IOVA || ev[i].iova + ev[i].size > IOVA + SZ_1M ||
		    (ev[i].iova < IOVA + 5 * PIECE && ev[i].iova + ev[i].size > IOVA + 2 * PIECE))
			FAIL("told to unmap %#llx, size %#llx", ev[i].iova, ev[i].size);
		told += ev[i].size;
	}
	EXPECT_LE(told, SZ_1M - 3 * PIECE);
	EXPECT_EQ(td_pinned(dev), 0);
	EXPECT_EQ(vt_locked(), base);
	vt_close(&c);
}

/* A page that is pinned in a hole belongs to the mapping in the hole. */
static void pins_in_hole(void)
{
	u64 base = vt_locked(), pfn = 0;
	struct vt_container c;
	struct vt_dev *dev = open_granule(&c);
	u8 *mem = vt_alloc(VT_MEM_4K, SZ_1M), *other = vt_alloc(VT_MEM_4K, PIECE);

	ASSERT_OK(vt_map(&c, IOVA, mem, SZ_1M, VT_RW, PIECE));
	ASSERT_EQ(td_pin(dev, IOVA, 1, RW, NULL), 1);
	ASSERT_OK(vt_unmap(&c, IOVA + PIECE, PIECE, NULL));
	ASSERT_OK(vt_map(&c, IOVA + PIECE, other, PIECE, VT_RO, SZ_4K));
	td_told(dev, NULL, 0);

	ASSERT_EQ(td_pin(dev, IOVA + PIECE + PAGES(1), 1, VTD_READ, &pfn), 1);
	EXPECT_EQ(pfn * SZ_4K, vt_phys(other + PAGES(1)));
	EXPECT_EQ(td_pin(dev, IOVA + PIECE, 1, RW, NULL), -EPERM);
	EXPECT_EQ(vt_locked(), base + PAGES(2));

	ASSERT_OK(vt_unmap(&c, IOVA + PIECE + PAGES(1), PAGES(1), NULL));
	expect_told(dev, IOVA + PIECE + PAGES(1), PAGES(1));
	EXPECT_EQ(vt_locked(), base + PAGES(1));
	EXPECT_EQ(td_pinned(dev), 1);
	vt_close(&c);
	EXPECT_EQ(vt_locked(), base);
}

/* Pages a real device reaches are charged already: a pin adds nothing. */
static void no_double_charge(void)
{
	struct vt_container c;
	struct vt_dev *dev;
	u64 base = vt_locked();
	u8 *mem;

	vt_open_v2(&c);
	vt_need_granule(&c);
	dev = td_add(&c, 0);
	mem = vt_alloc(VT_MEM_4K, SZ_1M);
	ASSERT_OK(vt_map(&c, IOVA, mem, SZ_1M, VT_RW, PIECE));
	EXPECT_EQ(vt_locked(), base + SZ_1M);
	ASSERT_EQ(td_pin(dev, IOVA + 3 * PIECE, 8, RW, NULL), 8);
	ASSERT_EQ(td_pin(dev, IOVA + 5 * PIECE, 8, RW, NULL), 8);
	EXPECT_EQ(vt_locked(), base + SZ_1M);

	ASSERT_OK(vt_unmap(&c, IOVA + 4 * PIECE, PIECE, NULL));
	EXPECT_EQ(td_pinned(dev), 16);
	EXPECT_EQ(vt_locked(), base + SZ_1M - PIECE);
	td_told(dev, NULL, 0);
	ASSERT_OK(vt_unmap(&c, IOVA + 3 * PIECE, PIECE, NULL));
	expect_told(dev, IOVA + 3 * PIECE, PIECE);
	EXPECT_EQ(td_pinned(dev), 8);
	EXPECT_EQ(vt_locked(), base + SZ_1M - 2 * PIECE);

	ASSERT_OK(td_unpin(dev, IOVA + 5 * PIECE, 8));
	EXPECT_EQ(vt_locked(), base + SZ_1M - 2 * PIECE);
	vt_close(&c);
	EXPECT_EQ(vt_locked(), base);
}

static void no_double_charge_plain(void)
{
	struct vt_container c;
	struct vt_dev *dev;
	u64 base = vt_locked();
	u8 *mem;

	vt_open_v2(&c);
	dev = td_add(&c, 0);
	mem = vt_alloc(VT_MEM_4K, SZ_1M);
	ASSERT_OK(vt_map(&c, IOVA, mem, SZ_1M, VT_RW, 0));
	ASSERT_EQ(td_pin(dev, IOVA, 8, RW, NULL), 8);
	EXPECT_EQ(vt_locked(), base + SZ_1M);
	ASSERT_OK(vt_unmap(&c, IOVA, SZ_1M, NULL));
	expect_told(dev, IOVA, SZ_1M);
	EXPECT_EQ(vt_locked(), base);
	vt_close(&c);
}

/* A real device joins a container that has mappings with holes and pins; leaves; joins again. */
static void late_edu(bool holes, enum vt_mem kind, u64 piece)
{
	u64 size = 16 * piece, base, live, other_size = holes ? piece : 0;
	struct vt_dev *dev, *edu;
	struct vt_tables t;
	struct vt_info info;
	struct vt_container c;
	u8 *mem, *other;
	char buf[64];
	int i, turn;

	dev = holes ? open_granule(&c) : open_emulated(&c);
	mem = vt_alloc(kind, size);
	other = vt_alloc(VT_MEM_4K, piece);
	base = vt_locked();
	ASSERT_OK(vt_map(&c, IOVA, mem, size, VT_RW, holes ? piece : 0));
	ASSERT_EQ(td_pin(dev, IOVA + 2 * piece + PAGES(3), 3, RW, NULL), 3);
	live = size;
	if (holes) {
		ASSERT_OK(vt_unmap(&c, IOVA + 4 * piece, 2 * piece, NULL));
		ASSERT_OK(vt_unmap(&c, IOVA + 9 * piece, piece, NULL));
		ASSERT_OK(vt_map(&c, IOVA + 9 * piece, other, piece, VT_RO, SZ_4K));
		live -= 2 * piece;
	}
	EXPECT_EQ(vt_locked(), base + PAGES(3));

	for (turn = 0; turn < 2; turn++) {
		edu = vt_add_edu(&c, 0);
		EXPECT_EQ(vt_locked(), base + live);

		vt_edu_enable(edu);
		vt_fill(mem + 3 * piece, 64, turn);
		vt_dma_read(edu, IOVA + 3 * piece, buf, sizeof(buf));
		EXPECT_EQ(vt_filled(buf, sizeof(buf), turn), 1);
		ASSERT_OK(vt_unmap(&c, edu->bounce_iova, SZ_4K, NULL));

		if (vt_tables_known(edu)) {
			vt_info(&c, &info);
			vt_tables_read(edu, &t);
			for (i = 0; i < 16 && holes; i++) {
				u64 at = i * piece;
				bool hole = i == 4 || i == 5;

				if (i == 9)
					vt_tables_expect(&t, &info, IOVA + at, piece, other,
							 VT_RO, SZ_4K, NULL);
				else
					vt_tables_expect(&t, &info, IOVA + at, piece,
							 hole ? NULL : mem + at, VT_RW, piece,
							 NULL);
			}
			if (!holes)
				vt_tables_expect(&t, &info, IOVA, size, mem, VT_RW, 0, NULL);
			vt_tables_free(&t);
		}

		/* What it pins now is not charged until the real device has left. */
		ASSERT_EQ(td_pin(dev, IOVA + 12 * piece + PAGES(turn), 1, RW, NULL), 1);
		EXPECT_EQ(vt_locked(), base + live);
		vt_remove(edu);
		EXPECT_EQ(vt_locked(), base + PAGES(4 + turn));
	}

	edu = vt_add_edu(&c, 0);
	td_told(dev, NULL, 0);
	if (holes) {
		ASSERT_OK(vt_unmap(&c, IOVA + 12 * piece, piece, NULL));
		expect_told(dev, IOVA + 12 * piece, piece);
		EXPECT_EQ(vt_locked(), base + live - piece);
		EXPECT_EQ(td_pinned(dev), 3);
	}
	/* The emulated device leaves, the real one stays. */
	vt_remove(dev);
	EXPECT_EQ(vt_locked(), base + live - other_size);
	ASSERT_OK(vt_unmap_all(&c, NULL));
	EXPECT_EQ(vt_locked(), base);
	vt_close(&c);
}

static void late_edu_plain(void)
{
	late_edu(false, VT_MEM_4K, SZ_64K);
}

static void late_edu_4k(void)
{
	late_edu(true, VT_MEM_4K, SZ_64K);
}

static void late_edu_thp_small_granule(void)
{
	late_edu(true, VT_MEM_THP, SZ_1M);
}

static void late_edu_thp(void)
{
	late_edu(true, VT_MEM_THP, SZ_2M);
}

/*
 * vfio_dma_rw() works over pieces and over mappings, but not over holes, for a process and
 * for a kernel thread.
 */
static void rw_flags(struct vt_container *c, struct vt_dev *dev, u32 flags, u64 granule)
{
	u8 *mem = vt_alloc(VT_MEM_4K, SZ_1M), *next = vt_alloc(VT_MEM_4K, SZ_64K);
	static u8 out[3 * SZ_64K], in[3 * SZ_64K];

	ASSERT_OK(vt_map(c, IOVA, mem, SZ_1M, VT_RW, granule));
	ASSERT_OK(vt_map(c, IOVA + SZ_1M, next, SZ_64K, VT_RW, 0));

	vt_fill(out, sizeof(out), 1);
	ASSERT_OK(td_rw(dev, IOVA + 3 * PIECE - 24, out, PIECE + 48, flags | VTD_WRITE));
	EXPECT_EQ(memcmp(mem + 3 * PIECE - 24, out, PIECE + 48), 0);
	memset(in, 0, sizeof(in));
	ASSERT_OK(td_rw(dev, IOVA + 3 * PIECE - 24, in, PIECE + 48, flags));
	EXPECT_EQ(memcmp(in, out, PIECE + 48), 0);

	/* Two mappings side by side. */
	ASSERT_OK(td_rw(dev, IOVA + SZ_1M - 100, out, 200, flags | VTD_WRITE));
	EXPECT_EQ(memcmp(mem + SZ_1M - 100, out, 100), 0);
	EXPECT_EQ(memcmp(next, out + 100, 100), 0);
	EXPECT_EQ(td_rw(dev, IOVA + SZ_1M + SZ_64K - 8, in, 16, flags), -EINVAL);

	if (granule) {
		u8 *hole = vt_alloc(VT_MEM_4K, PIECE);

		ASSERT_OK(vt_unmap(c, IOVA + 5 * PIECE, PIECE, NULL));
		memset(mem, 0x11, SZ_1M);
		EXPECT_EQ(td_rw(dev, IOVA + 5 * PIECE - 64, out, 128, flags | VTD_WRITE), -EINVAL);
		EXPECT_EQ(td_rw(dev, IOVA + 5 * PIECE - 64, in, PIECE + 128, flags), -EINVAL);
		EXPECT_EQ(td_rw(dev, IOVA + 5 * PIECE, in, 8, flags), -EINVAL);
		EXPECT_EQ(td_rw(dev, IOVA + 6 * PIECE - 8, in, 16, flags), -EINVAL);
		EXPECT_EQ(mem[5 * PIECE], 0x11);
		EXPECT_EQ(mem[6 * PIECE], 0x11);

		/* With other memory in the hole the same call works. */
		memset(mem, 0x11, SZ_1M);
		memset(hole, 0x22, PIECE);
		ASSERT_OK(vt_map(c, IOVA + 5 * PIECE, hole, PIECE, VT_RW, SZ_4K));
		ASSERT_OK(td_rw(dev, IOVA + 5 * PIECE - 1, in, PIECE + 2, flags));
		EXPECT_EQ(in[0], 0x11);
		EXPECT_EQ(in[1], 0x22);
		EXPECT_EQ(in[PIECE], 0x22);
		EXPECT_EQ(in[PIECE + 1], 0x11);
		memset(out, 0x33, PIECE + 2);
		ASSERT_OK(td_rw(dev, IOVA + 5 * PIECE - 1, out, PIECE + 2, flags | VTD_WRITE));
		EXPECT_EQ(hole[0], 0x33);
		EXPECT_EQ(hole[PIECE - 1], 0x33);
		EXPECT_EQ(mem[5 * PIECE - 2], 0x11);
		EXPECT_EQ(mem[5 * PIECE - 1], 0x33);
		EXPECT_EQ(mem[5 * PIECE], 0x11);
		EXPECT_EQ(mem[6 * PIECE], 0x33);
	}
	ASSERT_OK(vt_unmap_all(c, NULL));
	ASSERT_OK(vt_map(c, IOVA, mem, SZ_1M, VT_RO, granule));
	EXPECT_EQ(td_rw(dev, IOVA, out, 8, flags | VTD_WRITE), -EPERM);
	EXPECT_EQ(td_rw(dev, IOVA, in, 8, flags), 0);
	ASSERT_OK(vt_unmap_all(c, NULL));
	EXPECT_EQ(td_rw(dev, IOVA, in, 8, flags), -EINVAL);
}

static void rw_plain(void)
{
	struct vt_container c;
	struct vt_dev *dev = open_emulated(&c);

	rw_flags(&c, dev, 0, 0);
	rw_flags(&c, dev, VTD_KTHREAD, 0);
	vt_close(&c);
}

static void rw_granule(void)
{
	struct vt_container c;
	struct vt_dev *dev = open_granule(&c);

	rw_flags(&c, dev, 0, PIECE);
	rw_flags(&c, dev, VTD_KTHREAD, PIECE);
	rw_flags(&c, dev, 0, SZ_4K);
	vt_close(&c);
}

static u64 bitmap[VT_BITMAP_BYTES(SZ_1M) / 8 + 1];

static void get_bits(struct vt_container *c, u64 iova, u64 size)
{
	memset(bitmap, 0, sizeof(bitmap));
	ASSERT_OK(vt_dirty_get(c, iova, size, bitmap, VT_BITMAP_BYTES(size)));
}

static void write_page(struct vt_dev *dev, u64 iova)
{
	u64 val = iova;

	ASSERT_OK(td_write(dev, iova, &val, sizeof(val)));
}

/*
 * Dirty bits of pieces. With only mediated devices, each bit stands for a page that was
 * written, so that a missing or a wrong bit shows.
 */
static void dirty_pieces(void)
{
	struct vt_container c;
	struct vt_dev *dev = open_granule(&c);
	u8 *mem = vt_alloc(VT_MEM_4K, SZ_1M), *other = vt_alloc(VT_MEM_4K, PIECE);
	u64 n = PIECE / SZ_4K;

	ASSERT_OK(vt_map(&c, IOVA, mem, SZ_1M, VT_RW, PIECE));
	ASSERT_OK(vt_dirty_start(&c));
	get_bits(&c, IOVA, SZ_1M);
	EXPECT_EQ(vt_bits(bitmap, 0, 16 * n), 0);

	write_page(dev, IOVA + 1 * PIECE + PAGES(3));
	write_page(dev, IOVA + 2 * PIECE + PAGES(5));
	write_page(dev, IOVA + 3 * PIECE);
	write_page(dev, IOVA + 4 * PIECE - PAGES(1));

	/* A range that cuts a granule is an error, and clears no bit. */
	EXPECT_EQ(vt_dirty_get(&c, IOVA + PAGES(1), PIECE, bitmap, sizeof(bitmap)), -EINVAL);
	EXPECT_EQ(vt_dirty_get(&c, IOVA, PIECE + PAGES(1), bitmap, sizeof(bitmap)), -EINVAL);

	get_bits(&c, IOVA + 2 * PIECE, PIECE);
	EXPECT_EQ(vt_bits(bitmap, 0, n), 1);
	EXPECT_TRUE(vt_bit(bitmap, 5));
	get_bits(&c, IOVA, SZ_1M);
	EXPECT_EQ(vt_bits(bitmap, 0, 16 * n), 3);
	EXPECT_TRUE(vt_bit(bitmap, n + 3));
	EXPECT_TRUE(vt_bit(bitmap, 3 * n));
	EXPECT_TRUE(vt_bit(bitmap, 4 * n - 1));
	get_bits(&c, IOVA, SZ_1M);
	EXPECT_EQ(vt_bits(bitmap, 0, 16 * n), 0);

	/* Holes are clean. What is mapped there is clean until it is written. */
	write_page(dev, IOVA + 5 * PIECE);
	write_page(dev, IOVA + 6 * PIECE);
	write_page(dev, IOVA + 7 * PIECE - PAGES(1));
	write_page(dev, IOVA + 7 * PIECE);
	memset(bitmap, 0, sizeof(bitmap));
	ASSERT_OK(vt_unmap_dirty(&c, IOVA + 6 * PIECE, PIECE, bitmap, VT_BITMAP_BYTES(PIECE),
				 NULL));
	EXPECT_EQ(vt_bits(bitmap, 0, n), 2);
	EXPECT_TRUE(vt_bit(bitmap, 0));
	EXPECT_TRUE(vt_bit(bitmap, n - 1));
	ASSERT_OK(vt_map(&c, IOVA + 6 * PIECE, other, PIECE, VT_RW, SZ_4K));
	write_page(dev, IOVA + 6 * PIECE + PAGES(4));

	/* Only the bits of the mapping in the hole */
	get_bits(&c, IOVA + 6 * PIECE, PIECE);
	EXPECT_EQ(vt_bits(bitmap, 0, n), 1);
	EXPECT_TRUE(vt_bit(bitmap, 4));
	write_page(dev, IOVA + 6 * PIECE + PAGES(2));
	get_bits(&c, IOVA, SZ_1M);
	EXPECT_EQ(vt_bits(bitmap, 0, 16 * n), 3);
	EXPECT_TRUE(vt_bit(bitmap, 5 * n));
	EXPECT_TRUE(vt_bit(bitmap, 6 * n + 2));
	EXPECT_TRUE(vt_bit(bitmap, 7 * n));

	/* The range may begin at any bit of a word of the user's bitmap. */
	ASSERT_OK(vt_unmap(&c, IOVA + 6 * PIECE, PIECE, NULL));
	write_page(dev, IOVA + 5 * PIECE + PAGES(1));
	write_page(dev, IOVA + 7 * PIECE + PAGES(1));
	get_bits(&c, IOVA + 5 * PIECE, 3 * PIECE);
	EXPECT_EQ(vt_bits(bitmap, 0, 3 * n), 2);
	EXPECT_TRUE(vt_bit(bitmap, 1));
	EXPECT_TRUE(vt_bit(bitmap, 2 * n + 1));

	ASSERT_OK(vt_dirty_stop(&c));
	vt_close(&c);
}

/* A page that stays pinned stays dirty, in its piece only. */
static void dirty_pins(void)
{
	struct vt_container c;
	struct vt_dev *dev = open_granule(&c);
	u8 *mem = vt_alloc(VT_MEM_4K, SZ_1M);
	u64 n = PIECE / SZ_4K;
	int i;

	ASSERT_OK(vt_map(&c, IOVA, mem, SZ_1M, VT_RW, PIECE));
	ASSERT_EQ(td_pin(dev, IOVA + PIECE, 1, RW, NULL), 1);
	ASSERT_OK(vt_dirty_start(&c));
	ASSERT_EQ(td_pin(dev, IOVA + 3 * PIECE + PAGES(9), 2, RW, NULL), 2);
	for (i = 0; i < 2; i++) {
		get_bits(&c, IOVA, 2 * PIECE);
		EXPECT_EQ(vt_bits(bitmap, 0, 2 * n), 1);
		EXPECT_TRUE(vt_bit(bitmap, n));
		get_bits(&c, IOVA + 3 * PIECE, PIECE);
		EXPECT_EQ(vt_bits(bitmap, 0, n), 2);
		EXPECT_TRUE(vt_bit(bitmap, 9));
		EXPECT_TRUE(vt_bit(bitmap, 10));
	}
	/* Unpinned: told once more, then clean. */
	ASSERT_OK(td_unpin(dev, IOVA + 3 * PIECE + PAGES(9), 2));
	get_bits(&c, IOVA + 2 * PIECE, 2 * PIECE);
	get_bits(&c, IOVA, SZ_1M);
	EXPECT_EQ(vt_bits(bitmap, 0, 16 * n), 1);

	ASSERT_OK(vt_unmap(&c, IOVA + PIECE, PIECE, NULL));
	get_bits(&c, IOVA, SZ_1M);
	EXPECT_EQ(vt_bits(bitmap, 0, 16 * n), 0);
	vt_close(&c);
}

/* Two devices pin the same page. Both unpin it when they are told. */
static void two_devices(void)
{
	struct vt_container c;
	struct vt_dev *a = open_granule(&c), *b = td_add(&c, 1);
	u64 base = vt_locked();
	u8 *mem = vt_alloc(VT_MEM_4K, SZ_1M);

	ASSERT_OK(vt_map(&c, IOVA, mem, SZ_1M, VT_RW, PIECE));
	ASSERT_EQ(td_pin(a, IOVA + PIECE, 2, RW, NULL), 2);
	ASSERT_EQ(td_pin(b, IOVA + PIECE + PAGES(1), 2, RW, NULL), 2);
	EXPECT_EQ(vt_locked(), base + PAGES(3));
	ASSERT_OK(td_unpin(a, IOVA + PIECE, 2));
	EXPECT_EQ(vt_locked(), base + PAGES(2));
	ASSERT_EQ(td_pin(a, IOVA + PIECE, 2, RW, NULL), 2);
	ASSERT_OK(vt_unmap(&c, IOVA + PIECE, PIECE, NULL));
	expect_told(a, IOVA + PIECE, PIECE);
	expect_told(b, IOVA + PIECE, PIECE);
	EXPECT_EQ(td_pinned(a) + td_pinned(b), 0);
	EXPECT_EQ(vt_locked(), base);
	vt_close(&c);
}

VTEST_MAIN(
	VTEST(pin_charges),
	VTEST(pin_errors),
	VTEST(close_with_pins),
	VTEST(keeps_pins_ebusy),
	VTEST(last_page_plain),
	VTEST(last_page_then_edu),
	VTEST(no_double_charge_plain),
	VTEST(late_edu_plain),
	VTEST(rw_plain),
	VTEST(pieces),
	VTEST(pins_in_hole),
	VTEST(two_devices),
	VTEST(no_double_charge),
	VTEST(late_edu_4k),
	VTEST(late_edu_thp_small_granule),
	VTEST(late_edu_thp),
	VTEST(last_page_granule),
	VTEST(rw_granule),
	VTEST(dirty_pieces),
	VTEST(dirty_pins),
)
