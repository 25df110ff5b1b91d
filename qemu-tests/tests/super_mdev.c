// SPDX-License-Identifier: GPL-2.0
/* Mediated devices and a super-container's memory */
#define _GNU_SOURCE
#include "../lib/testdev.h"

#define BASE	(4 * SZ_1G)
#define RW	VT_SUPER_RW
#define SIZE	(4 * SZ_2M)
#define PAGES(n) ((n) * SZ_4K)

/* A container with nothing but an emulated device. */
static int open_mediated(struct vt_container *c, struct vt_dev **dev)
{
	vt_open_empty(c, VFIO_TYPE1v2_IOMMU);
	*dev = td_add(c, 0);
	vt_need_super(c);
	return vt_super_new(c);
}

static void expect_told(struct vt_dev *dev, u64 iova, u64 size)
{
	struct vtd_event ev = { 0 };

	ASSERT_EQ(td_told(dev, &ev, 1), 1);
	EXPECT_EQ(ev.iova, iova);
	EXPECT_EQ(ev.size, size);
}

static void mediated_pins(void)
{
	u64 base, pfn[4], phys[4], pinned, size;
	struct vt_container c;
	struct vt_dev *dev;
	int super, i;
	u8 *p;

	super = open_mediated(&c, &dev);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	base = vt_locked();
	vt_phys_range(p + PAGES(7), 4, phys);
	ASSERT_OK(vt_super_register(super, p, SZ_1M, RW));
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, SZ_64K));
	ASSERT_EQ(vt_locked(), base + SZ_1M);
	/* What is there by now is of no interest. */
	ASSERT_TRUE(mmap(p, SZ_1M, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
	memset(p, 0x77, SZ_1M);

	pinned = vt_pinned();
	ASSERT_EQ(td_pin(dev, BASE + PAGES(7), 4, VTD_READ | VTD_WRITE, pfn), 4);
	for (i = 0; i < 4; i++)
		EXPECT_EQ(pfn[i] * SZ_4K, phys[i]);
	EXPECT_EQ(vt_locked(), base + SZ_1M);
	ASSERT_EQ(td_pin(dev, BASE + PAGES(9), 4, VTD_READ | VTD_WRITE, NULL), 4);
	ASSERT_OK(td_unpin(dev, BASE + PAGES(9), 4));
	EXPECT_EQ(vt_locked(), base + SZ_1M);
	EXPECT_EQ(td_pinned(dev), 4);

	/* Pieces elsewhere concern it not, its own does. */
	td_told(dev, NULL, 0);
	ASSERT_OK(vt_unmap(&c, BASE + 4 * SZ_64K, SZ_64K, NULL));
	EXPECT_EQ(td_pinned(dev), 4);
	td_told(dev, NULL, 0);
	ASSERT_OK(vt_unmap(&c, BASE, SZ_64K, &size));
	expect_told(dev, BASE, SZ_64K);
	EXPECT_EQ(size, SZ_64K);
	EXPECT_EQ(td_pinned(dev), 0);
	EXPECT_EQ(td_pin(dev, BASE, 1, VTD_READ, NULL), -EINVAL);
	EXPECT_EQ(vt_locked(), base + SZ_1M);
	EXPECT_EQ(vt_pinned(), pinned);
	ASSERT_SUPER(super, SZ_1M, SZ_1M, 1, 1);

	ASSERT_OK(vt_unmap_all(&c, NULL));
	ASSERT_OK(vt_super_unregister(super, p, SZ_1M));
	EXPECT_EQ(vt_locked(), base);
	EXPECT_EQ(vt_pinned(), pinned - SZ_1M / SZ_4K);
}

/* Registered or not, memory that is mapped read-only is read-only. */
static void mediated_permissions(void)
{
	struct vt_container c;
	struct vt_dev *dev;
	char buf[8] = "nothing";
	int super;
	u8 *p;

	super = open_mediated(&c, &dev);
	p = vt_alloc(VT_MEM_4K, SZ_64K);
	memset(p, 0x11, SZ_64K);
	ASSERT_OK(vt_super_register(super, p, SZ_64K, RW));
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_64K, VT_RO, 0));
	EXPECT_EQ(td_pin(dev, BASE, 1, VTD_READ | VTD_WRITE, NULL), -EPERM);
	EXPECT_EQ(td_write(dev, BASE, buf, sizeof(buf)), -EPERM);
	EXPECT_EQ(p[0], 0x11);
	EXPECT_EQ(td_read(dev, BASE, buf, sizeof(buf)), 0);
	EXPECT_EQ(buf[0], 0x11);
	EXPECT_EQ(td_pin(dev, BASE, 1, VTD_READ, NULL), 1);
	EXPECT_EQ(td_pin(dev, BASE + SZ_64K - SZ_4K, 2, VTD_READ, NULL), -EINVAL);
	EXPECT_EQ(td_read(dev, BASE + SZ_64K - 4, buf, sizeof(buf)), -EINVAL);
	EXPECT_EQ(vt_locked(), SZ_64K);
}

