// SPDX-License-Identifier: GPL-2.0
/* What the kernel says: /proc and /sys. */
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>

#include "vtest.h"

#define PARAMS	"/sys/module/vfio_iommu_type1/parameters"

static bool env_is(const char *name, const char *value)
{
	const char *is = getenv(name);

	return is && !strcmp(is, value);
}

bool vt_kernel_is(const char *variant)
{
	return env_is("vtest_kernel", variant);
}

bool vt_kernel_lacks(const char *what)
{
	const char *lacks = getenv("vtest_lacks");

	return vt_kernel_is("unpatched") || (lacks && strstr(lacks, what));
}

bool vt_machine_is(const char *machine)
{
	return env_is("vtest_machine", machine);
}

int vt_linux(void)
{
	struct utsname u;

	ASSERT_OK(uname(&u));
	return atoi(u.release);
}

int vt_wraps(void)
{
	return vt_linux() < 7 ? EINVAL : EOVERFLOW;
}

ssize_t vt_read_file(const char *path, char *buf, size_t len)
{
	ssize_t n, total = 0;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (total < (ssize_t)len - 1) {
		n = read(fd, buf + total, len - 1 - total);
		if (n < 0) {
			n = -errno;
			close(fd);
			return n;
		}
		if (!n)
			break;
		total += n;
	}
	close(fd);
	buf[total] = 0;
	return total;
}

int vt_write_file(const char *path, const char *text)
{
	int fd, ret = 0;

	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/* The number behind the separator in the line of a file that begins with field */
static u64 number_in(const char *path, const char *field, char separator)
{
	char buf[32768];
	size_t n = strlen(field);
	ssize_t ret;
	char *at;

	ret = vt_read_file(path, buf, sizeof(buf));
	if (ret < 0)
		FAIL("%s: %s", path, strerror(-ret));
	for (at = buf; at; at = strchr(at, '\n')) {
		if (*at == '\n')
			at++;
		if (!strncmp(at, field, n) && at[n] == separator)
			return strtoull(at + n + 1, NULL, 10);
	}
	FAIL("%s: no %s", path, field);
}

u64 vt_stat_field(const char *path, const char *field)
{
	return number_in(path, field, ' ');
}

/* The value of a "Field:   123 kB" line, in bytes */
static u64 kb_field(const char *path, const char *field)
{
	return number_in(path, field, ':') * 1024;
}

u64 vt_locked(void)
{
	return kb_field("/proc/self/status", "VmLck");
}

u64 vt_locked_of(pid_t pid)
{
	char path[48];

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	return kb_field(path, "VmLck");
}

u64 vt_meminfo(const char *field)
{
	return kb_field("/proc/meminfo", field);
}

u64 vt_pinned(void)
{
	static const char a[] = "nr_foll_pin_acquired ", r[] = "nr_foll_pin_released ";
	char buf[16384], *acquired, *released;

	/* The kernel counts per CPU, and adds up when this file is written. */
	vt_write_file("/proc/sys/vm/stat_refresh", "1");
	ASSERT_GT(vt_read_file("/proc/vmstat", buf, sizeof(buf)), 0);
	acquired = strstr(buf, a);
	released = strstr(buf, r);
	if (!acquired || !released)
		FAIL("/proc/vmstat does not count pinned pages");
	return strtoull(acquired + strlen(a), NULL, 10) -
	       strtoull(released + strlen(r), NULL, 10);
}

void vt_drop_cap(int number)
{
	struct __user_cap_header_struct hdr = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct cap[2];

	ASSERT_OK(syscall(SYS_capget, &hdr, cap));
	cap[0].effective &= ~(1u << number);
	ASSERT_OK(syscall(SYS_capset, &hdr, cap));
}

void vt_limit_locked(u64 bytes)
{
	struct rlimit lim = { .rlim_cur = bytes, .rlim_max = bytes };

	ASSERT_OK(setrlimit(RLIMIT_MEMLOCK, &lim));
	vt_drop_cap(CAP_IPC_LOCK);
}

static struct {
	char name[32];
	unsigned int value;
	pid_t pid;
} saved[4];

static void write_param(const char *name, unsigned int value)
{
	char path[128], text[16];

	snprintf(path, sizeof(path), PARAMS "/%s", name);
	snprintf(text, sizeof(text), "%u", value);
	ASSERT_OK(vt_write_file(path, text));
}

unsigned int vt_get_param(const char *name)
{
	char path[128], buf[32];

	snprintf(path, sizeof(path), PARAMS "/%s", name);
	ASSERT_GT(vt_read_file(path, buf, sizeof(buf)), 0);
	return *buf == 'Y' ? 1 : *buf == 'N' ? 0 : strtoul(buf, NULL, 10);
}

static void restore_params(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(saved); i++)
		if (saved[i].name[0] && saved[i].pid == getpid()) {
			char name[32];

			memcpy(name, saved[i].name, sizeof(name));
			saved[i].name[0] = 0;
			write_param(name, saved[i].value);
		}
}

void vt_set_param(const char *name, unsigned int value)
{
	static bool registered;
	size_t i;

	if (!registered)
		atexit(restore_params);
	registered = true;
	for (i = 0; i < ARRAY_SIZE(saved); i++) {
		if (!strcmp(saved[i].name, name))
			break;
		if (!saved[i].name[0]) {
			snprintf(saved[i].name, sizeof(saved[i].name), "%s", name);
			saved[i].value = vt_get_param(name);
			saved[i].pid = getpid();
			break;
		}
	}
	write_param(name, value);
}

u64 vt_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}
