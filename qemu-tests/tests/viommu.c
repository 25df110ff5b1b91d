// SPDX-License-Identifier: GPL-2.0
/*
 * Requests that a virtio-iommu rejects. The test module makes it reject them. iommufd moves a
 * device from one domain straight to another, which type1 never does.
 */
#include <fcntl.h>

#include <linux/iommufd.h>

#include "../lib/testdev.h"

#define IOVA	SZ_1G
#define SIZE	SZ_64K

/* Types of requests, of include/uapi/linux/virtio_iommu.h */
#define ATTACH	1
#define MAP	3
#define UNMAP	4

static void need_viommu(void)
{
	if (!vt_machine_is("virtio"))
		SKIP("no virtio-iommu");
}

/* The test maps a domain before a device is attached to it. */
static void need_unattached_domain(void)
{
	need_viommu();
	if (vt_linux() < 7)
		SKIP("virtio-iommu's driver in Linux 6 sets a domain up when a device is attached");
}

/* The next request of this type will be rejected. */
static void reject(unsigned int type)
{
	td_arm();
	td_set("spoil_type", type);
	td_set("spoil_times", 1);
}

static void expect_rejected(void)
{
	ASSERT_EQ(td_get("spoil_times"), 0);
	td_disarm();
}

/* Does the kernel's log have this text, after what has been read of it? */
static bool said(int log, const char *text)
{
	char line[2048];
	ssize_t n;

	do {
		n = read(log, line, sizeof(line) - 1);
		if (n > 0) {
			line[n] = 0;
			if (strstr(line, text))
				return true;
		}
	} while (n > 0 || (n < 0 && errno == EPIPE));
	return false;
}

/* A descriptor for said(), which has not read what follows. */
static int log_from_here(void)
{
	int log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	ASSERT_GE(log, 0);
	ASSERT_GE(lseek(log, 0, SEEK_END), 0);
	return log;
}

/* A device with two address spaces. It is in the first, which "c" maps and unmaps. */
struct spaces {
	struct vt_container c;
	struct vt_dev *dev;
	u32 first, second;
	u8 *mem, *other;
};

static u32 new_space(int iommufd)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };

	ASSERT_OK(ioctl(iommufd, IOMMU_IOAS_ALLOC, &alloc));
	return alloc.out_ioas_id;
}

static int move_to(struct vt_dev *dev, u32 space)
{
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach), .pt_id = space };

	return ioctl(dev->fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach) ? -errno : 0;
}

static void open_spaces(struct spaces *s)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
	struct iommu_vfio_ioas set = { .size = sizeof(set), .op = IOMMU_VFIO_IOAS_SET };
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
			 IOMMU_IOAS_MAP_WRITEABLE,
		.length = SIZE,
		.iova = IOVA + SIZE,
	};

	need_unattached_domain();
	memset(s, 0, sizeof(*s));
	s->c.fd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	if (s->c.fd < 0)
		SKIP("no /dev/iommu");
	s->dev = &s->c.dev[0];
	s->dev->c = &s->c;
	snprintf(s->dev->name, sizeof(s->dev->name), "%s", vt_edu_bdf(0));
	s->dev->fd = vt_edu_cdev(0);
	ASSERT_GE(s->dev->fd, 0);
	bind.iommufd = s->c.fd;
	ASSERT_OK(ioctl(s->dev->fd, VFIO_DEVICE_BIND_IOMMUFD, &bind));

	s->first = new_space(s->c.fd);
	s->second = new_space(s->c.fd);
	set.ioas_id = s->first;
	ASSERT_OK(ioctl(s->c.fd, IOMMU_VFIO_IOAS, &set));
	ASSERT_OK(move_to(s->dev, s->first));
	vt_edu_enable(s->dev);
	s->mem = vt_alloc(VT_MEM_4K, SIZE);
	ASSERT_OK(vt_map(&s->c, IOVA, s->mem, SIZE, VT_RW, 0));
	vt_expect_dma(s->dev, IOVA, s->mem);

	s->other = vt_alloc(VT_MEM_4K, SIZE);
	map.ioas_id = s->second;
	map.user_va = (uintptr_t)s->other;
	ASSERT_OK(ioctl(s->c.fd, IOMMU_IOAS_MAP, &map));
}

/* The device is in the first address space, and what is unmapped there is unmapped for it. */
static void expect_in_first(struct spaces *s)
{
	vt_expect_dma(s->dev, IOVA, s->mem);
	vt_expect_no_dma(s->dev, IOVA + SIZE, s->other);
	ASSERT_OK(vt_unmap(&s->c, IOVA, SIZE, NULL));
	vt_expect_no_dma(s->dev, IOVA, s->mem);
}

static void close_spaces(struct spaces *s)
{
	munmap((void *)s->dev->bar, SZ_4K);
	close(s->dev->fd);
	close(s->c.fd);
	munmap(s->dev->bounce, SZ_4K);
}

/* A device that cannot move stays where it is. */
static void attach_rejected(void)
{
	struct spaces s;

	open_spaces(&s);
	reject(ATTACH);
	ASSERT_EQ(move_to(s.dev, s.second), -ENOENT);
	expect_rejected();
	expect_in_first(&s);
	ASSERT_OK(move_to(s.dev, s.second));
	ASSERT_OK(move_to(s.dev, s.first));
	vt_expect_no_dma(s.dev, IOVA, s.mem);
	close_spaces(&s);
}

/* It does so, too, if it has moved and a mapping cannot be set up for it there. */
static void replay_rejected(void)
{
	struct spaces s;

	open_spaces(&s);
	reject(MAP);
	ASSERT_EQ(move_to(s.dev, s.second), -ENOENT);
	expect_rejected();
	expect_in_first(&s);
	close_spaces(&s);
}

