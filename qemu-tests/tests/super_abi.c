// SPDX-License-Identifier: GPL-2.0
/* Super-containers: discovery, every rule, every errno. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#include "vtest.h"

#define BASE	(4 * SZ_1G)
#define V1	VFIO_TYPE1_IOMMU
#define RO	VFIO_SUPER_MEMORY_READ
#define WO	VFIO_SUPER_MEMORY_WRITE
#define RW	VT_SUPER_RW
#define S	VFIO_DMA_MAP_FLAG_SUPER
#define PAGES(n) ((n) * SZ_4K)

static u8 *pages(u64 size)
{
	return vt_alloc(VT_MEM_4K, size);
}

/* A container on the first device, attached to a new super-container. */
static int open_super(struct vt_container *c)
{
	vt_open_v2(c);
	return vt_super_new(c);
}

static int raw(int fd, unsigned long cmd, void *arg)
{
	int ret = ioctl(fd, cmd, arg);

	return ret < 0 ? -errno : ret;
}

static int memory(int super, unsigned long cmd, u32 argsz, u32 flags, u64 vaddr, u64 size)
{
	struct vfio_super_memory mem = {
		.argsz = argsz,
		.flags = flags,
		.vaddr = vaddr,
		.size = size,
	};

	return raw(super, cmd, &mem);
}

static int reg(int super, u32 argsz, u32 flags, u64 vaddr, u64 size)
{
	return memory(super, VFIO_SUPER_REGISTER_MEMORY, argsz, flags, vaddr, size);
}

static int unreg(int super, u32 argsz, u32 flags, u64 vaddr, u64 size)
{
	return memory(super, VFIO_SUPER_UNREGISTER_MEMORY, argsz, flags, vaddr, size);
}

#define MEM_ARGSZ	sizeof(struct vfio_super_memory)

/* Calls with memory behind p that must be refused, and change nothing */
struct bad_memory {
	unsigned long cmd;
	u32 flags;
	u64 vaddr, size;
	int err;
};

#define REG	VFIO_SUPER_REGISTER_MEMORY
#define UNREG	VFIO_SUPER_UNREGISTER_MEMORY
#define ASSERT_MEMORY_REFUSED(super, p, ...) do {				\
	static const struct bad_memory bad_[] = { __VA_ARGS__ };		\
										\
	memory_refused(super, p, bad_, ARRAY_SIZE(bad_));			\
} while (0)

static void memory_refused(int super, u64 p, const struct bad_memory *bad, size_t nr)
{
	struct vt_super_state was;
	size_t i;
	int ret;

	vt_super_state(super, &was);
	for (i = 0; i < nr; i++) {
		ret = memory(super, bad[i].cmd, MEM_ARGSZ, bad[i].flags, p + bad[i].vaddr,
			     bad[i].size);
		if (ret != -bad[i].err)
			FAIL("%s, row %zu, vaddr + %#llx, size %#llx, flags %#x: is %d, not %d",
			     bad[i].cmd == REG ? "register" : "unregister", i, bad[i].vaddr,
			     bad[i].size, bad[i].flags, ret, -bad[i].err);
	}
	vt_super_state_same(super, &was, "calls that were refused");
}

/* ---- Discovery ---- */

static void extension_v2(void)
{
	struct vt_container c;

	vt_open_v2(&c);
	ASSERT_EQ(vt_check_extension(&c, VFIO_SUPER_CONTAINER), 1);
	ASSERT_EQ(vt_check_extension(&c, 13), 1);
}

static void extension_before_set_iommu(void)
{
	struct vfio_iommu_super_create create = { .argsz = sizeof(create) };
	struct vfio_iommu_super_attach attach = { .argsz = sizeof(attach), .super_fd = 1 };
	struct vfio_iommu_super_detach detach = { .argsz = sizeof(detach) };
	struct vt_container c;

	vt_open_empty(&c, VFIO_TYPE1v2_IOMMU);
	ASSERT_EQ(vt_check_extension(&c, VFIO_SUPER_CONTAINER), 1);
	ASSERT_EQ(raw(c.fd, VFIO_IOMMU_SUPER_CREATE, &create), -EINVAL);
	ASSERT_EQ(raw(c.fd, VFIO_IOMMU_SUPER_ATTACH, &attach), -EINVAL);
	ASSERT_EQ(raw(c.fd, VFIO_IOMMU_SUPER_DETACH, &detach), -EINVAL);
}

/* A container that has lost its IOMMU type is as before it had one, and can get another. */
static void last_group_left(void)
{
	struct vfio_iommu_super_create create = { .argsz = sizeof(create) };
	struct vfio_iommu_super_attach attach = { .argsz = sizeof(attach) };
	struct vfio_iommu_super_detach detach = { .argsz = sizeof(detach) };
	struct vfio_iommu_type1_dma_extents req = { .argsz = sizeof(req) };
	struct vt_container c;
	u8 *p = pages(SZ_64K);
	int super;

	super = open_super(&c);
	attach.super_fd = super;
	ASSERT_OK(vt_super_register(super, p, SZ_64K, RW));
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_64K, VT_RW, SZ_4K));
	ASSERT_OK(vt_map(&c, BASE + SZ_1M, p, SZ_64K, VT_RW, SZ_4K));
	vt_remove(&c.dev[0]);
	ASSERT_EQ(vt_check_extension(&c, VFIO_DMA_GRANULE), 1);
	ASSERT_EQ(vt_check_extension(&c, VFIO_DMA_EXTENTS), 1);
	ASSERT_EQ(vt_check_extension(&c, VFIO_SUPER_CONTAINER), 1);
	ASSERT_EQ(vt_map(&c, BASE, p, SZ_64K, VT_RW, 0), -EINVAL);
	ASSERT_EQ(vt_map(&c, BASE, p, SZ_64K, VT_RW, SZ_4K), -EINVAL);
	ASSERT_EQ(vt_map_super(&c, BASE, p, SZ_64K, VT_RW, 0), -EINVAL);
	ASSERT_EQ(raw(c.fd, VFIO_IOMMU_DMA_EXTENTS, &req), -EINVAL);
	ASSERT_EQ(raw(c.fd, VFIO_IOMMU_SUPER_CREATE, &create), -EINVAL);
	ASSERT_EQ(raw(c.fd, VFIO_IOMMU_SUPER_ATTACH, &attach), -EINVAL);
	ASSERT_EQ(raw(c.fd, VFIO_IOMMU_SUPER_DETACH, &detach), -EINVAL);
	ASSERT_SUPER(super, SZ_64K, SZ_64K, 1, 0);
	ASSERT_EQ(vt_locked(), SZ_64K);

	c.type = V1;
	vt_add_edu(&c, 0);
	ASSERT_EQ(vt_check_extension(&c, VFIO_DMA_GRANULE), 0);
	ASSERT_EQ(vt_check_extension(&c, VFIO_DMA_EXTENTS), 1);
	ASSERT_EQ(vt_check_extension(&c, VFIO_SUPER_CONTAINER), 0);
	ASSERT_EQ(vt_extents_count(&c, 0, 0), 0);
	ASSERT_REFUSED(&c, vt_map(&c, BASE, p, SZ_64K, VT_RW, SZ_4K), EINVAL);
	ASSERT_REFUSED(&c, vt_super_attach(&c, super), EINVAL);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_64K, VT_RW, 0));
	ASSERT_EQ(vt_locked(), 2 * SZ_64K);
}

static void extension_iommufd(void)
{
	vt_iommufd_lacks(VFIO_SUPER_CONTAINER);
}

