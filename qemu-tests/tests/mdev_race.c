// SPDX-License-Identifier: GPL-2.0
/*
 * Several threads map, pin and unmap in one container, while another one opens and closes a
 * device again and again. Nobody waits for ever, and all counts are right at the end.
 */
#include <pthread.h>

#include "../lib/testdev.h"

#define THREADS	3
#define ROUNDS	300
#define PIECE	SZ_64K
#define SIZE	(4 * PIECE)
#define AREA(t)	(0x40000000ull + (t) * SZ_2M)
#define RW	(VTD_READ | VTD_WRITE)

static struct vt_container c;
static struct vt_dev *dev[2];
static u8 *mem;
static u64 granule;
static atomic_bool done;

/* Each thread has an area of its own, but they share container and devices. */
static void *map_pin_unmap(void *arg)
{
	long t = (long)arg;
	u64 iova = AREA(t), size = 0;
	int i;

	for (i = 0; i < ROUNDS; i++) {
		ASSERT_OK(vt_map(&c, iova, mem + t * SIZE, SIZE, VT_RW, granule));
		ASSERT_EQ(td_pin(dev[i % 2], iova + PIECE, 4, RW, NULL), 4);
		ASSERT_EQ(td_pin(dev[1 - i % 2], iova + 3 * PIECE, 4, RW, NULL), 4);
		if (granule) {
			ASSERT_OK(vt_unmap(&c, iova + PIECE, PIECE, &size));
			ASSERT_EQ(size, PIECE);
		}
		ASSERT_OK(vt_unmap(&c, iova, SIZE, &size));
		ASSERT_EQ(size, granule ? SIZE - PIECE : SIZE);
	}
	return NULL;
}

/* Opens a device that nobody else has open, and closes it, again and again. */
static void *open_close(void *arg)
{
	struct vt_dev *d = arg;
	int fd;

	while (!done) {
		fd = ioctl(d->group_fd, VFIO_GROUP_GET_DEVICE_FD, d->name);
		ASSERT_GE(fd, 0);
		close(fd);
	}
	return NULL;
}

static void race(u64 piece)
{
	pthread_t thread[THREADS], opener;
	u64 base = vt_locked();
	struct vt_dev *third;
	long t;

	vt_open_empty(&c, VFIO_TYPE1v2_IOMMU);
	dev[0] = td_add(&c, 0);
	dev[1] = td_add(&c, 1);
	third = td_add(&c, 2);
	close(third->fd);
	third->fd = -1;
	if (piece)
		vt_need_granule(&c);
	granule = piece;
	mem = vt_alloc(VT_MEM_4K, THREADS * SIZE);

	for (t = 0; t < THREADS; t++)
		ASSERT_OK(pthread_create(&thread[t], NULL, map_pin_unmap, (void *)t));
	ASSERT_OK(pthread_create(&opener, NULL, open_close, third));
	for (t = 0; t < THREADS; t++)
		ASSERT_OK(pthread_join(thread[t], NULL));
	done = true;
	ASSERT_OK(pthread_join(opener, NULL));

	EXPECT_EQ(td_pinned(dev[0]) + td_pinned(dev[1]), 0);
	EXPECT_EQ(vt_locked(), base);
	vt_close(&c);
}

static void race_plain(void)
{
	race(0);
}

static void race_pieces(void)
{
	race(PIECE);
}

#define MANY	32

/* Pins mapped pages again and again, and unpins them when it is told to. */
static void *pin_on(void *arg)
{
	struct vt_dev *d = arg;
	u64 i = 0;
	int ret;

	while (!done) {
		ret = td_pin(d, AREA(0) + i++ * 7 % MANY * PIECE, 4, RW, NULL);
		/* Not mapped, or about to be unmapped */
		if (ret != 4)
			ASSERT_EQ(ret, -EINVAL);
	}
	return NULL;
}

/* Busy devices cannot prevent that a large range is unmapped. */
static void busy_devices(void)
{
	pthread_t thread[2];
	u64 i, size, base = vt_locked();
	int round;

	vt_open_empty(&c, VFIO_TYPE1v2_IOMMU);
	dev[0] = td_add(&c, 0);
	dev[1] = td_add(&c, 1);
	mem = vt_alloc(VT_MEM_4K, MANY * PIECE);
	for (i = 0; i < 2; i++)
		ASSERT_OK(pthread_create(&thread[i], NULL, pin_on, dev[i]));

	for (round = 0; round < ROUNDS; round++) {
		for (i = 0; i < MANY; i++)
			ASSERT_OK(vt_map(&c, AREA(0) + i * PIECE, mem + i * PIECE, PIECE,
					 VT_RW, 0));
		if (round % 2)
			ASSERT_OK(vt_unmap_all(&c, &size));
		else
			ASSERT_OK(vt_unmap(&c, AREA(0), MANY * PIECE, &size));
		ASSERT_EQ(size, MANY * PIECE);
	}
	done = true;
	for (i = 0; i < 2; i++)
		ASSERT_OK(pthread_join(thread[i], NULL));
	EXPECT_EQ(td_pinned(dev[0]) + td_pinned(dev[1]), 0);
	EXPECT_EQ(vt_locked(), base);
	vt_close(&c);
}

/* What a device has let go of it cannot pin again before the whole range is gone. */
static void no_pin_while_unmapping(void)
{
	u64 size, base = vt_locked();

	vt_open_empty(&c, VFIO_TYPE1v2_IOMMU);
	dev[0] = td_add(&c, 0);
	mem = vt_alloc(VT_MEM_4K, 2 * PIECE);
	ASSERT_OK(vt_map(&c, AREA(0), mem, PIECE, VT_RW, 0));
	ASSERT_OK(vt_map(&c, AREA(0) + PIECE, mem + PIECE, PIECE, VT_RW, 0));
	ASSERT_EQ(td_pin(dev[0], AREA(0), 1, RW, NULL), 1);
	ASSERT_EQ(td_pin(dev[0], AREA(0) + PIECE, 1, RW, NULL), 1);
	ASSERT_EQ(td_pin_late(dev[0], AREA(0), RW), -ENODATA);
	ASSERT_OK(vt_unmap(&c, AREA(0), 2 * PIECE, &size));
	EXPECT_EQ(size, 2 * PIECE);
	EXPECT_EQ(td_pin_late(dev[0], 0, 0), -EINVAL);
	EXPECT_EQ(td_pinned(dev[0]), 0);
	EXPECT_EQ(vt_locked(), base);
	vt_close(&c);
}

VTEST_MAIN(
	VTEST(race_plain),
	VTEST(race_pieces),
	VTEST(busy_devices),
	VTEST(no_pin_while_unmapping),
)
