// SPDX-License-Identifier: GPL-2.0
/* A memory cgroup for what a test makes the kernel allocate */
#include <sys/stat.h>

#include "vtest.h"

#define ROOT	"/sys/fs/cgroup"
#define CGROUP	ROOT "/vtest"

void vt_need_cgroup(void)
{
	if (vt_write_file(ROOT "/cgroup.subtree_control", "+memory"))
		SKIP("no memory cgroups");
	/* An earlier test may have died before it could remove its own. */
	if (mkdir(CGROUP, 0700))
		ASSERT_EQ(errno, EEXIST);
	vt_limit_cgroup("max");
}

void vt_limit_cgroup(const char *max)
{
	ASSERT_OK(vt_write_file(CGROUP "/memory.max", max));
}

void vt_join_cgroup(void)
{
	ASSERT_OK(vt_write_file(CGROUP "/cgroup.procs", "0"));
}

void vt_remove_cgroup(void)
{
	ASSERT_OK(vt_write_file(ROOT "/cgroup.procs", "0"));
	ASSERT_OK(rmdir(CGROUP));
}

u64 vt_cgroup_memory(void)
{
	char buf[32];

	ASSERT_GT(vt_read_file(CGROUP "/memory.current", buf, sizeof(buf)), 0);
	return strtoull(buf, NULL, 10);
}

u64 vt_cgroup_stat(const char *field)
{
	return vt_stat_field(CGROUP "/memory.stat", field);
}

/*
 * The child makes no other call: if vmalloc fails, a worker frees later what it did get, and
 * until then the child would be killed for the next page that it needs.
 */
void vt_expect_enomem(struct vt_container *c,
		      int (*call)(struct vt_container *c, u64 iova, u64 size), u64 iova, u64 size)
{
	struct vt_state was;
	int status, ret;
	pid_t pid;
	u64 start;

	vt_state(c, &was);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		/* Have what pages this will write, before. */
		ASSERT_EQ(vt_map(c, iova, (void *)SZ_4K, 0, VT_RW, SZ_4K), -EINVAL);
		vt_join_cgroup();
		ret = call(c, iova, size);
		_exit(-ret);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_TRUE(WIFEXITED(status));
	ASSERT_EQ(WEXITSTATUS(status), ENOMEM);
	vt_state_same(c, &was, "ENOMEM");
	for (start = vt_now(); vt_cgroup_memory() > SZ_1M; usleep(10000))
		ASSERT_LT(vt_now() - start, 10000000000ull);
}

void vt_expect_no_oom_kill(void)
{
	ASSERT_EQ(vt_stat_field(CGROUP "/memory.events", "oom_kill"), 0);
}
