// SPDX-License-Identifier: GPL-2.0
/*
 * Type1 and super-containers as modules, as on Debian's kernel: they stay loaded while
 * somebody uses them, can be unloaded when nobody does, and work when they are loaded again.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/syscall.h>

#include "../lib/testdev.h"

#define BASE	(4 * SZ_1G)
#define RW	VT_SUPER_RW
#define TYPE1	"vfio_iommu_type1"
#define SUPER	"vfio_super"

static int unload(const char *name)
{
	return syscall(SYS_delete_module, name, O_NONBLOCK) ? -errno : 0;
}

static void load(const char *name)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/lib/modules/%s.ko", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		FAIL("%s: %s", path, strerror(errno));
	if (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST)
		FAIL("%s: %s", path, strerror(errno));
	close(fd);
}

static void load_both(void)
{
	load(SUPER);
	load(TYPE1);
}

/* A super-container's file keeps its module and its memory, even without type1. */
static void in_use(void)
{
	u64 pinned = vt_pinned();
	struct vt_container c;
	int super;
	u8 *p;

	load_both();
	vt_open_v2(&c);
	super = vt_super_new(&c);
	p = vt_alloc(VT_MEM_4K, SZ_1M);
	ASSERT_OK(vt_super_register(super, p, SZ_1M, RW));
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, SZ_4K));
	ASSERT_EQ(unload(TYPE1), -EWOULDBLOCK);
	vt_close(&c);

	ASSERT_EQ(unload(SUPER), -EWOULDBLOCK);
	ASSERT_OK(unload(TYPE1));
	ASSERT_EQ(unload(SUPER), -EWOULDBLOCK);
	ASSERT_SUPER(super, SZ_1M, SZ_1M, 1, 0);
	ASSERT_EQ(vt_locked(), SZ_1M);
	ASSERT_EQ(vt_pinned(), pinned + SZ_1M / SZ_4K);

	load(TYPE1);
	vt_open_v2(&c);
	ASSERT_OK(vt_super_attach(&c, super));
	ASSERT_OK(vt_map_super(&c, BASE, p, SZ_1M, VT_RW, SZ_4K));
	vt_edu_enable(&c.dev[0]);
	vt_expect_read(&c.dev[0], BASE + SZ_64K, p + SZ_64K);
	close(super);
	vt_close(&c);
	ASSERT_OK(unload(TYPE1));
	ASSERT_OK(unload(SUPER));
	ASSERT_EQ(vt_pinned(), pinned);
	load_both();
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

static void *unload_super(void *ret)
{
	*(int *)ret = unload(SUPER);
	return NULL;
}

/* The module stays until the last charge is given back, which may have to wait. */
static void charge_left(void)
{
	int sock, ret = 1;
	pthread_t thread;
	pid_t pid;

	load_both();
	td_need();
	pid = vt_fork_peer(&sock);
	if (!pid)
		creator(sock);
	vt_hear(sock);
	ASSERT_EQ(vt_locked_of(pid), SZ_1M);
	ASSERT_OK(unload(TYPE1));
	ASSERT_OK(pthread_create(&thread, NULL, unload_super, &ret));
	usleep(500000);
	ASSERT_EQ(__atomic_load_n(&ret, __ATOMIC_RELAXED), 1);
	ASSERT_EQ(vt_locked_of(pid), SZ_1M);

	td_release_mm(pid);
	ASSERT_OK(pthread_join(thread, NULL));
	ASSERT_OK(ret);
	ASSERT_EQ(vt_locked_of(pid), 0);
	vt_tell(sock, 0);
	load_both();
}

VTEST_MAIN(
	VTEST(in_use),
	VTEST(charge_left)
)