/* Numbers and layout that programs are compiled with. */
static void abi_layout(void)
{
	EXPECT_EQ(VFIO_SUPER_CONTAINER, 13);
	EXPECT_EQ(VFIO_DMA_MAP_FLAG_SUPER, 1 << 4);
	EXPECT_EQ(VFIO_DMA_EXTENT_SUPER, 1 << 2);
	EXPECT_EQ(VFIO_SUPER_MEMORY_READ, 1 << 0);
	EXPECT_EQ(VFIO_SUPER_MEMORY_WRITE, 1 << 1);
	EXPECT_EQ(VFIO_IOMMU_SUPER_CREATE, _IO(VFIO_TYPE, VFIO_BASE + 23));
	EXPECT_EQ(VFIO_IOMMU_SUPER_ATTACH, _IO(VFIO_TYPE, VFIO_BASE + 24));
	EXPECT_EQ(VFIO_IOMMU_SUPER_DETACH, _IO(VFIO_TYPE, VFIO_BASE + 25));
	EXPECT_EQ(VFIO_SUPER_REGISTER_MEMORY, _IO(VFIO_TYPE, VFIO_BASE + 26));
	EXPECT_EQ(VFIO_SUPER_UNREGISTER_MEMORY, _IO(VFIO_TYPE, VFIO_BASE + 27));
	EXPECT_EQ(VFIO_SUPER_GET_INFO, _IO(VFIO_TYPE, VFIO_BASE + 12));
	EXPECT_EQ(sizeof(struct vfio_iommu_super_create), 8);
	EXPECT_EQ(sizeof(struct vfio_iommu_super_attach), 16);
	EXPECT_EQ(offsetof(struct vfio_iommu_super_attach, super_fd), 8);
	EXPECT_EQ(sizeof(struct vfio_iommu_super_detach), 8);
	EXPECT_EQ(sizeof(struct vfio_super_memory), 24);
	EXPECT_EQ(offsetof(struct vfio_super_memory, vaddr), 8);
	EXPECT_EQ(offsetof(struct vfio_super_memory, size), 16);
	EXPECT_EQ(sizeof(struct vfio_super_info), 32);
	EXPECT_EQ(offsetof(struct vfio_super_info, registered), 8);
	EXPECT_EQ(offsetof(struct vfio_super_info, locked), 16);
	EXPECT_EQ(offsetof(struct vfio_super_info, regions), 24);
	EXPECT_EQ(offsetof(struct vfio_super_info, containers), 28);
}

static void v1_einval(void)
{
	struct vt_container c, v2;
	int super;
	u8 *p;

	vt_open(&c, V1, 0);
	vt_open(&v2, VFIO_TYPE1v2_IOMMU, 1);
	super = vt_super_new(&v2);
	p = pages(SZ_64K);
	ASSERT_OK(vt_super_register(super, p, SZ_64K, RW));

	ASSERT_EQ(vt_check_extension(&c, VFIO_SUPER_CONTAINER), 0);
	ASSERT_EQ(vt_super_create(&c), -EINVAL);
	ASSERT_SUPER_REFUSED(super, vt_super_attach(&c, super), EINVAL);
	ASSERT_SUPER_REFUSED(super, vt_super_detach(&c), EINVAL);
	ASSERT_REFUSED(&c, vt_map_super(&c, BASE, p, SZ_64K, VT_RW, 0), EINVAL);
	ASSERT_REFUSED(&c, vt_map_super(&c, BASE, p, SZ_64K, VT_RW, SZ_4K), EINVAL);
	ASSERT_SUPER(super, SZ_64K, SZ_64K, 1, 1);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_64K, VT_RW, 0));
}

/* ---- Create ---- */

static void create_args(void)
{
	struct vfio_iommu_super_create create = { 0 };
	struct vt_container c;
	int bit;

	vt_open_v2(&c);
	vt_need_super(&c);
	for (create.argsz = 0; create.argsz < sizeof(create); create.argsz++)
		ASSERT_EQ(raw(c.fd, VFIO_IOMMU_SUPER_CREATE, &create), -EINVAL);
	for (bit = 0; bit < 32; bit++) {
		create.flags = 1u << bit;
		ASSERT_EQ(raw(c.fd, VFIO_IOMMU_SUPER_CREATE, &create), -EINVAL);
	}
	ASSERT_EQ(raw(c.fd, VFIO_IOMMU_SUPER_CREATE, NULL), -EFAULT);
	create.flags = 0;
	create.argsz = 4096;
	ASSERT_GE(raw(c.fd, VFIO_IOMMU_SUPER_CREATE, &create), 0);
}

static void created(void)
{
	struct vt_container c;
	int super, other;

	vt_open_v2(&c);
	vt_need_super(&c);
	super = vt_super_create(&c);
	ASSERT_GE(super, 0);
	ASSERT_EQ(fcntl(super, F_GETFD), FD_CLOEXEC);
	/* Who creates one is not attached by it. */
	ASSERT_SUPER(super, 0, 0, 0, 0);
	ASSERT_EQ(vt_super_detach(&c), -ENOENT);
	other = vt_super_create(&c);
	ASSERT_GE(other, 0);
	ASSERT_NE(super, other);

	/* Each has its own memory. */
	ASSERT_OK(vt_super_register(super, pages(SZ_64K), SZ_64K, RW));
	ASSERT_SUPER(super, SZ_64K, SZ_64K, 1, 0);
	ASSERT_SUPER(other, 0, 0, 0, 0);
	ASSERT_EQ(vt_locked(), SZ_64K);
	/* It needs no container to live. */
	vt_close(&c);
	ASSERT_SUPER(super, SZ_64K, SZ_64K, 1, 0);
	ASSERT_OK(vt_super_register(other, pages(SZ_64K), SZ_64K, RO));
	ASSERT_SUPER(other, SZ_64K, SZ_64K, 1, 0);
	ASSERT_EQ(vt_locked(), 2 * SZ_64K);
}

/* No descriptor left: nothing is created, and nothing leaks. */
static void create_emfile(void)
{
	int first = open("/dev/null", O_RDONLY | O_CLOEXEC), last = first, fd, super;
	struct vt_container c;

	vt_open_v2(&c);
	vt_need_super(&c);
	while ((fd = fcntl(first, F_DUPFD_CLOEXEC, 0)) >= 0)
		last = fd;
	ASSERT_EQ(errno, EMFILE);
	ASSERT_EQ(vt_super_create(&c), -EMFILE);
	close(last);
	super = vt_super_create(&c);
	ASSERT_EQ(super, last);
}

