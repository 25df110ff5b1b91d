// SPDX-License-Identifier: GPL-2.0
/*
 * Allocations fail. In a map, and in an attach with a replay, one allocation after the other
 * fails: the call returns -ENOMEM and changes nothing, or it succeeds. In an unmap all of
 * them fail: it works.
 */
#include <fcntl.h>

#include "../lib/testdev.h"

#define IOVA	0x40000000ull
#define SIZE	(4 * SZ_2M)
#define MAX_NTH	2000

static void expect_hole(struct vt_container *c, u64 iova, u64 size)
{
	struct vt_info info;
	struct vt_tables t;
	u64 unmapped = 1;

	ASSERT_OK(vt_unmap(c, iova, size, &unmapped));
	ASSERT_EQ(unmapped, 0);
	if (!vt_tables_known(&c->dev[0]))
		return;
	vt_info(c, &info);
	vt_tables_read(&c->dev[0], &t);
	vt_tables_expect(&t, &info, iova, size, NULL, 0, 0, NULL);
	vt_tables_free(&t);
}

/* Returns how many allocations a map has. */
static int sweep_map(struct vt_container *c, u8 *mem, u64 granule)
{
	u64 locked = vt_locked(), unmapped;
	u32 avail = vt_dma_avail(c);
	int n, ret, failed = 0;

	for (n = 1; n < MAX_NTH; n++) {
		/* Where there is no page table yet. */
		u64 iova = IOVA + n * SZ_1G;

		vt_inject_nth(n);
		ret = vt_map(c, iova, mem, SIZE, VT_RW, granule);
		if (!vt_injected()) {
			ASSERT_OK(ret);
			ASSERT_OK(vt_unmap(c, iova, SIZE, NULL));
			break;
		}
		if (!ret) {
			ASSERT_EQ(vt_locked(), locked + SIZE);
			ASSERT_OK(vt_unmap(c, iova, SIZE, &unmapped));
			ASSERT_EQ(unmapped, SIZE);
		} else {
			ASSERT_EQ(ret, -ENOMEM);
			failed++;
		}
		ASSERT_EQ(vt_locked(), locked);
		ASSERT_EQ(vt_dma_avail(c), avail);
		expect_hole(c, iova, SIZE);
	}
	ASSERT_LT(n, MAX_NTH);
	ASSERT_GT(failed, 0);
	vt_diag("granule %llu KiB: %d allocations, %d of them fatal", granule / 1024, n - 1,
		failed);
	return n - 1;
}

static void map_granules(enum vt_mem kind)
{
	static const u64 granules[] = { SZ_4K, SZ_64K, SZ_2M, SZ_4M };
	struct vt_container c;
	size_t i;
	u8 *mem;

	vt_need_injection();
	vt_open_granule(&c);
	mem = vt_alloc(kind, SIZE);
	for (i = 0; i < ARRAY_SIZE(granules); i++)
		sweep_map(&c, mem, granules[i]);
	vt_close(&c);
	EXPECT_EQ(vt_locked(), 0);
}

static void map_4k(void)
{
	map_granules(VT_MEM_4K);
}

static void map_thp(void)
{
	map_granules(VT_MEM_THP);
}

static void map_plain(void)
{
	struct vt_container c;

	vt_need_injection();
	vt_open_v2(&c);
	sweep_map(&c, vt_alloc(VT_MEM_4K, SIZE), 0);
	vt_close(&c);
}

static void map_dirty(void)
{
	struct vt_container c;

	vt_need_injection();
	vt_open_granule(&c);
	ASSERT_OK(vt_dirty_start(&c));
	sweep_map(&c, vt_alloc(VT_MEM_4K, SIZE), SZ_64K);
	vt_close(&c);
}

static void map_two_domains(void)
{
	struct vt_container c;

	vt_need_injection();
	td_two_domains();
	vt_open_granule(&c);
	vt_add_edu(&c, 1);
	sweep_map(&c, vt_alloc(VT_MEM_4K, SIZE), SZ_64K);
	vt_close(&c);
}