static atomic_bool enough;

static void *keep_moving(void *arg)
{
	struct spaces *s = arg;

	while (!enough) {
		ASSERT_OK(move_to(s->dev, s->second));
		ASSERT_OK(move_to(s->dev, s->first));
	}
	return NULL;
}

/*
 * Memory is mapped while the device comes, and what is mapped is set up for it. The IOMMU
 * gets each mapping once: it would reject the second.
 */
static void map_while_moving(void)
{
	unsigned int rounds = 0;
	struct spaces s;
	pthread_t mover;
	u64 end;
	int log;

	log = log_from_here();
	open_spaces(&s);
	ASSERT_OK(pthread_create(&mover, NULL, keep_moving, &s));
	end = vt_now() + 4000000000ull;
	do {
		ASSERT_OK(vt_map(&s.c, 2 * IOVA, s.mem, SZ_4K, VT_RW, 0));
		ASSERT_OK(vt_unmap(&s.c, 2 * IOVA, SZ_4K, NULL));
		rounds++;
	} while (vt_now() < end);
	ASSERT_OK(vt_map(&s.c, 2 * IOVA, s.mem, SZ_4K, VT_RW, 0));
	enough = true;
	ASSERT_OK(pthread_join(mover, NULL));
	vt_diag("mapped %u times", rounds);
	ASSERT_FALSE(said(log, "request of type"));
	vt_expect_dma(s.dev, 2 * IOVA, s.mem);
	expect_in_first(&s);
	close_spaces(&s);
	close(log);
}

/* An unmap ends at the first hole, and does not take what is behind it. */
static void unmap_hole(void)
{
	need_unattached_domain();
	td_need();
	td_set("unmap_hole", 1);
}

/* Nobody waits for a MAP or an UNMAP. If one is rejected, the log tells. */
static void log_tells(void)
{
	struct vt_container c;
	int log;
	u8 *mem;

	need_viommu();
	log = log_from_here();
	vt_open_v2(&c);
	mem = vt_alloc(VT_MEM_4K, SZ_4K);
	reject(MAP);
	ASSERT_OK(vt_map(&c, IOVA, mem, SZ_4K, VT_RW, 0));
	expect_rejected();
	ASSERT_TRUE(said(log, "request of type 3 failed: -2"));
	ASSERT_OK(vt_unmap(&c, IOVA, SZ_4K, NULL));
	ASSERT_OK(vt_map(&c, IOVA, mem, SZ_4K, VT_RW, 0));
	ASSERT_FALSE(said(log, "failed"));
	reject(UNMAP);
	ASSERT_OK(vt_unmap(&c, IOVA, SZ_4K, NULL));
	expect_rejected();
	ASSERT_TRUE(said(log, "request of type 4 failed: -2"));
	vt_close(&c);
	close(log);
}

/* What the driver keeps of each page is charged to the memory cgroup of who maps it. */
static void mappings_charged(void)
{
	u64 before, size = 128 * SZ_1M;
	struct vt_container c;
	u8 *mem;

	need_viommu();
	vt_need_cgroup();
	vt_open_v2(&c);
	mem = vt_alloc(VT_MEM_SCATTERED, size);
	vt_join_cgroup();
	before = vt_cgroup_memory();
	ASSERT_OK(vt_map(&c, IOVA, mem, size, VT_RW, 0));
	/* 64 bytes each; each CPU may have charged 256 KiB in advance. */
	ASSERT_GE(vt_cgroup_memory() - before, size / SZ_4K * 64 - SZ_1M / 2);
	ASSERT_OK(vt_unmap(&c, IOVA, size, NULL));
	vt_close(&c);
	vt_remove_cgroup();
}

static void expect_works(void)
{
	struct vt_container c;
	u8 *mem;

	vt_open_v2(&c);
	vt_edu_enable(&c.dev[0]);
	mem = vt_alloc(VT_MEM_4K, SIZE);
	ASSERT_OK(vt_map(&c, IOVA, mem, SIZE, VT_RW, 0));
	vt_expect_dma(&c.dev[0], IOVA, mem);
	ASSERT_OK(vt_unmap(&c, IOVA, SIZE, NULL));
	vt_expect_no_dma(&c.dev[0], IOVA, mem);
	vt_close(&c);
}

/* A device that is pulled out leaves its domain. When it comes back it is as new. */
static void removed_and_back(void)
{
	char path[96];

	need_viommu();
	expect_works();
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/remove", vt_edu_bdf(0));
	ASSERT_OK(vt_write_file(path, "1"));
	ASSERT_OK(vt_write_file("/sys/bus/pci/rescan", "1"));
	expect_works();
}

/* For the kernel's own use a device may be in an identity domain, which has no mappings. */
static void identity_and_back(void)
{
	char unbind[96], type[96];

	need_viommu();
	expect_works();
	snprintf(unbind, sizeof(unbind), "/sys/bus/pci/devices/%s/driver/unbind", vt_edu_bdf(0));
	snprintf(type, sizeof(type), "/sys/bus/pci/devices/%s/iommu_group/type", vt_edu_bdf(0));
	ASSERT_OK(vt_write_file(unbind, vt_edu_bdf(0)));
	ASSERT_OK(vt_write_file(type, "identity"));
	expect_works();
	ASSERT_OK(vt_write_file(unbind, vt_edu_bdf(0)));
	ASSERT_OK(vt_write_file(type, "DMA"));
	expect_works();
}

VTEST_MAIN(
	VTEST(removed_and_back),
	VTEST(identity_and_back),
	VTEST(attach_rejected),
	VTEST(replay_rejected),
	VTEST(map_while_moving),
	VTEST(unmap_hole),
	VTEST(log_tells),
	VTEST(mappings_charged),
)
