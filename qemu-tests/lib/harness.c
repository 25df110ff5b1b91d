// SPDX-License-Identifier: GPL-2.0
/* TAP, one child a test. */
#include <signal.h>
#include <stdarg.h>

#include "vtest.h"

#define TEST_SECONDS	240

struct result {
	unsigned int failures;
	bool skipped;
	char reason[200];
	char mdev[4][40];
};

/*
 * Shared by the harness, the test's process and whatever that forks. A program that
 * a test starts by exec has one of its own, and tells by its exit status.
 */
static struct result own, *result = &own;

static void put_line(const char *prefix, const char *fmt, va_list ap)
{
	char buf[1024];
	int n, m;

	n = snprintf(buf, sizeof(buf), "%s", prefix);
	m = vsnprintf(buf + n, sizeof(buf) - n - 1, fmt, ap);
	n += m < (int)sizeof(buf) - n - 1 ? m : (int)sizeof(buf) - n - 2;
	buf[n++] = '\n';
	if (write(STDOUT_FILENO, buf, n) != n)
		_exit(1);
}

void vt_diag(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put_line("# ", fmt, ap);
	va_end(ap);
}

void vt_fail(const char *file, int line, const char *fmt, ...)
{
	char prefix[128];
	const char *base = strrchr(file, '/');
	va_list ap;

	__atomic_fetch_add(&result->failures, 1, __ATOMIC_SEQ_CST);
	snprintf(prefix, sizeof(prefix), "# %s:%d: ", base ? base + 1 : file, line);
	va_start(ap, fmt);
	put_line(prefix, fmt, ap);
	va_end(ap);
}

void vt_stop(void)
{
	exit(1);
}

void vt_skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(result->reason, sizeof(result->reason), fmt, ap);
	va_end(ap);
	result->skipped = true;
	exit(0);
}

bool vt_failed(void)
{
	return __atomic_load_n(&result->failures, __ATOMIC_SEQ_CST);
}

/*
 * A device can only be removed when nobody has it open any more: the harness does
 * it for a test that ended with its devices open.
 */
void vt_remember_mdev(const char *uuid, bool there)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(result->mdev); i++) {
		char *slot = result->mdev[i];

		if (strcmp(slot, there ? "" : uuid))
			continue;
		snprintf(slot, sizeof(result->mdev[i]), "%s", there ? uuid : "");
		return;
	}
}

/* Files are closed before a process is waited for, the rest may take a moment. */
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
	vt_fail(__FILE__, __LINE__, "%lld pages stay pinned", now - before);
}

static bool run_one(const struct vtest *t, unsigned int nr)
{
	bool ok = true;
	int status;
	pid_t pid;
	u64 pinned;
	size_t i;

	memset(result, 0, sizeof(*result));
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
	for (i = 0; i < ARRAY_SIZE(result->mdev); i++)
		if (result->mdev[i][0])
			vt_mdev_remove(result->mdev[i]);
	check_pinned(pinned);
	if (WIFSIGNALED(status)) {
		vt_diag("%s died of signal %d%s", t->name, WTERMSIG(status),
			WTERMSIG(status) == SIGALRM ? ": took too long" : "");
		ok = false;
	} else if (WEXITSTATUS(status) && !result->failures) {
		vt_diag("%s left with status %d", t->name, WEXITSTATUS(status));
		ok = false;
	}
	if (result->failures)
		ok = false;

	if (!ok)
		printf("not ok %u - %s\n", nr, t->name);
	else if (result->skipped)
		printf("ok %u - %s # SKIP %s\n", nr, t->name, result->reason);
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

	result = mmap(NULL, sizeof(*result), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (result == MAP_FAILED) {
		perror("# mmap");
		return 1;
	}

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
