// SPDX-License-Identifier: GPL-2.0
/*
 * Allocations fail under a super-container. In each call that makes something, one allocation
 * after the other fails: the call returns an error and changes nothing, or it succeeds. In
 * each call that gives something back all of them fail: it works.
 */
#include <fcntl.h>

#include "../lib/testdev.h"

#define BASE	(4 * SZ_1G)
#define RW	VT_SUPER_RW
#define SIZE	(4 * SZ_2M)
#define MAX_NTH	2000

static int open_super(struct vt_container *c)
{
	vt_need_injection();
	vt_open_v2(c);
	return vt_super_new(c);
}

static void report(const char *what, int n, int failed)
{
	ASSERT_LT(n, MAX_NTH);
	vt_diag("%s: %d allocations, %d of them fatal", what, n - 1, failed);
}

static void create(void)
{
	struct vt_container c;
	int n, fd, failed = 0;
	u64 pinned;
	bool hit;

	vt_need_injection();
	vt_open_v2(&c);
	vt_need_super(&c);
	pinned = vt_pinned();
	for (n = 1; n < MAX_NTH; n++) {
		vt_inject_nth(n);
		fd = vt_super_create(&c);
		hit = vt_injected();
		if (fd >= 0) {
			ASSERT_SUPER(fd, 0, 0, 0, 0);
			close(fd);
		} else {
			ASSERT_EQ(fd, -ENOMEM);
			failed++;
		}
		if (!hit) {
			ASSERT_GE(fd, 0);
			break;
		}
	}
	report("create", n, failed);
	ASSERT_GT(failed, 0);
	ASSERT_EQ(vt_locked(), 0);
	ASSERT_EQ(vt_pinned(), pinned);
}

static void attach(void)
{
	struct vt_container c;
	int n, super, ret, failed = 0;
	bool hit;

	super = open_super(&c);
	ASSERT_OK(vt_super_detach(&c));
	for (n = 1; n < MAX_NTH; n++) {
		vt_inject_nth(n);
		ret = vt_super_attach(&c, super);
		hit = vt_injected();
		ASSERT_SUPER(super, 0, 0, 0, !ret);
		if (!ret) {
			ASSERT_OK(vt_super_detach(&c));
		} else {
			ASSERT_EQ(ret, -ENOMEM);
			failed++;
		}
		if (!hit) {
			ASSERT_OK(ret);
			break;
		}
	}
	report("attach", n, failed);
}

static void sweep_register(int super, u8 *p, u64 size)
{
	int n, ret, failed = 0;
	u64 pinned = vt_pinned();
	bool hit;

	for (n = 1; n < MAX_NTH; n++) {
		vt_inject_nth(n);
		ret = vt_super_register(super, p, size, RW);
		hit = vt_injected();
		if (!ret) {
			ASSERT_SUPER(super, size, size, 1, 1);
			ASSERT_EQ(vt_locked(), size);
			ASSERT_EQ(vt_pinned(), pinned + size / SZ_4K);
			ASSERT_OK(vt_super_unregister(super, p, size));
		} else {
			ASSERT_EQ(ret, -ENOMEM);
			ASSERT_EQ(vt_super_unregister(super, p, size), -ENOENT);
			failed++;
		}
		ASSERT_SUPER(super, 0, 0, 0, 1);
		ASSERT_EQ(vt_locked(), 0);
		ASSERT_EQ(vt_pinned(), pinned);
		if (!hit) {
			ASSERT_OK(ret);
			break;
		}
	}
	report("register", n, failed);
	ASSERT_GT(failed, 0);
}

