// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shows what a running process has mapped for its VFIO devices: for each container how many
 * DMA entries it uses, and what is mapped with which IOMMU page sizes, as a table and as a
 * picture. It does not stop the process and changes nothing. It needs the right to attach a
 * debugger to the process, and a kernel with VFIO_DMA_EXTENTS.
 */
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/vfio.h>

#define CELLS	64		/* in a line of the picture */
#define ROWS	24		/* of the table, unless -a is given */
#define FAR	(1ULL << 30)	/* a gap of this size begins a new line */

static bool all;

/* The size in the largest unit that leaves no fraction, in one of four buffers */
static const char *human(uint64_t size)
{
	static char buffer[4][32];
	static unsigned int next;
	const char *unit = "BKMGTPE";
	char *s = buffer[next++ % 4];

	for (; size && !(size % 1024); size /= 1024)
		unit++;
	snprintf(s, sizeof(buffer[0]), "%llu%c", (unsigned long long)size, *unit);
	return s;
}

static struct vfio_dma_extent *read_extents(int container, size_t *nr)
{
	struct vfio_iommu_type1_dma_extents args = { .argsz = sizeof(args) };
	struct vfio_dma_extent *e = NULL;

	*nr = 0;
	do {
		e = realloc(e, (*nr + 1024) * sizeof(*e));
		if (!e)
			err(1, "realloc");
		args.extents = (uintptr_t)(e + *nr);
		args.count = 1024;
		if (ioctl(container, VFIO_IOMMU_DMA_EXTENTS, &args))
			err(1, "VFIO_IOMMU_DMA_EXTENTS");
		*nr += args.count;
	} while (args.size);
	return e;
}

/* How many DMA entries are left; -1: the kernel does not tell */
static long entries_left(int container)
{
	struct vfio_iommu_type1_info head = { .argsz = sizeof(head) }, *info;
	struct vfio_iommu_type1_info_dma_avail *avail;
	struct vfio_info_cap_header *cap;
	long left = -1;

	if (ioctl(container, VFIO_IOMMU_GET_INFO, &head))
		return -1;
	info = calloc(1, head.argsz);
	if (!info)
		err(1, "calloc");
	info->argsz = head.argsz;
	if (!ioctl(container, VFIO_IOMMU_GET_INFO, info) &&
	    (info->flags & VFIO_IOMMU_INFO_CAPS) && info->cap_offset)
		for (uint32_t at = info->cap_offset; at; at = cap->next) {
			cap = (void *)((char *)info + at);
			avail = (void *)cap;
			if (cap->id == VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL)
				left = avail->avail;
		}
	free(info);
	return left;
}

static long entry_limit(void)
{
	FILE *f = fopen("/sys/module/vfio_iommu_type1/parameters/dma_entry_limit", "r");
	long limit;

	if (!f || fscanf(f, "%ld", &limit) != 1)
		limit = -1;
	if (f)
		fclose(f);
	return limit;
}

static bool alike(const struct vfio_dma_extent *a, const struct vfio_dma_extent *b)
{
	return a->iova + a->size == b->iova && a->pgsize == b->pgsize &&
	       a->granule == b->granule && a->flags == b->flags;
}

static void table(const struct vfio_dma_extent *e, size_t nr)
{
	size_t rows = 0, from, to;

	printf("%20s %8s %8s %8s %8s  %s\n", "iova", "size", "extents", "pages of", "granule", "flags");
	for (from = 0; from < nr; from = to) {
		for (to = from + 1; to < nr && alike(&e[to - 1], &e[to]); )
			to++;
		if (rows++ >= ROWS && !all)
			continue;
		printf("%#20llx %8s %8zu %8s %8s  %s%s%s%s\n",
		       (unsigned long long)e[from].iova,
		       human(e[to - 1].iova + e[to - 1].size - e[from].iova), to - from,
		       e[from].pgsize ? human(e[from].pgsize) : "unknown",
		       e[from].granule ? human(e[from].granule) : "-",
		       e[from].flags & VFIO_DMA_EXTENT_READ ? "r" : "-",
		       e[from].flags & VFIO_DMA_EXTENT_WRITE ? "w" : "-",
		       e[from].flags & VFIO_DMA_EXTENT_SUPER ? " super" : "",
		       e[from].flags & VFIO_DMA_EXTENT_SPARSE ? " sparse" : "");
	}
	if (rows > ROWS && !all)
		printf("%20s %zu more lines; vfiostat -a prints all\n", "...", rows - ROWS);
}

