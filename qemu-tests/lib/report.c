// SPDX-License-Identifier: GPL-2.0
/* How a test reports what it finds */
#include <stdarg.h>

#include "vtest.h"

/* A program that a test starts by exec has one of its own. Its exit status is its report. */
static struct vt_result own;
struct vt_result *vt_result = &own;

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

void vt_kernel_may_say(const char *regex)
{
	vt_diag("the kernel may say: %s", regex);
}

void vt_leaks_pins(u64 pages)
{
	vt_result->leaked += pages;
}

void vt_fail(const char *file, int line, const char *fmt, ...)
{
	char prefix[128];
	const char *base = strrchr(file, '/');
	va_list ap;

	vt_result->failures++;
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
	vsnprintf(vt_result->reason, sizeof(vt_result->reason), fmt, ap);
	va_end(ap);
	vt_result->skipped = true;
	exit(0);
}

bool vt_failed(void)
{
	return vt_result->failures;
}