/* vfio_dma_rw() over pages, pieces and mappings, by a process and by a kernel thread */
static void mediated_rw(u32 flags)
{
	static u8 out[3 * SZ_64K], in[3 * SZ_64K];
	u8 *p, *own, *away;
	struct vt_container c;
	struct vt_dev *dev;
	int super;

	super = open_mediated(&c, &dev);
	p = vt_alloc(VT_MEM_THP, SZ_2M);
	own = vt_alloc(VT_MEM_4K, SZ_64K);
	away = vt_alloc(VT_MEM_4K, SZ_2M);
	ASSERT_OK(vt_super_register(super, p, SZ_2M, RW));
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, SZ_64K));
	ASSERT_OK(vt_map(&c, BASE + SZ_1M, own, SZ_64K, VT_RW, 0));
	ASSERT_TRUE(mremap(p, SZ_2M, SZ_2M, MREMAP_MAYMOVE | MREMAP_FIXED, away) == away);

	vt_fill(out, sizeof(out), 1);
	ASSERT_OK(td_rw(dev, BASE + 3 * SZ_64K - 24, out, SZ_64K + 48, flags | VTD_WRITE));
	EXPECT_EQ(memcmp(away + 3 * SZ_64K - 24, out, SZ_64K + 48), 0);
	memset(in, 0, sizeof(in));
	ASSERT_OK(td_rw(dev, BASE + 3 * SZ_64K - 24, in, SZ_64K + 48, flags));
	EXPECT_EQ(memcmp(in, out, SZ_64K + 48), 0);
	/* From the registered memory into ordinary memory. */
	ASSERT_OK(td_rw(dev, BASE + SZ_1M - 100, out, 200, flags | VTD_WRITE));
	EXPECT_EQ(memcmp(away + SZ_1M - 100, out, 100), 0);
	EXPECT_EQ(memcmp(own, out + 100, 100), 0);
	/* Not into holes. */
	ASSERT_OK(vt_unmap(&c, BASE + 5 * SZ_64K, SZ_64K, NULL));
	EXPECT_EQ(td_rw(dev, BASE + 5 * SZ_64K - 8, in, 16, flags), -EINVAL);
	EXPECT_EQ(td_rw(dev, BASE + 5 * SZ_64K, out, 8, flags | VTD_WRITE), -EINVAL);
	EXPECT_EQ(vt_locked(), SZ_2M);
	vt_close(&c);
	ASSERT_SUPER(super, SZ_2M, SZ_2M, 1, 0);
}

static void mediated_rw_process(void)
{
	mediated_rw(0);
}

static void mediated_rw_kthread(void)
{
	mediated_rw(VTD_KTHREAD);
}