/* Maps one mapping with holes, and another one in a hole. Returns how much is mapped. */
static u64 map_holes(struct vt_container *c)
{
	u8 *mem = vt_alloc(VT_MEM_4K, SIZE);

	ASSERT_OK(vt_map(c, IOVA, mem, SIZE, VT_RW, SZ_64K));
	ASSERT_OK(vt_unmap(c, IOVA + SZ_64K, SZ_64K, NULL));
	ASSERT_OK(vt_unmap(c, IOVA + SZ_2M, 2 * SZ_1M, NULL));
	ASSERT_OK(vt_map(c, IOVA + SZ_2M, mem, SZ_1M, VT_RW, SZ_4K));
	return SIZE - SZ_64K - SZ_1M;
}

/* The group of the k-th edu device joins the container. */
static void sweep_attach(struct vt_container *c, int k, u64 locked, u64 locked_after)
{
	u32 avail = vt_dma_avail(c);
	int n, fd, ret, failed = 0;
	char path[32];

	snprintf(path, sizeof(path), "/dev/vfio/%d", vt_edu_group(k));
	fd = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_GE(fd, 0);

	for (n = 1; n < MAX_NTH; n++) {
		bool hit;

		vt_inject_nth(n);
		ret = ioctl(fd, VFIO_GROUP_SET_CONTAINER, &c->fd) ? -errno : 0;
		hit = vt_injected();
		if (!ret) {
			ASSERT_EQ(vt_locked(), locked_after);
			ASSERT_OK(ioctl(fd, VFIO_GROUP_UNSET_CONTAINER));
		} else {
			ASSERT_EQ(ret, -ENOMEM);
			failed++;
		}
		ASSERT_EQ(vt_locked(), locked);
		ASSERT_EQ(vt_dma_avail(c), avail);
		if (!hit) {
			ASSERT_OK(ret);
			break;
		}
	}
	ASSERT_LT(n, MAX_NTH);
	ASSERT_GT(failed, 0);
	vt_diag("%d allocations, %d of them fatal", n - 1, failed);
	close(fd);
}

/* A second domain: what is pinned is mapped again. */
static void attach_second(void)
{
	struct vt_container c;
	u64 size, unmapped = 0;

	vt_need_injection();
	td_two_domains();
	vt_open_granule(&c);
	size = map_holes(&c);
	sweep_attach(&c, 1, size, size);
	ASSERT_OK(vt_unmap_all(&c, &unmapped));
	EXPECT_EQ(unmapped, size);
	EXPECT_EQ(vt_locked(), 0);
	vt_close(&c);
}

/* The first domain: all that is not pinned yet is pinned. */
static void attach_first(void)
{
	struct vt_container c;
	struct vt_dev *dev;
	u64 size;

	vt_need_injection();
	vt_open_empty(&c, VFIO_TYPE1v2_IOMMU);
	dev = td_add(&c, 0);
	vt_need_granule(&c);
	size = map_holes(&c);
	ASSERT_EQ(td_pin(dev, IOVA, 4, VTD_READ, NULL), 4);
	sweep_attach(&c, 0, 4 * SZ_4K, size);
	EXPECT_EQ(td_pinned(dev), 4);
	ASSERT_OK(vt_unmap_all(&c, NULL));
	EXPECT_EQ(vt_locked(), 0);
	vt_close(&c);
}

static void unmap_pieces(struct vt_container *c, enum vt_mem kind, u64 granule)
{
	u64 elsewhere = IOVA + (vt_injection_on ? 512 : 1024) * SZ_1G;
	u8 *mem = vt_alloc(kind, SIZE);
	u64 at, unmapped = 0, base = vt_locked();
	u32 avail = vt_dma_avail(c);

	for (at = 0; at < 3; at++)
		ASSERT_OK(vt_map(c, IOVA + at * SIZE, mem, SIZE, VT_RW, granule));

	vt_inject_all(true);
	/* It does fail: there is no page table at that address. */
	ASSERT_EQ(vt_map(c, elsewhere, mem, granule, VT_RW, granule), vt_injection_on ? -ENOMEM : 0);
	for (at = granule; at < SIZE; at += 2 * granule) {
		ASSERT_OK(vt_unmap(c, IOVA + at, granule, &unmapped));
		ASSERT_EQ(unmapped, granule);
	}
	/* Over mappings, pieces and holes. */
	ASSERT_OK(vt_unmap(c, IOVA + SIZE - 2 * granule, SIZE + 4 * granule, &unmapped));
	vt_inject_all(false);
	if (!vt_injection_on)
		ASSERT_OK(vt_unmap(c, elsewhere, granule, NULL));
	EXPECT_EQ(unmapped, granule + SIZE + 2 * granule);
	EXPECT_EQ(vt_dma_avail(c), avail - 2);
	EXPECT_EQ(vt_locked(), base + SIZE / 2 - granule + SIZE - 2 * granule);

	vt_inject_all(true);
	ASSERT_OK(vt_unmap_all(c, &unmapped));
	vt_inject_all(false);
	EXPECT_EQ(vt_dma_avail(c), avail);
	EXPECT_EQ(vt_locked(), 0);
	vt_free(mem, kind, SIZE);
}