/* No file left in the whole system, which is told to who has no CAP_SYS_ADMIN. */
static void create_enfile(void)
{
	static const char file_max[] = "/proc/sys/fs/file-max";
	struct vt_container c;
	char most[32];
	int fd, ret;

	vt_open_v2(&c);
	vt_need_super(&c);
	ASSERT_GT(vt_read_file(file_max, most, sizeof(most)), 0);
	fd = open(file_max, O_WRONLY | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	vt_drop_cap(CAP_SYS_ADMIN);
	ASSERT_EQ(pwrite(fd, "0", 1, 0), 1);
	ret = vt_super_create(&c);
	ASSERT_EQ(pwrite(fd, most, strlen(most), 0), (ssize_t)strlen(most));
	ASSERT_EQ(ret, -ENFILE);
}

static void info_args(void)
{
	struct {
		struct vfio_super_info info;
		u64 behind;
	} arg = { 0 };
	struct vt_container c;
	int super, bit;

	super = open_super(&c);
	ASSERT_OK(vt_super_register(super, pages(SZ_64K), SZ_64K, RW));
	for (arg.info.argsz = 0; arg.info.argsz < sizeof(arg.info); arg.info.argsz++)
		ASSERT_EQ(raw(super, VFIO_SUPER_GET_INFO, &arg), -EINVAL);
	for (bit = 0; bit < 32; bit++) {
		arg.info.flags = 1u << bit;
		ASSERT_EQ(raw(super, VFIO_SUPER_GET_INFO, &arg), -EINVAL);
	}
	ASSERT_EQ(arg.info.registered, 0);
	ASSERT_EQ(raw(super, VFIO_SUPER_GET_INFO, NULL), -EFAULT);
	memset(&arg, 0x5a, sizeof(arg));
	arg.info.argsz = sizeof(arg);
	arg.info.flags = 0;
	ASSERT_OK(raw(super, VFIO_SUPER_GET_INFO, &arg));
	ASSERT_EQ(arg.info.registered, SZ_64K);
	ASSERT_EQ(arg.info.locked, SZ_64K);
	ASSERT_EQ(arg.info.regions, 1);
	ASSERT_EQ(arg.info.containers, 1);
	ASSERT_EQ(arg.info.flags, 0);
	ASSERT_EQ(arg.behind, 0x5a5a5a5a5a5a5a5aull);
}

/* Ioctls of containers and of devices, which a super-container does not know. */
static void other_ioctls_enotty(void)
{
	u64 arg[64] = { sizeof(arg) };
	struct vt_super_state was;
	struct vt_container c;
	unsigned int nr;
	int super;

	super = open_super(&c);
	ASSERT_OK(vt_super_register(super, pages(SZ_64K), SZ_64K, RW));
	vt_super_state(super, &was);
	for (nr = 0; nr < 64; nr++) {
		if (nr == 12 || nr == 26 || nr == 27)
			continue;
		ASSERT_EQ(raw(super, _IO(VFIO_TYPE, VFIO_BASE + nr), arg), -ENOTTY);
		ASSERT_EQ(raw(super, _IO(VFIO_TYPE, VFIO_BASE + nr), NULL), -ENOTTY);
	}
	ASSERT_EQ(raw(super, _IO('V', VFIO_BASE + 12), arg), -ENOTTY);
	ASSERT_EQ(raw(super, _IOWR(VFIO_TYPE, VFIO_BASE + 26, struct vfio_super_memory), arg),
		  -ENOTTY);
	vt_super_state_same(super, &was, "ioctls that are not its own");

	/* And the other way round. */
	ASSERT_EQ(raw(c.fd, VFIO_SUPER_REGISTER_MEMORY, arg), -ENOTTY);
	ASSERT_EQ(raw(c.fd, VFIO_SUPER_UNREGISTER_MEMORY, arg), -ENOTTY);
}

/* ---- Attach and detach ---- */

static void attach_args(void)
{
	struct vfio_iommu_super_attach attach = { 0 };
	struct vt_container c;
	int super, bit;

	vt_open_v2(&c);
	vt_need_super(&c);
	super = vt_super_create(&c);
	ASSERT_GE(super, 0);
	attach.super_fd = super;
	for (attach.argsz = 0; attach.argsz < sizeof(attach); attach.argsz++)
		ASSERT_EQ(raw(c.fd, VFIO_IOMMU_SUPER_ATTACH, &attach), -EINVAL);
	for (bit = 0; bit < 32; bit++) {
		attach.flags = 1u << bit;
		ASSERT_EQ(raw(c.fd, VFIO_IOMMU_SUPER_ATTACH, &attach), -EINVAL);
		attach.flags = 0;
		attach.__reserved = 1u << bit;
		ASSERT_EQ(raw(c.fd, VFIO_IOMMU_SUPER_ATTACH, &attach), -EINVAL);
		attach.__reserved = 0;
	}
	ASSERT_EQ(raw(c.fd, VFIO_IOMMU_SUPER_ATTACH, NULL), -EFAULT);
	ASSERT_SUPER(super, 0, 0, 0, 0);
	attach.argsz = 4096;
	ASSERT_OK(raw(c.fd, VFIO_IOMMU_SUPER_ATTACH, &attach));
	ASSERT_SUPER(super, 0, 0, 0, 1);
}

/* A descriptor from O_PATH, which does not stand for a super-container */
static int path_of(int fd)
{
	char path[32];
	int ret;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ret = open(path, O_PATH | O_CLOEXEC);
	ASSERT_GE(ret, 0);
	return ret;
}

static void attach_wrong_fd(void)
{
	int super, null = open("/dev/null", O_RDWR | O_CLOEXEC), gone, pipes[2], file, iommufd;
	struct vt_container c, d;

	vt_open_v2(&c);
	vt_need_super(&c);
	super = vt_super_create(&c);
	ASSERT_GE(super, 0);
	ASSERT_GE(null, 0);
	ASSERT_OK(pipe(pipes));
	file = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	ASSERT_GE(file, 0);
	/* Debian's kernel has none */
	iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	vt_open_empty(&d, VFIO_TYPE1v2_IOMMU);
	gone = dup(super);
	close(gone);

	ASSERT_EQ(vt_super_attach(&c, -1), -EBADF);
	ASSERT_EQ(vt_super_attach(&c, gone), -EBADF);
	ASSERT_EQ(vt_super_attach(&c, 1 << 30), -EBADF);
	ASSERT_EQ(vt_super_attach(&c, INT32_MIN), -EBADF);
	ASSERT_EQ(vt_super_attach(&c, path_of(super)), -EBADF);
	ASSERT_EQ(vt_super_attach(&c, path_of(null)), -EBADF);
	ASSERT_EQ(vt_super_attach(&c, null), -EINVAL);
	ASSERT_EQ(vt_super_attach(&c, file), -EINVAL);
	ASSERT_EQ(vt_super_attach(&c, iommufd), iommufd < 0 ? -EBADF : -EINVAL);
	ASSERT_EQ(vt_super_attach(&c, d.fd), -EINVAL);
	vt_add_edu(&d, 1);
	ASSERT_EQ(vt_super_attach(&c, d.fd), -EINVAL);
	ASSERT_EQ(vt_super_attach(&c, eventfd(0, EFD_CLOEXEC)), -EINVAL);
	ASSERT_EQ(vt_super_attach(&c, pipes[0]), -EINVAL);
	ASSERT_EQ(vt_super_attach(&c, syscall(SYS_memfd_create, "no", 0)), -EINVAL);
	ASSERT_EQ(vt_super_attach(&c, c.fd), -EINVAL);
	ASSERT_EQ(vt_super_attach(&c, c.dev[0].group_fd), -EINVAL);
	ASSERT_EQ(vt_super_attach(&c, c.dev[0].fd), -EINVAL);

	ASSERT_EQ(vt_super_detach(&c), -ENOENT);
	ASSERT_SUPER(super, 0, 0, 0, 0);
	ASSERT_OK(vt_super_attach(&c, dup(super)));
	ASSERT_SUPER(super, 0, 0, 0, 1);
}

static void attach_ebusy(void)
{
	struct vfio_iommu_super_attach bad = { .argsz = sizeof(bad), .flags = 1, .super_fd = -1 };
	struct vt_container c;
	int super, other;

	super = open_super(&c);
	other = vt_super_create(&c);
	ASSERT_GE(other, 0);
	ASSERT_SUPER_REFUSED(super, vt_super_attach(&c, super), EBUSY);
	ASSERT_SUPER_REFUSED(super, vt_super_attach(&c, other), EBUSY);
	/* That is told before anything of the file, but after what is wrong with the call. */
	ASSERT_SUPER_REFUSED(super, vt_super_attach(&c, -1), EBUSY);
	ASSERT_SUPER_REFUSED(super, vt_super_attach(&c, path_of(other)), EBUSY);
	ASSERT_SUPER_REFUSED(super, vt_super_attach(&c, c.fd), EBUSY);
	ASSERT_SUPER_REFUSED(super, raw(c.fd, VFIO_IOMMU_SUPER_ATTACH, &bad), EINVAL);
	ASSERT_SUPER(other, 0, 0, 0, 0);
	ASSERT_OK(vt_super_detach(&c));
	ASSERT_OK(vt_super_attach(&c, other));
	ASSERT_SUPER(super, 0, 0, 0, 0);
	ASSERT_SUPER(other, 0, 0, 0, 1);
	/* The file may be closed meanwhile; that is no reason to be free. */
	close(other);
	ASSERT_EQ(vt_super_attach(&c, super), -EBUSY);
	ASSERT_OK(vt_super_detach(&c));
	ASSERT_OK(vt_super_attach(&c, super));
}

static void detach_args(void)
{
	struct vfio_iommu_super_detach detach = { 0 };
	struct vt_container c;
	int super, bit;

	super = open_super(&c);
	for (detach.argsz = 0; detach.argsz < sizeof(detach); detach.argsz++)
		ASSERT_EQ(raw(c.fd, VFIO_IOMMU_SUPER_DETACH, &detach), -EINVAL);
	for (bit = 0; bit < 32; bit++) {
		detach.flags = 1u << bit;
		ASSERT_EQ(raw(c.fd, VFIO_IOMMU_SUPER_DETACH, &detach), -EINVAL);
	}
	ASSERT_EQ(raw(c.fd, VFIO_IOMMU_SUPER_DETACH, NULL), -EFAULT);
	ASSERT_SUPER(super, 0, 0, 0, 1);
	detach.flags = 0;
	detach.argsz = 4096;
	ASSERT_OK(raw(c.fd, VFIO_IOMMU_SUPER_DETACH, &detach));
	ASSERT_SUPER(super, 0, 0, 0, 0);
}

static void detach_enoent_ebusy(void)
{
	struct vt_container c;
	int super;
	u8 *p;

	super = open_super(&c);
	p = pages(SZ_64K);
	ASSERT_OK(vt_super_register(super, p, SZ_64K, RW));
	/* Mappings of its own memory do not matter. */
	ASSERT_OK(vt_map(&c, BASE + SZ_1M, p, SZ_64K, VT_RW, 0));

	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_64K, VT_RW, 0));
	ASSERT_SUPER_REFUSED(super, vt_super_detach(&c), EBUSY);
	ASSERT_OK(vt_unmap(&c, BASE, SZ_64K, NULL));

	/* Until the last piece has gone. */
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_64K, VT_RW, SZ_4K));
	ASSERT_OK(vt_unmap(&c, BASE, SZ_64K - SZ_4K, NULL));
	ASSERT_SUPER_REFUSED(super, vt_super_detach(&c), EBUSY);
	ASSERT_OK(vt_unmap(&c, BASE, SZ_64K, NULL));
	ASSERT_OK(vt_super_detach(&c));
	ASSERT_SUPER(super, SZ_64K, SZ_64K, 1, 0);
	ASSERT_SUPER_REFUSED(super, vt_super_detach(&c), ENOENT);
	ASSERT_REFUSED(&c, vt_map_super(&c, BASE, p, SZ_64K, VT_RW, 0), EINVAL);
	ASSERT_OK(vt_super_attach(&c, super));
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_64K, VT_RW, 0));
	/* The one container's mapping does not hold the other one back. */
	vt_open(&c, VFIO_TYPE1v2_IOMMU, 1);
	ASSERT_OK(vt_super_attach(&c, super));
	ASSERT_SUPER(super, SZ_64K, SZ_64K, 1, 2);
	ASSERT_OK(vt_super_detach(&c));
	ASSERT_SUPER(super, SZ_64K, SZ_64K, 1, 1);
}