/* The process that registered is gone: device and kernel threads still reach the memory. */
static void mediated_creator_gone(void)
{
	u64 pfn[2] = { 0 }, phys, pinned;
	struct vt_container c;
	struct vt_dev *dev;
	u8 *p, buf[64];
	int sock, super;
	pid_t pid;

	vt_open_empty(&c, VFIO_TYPE1v2_IOMMU);
	dev = td_add(&c, 0);
	vt_need_super(&c);
	pinned = vt_pinned();
	pid = vt_fork_peer(&sock);
	if (!pid) {
		super = vt_super_new(&c);
		p = vt_alloc(VT_MEM_4K, SZ_1M);
		vt_fill(p, SZ_1M, 9);
		ASSERT_OK(vt_super_register(super, p, SZ_1M, RW));
		vt_send_fd(sock, super);
		vt_tell(sock, (uintptr_t)p);
		vt_tell(sock, vt_phys(p + SZ_4K));
		vt_hear(sock);
		exit(0);
	}
	super = vt_recv_fd(sock);
	p = (u8 *)(uintptr_t)vt_hear(sock);
	phys = vt_hear(sock);
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, 0));
	ASSERT_EQ(td_pin(dev, BASE + SZ_4K, 1, VTD_READ | VTD_WRITE, NULL), 1);
	vt_tell(sock, 0);
	vt_wait_exit(pid);

	ASSERT_SUPER(super, SZ_1M, 0, 1, 1);
	ASSERT_GE(vt_pinned(), pinned + SZ_1M / SZ_4K);
	ASSERT_EQ(td_pin(dev, BASE + SZ_4K, 2, VTD_READ | VTD_WRITE, pfn), 2);
	EXPECT_EQ(pfn[0] * SZ_4K, phys);
	ASSERT_OK(td_read(dev, BASE, buf, sizeof(buf)));
	EXPECT_TRUE(vt_filled(buf, sizeof(buf), 9));
	vt_fill(buf, sizeof(buf), 10);
	ASSERT_OK(td_rw(dev, BASE + SZ_4K, buf, sizeof(buf), VTD_WRITE | VTD_KTHREAD));
	memset(buf, 0, sizeof(buf));
	ASSERT_OK(td_read(dev, BASE + SZ_4K, buf, sizeof(buf)));
	EXPECT_TRUE(vt_filled(buf, sizeof(buf), 10));
	/* A new mapping, by this process, where it has nothing. */
	ASSERT_OK(vt_map_super(&c, BASE + SZ_1M, p, SZ_1M, VT_RW, SZ_64K));
	ASSERT_EQ(td_pin(dev, BASE + SZ_1M + SZ_4K, 1, VTD_READ, pfn), 1);
	EXPECT_EQ(pfn[0] * SZ_4K, phys);
	ASSERT_OK(td_unpin(dev, BASE + SZ_1M + SZ_4K, 1));
	EXPECT_EQ(vt_locked(), 0);
	vt_close(&c);
	close(super);
	ASSERT_PINNED_SOON(pinned);
}

/* A device that does DMA joins the container later, leaves, and joins again. */
static void mediated_then_edu(void)
{
	struct vt_container c;
	struct vt_dev *dev, *edu;
	u8 *p, *away;
	int super, turn;
	u64 base;

	super = open_mediated(&c, &dev);
	p = vt_alloc(VT_MEM_THP, SIZE);
	away = vt_alloc(VT_MEM_4K, SIZE);
	ASSERT_OK(vt_super_register(super, p, SIZE, RW));
	ASSERT_OK(vt_map_super(&c, BASE, p, SIZE, VT_RW, SZ_2M));
	ASSERT_OK(vt_unmap(&c, BASE + SZ_2M, SZ_2M, NULL));
	ASSERT_EQ(td_pin(dev, BASE + PAGES(3), 3, VTD_READ | VTD_WRITE, NULL), 3);
	ASSERT_TRUE(mremap(p, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, away) == away);
	base = vt_locked();
	ASSERT_EQ(base, SIZE);
	for (turn = 0; turn < 2; turn++) {
		edu = vt_add_edu(&c, 0);
		ASSERT_EQ(vt_locked(), base);
		vt_edu_enable(edu);
		vt_expect_tables(edu, BASE, SZ_2M, away, VT_RW, SZ_2M);
		vt_expect_tables(edu, BASE + SZ_2M, SZ_2M, NULL, 0, 0);
		vt_expect_tables(edu, BASE + 2 * SZ_2M, 2 * SZ_2M, away + 2 * SZ_2M, VT_RW, SZ_2M);
		vt_expect_dma(edu, BASE + 2 * SZ_2M, away + 2 * SZ_2M);
		ASSERT_EQ(td_pin(dev, BASE + 3 * SZ_2M, 1, VTD_READ, NULL), 1);
		ASSERT_OK(vt_unmap(&c, edu->bounce_iova, SZ_4K, NULL));
		ASSERT_EQ(vt_locked(), base);
		vt_remove(edu);
		ASSERT_EQ(vt_locked(), base);
		ASSERT_SUPER(super, SIZE, SIZE, 1, 1);
	}
	edu = vt_add_edu(&c, 0);
	/* The emulated one leaves with what it holds. */
	vt_remove(dev);
	ASSERT_EQ(vt_locked(), base);
	ASSERT_SUPER(super, SIZE, SIZE, 1, 1);
	vt_edu_enable(edu);
	vt_expect_dma(edu, BASE, away);
	ASSERT_OK(vt_unmap_all(&c, NULL));
	ASSERT_OK(vt_super_unregister(super, p, SIZE));
	ASSERT_EQ(vt_locked(), 0);
}