/* Unmap pieces and ranges while nothing can be allocated. */
static void unmap_all_fail(struct vt_container *c, enum vt_mem kind, u64 granule)
{
	vt_injection_on = false;
	unmap_pieces(c, kind, granule);
	vt_injection_on = true;
	unmap_pieces(c, kind, granule);
}

static void unmap_one_domain(void)
{
	struct vt_container c;

	vt_need_injection();
	vt_open_granule(&c);
	unmap_all_fail(&c, VT_MEM_4K, SZ_4K);
	unmap_all_fail(&c, VT_MEM_SCATTERED, SZ_64K);
	unmap_all_fail(&c, VT_MEM_THP, SZ_64K);
	unmap_all_fail(&c, VT_MEM_THP, SZ_2M);
	vt_close(&c);
}

static void unmap_two_domains(void)
{
	struct vt_container c;

	vt_need_injection();
	td_two_domains();
	vt_open_granule(&c);
	vt_add_edu(&c, 1);
	unmap_all_fail(&c, VT_MEM_SCATTERED, SZ_64K);
	unmap_all_fail(&c, VT_MEM_THP, SZ_2M);
	vt_close(&c);
}

/* Without memory devices can unpin, and dirty bits can be read. */
static void unmap_pins(void)
{
	u64 bitmap[1] = { 0 }, unmapped = 0;
	struct vt_container c;
	struct vt_dev *dev;
	u8 *mem;

	vt_open_granule(&c);
	dev = td_add(&c, 0);
	mem = vt_alloc(VT_MEM_4K, SIZE);
	ASSERT_OK(vt_map(&c, IOVA, mem, SIZE, VT_RW, SZ_64K));
	ASSERT_OK(vt_dirty_start(&c));
	ASSERT_EQ(td_pin(dev, IOVA + SZ_64K, 16, VTD_WRITE, NULL), 16);
	ASSERT_EQ(td_pin(dev, IOVA + 2 * SZ_64K, 16, VTD_WRITE, NULL), 16);
	vt_inject_all(true);
	ASSERT_OK(vt_unmap_dirty(&c, IOVA + SZ_64K, SZ_64K, bitmap, sizeof(bitmap), &unmapped));
	vt_inject_all(false);
	EXPECT_EQ(unmapped, SZ_64K);
	EXPECT_EQ(bitmap[0], 0xffff);
	EXPECT_EQ(td_pinned(dev), 16);
	vt_inject_all(true);
	ASSERT_OK(vt_unmap(&c, IOVA, SIZE, &unmapped));
	vt_inject_all(false);
	EXPECT_EQ(unmapped, SIZE - SZ_64K);
	EXPECT_EQ(td_pinned(dev), 0);
	EXPECT_EQ(vt_locked(), 0);
	vt_free(mem, VT_MEM_4K, SIZE);
	vt_close(&c);
}

static void unmap_pinned(void)
{
	vt_need_injection();
	vt_injection_on = false;
	unmap_pins();
	vt_injection_on = true;
	unmap_pins();
}