/* ---- Register and unregister ---- */

static void register_args(void)
{
	struct vt_container c;
	int super, bit;
	u32 argsz;
	u64 p;

	super = open_super(&c);
	p = (uintptr_t)pages(SZ_64K);
	for (argsz = 0; argsz < MEM_ARGSZ; argsz++)
		ASSERT_EQ(reg(super, argsz, RW, p, SZ_64K), -EINVAL);
	for (bit = 2; bit < 32; bit++)
		ASSERT_EQ(reg(super, MEM_ARGSZ, RW | 1u << bit, p, SZ_64K), -EINVAL);
	ASSERT_MEMORY_REFUSED(super, p,
		{ REG, 0, 0, SZ_64K, EINVAL },
		/* Unaligned, or empty */
		{ REG, RW, 0, 0, EINVAL },
		{ REG, RW, 1, SZ_4K, EINVAL },
		{ REG, RW, 512, SZ_4K, EINVAL },
		{ REG, RW, 0, 512, EINVAL },
		{ REG, RW, 0, SZ_4K + 1, EINVAL },
		{ REG, RW, 2048, 2048, EINVAL });
	ASSERT_EQ(raw(super, VFIO_SUPER_REGISTER_MEMORY, NULL), -EFAULT);
	ASSERT_SUPER(super, 0, 0, 0, 1);
	ASSERT_EQ(vt_locked(), 0);

	ASSERT_OK(reg(super, 4096, RW, p, SZ_64K));
	ASSERT_SUPER(super, SZ_64K, SZ_64K, 1, 1);
	for (argsz = 0; argsz < MEM_ARGSZ; argsz++)
		ASSERT_EQ(unreg(super, argsz, 0, p, SZ_64K), -EINVAL);
	for (bit = 0; bit < 32; bit++)
		ASSERT_EQ(unreg(super, MEM_ARGSZ, 1u << bit, p, SZ_64K), -EINVAL);
	ASSERT_EQ(unreg(super, MEM_ARGSZ, 0, 0, 0), -EINVAL);
	ASSERT_MEMORY_REFUSED(super, p,
		{ UNREG, 0, 0, 0, EINVAL },
		{ UNREG, 0, 1, SZ_64K, EINVAL },
		{ UNREG, 0, 512, SZ_64K, EINVAL },
		{ UNREG, 0, 0, SZ_64K - 1, EINVAL },
		{ UNREG, 0, 0, SZ_64K + 512, EINVAL },
		{ UNREG, 0, 2048, SZ_64K - 2048, EINVAL });
	ASSERT_EQ(raw(super, VFIO_SUPER_UNREGISTER_MEMORY, NULL), -EFAULT);
	ASSERT_SUPER(super, SZ_64K, SZ_64K, 1, 1);
	ASSERT_OK(unreg(super, 4096, 0, p, SZ_64K));
	ASSERT_SUPER(super, 0, 0, 0, 1);
	ASSERT_EQ(vt_locked(), 0);
}

static void wraps_eoverflow(void)
{
	struct vt_container c;
	int super;
	u64 p;

	super = open_super(&c);
	p = (uintptr_t)pages(SZ_64K);
	ASSERT_OK(vt_super_register(super, (void *)(uintptr_t)p, SZ_64K, RW));
	ASSERT_SUPER_REFUSED(super, reg(super, MEM_ARGSZ, RW, -SZ_4K, SZ_8K), EOVERFLOW);
	ASSERT_SUPER_REFUSED(super, reg(super, MEM_ARGSZ, RW, p, -SZ_4K), EOVERFLOW);
	ASSERT_SUPER_REFUSED(super, unreg(super, MEM_ARGSZ, 0, -SZ_4K, SZ_8K), EOVERFLOW);
	ASSERT_SUPER_REFUSED(super, unreg(super, MEM_ARGSZ, 0, p, -SZ_4K), EOVERFLOW);
	ASSERT_REFUSED(&c, vt_map_raw(&c, 32, VT_RW | S, BASE, -SZ_4K, SZ_8K, 0), EOVERFLOW);
	ASSERT_REFUSED(&c, vt_map_raw(&c, 32, VT_RW | S, -SZ_4K, p, SZ_8K, 0), EOVERFLOW);

	/* Of what is unaligned as well, a super-container tells that, a map the other. */
	ASSERT_SUPER_REFUSED(super, reg(super, MEM_ARGSZ, RW, -SZ_4K + 1, SZ_8K), EINVAL);
	ASSERT_SUPER_REFUSED(super, reg(super, MEM_ARGSZ, RW, p, -SZ_4K + 1), EINVAL);
	ASSERT_SUPER_REFUSED(super, unreg(super, MEM_ARGSZ, 0, -SZ_4K + 1, SZ_8K), EINVAL);
	ASSERT_SUPER_REFUSED(super, unreg(super, MEM_ARGSZ, 0, p, -SZ_4K + 1), EINVAL);
	ASSERT_REFUSED(&c, vt_map_raw(&c, 32, VT_RW | S, BASE, -SZ_4K + 1, SZ_8K, 0), EOVERFLOW);
	ASSERT_REFUSED(&c, vt_map_raw(&c, 32, VT_RW | S, -SZ_4K, p + 1, SZ_8K + 1, 0), EOVERFLOW);
}

