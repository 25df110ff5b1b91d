// SPDX-License-Identifier: GPL-2.0
/* Runs each test in a child and prints TAP. */
#include <signal.h>

#include "vtest.h"

#define TEST_SECONDS	240

/* When a process is gone its files are closed, but pages may be unpinned a moment later. */
static void check_pinned(u64 before)
{
	u64 now = 0;
	int i;

	for (i = 0; i < 30; i++) {
		now = vt_pinned();
		if (now == before)
			return;
		usleep(100000);
	}
	vt_fail(__FILE__, __LINE__, "%lld pages more than they should stay pinned", (long long)(now - before));
}

static bool run_one(const struct vtest *t, unsigned int nr)
{
	bool ok = true;
	int status;
	pid_t pid;
	u64 pinned;

	memset(vt_result, 0, sizeof(*vt_result));
	pinned = vt_pinned();
	fflush(stdout);
	pid = fork();
	if (pid < 0) {
		perror("# fork");
		exit(1);
	}
	if (!pid) {
		alarm(TEST_SECONDS);
		t->fn();
		exit(0);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	vt_mdev_remove_left();
	check_pinned(pinned + vt_result->leaked);
	if (WIFSIGNALED(status)) {
		vt_diag("%s died of signal %d%s", t->name, WTERMSIG(status),
			WTERMSIG(status) == SIGALRM ? ": took too long" : "");
		ok = false;
	} else if (WEXITSTATUS(status) && !vt_result->failures) {
		vt_diag("%s left with status %d", t->name, WEXITSTATUS(status));
		ok = false;
	}
	if (vt_result->failures)
		ok = false;

	if (!ok)
		printf("not ok %u - %s\n", nr, t->name);
	else if (vt_result->skipped)
		printf("ok %u - %s # SKIP %s\n", nr, t->name, vt_result->reason);
	else
		printf("ok %u - %s\n", nr, t->name);
	fflush(stdout);
	return ok;
}

int vtest_main(int argc, char **argv, const struct vtest *tests, size_t nr)
{
	unsigned int run = 0, failed = 0;
	size_t i;
	int a;

	vt_result = mmap(NULL, sizeof(*vt_result), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (vt_result == MAP_FAILED) {
		perror("# mmap");
		return 1;
	}
	vt_mdev_share();

	printf("TAP version 13\n");
	for (a = 1; a < argc; a++) {
		for (i = 0; i < nr && strcmp(tests[i].name, argv[a]); i++)
			;
		if (i == nr) {
			printf("Bail out! there is no subtest %s\n", argv[a]);
			return 1;
		}
	}
	for (i = 0; i < nr; i++) {
		for (a = 1; a < argc && strcmp(tests[i].name, argv[a]); a++)
			;
		if (argc > 1 && a == argc)
			continue;
		if (!run_one(&tests[i], ++run))
			failed++;
	}
	printf("1..%u\n", run);
	return failed || !run;
}