/* If only pins and vfio_dma_rw() can write, each dirty bit stands for one page. */
static u64 bitmap[SZ_1M / SZ_4K / 64];

static void get_bits(struct vt_container *c, u64 iova, u64 size)
{
	memset(bitmap, 0, sizeof(bitmap));
	ASSERT_OK(vt_dirty_get(c, iova, size, bitmap, VT_BITMAP_BYTES(size)));
}

static void mediated_dirty(void)
{
	struct vt_container c;
	struct vt_dev *dev;
	u64 val = 1;
	int super;
	u8 *p;

	super = open_mediated(&c, &dev);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	ASSERT_OK(vt_super_register(super, p, SZ_1M, RW));
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, SZ_64K));
	ASSERT_OK(vt_dirty_start(&c));
	get_bits(&c, BASE, SZ_1M);
	EXPECT_EQ(vt_bits(bitmap, 0, 256), 0);
	ASSERT_OK(td_write(dev, BASE + PAGES(3), &val, sizeof(val)));
	ASSERT_OK(td_write(dev, BASE + PAGES(17), &val, sizeof(val)));
	ASSERT_EQ(td_pin(dev, BASE + PAGES(40), 2, VTD_WRITE, NULL), 2);
	get_bits(&c, BASE, SZ_1M);
	EXPECT_EQ(vt_bits(bitmap, 0, 256), 4);
	EXPECT_TRUE(vt_bit(bitmap, 3));
	EXPECT_TRUE(vt_bit(bitmap, 17));
	EXPECT_TRUE(vt_bit(bitmap, 40));
	EXPECT_TRUE(vt_bit(bitmap, 41));
	/* What stays pinned stays dirty. */
	get_bits(&c, BASE, SZ_1M);
	EXPECT_EQ(vt_bits(bitmap, 0, 256), 2);
	ASSERT_OK(td_write(dev, BASE + PAGES(18), &val, sizeof(val)));
	memset(bitmap, 0, sizeof(bitmap));
	ASSERT_OK(vt_unmap_dirty(&c, BASE + SZ_64K, SZ_64K, bitmap, VT_BITMAP_BYTES(SZ_64K), NULL));
	EXPECT_EQ(vt_bits(bitmap, 0, 16), 1);
	EXPECT_TRUE(vt_bit(bitmap, 2));
	EXPECT_EQ(vt_locked(), SZ_1M);
}

/* The device still has pages pinned when the container goes: they are unpinned first. */
static void mediated_close_with_pins(void)
{
	u64 pinned = vt_pinned();
	struct vt_container c;
	struct vt_dev *dev;
	int super;
	u8 *p;

	super = open_mediated(&c, &dev);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	ASSERT_OK(vt_super_register(super, p, SZ_1M, RW));
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, 0));
	ASSERT_EQ(td_pin(dev, BASE, 8, VTD_READ, NULL), 8);
	close(super);
	ASSERT_EQ(vt_locked(), SZ_1M);
	vt_close(&c);
	ASSERT_LOCKED_SOON(getpid(), 0);
	ASSERT_PINNED_SOON(pinned);
}

VTEST_MAIN(
	VTEST(mediated_pins),
	VTEST(mediated_permissions),
	VTEST(mediated_rw_process),
	VTEST(mediated_rw_kthread),
	VTEST(mediated_creator_gone),
	VTEST(mediated_then_edu),
	VTEST(mediated_dirty),
	VTEST(mediated_close_with_pins),
)