static void register_eexist(void)
{
	struct vt_container c;
	int super;
	u8 *p;

	super = open_super(&c);
	p = pages(SZ_1M);
	ASSERT_OK(vt_super_register(super, p + 4 * SZ_64K, 4 * SZ_64K, RW));
	ASSERT_MEMORY_REFUSED(super, (uintptr_t)p,
		{ REG, RW, 4 * SZ_64K, 4 * SZ_64K, EEXIST },
		{ REG, RO, 4 * SZ_64K, 4 * SZ_64K, EEXIST },
		{ REG, RW, 5 * SZ_64K, SZ_4K, EEXIST },
		{ REG, RW, 0, SZ_1M, EEXIST },
		{ REG, RW, 0, 4 * SZ_64K + SZ_4K, EEXIST },
		{ REG, RW, 8 * SZ_64K - SZ_4K, SZ_8K, EEXIST },
		{ REG, RW, 4 * SZ_64K, SZ_4K, EEXIST },
		{ REG, RW, 8 * SZ_64K - SZ_4K, SZ_4K, EEXIST });

	/* Side by side is fine. */
	ASSERT_OK(vt_super_register(super, p + 3 * SZ_64K, SZ_64K, RO));
	ASSERT_OK(vt_super_register(super, p + 8 * SZ_64K, SZ_4K, WO));
	ASSERT_SUPER(super, 5 * SZ_64K + SZ_4K, 5 * SZ_64K + SZ_4K, 3, 1);
	ASSERT_SUPER_REFUSED(super, vt_super_register(super, p + 8 * SZ_64K, SZ_64K, RW), EEXIST);
	ASSERT_EQ(vt_locked(), 5 * SZ_64K + SZ_4K);

	/* What is given back is free again. */
	ASSERT_OK(vt_super_unregister(super, p + 4 * SZ_64K, 4 * SZ_64K));
	ASSERT_OK(vt_super_register(super, p + 5 * SZ_64K, SZ_64K, RW));
	ASSERT_OK(vt_super_register(super, p + 4 * SZ_64K, SZ_64K, RW));
	ASSERT_OK(vt_super_register(super, p + 6 * SZ_64K, 2 * SZ_64K, RW));
	ASSERT_SUPER(super, 5 * SZ_64K + SZ_4K, 5 * SZ_64K + SZ_4K, 5, 1);

	/* Another super-container knows nothing of it, and pays for itself. */
	super = vt_super_create(&c);
	ASSERT_GE(super, 0);
	ASSERT_OK(vt_super_register(super, p + 4 * SZ_64K, 4 * SZ_64K, RW));
	ASSERT_EQ(vt_locked(), 9 * SZ_64K + SZ_4K);
}

/* Addresses that no process can have are refused before anything is charged. */
static void register_outside_efault(void)
{
#ifdef __aarch64__
	const u64 end = 1ull << 48;
#else
	const u64 end = 1ull << 47;
#endif
	const struct {
		u64 vaddr, size;
	} range[] = {
		{ end, SZ_1M }, { end - SZ_1M, 2 * SZ_1M }, { SZ_1M, end },
		{ SZ_4K, -SZ_8K }, { 1ull << 63, SZ_1M },
		{ (1ull << 63) - SZ_1M, 2 * SZ_1M }, { 0xffff888000000000ull, SZ_1M },
		{ -SZ_1M, SZ_1M }, { -SZ_4K, SZ_4K }, { 0, -SZ_4K },
	};
	struct vt_container c;
	int super;
	size_t i;

	super = open_super(&c);
	for (i = 0; i < ARRAY_SIZE(range); i++) {
		vt_diag("%#llx bytes at %#llx", range[i].size, range[i].vaddr);
		ASSERT_SUPER_REFUSED(super, reg(super, MEM_ARGSZ, RW, range[i].vaddr,
						range[i].size), EFAULT);
		ASSERT_SUPER_REFUSED(super, unreg(super, MEM_ARGSZ, 0, range[i].vaddr,
						  range[i].size), ENOENT);
	}
	vt_limit_locked(0);
	for (i = 0; i < ARRAY_SIZE(range); i++)
		ASSERT_SUPER_REFUSED(super, reg(super, MEM_ARGSZ, RO, range[i].vaddr,
						range[i].size), EFAULT);
	ASSERT_SUPER_REFUSED(super, vt_super_register(super, pages(SZ_4K), SZ_4K, RO), ENOMEM);
}

static void register_enomem(void)
{
	struct vt_container c;
	int super;
	u8 *p;

	super = open_super(&c);
	p = pages(SZ_1M);
	/* Nothing is touched before it is paid for: what is not there stays so. */
	ASSERT_OK(madvise(p + SZ_64K, SZ_1M - SZ_64K, MADV_DONTNEED));
	vt_limit_locked(SZ_64K);
	ASSERT_SUPER_REFUSED(super, vt_super_register(super, p, SZ_1M, RW), ENOMEM);
	ASSERT_SUPER_REFUSED(super, vt_super_register(super, p, SZ_64K + SZ_4K, RW), ENOMEM);
	ASSERT_EQ(vt_phys(p + SZ_64K), 0);
	ASSERT_EQ(vt_super_unregister(super, p, SZ_1M), -ENOENT);
	ASSERT_EQ(vt_super_unregister(super, p, SZ_64K + SZ_4K), -ENOENT);
	ASSERT_OK(vt_super_register(super, p, SZ_64K - SZ_4K, RW));
	ASSERT_OK(vt_super_register(super, p + SZ_64K - SZ_4K, SZ_4K, RW));
	ASSERT_SUPER(super, SZ_64K, SZ_64K, 2, 1);
	ASSERT_EQ(vt_locked(), SZ_64K);
	ASSERT_SUPER_REFUSED(super, vt_super_register(super, p + SZ_64K, SZ_4K, RW), ENOMEM);

	/* Mappings of it are free; others pay, out of the same purse. */
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_64K - SZ_4K, VT_RW, 0));
	ASSERT_OK(vt_map_super(&c, BASE + SZ_1M, p, SZ_64K - SZ_4K, VT_RW, SZ_4K));
	ASSERT_EQ(vt_locked(), SZ_64K);
	ASSERT_REFUSED(&c, vt_map(&c, BASE + SZ_2M, p, SZ_4K, VT_RW, 0), ENOMEM);
	ASSERT_OK(vt_super_unregister(super, p + SZ_64K - SZ_4K, SZ_4K));
	ASSERT_OK(vt_map(&c, BASE + SZ_2M, p, SZ_4K, VT_RW, 0));
	ASSERT_SUPER_REFUSED(super, vt_super_register(super, p + SZ_64K, SZ_4K, RW), ENOMEM);
}

struct locked_call {
	int super, ret;
	u8 *p;
};

static void *register_without_cap(void *arg)
{
	struct locked_call *call = arg;

	vt_limit_locked(SZ_4K);
	call->ret = vt_super_register(call->super, call->p, SZ_64K, RW);
	return NULL;
}

/* In a 32-bit program these would need the old 32-bit futex call, which the guest lacks. */
static void need_threads(void)
{
	if (sizeof(long) < 8)
		SKIP("threads of a 32-bit program need CONFIG_COMPAT_32BIT_TIME");
}

/* CAP_IPC_LOCK counts if the calling thread has it at that call. */
static void register_capability_of_caller(void)
{
	struct locked_call call;
	struct vt_container c;
	pthread_t thread;

	need_threads();
	call.super = open_super(&c);
	call.p = pages(SZ_1M);
	ASSERT_OK(pthread_create(&thread, NULL, register_without_cap, &call));
	ASSERT_OK(pthread_join(thread, NULL));
	ASSERT_EQ(call.ret, -ENOMEM);
	ASSERT_SUPER(call.super, 0, 0, 0, 1);
	ASSERT_EQ(vt_locked(), 0);
	/* This thread has not lost it. */
	ASSERT_OK(vt_super_register(call.super, call.p, SZ_64K, RW));
	ASSERT_SUPER(call.super, SZ_64K, SZ_64K, 1, 1);
}