/* First with memory that is there; then with memory that page faults have to allocate. */
static void register_memory(void)
{
	static const enum vt_mem kind[] = { VT_MEM_SCATTERED, VT_MEM_THP, VT_MEM_HUGE_2M };
	struct vt_container c;
	size_t i;
	int super;
	u8 *p;

	super = open_super(&c);
	for (i = 0; i < ARRAY_SIZE(kind); i++) {
		p = vt_alloc(kind[i], SIZE);
		sweep_register(super, p, SIZE);
		vt_free(p, kind[i], SIZE);
	}
	p = mmap(NULL, SZ_64K, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(p != MAP_FAILED);
	sweep_register(super, p, SZ_64K);
}

static void sweep_map(struct vt_container *c, int super, u8 *p, u64 granule)
{
	u32 avail = vt_dma_avail(c);
	struct vt_super_state was;
	int i, n, ret, failed = 0;
	u64 unmapped, iova;
	bool hit;

	vt_super_state(super, &was);
	for (n = 1; n < MAX_NTH; n++) {
		/* Where there is no page table yet, on both sides of a multiple of 4 GiB. */
		iova = BASE + n * 4 * SZ_1G - SZ_2M;
		vt_inject_nth(n);
		ret = vt_map_super(c, iova, p, SIZE, VT_RW, granule);
		hit = vt_injected();
		ASSERT_OK(vt_unmap(c, iova, SIZE, &unmapped));
		ASSERT_EQ(unmapped, ret ? 0 : SIZE);
		if (ret) {
			ASSERT_EQ(ret, -ENOMEM);
			failed++;
		}
		vt_super_state_same(super, &was, "a map that ran out of memory");
		ASSERT_EQ(vt_dma_avail(c), avail);
		for (i = 0; i < VT_MAX_DEVS; i++)
			if (c->dev[i].group >= 0)
				vt_expect_tables(&c->dev[i], iova, SIZE, NULL, 0, 0);
		if (!hit) {
			ASSERT_OK(ret);
			break;
		}
	}
	report("map", n, failed);
	ASSERT_GT(failed, 0);
	/* None of those that failed holds on to the memory. */
	ASSERT_OK(vt_super_detach(c));
	ASSERT_OK(vt_super_attach(c, super));
}

static void map_memory(struct vt_container *c, int super, enum vt_mem kind)
{
	static const u64 granules[] = { 0, SZ_64K, SZ_2M };
	u8 *p = vt_alloc(kind, SIZE);
	size_t i;

	ASSERT_OK(vt_super_register(super, p, SIZE, RW));
	for (i = 0; i < ARRAY_SIZE(granules); i++)
		sweep_map(c, super, p, granules[i]);
	ASSERT_OK(vt_super_unregister(super, p, SIZE));
	ASSERT_EQ(vt_locked(), 0);
}

static void map_4k(void)
{
	struct vt_container c;
	int super;

	super = open_super(&c);
	map_memory(&c, super, VT_MEM_SCATTERED);
}

static void map_thp(void)
{
	struct vt_container c;
	int super;

	super = open_super(&c);
	map_memory(&c, super, VT_MEM_THP);
}

static void map_dirty(void)
{
	struct vt_container c;
	int super;

	super = open_super(&c);
	ASSERT_OK(vt_dirty_start(&c));
	map_memory(&c, super, VT_MEM_THP);
}

static void map_two_domains(void)
{
	struct vt_container c;
	int super;

	td_two_domains();
	super = open_super(&c);
	vt_add_edu(&c, 1);
	map_memory(&c, super, VT_MEM_THP);
}

/* A group joins: everything is mapped for it, or it is refused. */
static void sweep_group(struct vt_container *c, int super, int k)
{
	u32 avail = vt_dma_avail(c);
	struct vt_super_state was;
	int n, fd, ret, failed = 0;
	char path[32];
	bool hit;

	snprintf(path, sizeof(path), "/dev/vfio/%d", vt_edu_group(k));
	fd = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	vt_super_state(super, &was);
	for (n = 1; n < MAX_NTH; n++) {
		vt_inject_nth(n);
		ret = ioctl(fd, VFIO_GROUP_SET_CONTAINER, &c->fd) ? -errno : 0;
		hit = vt_injected();
		vt_super_state_same(super, &was, "a group that came or not");
		if (!ret) {
			ASSERT_OK(ioctl(fd, VFIO_GROUP_UNSET_CONTAINER));
		} else {
			ASSERT_EQ(ret, -ENOMEM);
			failed++;
		}
		vt_super_state_same(super, &was, "a group that left");
		ASSERT_EQ(vt_dma_avail(c), avail);
		if (!hit) {
			ASSERT_OK(ret);
			break;
		}
	}
	report("group", n, failed);
	ASSERT_GT(failed, 0);
	close(fd);
}

static void map_with_hole(struct vt_container *c, int super)
{
	u8 *p = vt_alloc(VT_MEM_SCATTERED, SIZE);

	ASSERT_OK(vt_super_register(super, p, SIZE, RW));
	ASSERT_OK(vt_map_super(c, BASE, p, SIZE, VT_RW, SZ_64K));
	ASSERT_OK(vt_unmap(c, BASE + SZ_64K, SZ_64K, NULL));
	ASSERT_OK(vt_map_super(c, BASE + SZ_64K, p, SZ_64K, VT_RO, 0));
}

static void group_second(void)
{
	struct vt_container c;
	int super;

	td_two_domains();
	super = open_super(&c);
	map_with_hole(&c, super);
	sweep_group(&c, super, 1);
	ASSERT_OK(vt_unmap_all(&c, NULL));
	ASSERT_OK(vt_super_detach(&c));
}

/* The first group that does DMA */
static void group_first(void)
{
	struct vt_container c;
	struct vt_dev *dev;
	int super;

	vt_need_injection();
	vt_open_empty(&c, VFIO_TYPE1v2_IOMMU);
	dev = td_add(&c, 0);
	super = vt_super_new(&c);
	map_with_hole(&c, super);
	ASSERT_EQ(td_pin(dev, BASE, 4, VTD_READ, NULL), 4);
	sweep_group(&c, super, 0);
	EXPECT_EQ(td_pinned(dev), 4);
	ASSERT_OK(vt_unmap_all(&c, NULL));
	ASSERT_OK(vt_super_detach(&c));
}

/* A mediated device pins, reads and writes. */
static void pins(void)
{
	struct vt_container c;
	struct vt_super_state was;
	struct vt_dev *dev;
	int super, n, ret;
	u8 buf[64] = { 0 }, *p;
	bool hit;

	vt_need_injection();
	vt_open_empty(&c, VFIO_TYPE1v2_IOMMU);
	dev = td_add(&c, 0);
	super = vt_super_new(&c);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	ASSERT_OK(vt_super_register(super, p, SZ_1M, RW));
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, 0));
	vt_super_state(super, &was);
	for (n = 1; n < MAX_NTH; n++) {
		vt_inject_nth(n);
		ret = td_pin(dev, BASE + n * SZ_4K, 4, VTD_READ, NULL);
		if (ret == 4)
			ret = td_read(dev, BASE, buf, sizeof(buf)) ? : 4;
		hit = vt_injected();
		if (ret != 4)
			ASSERT_EQ(ret, -ENOMEM);
		if (td_pinned(dev))
			ASSERT_OK(td_unpin(dev, BASE + n * SZ_4K, 4));
		ASSERT_EQ(td_pinned(dev), 0);
		vt_super_state_same(super, &was, "pins");
		if (!hit) {
			ASSERT_EQ(ret, 4);
			break;
		}
	}
	report("pin and read", n, 0);
	ASSERT_OK(vt_unmap_all(&c, NULL));
	ASSERT_OK(vt_super_unregister(super, p, SZ_1M));
}

