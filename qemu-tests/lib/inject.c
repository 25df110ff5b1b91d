// SPDX-License-Identifier: GPL-2.0
/* Makes allocations of this task fail, and of no other. */
#include <fcntl.h>

#include "vtest.h"

#define DEBUG	"/sys/kernel/debug"

static int nth_fd, make_it_fail_fd;
/* See vt_inject_all(). */
bool vt_injection_on = true;

static void set_attr(const char *attr, const char *value)
{
	static const char * const fault[] = { "failslab", "fail_page_alloc" };
	char path[128];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(fault); i++) {
		snprintf(path, sizeof(path), DEBUG "/%s/%s", fault[i], attr);
		if (vt_write_file(path, value) < 0)
			SKIP("no %s", path);
	}
}

static void stop_faults(void)
{
	if (pwrite(make_it_fail_fd, "0", 1, 0) != 1)
		vt_diag("make-it-fail stays on");
	vt_write_file(DEBUG "/failslab/probability", "0");
	vt_write_file(DEBUG "/fail_page_alloc/probability", "0");
}

/* Sets it up: only this task, each kind of allocation, no message. */
void vt_need_injection(void)
{
	nth_fd = open("/proc/self/fail-nth", O_RDWR | O_CLOEXEC);
	make_it_fail_fd = open("/proc/self/make-it-fail", O_RDWR | O_CLOEXEC);
	if (nth_fd < 0 || make_it_fail_fd < 0)
		SKIP("no /proc/self/fail-nth");
	set_attr("probability", "0");
	set_attr("task-filter", "Y");
	set_attr("times", "-1");
	set_attr("verbose", "0");
	set_attr("ignore-gfp-wait", "N");
	ASSERT_OK(vt_write_file(DEBUG "/fail_page_alloc/min-order", "0"));
	ASSERT_OK(vt_write_file(DEBUG "/fail_page_alloc/ignore-gfp-highmem", "N"));
	atexit(stop_faults);
}

void vt_inject_nth(int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", n);

	ASSERT_EQ(pwrite(nth_fd, text, len, 0), len);
}

/* Ends the injection. Was there an allocation that failed? */
bool vt_injected(void)
{
	char text[16] = "";

	ASSERT_GT(pread(nth_fd, text, sizeof(text) - 1, 0), 0);
	vt_inject_nth(0);
	return !atoi(text);
}

/* Every allocation of this task fails between vt_inject_all(true) and (false). */
void vt_inject_all(bool on)
{
	if (on)
		set_attr("probability", vt_injection_on ? "100" : "0");
	ASSERT_EQ(pwrite(make_it_fail_fd, on ? "1" : "0", 1, 0), 1);
}
