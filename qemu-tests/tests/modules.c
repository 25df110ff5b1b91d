// SPDX-License-Identifier: GPL-2.0
/*
 * Where type1 is a module, as on Debian's kernel: it stays while somebody uses it or one
 * of its super-containers, goes when nobody does, and works when it is back.
 */
#include <fcntl.h>
#include <sys/syscall.h>

#include "../lib/testdev.h"

#define BASE	(4 * SZ_1G)
#define RW	VT_SUPER_RW
#define FILE_NAME	"/lib/modules/vfio-iommu-type1.ko"

static int unload(void)
{
	return syscall(SYS_delete_module, "vfio_iommu_type1", O_NONBLOCK) ? -errno : 0;
}

/* What was charged last is given back by a worker, which keeps the module until then. */
static void unload_soon(void)
{
	int ret, i;

	for (i = 0; i < 100; i++) {
		ret = unload();
		if (ret != -EWOULDBLOCK)
			break;
		usleep(50000);
	}
	ASSERT_OK(ret);
}

static void load(void)
{
	int fd = open(FILE_NAME, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		FAIL("%s: %s", FILE_NAME, strerror(errno));
	if (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST)
		FAIL("%s: %s", FILE_NAME, strerror(errno));
	close(fd);
}

/* A container keeps the module, and so does a file alone, with all that is registered. */
static void in_use(void)
{
	u64 pinned = vt_pinned();
	struct vt_container c;
	int super;
	u8 *p;

	load();
	vt_open_v2(&c);
	super = vt_super_new(&c);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	ASSERT_OK(vt_super_register(super, p, SZ_1M, RW));
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, SZ_4K));
	ASSERT_EQ(unload(), -EWOULDBLOCK);
	vt_close(&c);

	ASSERT_EQ(unload(), -EWOULDBLOCK);
	ASSERT_SUPER(super, SZ_1M, SZ_1M, 1, 0);
	ASSERT_EQ(vt_locked(), SZ_1M);
	ASSERT_EQ(vt_pinned(), pinned + SZ_1M / SZ_4K);

	vt_open_v2(&c);
	ASSERT_OK(vt_super_attach(&c, super));
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, SZ_4K));
	vt_edu_enable(&c.dev[0]);
	vt_expect_read(&c.dev[0], BASE + SZ_64K, p + SZ_64K);
	close(super);
	vt_close(&c);
	unload_soon();
	ASSERT_EQ(vt_pinned(), pinned);

	load();
	vt_open_v2(&c);
	super = vt_super_new(&c);
	ASSERT_OK(vt_super_register(super, p, SZ_1M, RW));
	close(super);
	vt_close(&c);
}

/* Closes what it has registered while its mmap_lock is held */
static void creator(int sock)
{
	struct vt_container c;
	int super;

	vt_open_v2(&c);
	super = vt_super_new(&c);
	ASSERT_OK(vt_super_register(super, vt_alloc(VT_MEM_4K, SZ_1M), SZ_1M, RW));
	vt_close(&c);
	td_hold_mm();
	close(super);
	vt_tell(sock, 0);
	vt_hear(sock);
	exit(0);
}

/* The code goes when the last charge is given back, which may have to wait. */
static void charge_left(void)
{
	int sock;
	pid_t pid;

	load();
	td_need();
	pid = vt_fork_peer(&sock);
	if (!pid)
		creator(sock);
	vt_hear(sock);
	ASSERT_EQ(vt_locked_of(pid), SZ_1M);
	usleep(500000);
	ASSERT_EQ(unload(), -EWOULDBLOCK);
	ASSERT_EQ(vt_locked_of(pid), SZ_1M);

	td_release_mm(pid);
	unload_soon();
	ASSERT_EQ(vt_locked_of(pid), 0);
	vt_tell(sock, 0);
	load();
}

VTEST_MAIN(
	VTEST(in_use),
	VTEST(charge_left)
)