/* All calls that give something back, while nothing can be allocated */
static void give_back(struct vt_container *c, struct vt_container *d, int k, enum vt_mem kind)
{
	u64 pinned = vt_pinned(), gone[2] = { 0 };
	int super = vt_super_create(c), ret[6], i;
	u8 *p = vt_alloc(kind, 2 * SIZE);

	ASSERT_GE(super, 0);
	ASSERT_OK(vt_super_attach(c, super));
	vt_open(d, VFIO_TYPE1v2_IOMMU, k);
	ASSERT_OK(vt_super_attach(d, super));
	ASSERT_OK(vt_super_register(super, p, SIZE, RW));
	ASSERT_OK(vt_super_register(super, p + SIZE, SIZE, RW));
	ASSERT_OK(vt_map_super(c, BASE, p, SIZE, VT_RW, SZ_64K));
	ASSERT_OK(vt_map_super(d, BASE, p + SIZE, SIZE, VT_RW, 0));

	vt_inject_all(true);
	ret[0] = vt_unmap(c, BASE + SZ_64K, SZ_64K, &gone[0]);
	ret[1] = vt_unmap(c, BASE, SIZE, &gone[1]);
	ret[2] = vt_super_unregister(super, p, SIZE);
	ret[3] = vt_super_detach(c);
	ret[4] = close(super);
	vt_inject_all(false);
	for (i = 0; i < 5; i++)
		if (ret[i])
			FAIL("call %d returns %d", i, ret[i]);
	ASSERT_EQ(gone[0], SZ_64K);
	ASSERT_EQ(gone[1], SIZE - SZ_64K);
	ASSERT_EQ(vt_locked(), SIZE);
	ASSERT_EQ(vt_pinned(), pinned + SIZE / SZ_4K);

	/* The container that still maps it, and is the last to have it. */
	vt_inject_all(true);
	ret[0] = vt_unmap_all(d, NULL);
	ret[1] = vt_super_detach(d);
	vt_inject_all(false);
	ASSERT_OK(ret[0]);
	ASSERT_OK(ret[1]);
	ASSERT_LOCKED_SOON(getpid(), 0);
	ASSERT_PINNED_SOON(pinned);
	close(d->dev[0].fd);
	close(d->dev[0].group_fd);
	close(d->fd);
	vt_free(p, kind, 2 * SIZE);
}

static void give_back_all(enum vt_mem kind)
{
	struct vt_container c, d;

	vt_need_injection();
	vt_open_v2(&c);
	vt_need_super(&c);
	vt_injection_on = false;
	give_back(&c, &d, 1, kind);
	vt_injection_on = true;
	give_back(&c, &d, 1, kind);
}

static void give_back_scattered(void)
{
	give_back_all(VT_MEM_SCATTERED);
}

static void give_back_thp(void)
{
	give_back_all(VT_MEM_THP);
}

VTEST_MAIN(
	VTEST(create),
	VTEST(attach),
	VTEST(register_memory),
	VTEST(map_4k),
	VTEST(map_thp),
	VTEST(map_dirty),
	VTEST(map_two_domains),
	VTEST(group_second),
	VTEST(group_first),
	VTEST(pins),
	VTEST(give_back_scattered),
	VTEST(give_back_thp),
)