/* To tell what is mapped takes memory, to count it does not. */
static void tell(struct vt_container *c)
{
	u64 iova[] = { 0, 0 }, size[] = { 0, 0 };
	u32 count[] = { 4, 0 };
	struct vfio_dma_extent e[4];
	int i, ret[2];

	vt_inject_all(true);
	for (i = 0; i < 2; i++)
		ret[i] = vt_extents(c, &iova[i], &size[i], e, &count[i]);
	vt_inject_all(false);
	ASSERT_EQ(ret[0], vt_injection_on ? -ENOMEM : 0);
	ASSERT_OK(ret[1]);
	ASSERT_GE(count[1], 4);
}

static void extents(void)
{
	struct vt_container c;

	vt_need_injection();
	vt_open_granule(&c);
	map_holes(&c);
	vt_injection_on = false;
	tell(&c);
	vt_injection_on = true;
	tell(&c);
	vt_close(&c);
}

static void leave_pieces(int devices, enum vt_mem kind, u64 granule)
{
	u64 base = vt_locked(), pinned = vt_pinned();
	u8 *mem = vt_alloc(kind, SIZE), buf[64];
	struct vt_container c;
	int i, ret[2] = { 0 };

	vt_open_v2(&c);
	vt_need_granule(&c);
	for (i = 1; i < devices; i++)
		vt_add_edu(&c, i);
	ASSERT_OK(vt_map(&c, IOVA, mem, SIZE, VT_RW, granule));
	ASSERT_OK(vt_unmap(&c, IOVA + granule, granule, NULL));
	ASSERT_OK(vt_map(&c, IOVA + SIZE, mem, SIZE, VT_RO, 0));
	for (i = 0; i < devices; i++)
		close(c.dev[i].fd);

	/* The last group that leaves ends the mappings, too. */
	vt_inject_all(true);
	for (i = devices - 1; i >= 0; i--)
		ret[i] = ioctl(c.dev[i].group_fd, VFIO_GROUP_UNSET_CONTAINER);
	vt_inject_all(false);
	for (i = 0; i < devices; i++) {
		ASSERT_EQ(ret[i], 0);
		close(c.dev[i].group_fd);
	}
	ASSERT_EQ(vt_locked(), base);
	ASSERT_EQ(vt_pinned(), pinned);
	close(c.fd);

	/* Nothing of it can be reached, and all of it can be mapped again. */
	vt_open_v2(&c);
	vt_edu_enable(&c.dev[0]);
	memset(mem, 0, sizeof(buf));
	vt_fill(buf, sizeof(buf), 1);
	vt_dma_write(&c.dev[0], IOVA, buf, sizeof(buf));
	ASSERT_FALSE(vt_filled(mem, sizeof(buf), 1));
	ASSERT_OK(vt_map(&c, IOVA, mem, SIZE, VT_RW, granule));
	vt_expect_read(&c.dev[0], IOVA, mem);
	ASSERT_OK(vt_unmap_all(&c, NULL));
	vt_close(&c);
	vt_free(mem, kind, SIZE);
}

/* The groups leave while nothing can be allocated. */
static void leave(int devices)
{
	vt_need_injection();
	/*
	 * When VFIO lets go of a group, the IOMMU core attaches the group's default domain.
	 * VT-d allocates for that, and the core warns if it cannot.
	 */
	vt_kernel_may_say("cut here|WARNING: .*__iommu_release_dma_ownership|^ *Call Trace:");
	if (devices > 1) {
		td_arm();
		td_set("refuse_sharing", 1);
	}
	vt_injection_on = false;
	leave_pieces(devices, VT_MEM_SCATTERED, SZ_64K);
	vt_injection_on = true;
	leave_pieces(devices, VT_MEM_SCATTERED, SZ_4K);
	leave_pieces(devices, VT_MEM_SCATTERED, SZ_64K);
	leave_pieces(devices, VT_MEM_THP, SZ_2M);
}

static void detach_one_domain(void)
{
	leave(1);
}

static void detach_two_domains(void)
{
	leave(2);
}

VTEST_MAIN(
	VTEST(map_plain),
	VTEST(map_4k),
	VTEST(map_thp),
	VTEST(map_dirty),
	VTEST(map_two_domains),
	VTEST(attach_second),
	VTEST(attach_first),
	VTEST(unmap_one_domain),
	VTEST(unmap_two_domains),
	VTEST(unmap_pinned),
	VTEST(extents),
	VTEST(detach_one_domain),
	VTEST(detach_two_domains),
)