static char letter(uint64_t pgsize)
{
	return !pgsize ? '?' : pgsize < 2 << 20 ? 'k' : pgsize < 1 << 30 ? 'M' : 'G';
}

/* A line for each stretch without a gap of FAR. Each of its letters stands for a cell. */
static void picture(const struct vfio_dma_extent *e, size_t nr)
{
	printf("\nPages of G: 1 GiB or more, M: 2 MiB or more, k: less, ?: unknown; . nothing is mapped.\n"
	       "A letter stands for the smallest page in its part.\n");
	for (size_t from = 0, to; from < nr; from = to) {
		uint64_t start = e[from].iova, last, cell = 4096, smallest[CELLS];

		for (to = from + 1; to < nr && e[to].iova - (e[to - 1].iova + e[to - 1].size) < FAR; )
			to++;
		last = e[to - 1].iova + (e[to - 1].size - 1);
		while ((last - start) / cell >= CELLS)
			cell *= 2;
		memset(smallest, 0xff, sizeof(smallest));
		for (size_t i = from; i < to; i++)
			for (uint64_t c = (e[i].iova - start) / cell;
			     c <= (e[i].iova + (e[i].size - 1) - start) / cell; c++)
				if (e[i].pgsize < smallest[c])
					smallest[c] = e[i].pgsize;
		printf("%#20llx ", (unsigned long long)start);
		for (uint64_t c = 0; c <= (last - start) / cell; c++)
			putchar(smallest[c] == UINT64_MAX ? '.' : letter(smallest[c]));
		printf(" (%s each)\n", human(cell));
	}
}

static void show(int container, int fd)
{
	long left = entries_left(container), limit = entry_limit();
	struct vfio_dma_extent *e;
	uint64_t mapped = 0;
	size_t nr;

	printf("Container at fd %d: ", fd);
	if (left >= 0 && limit >= left)
		printf("%ld of %ld DMA entries used, ", limit - left, limit);
	else if (left >= 0)
		printf("%ld DMA entries left, ", left);
	if (ioctl(container, VFIO_CHECK_EXTENSION, VFIO_DMA_EXTENTS) != 1) {
		printf("no VFIO_DMA_EXTENTS: the kernel lacks it, or iommufd serves the container\n");
		return;
	}
	e = read_extents(container, &nr);
	for (size_t i = 0; i < nr; i++)
		mapped += e[i].size;
	printf("%s mapped\n", human(mapped));
	if (nr) {
		table(e, nr);
		picture(e, nr);
	}
	free(e);
}

/* What /proc says of a super-container, on one line */
static void show_super(const char *pid, int fd)
{
	char path[64], line[128];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/fdinfo/%d", pid, fd);
	f = fopen(path, "r");
	if (!f)
		return;
	printf("Super-container at fd %d:", fd);
	while (fgets(line, sizeof(line), f)) {
		char *value = strchr(line, ':');

		if (!value)
			continue;
		*value++ = 0;
		if (!strcmp(line, "registered") || !strcmp(line, "locked"))
			printf(" %s %s", human(strtoull(value, NULL, 10)), line);
		else if (!strcmp(line, "regions") || !strcmp(line, "containers"))
			printf(" %llu %s", strtoull(value, NULL, 10), line);
	}
	printf("\n");
	fclose(f);
}

int main(int argc, char **argv)
{
	char path[64], target[128];
	struct dirent *d;
	int pidfd, found = 0;
	const char *pid;
	DIR *dir;

	all = argc == 3 && !strcmp(argv[1], "-a");
	if (argc != 2 + all || !atoi(argv[argc - 1]))
		errx(2, "usage: vfiostat [-a] PID");
	pid = argv[argc - 1];
	pidfd = syscall(SYS_pidfd_open, atoi(pid), 0);
	if (pidfd < 0)
		err(1, "process %s", pid);
	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	dir = opendir(path);
	if (!dir)
		err(1, "%s", path);
	while ((d = readdir(dir))) {
		ssize_t len = readlinkat(dirfd(dir), d->d_name, target, sizeof(target) - 1);
		int fd = atoi(d->d_name), copy;

		if (len < 0)
			continue;
		target[len] = 0;
		if (!strcmp(target, "anon_inode:[vfio-super]")) {
			show_super(pid, fd);
			found++;
		} else if (!strcmp(target, "/dev/vfio/vfio")) {
			copy = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
			if (copy < 0)
				err(1, "fd %d of process %s", fd, pid);
			show(copy, fd);
			close(copy);
			found++;
		}
	}
	if (!found)
		errx(1, "process %s has no VFIO container", pid);
	return 0;
}