static void register_efault(void)
{
	struct vt_container c;
	int super, fd;
	u8 *p, *ro;

	super = open_super(&c);
	p = pages(SZ_1M);
	/* Nothing there: at all, at the end, in the middle. */
	ASSERT_OK(munmap(p + 8 * SZ_64K, SZ_64K));
	ASSERT_MEMORY_REFUSED(super, (uintptr_t)p,
		{ REG, RW, 8 * SZ_64K, SZ_64K, EFAULT },
		{ REG, RO, 8 * SZ_64K, SZ_64K, EFAULT },
		{ REG, RW, 0, 8 * SZ_64K + SZ_4K, EFAULT },
		{ REG, RW, SZ_4K, SZ_1M - SZ_4K, EFAULT });
	/* Neither memory of the kernel. */
	ASSERT_SUPER_REFUSED(super, reg(super, MEM_ARGSZ, RW, -SZ_2M, SZ_64K), EFAULT);
	ASSERT_SUPER_REFUSED(super, reg(super, MEM_ARGSZ, RO, 1ull << 63, SZ_64K), EFAULT);

	/* Memory that cannot be accessed, or only in one way. */
	ASSERT_OK(mprotect(p + 4 * SZ_64K, SZ_64K, PROT_NONE));
	ASSERT_SUPER_REFUSED(super, vt_super_register(super, p, 8 * SZ_64K, RO), EFAULT);
	fd = syscall(SYS_memfd_create, "ro", 0);
	ASSERT_OK(ftruncate(fd, SZ_64K));
	ro = mmap(NULL, SZ_64K, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_TRUE(ro != MAP_FAILED);
	ASSERT_SUPER_REFUSED(super, vt_super_register(super, ro, SZ_64K, RW), EFAULT);
	ASSERT_SUPER_REFUSED(super, vt_super_register(super, ro, SZ_64K, WO), EFAULT);
	ASSERT_OK(vt_super_register(super, ro, SZ_64K, RO));
	ASSERT_SUPER(super, SZ_64K, SZ_64K, 1, 1);

	/* What failed is not registered, and does not stand in the way. */
	ASSERT_EQ(vt_super_unregister(super, p, 8 * SZ_64K + SZ_4K), -ENOENT);
	ASSERT_OK(vt_super_register(super, p, 4 * SZ_64K, RW));
	ASSERT_SUPER(super, 5 * SZ_64K, 5 * SZ_64K, 2, 1);
}

/* A device's registers cannot be registered, though type1 maps them. */
static void register_mmio_efault(void)
{
	struct vt_container c;
	u8 *p, *bar;
	int super;

	super = open_super(&c);
	vt_edu_enable(&c.dev[0]);
	bar = (u8 *)c.dev[0].bar;
	vt_diag("the device is %#x", *(volatile u32 *)bar);
	ASSERT_OK(vt_map(&c, BASE, bar, SZ_4K, VT_RW, 0));
	ASSERT_OK(vt_unmap(&c, BASE, SZ_4K, NULL));
	ASSERT_SUPER_REFUSED(super, vt_super_register(super, bar, SZ_4K, RW), EFAULT);
	ASSERT_SUPER_REFUSED(super, vt_super_register(super, bar, SZ_4K, RO), EFAULT);

	/* With memory before and behind it. */
	p = pages(SZ_64K);
	ASSERT_TRUE(mremap(bar, SZ_4K, SZ_4K, MREMAP_MAYMOVE | MREMAP_FIXED, p + 7 * SZ_4K) ==
		    p + 7 * SZ_4K);
	c.dev[0].bar = p + 7 * SZ_4K;
	ASSERT_SUPER_REFUSED(super, vt_super_register(super, p, SZ_64K, RW), EFAULT);
	ASSERT_SUPER_REFUSED(super, vt_super_register(super, p, PAGES(8), RW), EFAULT);
	ASSERT_OK(vt_super_register(super, p, PAGES(7), RW));
	ASSERT_OK(vt_super_register(super, p + PAGES(8), PAGES(8), RW));
	ASSERT_SUPER(super, PAGES(15), PAGES(15), 2, 1);
}

static void unregister_enoent(void)
{
	struct vt_container c;
	int super, other;
	u8 *p;

	super = open_super(&c);
	p = pages(SZ_1M);
	ASSERT_SUPER_REFUSED(super, vt_super_unregister(super, p, SZ_64K), ENOENT);
	ASSERT_OK(vt_super_register(super, p, SZ_64K, RW));
	ASSERT_OK(vt_super_register(super, p + SZ_64K, SZ_64K, RW));
	ASSERT_MEMORY_REFUSED(super, (uintptr_t)p,
		{ UNREG, 0, 0, 2 * SZ_64K, ENOENT },
		{ UNREG, 0, 0, SZ_64K - SZ_4K, ENOENT },
		{ UNREG, 0, 0, SZ_64K + SZ_4K, ENOENT },
		{ UNREG, 0, SZ_4K, SZ_64K - SZ_4K, ENOENT },
		{ UNREG, 0, SZ_4K, SZ_64K, ENOENT },
		{ UNREG, 0, 2 * SZ_64K, SZ_64K, ENOENT });
	other = vt_super_create(&c);
	ASSERT_GE(other, 0);
	ASSERT_SUPER_REFUSED(super, vt_super_unregister(other, p, SZ_64K), ENOENT);

	ASSERT_OK(vt_super_unregister(super, p, SZ_64K));
	ASSERT_SUPER(super, SZ_64K, SZ_64K, 1, 1);
	ASSERT_EQ(vt_locked(), SZ_64K);
	ASSERT_SUPER_REFUSED(super, vt_super_unregister(super, p, SZ_64K), ENOENT);
	/* The address names it, whatever is there by now. */
	ASSERT_OK(munmap(p + SZ_64K, SZ_64K));
	ASSERT_OK(vt_super_unregister(super, p + SZ_64K, SZ_64K));
	ASSERT_SUPER(super, 0, 0, 0, 1);
	ASSERT_EQ(vt_locked(), 0);
}

static void unregister_ebusy(void)
{
	struct vt_container c, d;
	int super;
	u8 *p;

	super = open_super(&c);
	vt_open(&d, VFIO_TYPE1v2_IOMMU, 1);
	ASSERT_OK(vt_super_attach(&d, super));
	p = pages(SZ_1M);
	ASSERT_OK(vt_super_register(super, p, SZ_64K, RW));
	ASSERT_OK(vt_super_register(super, p + SZ_64K, SZ_64K, RW));
	ASSERT_OK(vt_map_super(&c, BASE, p + SZ_4K, SZ_4K, VT_RW, 0));
	ASSERT_OK(vt_map_super(&d, BASE, p, SZ_64K, VT_RW, SZ_4K));
	ASSERT_SUPER_REFUSED(super, vt_super_unregister(super, p, SZ_64K), EBUSY);
	/* Its neighbour is another registration, and the same memory mapped. */
	ASSERT_OK(vt_map(&c, BASE + SZ_1M, p + SZ_64K, SZ_64K, VT_RW, 0));
	ASSERT_OK(vt_super_unregister(super, p + SZ_64K, SZ_64K));
	ASSERT_OK(vt_unmap(&c, BASE, SZ_4K, NULL));
	ASSERT_SUPER_REFUSED(super, vt_super_unregister(super, p, SZ_64K), EBUSY);
	ASSERT_OK(vt_unmap(&d, BASE, SZ_64K - SZ_4K, NULL));
	ASSERT_SUPER_REFUSED(super, vt_super_unregister(super, p, SZ_64K), EBUSY);
	ASSERT_OK(vt_unmap_all(&d, NULL));
	ASSERT_OK(vt_super_unregister(super, p, SZ_64K));
	ASSERT_SUPER(super, 0, 0, 0, 2);
	ASSERT_EQ(vt_locked(), SZ_64K);

	/* A container that is closed maps nothing any more. */
	ASSERT_OK(vt_super_register(super, p, SZ_64K, RW));
	ASSERT_OK(vt_map_super(&d, BASE, p, SZ_64K, VT_RW, 0));
	ASSERT_EQ(vt_super_unregister(super, p, SZ_64K), -EBUSY);
	vt_close(&d);
	ASSERT_OK(vt_super_unregister(super, p, SZ_64K));
	ASSERT_SUPER(super, 0, 0, 0, 1);
}

/* A process with another mm gets -EPERM: a child, and one that was passed the descriptor. */
static void other_process_eperm(void)
{
	struct vt_container c, d;
	int super, sock;
	pid_t pid;
	u8 *p;

	vt_open_v2(&c);
	vt_need_super(&c);
	p = pages(SZ_1M);
	pid = vt_fork_peer(&sock);
	if (!pid) {
		super = vt_recv_fd(sock);
		ASSERT_SUPER_REFUSED(super, vt_super_register(super, p + SZ_64K, SZ_64K, RW), EPERM);
		ASSERT_SUPER_REFUSED(super, vt_super_unregister(super, p, SZ_64K), EPERM);
		/* Nothing else is closed to it, and nothing costs it anything. */
		vt_open(&d, VFIO_TYPE1v2_IOMMU, 1);
		ASSERT_OK(vt_super_attach(&d, super));
		ASSERT_OK(vt_map_super(&d, BASE, p, SZ_64K, VT_RW, 0));
		ASSERT_SUPER(super, SZ_64K, SZ_64K, 1, 2);
		ASSERT_EQ(vt_locked(), 0);
		exit(0);
	}
	super = vt_super_new(&c);
	ASSERT_OK(vt_super_register(super, p, SZ_64K, RW));
	vt_send_fd(sock, super);
	vt_wait_exit(pid);

	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		ASSERT_EQ(vt_super_register(super, p + SZ_64K, SZ_64K, RW), -EPERM);
		ASSERT_EQ(vt_super_unregister(super, p, SZ_64K), -EPERM);
		exit(0);
	}
	vt_wait_exit(pid);
	ASSERT_SUPER(super, SZ_64K, SZ_64K, 1, 1);
	ASSERT_EQ(vt_locked(), SZ_64K);
	ASSERT_OK(vt_super_unregister(super, p, SZ_64K));
}

