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

void vt_expect_no_oom_kill(void)
{
	ASSERT_EQ(vt_stat_field(CGROUP "/memory.events", "oom_kill"), 0);
}
