// SPDX-License-Identifier: GPL-2.0-only
/*
 * To be loaded with LD_PRELOAD: counts the ioctls by which a program maps memory for VFIO,
 * and the time they take. Where a machine's clock counts instructions, that is how many. The
 * sums are in the file that COUNT_IOCTLS names, which others can read at any time.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <err.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <linux/vfio.h>

struct sum {
	uint64_t calls, time;
};

static const unsigned long counted[] = {
	VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA,
	VFIO_SUPER_REGISTER_MEMORY, VFIO_SUPER_UNREGISTER_MEMORY,
};
#define NR (sizeof(counted) / sizeof(*counted))

static struct sum *sums;
static int (*real_ioctl)(int fd, unsigned long request, ...);

/* What passes while this thread runs; also between two calls of this function */
static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

__attribute__((constructor)) static void start(void)
{
	const char *name = getenv("COUNT_IOCTLS");
	int fd;

	real_ioctl = dlsym(RTLD_NEXT, "ioctl");
	fd = name ? open(name, O_RDWR) : -1;
	sums = mmap(NULL, NR * sizeof(*sums), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (!real_ioctl || sums == MAP_FAILED)
		err(1, "COUNT_IOCTLS");
	close(fd);
}

/* An ioctl of a device can have the same number. */
static int is_device(int fd, unsigned long request)
{
	struct stat file, container;

	return (request == VFIO_IOMMU_MAP_DMA || request == VFIO_IOMMU_UNMAP_DMA) &&
	       (fstat(fd, &file) || stat("/dev/vfio/vfio", &container) ||
		file.st_rdev != container.st_rdev);
}

int ioctl(int fd, unsigned long request, ...)
{
	uint64_t since, empty;
	va_list list;
	void *arg;
	size_t i;
	int ret;

	va_start(list, request);
	arg = va_arg(list, void *);
	va_end(list);

	for (i = 0; i < NR && request != counted[i]; i++)
		;
	if (i == NR || is_device(fd, request))
		return real_ioctl(fd, request, arg);

	empty = now();
	since = now();
	empty = since - empty;
	ret = real_ioctl(fd, request, arg);
	sums[i].time += now() - since - empty;
	sums[i].calls++;
	return ret;
}