static void *register_in_thread(void *arg)
{
	struct locked_call *call = arg;

	call->ret = vt_super_register(call->super, call->p, SZ_64K, RW);
	return NULL;
}

/* A thread shares the mm. */
static void other_thread(void)
{
	struct locked_call call;
	struct vt_container c;
	pthread_t thread;

	need_threads();
	call.super = open_super(&c);
	call.p = pages(SZ_64K);
	ASSERT_OK(pthread_create(&thread, NULL, register_in_thread, &call));
	ASSERT_OK(pthread_join(thread, NULL));
	ASSERT_OK(call.ret);
	ASSERT_OK(vt_super_unregister(call.super, call.p, SZ_64K));
}

/* ---- Map ---- */

/* What is invalid in any map is invalid here, attached or not. */
static void map_args(void)
{
	struct vt_container c;
	int super, turn, bit;
	u32 argsz;
	u64 p;

	vt_open_v2(&c);
	vt_need_super(&c);
	super = vt_super_create(&c);
	ASSERT_GE(super, 0);
	p = (uintptr_t)pages(SZ_64K);
	ASSERT_OK(vt_super_register(super, (void *)(uintptr_t)p, SZ_64K, RW));
	for (turn = 0; turn < 2; turn++) {
		for (argsz = 0; argsz < 32; argsz++)
			ASSERT_EQ(vt_map_raw(&c, argsz, VT_RW | S, BASE, p, SZ_64K, 0), -EINVAL);
		for (argsz = 32; argsz < 40; argsz++)
			ASSERT_EQ(vt_map_raw(&c, argsz, VT_RW | S | VFIO_DMA_MAP_FLAG_GRANULE,
					     BASE, p, SZ_64K, SZ_4K), -EINVAL);
		for (bit = 5; bit < 32; bit++)
			ASSERT_EQ(vt_map_raw(&c, 32, VT_RW | S | 1u << bit, BASE, p, SZ_64K, 0),
				  -EINVAL);
		ASSERT_EQ(vt_map_raw(&c, 32, S, BASE, p, SZ_64K, 0), -EINVAL);
		ASSERT_EQ(vt_map_raw(&c, 32, VT_RW | S, BASE, p, 0, 0), -EINVAL);
		ASSERT_EQ(vt_map_raw(&c, 32, VT_RW | S, BASE, p, SZ_4K + 512, 0), -EINVAL);
		ASSERT_EQ(vt_map_raw(&c, 32, VT_RW | S, BASE, p + 512, SZ_4K, 0), -EINVAL);
		ASSERT_EQ(vt_map_raw(&c, 32, VT_RW | S, BASE + 512, p, SZ_4K, 0), -EINVAL);
		ASSERT_EQ(vt_map_raw(&c, 40, VT_RW | S | VFIO_DMA_MAP_FLAG_GRANULE, BASE, p,
				     SZ_64K, 3 * SZ_4K), -EINVAL);
		ASSERT_EQ(vt_map_raw(&c, 40, VT_RW | S | VFIO_DMA_MAP_FLAG_GRANULE, BASE + SZ_4K,
				     p, SZ_8K, SZ_8K), -EINVAL);
		if (!turn) {
			ASSERT_EQ(vt_map_raw(&c, 32, VT_RW | S, BASE, p, SZ_64K, 0), -EINVAL);
			ASSERT_OK(vt_super_attach(&c, super));
		}
	}
	ASSERT_OK(vt_map_raw(&c, 32, VT_RW | S, BASE, p, SZ_64K, 0));
	ASSERT_OK(vt_map_raw(&c, 40, VT_RO | S | VFIO_DMA_MAP_FLAG_GRANULE, BASE + SZ_1M, p,
			     SZ_64K, SZ_8K));
	ASSERT_EQ(vt_locked(), SZ_64K);
}

static void map_with_vaddr_einval(void)
{
	struct vt_container c;
	int super;
	u8 *p;

	super = open_super(&c);
	p = pages(SZ_64K);
	ASSERT_OK(vt_super_register(super, p, SZ_64K, RW));
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_64K, VT_RW, 0));
	ASSERT_MAPS_REFUSED(&c, BASE, p,
		{ 0, 0, SZ_64K, S | VFIO_DMA_MAP_FLAG_VADDR, 0, EINVAL },
		{ SZ_1M, 0, SZ_64K, S | VFIO_DMA_MAP_FLAG_VADDR, 0, EINVAL },
		{ SZ_1M, 0, SZ_64K, S | VFIO_DMA_MAP_FLAG_VADDR | VT_RW, 0, EINVAL },
		{ SZ_1M, 0, SZ_64K, S | VFIO_DMA_MAP_FLAG_VADDR, SZ_4K, EINVAL });
	/* Of a mapping whose own vaddr is gone, either. */
	ASSERT_OK(vt_map(&c, BASE + SZ_1M, p, SZ_64K, VT_RW, 0));
	ASSERT_OK(vt_unmap_vaddr(&c, BASE + SZ_1M, SZ_64K, NULL));
	ASSERT_REFUSED(&c, vt_map_super(&c, BASE + SZ_1M, p, SZ_64K, VFIO_DMA_MAP_FLAG_VADDR, 0),
		       EINVAL);
	ASSERT_OK(vt_map_vaddr(&c, BASE + SZ_1M, p, SZ_64K));
}

/* Attached, IOVA free, entry free, registered, permitted: in this order. */
static void map_order(void)
{
	struct vt_container c;
	int super;
	u8 *p;

	vt_set_param("dma_entry_limit", 2);
	vt_open_v2(&c);
	vt_need_super(&c);
	super = vt_super_create(&c);
	ASSERT_GE(super, 0);
	p = pages(SZ_1M);
	ASSERT_OK(vt_super_register(super, p, SZ_64K, RO));

	/* Not attached: whatever else is wrong, and when nothing is. */
	ASSERT_REFUSED(&c, vt_map_super(&c, BASE, p, SZ_64K, VT_RO, 0), EINVAL);
	ASSERT_OK(vt_map(&c, BASE, p, SZ_64K, VT_RW, 0));
	ASSERT_REFUSED(&c, vt_map_super(&c, BASE, p, SZ_64K, VT_RO, 0), EINVAL);
	ASSERT_OK(vt_map(&c, BASE + SZ_64K, p, SZ_64K, VT_RW, 0));
	ASSERT_EQ(vt_dma_avail(&c), 0);
	ASSERT_REFUSED(&c, vt_map_super(&c, BASE, p + SZ_64K, SZ_64K, VT_RW, 0), EINVAL);
	ASSERT_REFUSED(&c, vt_map_super(&c, BASE + SZ_1M, p, SZ_64K, VT_RW, 0), EINVAL);

	/* No free IOVA. */
	ASSERT_OK(vt_super_attach(&c, super));
	ASSERT_MAPS_REFUSED(&c, BASE, p,
		{ 0, 0, SZ_64K, VT_RO | S, 0, EEXIST },
		{ 0, 0, SZ_64K, VT_RW | S, 0, EEXIST },
		{ 0, SZ_64K, SZ_64K, VT_RW | S, 0, EEXIST },
		{ SZ_64K + SZ_4K, 0, SZ_64K, VT_RO | S, SZ_4K, EEXIST },
		/* No entry. */
		{ SZ_1M, 0, SZ_64K, VT_RO | S, 0, ENOSPC },
		{ SZ_1M, 0, SZ_64K, VT_RW | S, 0, ENOSPC },
		{ SZ_1M, SZ_64K, SZ_64K, VT_RW | S, SZ_4K, ENOSPC });

	/* Not registered. */
	ASSERT_OK(vt_unmap(&c, BASE, SZ_64K, NULL));
	ASSERT_REFUSED(&c, vt_map_super(&c, BASE, p + SZ_64K, SZ_64K, VT_RW, 0), ENOENT);
	ASSERT_REFUSED(&c, vt_map_super(&c, BASE + SZ_1M, p + SZ_4K, SZ_64K, VT_RW, 0), ENOENT);

	/* Not permitted. */
	ASSERT_REFUSED(&c, vt_map_super(&c, BASE, p, SZ_64K, VT_RW, 0), EPERM);
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_64K, VT_RO, SZ_4K));
	ASSERT_EQ(vt_dma_avail(&c), 0);
	ASSERT_REFUSED(&c, vt_map_super(&c, BASE + SZ_1M, p, SZ_64K, VT_RO, 0), ENOSPC);
	ASSERT_REFUSED(&c, vt_map_super(&c, BASE, p, SZ_64K, VT_RO, 0), EEXIST);
	/* One entry a map: a hole gives none back. */
	ASSERT_OK(vt_unmap(&c, BASE + SZ_4K, SZ_4K, NULL));
	ASSERT_EQ(vt_dma_avail(&c), 0);
	ASSERT_REFUSED(&c, vt_map_super(&c, BASE + SZ_4K, p, SZ_4K, VT_RO, 0), ENOSPC);
	ASSERT_OK(vt_unmap(&c, BASE, SZ_64K, NULL));
	ASSERT_EQ(vt_dma_avail(&c), 1);
}

static void map_enoent(void)
{
	struct vt_container c;
	int super;
	u8 *p;

	super = open_super(&c);
	p = pages(SZ_1M);
	ASSERT_REFUSED(&c, vt_map_super(&c, BASE, p, SZ_64K, VT_RW, 0), ENOENT);
	ASSERT_OK(vt_super_register(super, p + SZ_64K, SZ_64K, RW));
	ASSERT_OK(vt_super_register(super, p + 2 * SZ_64K, SZ_64K, RW));

	/* In one registration: two side by side are two. */
	ASSERT_MAPS_REFUSED(&c, BASE, p,
		{ 0, SZ_64K, 2 * SZ_64K, VT_RW | S, 0, ENOENT },
		{ 0, 2 * SZ_64K - SZ_4K, SZ_8K, VT_RW | S, 0, ENOENT },
		{ 0, 2 * SZ_64K - SZ_4K, SZ_8K, VT_RW | S, SZ_4K, ENOENT },
		{ 0, 0, SZ_64K, VT_RW | S, 0, ENOENT },
		{ 0, SZ_64K - SZ_4K, SZ_4K, VT_RW | S, 0, ENOENT },
		{ 0, SZ_64K - SZ_4K, SZ_8K, VT_RW | S, 0, ENOENT },
		{ 0, 3 * SZ_64K, SZ_4K, VT_RW | S, 0, ENOENT },
		{ 0, 3 * SZ_64K - SZ_4K, SZ_8K, VT_RW | S, 0, ENOENT },
		{ 0, 0, SZ_1M, VT_RW | S, 0, ENOENT });

	ASSERT_OK(vt_map_super(&c, BASE, p + SZ_64K, SZ_64K, VT_RW, 0));
	ASSERT_OK(vt_map_super(&c, BASE + SZ_64K, p + 2 * SZ_64K, SZ_4K, VT_RW, 0));
	ASSERT_OK(vt_map_super(&c, BASE + 2 * SZ_64K, p + 3 * SZ_64K - SZ_8K, SZ_8K, VT_RW, SZ_4K));
	ASSERT_EQ(vt_locked(), 2 * SZ_64K);
	ASSERT_OK(vt_unmap_all(&c, NULL));
	ASSERT_OK(vt_super_unregister(super, p + SZ_64K, SZ_64K));
	ASSERT_REFUSED(&c, vt_map_super(&c, BASE, p + SZ_64K, SZ_64K, VT_RW, 0), ENOENT);
	ASSERT_OK(vt_map_super(&c, BASE, p + 2 * SZ_64K, SZ_64K, VT_RW, 0));
}

static void map_eperm(void)
{
	static const u32 given[] = { RO, WO, RW }, asked[] = { VT_RO, VT_WO, VT_RW };
	struct vt_container c;
	size_t i, k;
	int super;
	u8 *p;

	super = open_super(&c);
	p = pages(SZ_1M);
	for (i = 0; i < 3; i++)
		ASSERT_OK(vt_super_register(super, p + i * SZ_64K, SZ_64K, given[i]));
	for (i = 0; i < 3; i++) {
		for (k = 0; k < 3; k++) {
			u64 iova = BASE + (4 * i + k) * SZ_64K;

			if (asked[k] & ~given[i]) {
				ASSERT_REFUSED(&c, vt_map_super(&c, iova, p + i * SZ_64K, SZ_64K,
								asked[k], 0), EPERM);
				ASSERT_REFUSED(&c, vt_map_super(&c, iova, p + i * SZ_64K, SZ_64K,
								asked[k], SZ_4K), EPERM);
			} else {
				ASSERT_OK(vt_map_super(&c, iova, p + i * SZ_64K, SZ_64K, asked[k],
						       k & 1 ? 0 : SZ_4K));
			}
		}
	}
}

/* An IOVA that the IOMMU does not have, or that reserved regions keep. */
static void map_outside_aperture(void)
{
	struct vt_container c;
	struct vt_info i;
	unsigned int k;
	int super;
	u64 end;
	u8 *p;

	super = open_super(&c);
	p = pages(SZ_64K);
	ASSERT_OK(vt_super_register(super, p, SZ_64K, RW));
	vt_info(&c, &i);
	for (k = 0; k < i.nr_ranges; k++) {
		end = i.range[k].last + 1;
		if (!end)
			continue;
		ASSERT_REFUSED(&c, vt_map_super(&c, end, p, SZ_4K, VT_RW, 0), EINVAL);
		ASSERT_REFUSED(&c, vt_map_super(&c, end - SZ_4K, p, SZ_8K, VT_RW, SZ_4K), EINVAL);
	}
	ASSERT_SUPER(super, SZ_64K, SZ_64K, 1, 1);
}

VTEST_MAIN(
	VTEST(extension_v2),
	VTEST(extension_before_set_iommu),
	VTEST(last_group_left),
	VTEST(extension_iommufd),
	VTEST(abi_layout),
	VTEST(v1_einval),
	VTEST(create_args),
	VTEST(created),
	VTEST(create_emfile),
	VTEST(create_enfile),
	VTEST(info_args),
	VTEST(other_ioctls_enotty),
	VTEST(attach_args),
	VTEST(attach_wrong_fd),
	VTEST(attach_ebusy),
	VTEST(detach_args),
	VTEST(detach_enoent_ebusy),
	VTEST(register_args),
	VTEST(wraps_eoverflow),
	VTEST(register_eexist),
	VTEST(register_outside_efault),
	VTEST(register_enomem),
	VTEST(register_capability_of_caller),
	VTEST(register_efault),
	VTEST(register_mmio_efault),
	VTEST(unregister_enoent),
	VTEST(unregister_ebusy),
	VTEST(other_process_eperm),
	VTEST(other_thread),
	VTEST(map_args),
	VTEST(map_with_vaddr_einval),
	VTEST(map_order),
	VTEST(map_enoent),
	VTEST(map_eperm),
	VTEST(map_outside_aperture),
)
