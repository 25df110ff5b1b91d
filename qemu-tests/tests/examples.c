// SPDX-License-Identifier: GPL-2.0
/* The programs of examples/: what they print about mappings that this test knows. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <regex.h>

#include "vtest.h"

#define IOVA	(4 * SZ_1G)

static char text[SZ_64K];

static void read_text(int fd)
{
	size_t len = 0;
	ssize_t n;

	while ((n = read(fd, text + len, sizeof(text) - 1 - len)) > 0)
		len += n;
	ASSERT_EQ(n, 0);
	text[len] = 0;
}

/* Leaves in text what vfiostat prints about a process; returns its exit status. */
static int vfiostat(pid_t pid)
{
	char command[64];
	FILE *f;

	snprintf(command, sizeof(command), "/examples/vfiostat %d 2>&1", pid);
	f = popen(command, "re");
	ASSERT_TRUE(f);
	read_text(fileno(f));
	return WEXITSTATUS(pclose(f));
}

/* Is there a line in text that is, but for blanks at its beginning, this regex? */
static bool has_line(const char *regex)
{
	char whole[256];
	regex_t re;
	bool found;

	snprintf(whole, sizeof(whole), "^ *%s$", regex);
	ASSERT_OK(regcomp(&re, whole, REG_EXTENDED | REG_NEWLINE | REG_NOSUB));
	found = !regexec(&re, text, 0, NULL, 0);
	regfree(&re);
	return found;
}

static void say_text(void)
{
	char *line, *next = text;

	while ((line = strsep(&next, "\n")))
		vt_diag("%s", line);
}

#define ASSERT_LINE(regex) do {							\
	if (!has_line(regex)) {							\
		say_text();							\
		FAIL("no line '%s'", regex);					\
	}									\
} while (0)

/* Both containers are as the client leaves them. */
static bool client_is_ready(pid_t pid)
{
	return !vfiostat(pid) &&
	       has_line("Container at fd [0-9]+: 2 of [0-9]+ DMA entries used, 15M mapped") &&
	       has_line("Container at fd [0-9]+: 1 of [0-9]+ DMA entries used, 16M mapped");
}

/*
 * On AMD an IOMMU page may have any power of two, also more than a granule where it can be
 * cut. So which pages there are depends on where the memory is.
 */
static void client(void)
{
	char group[2][32];
	int i, in[2], out[2];
	pid_t pid;

	if (vt_linux() < 7)
		SKIP("Linux 6 pins memory that was never written page by page");
	for (i = 0; i < 2; i++)
		snprintf(group[i], sizeof(group[i]), "/dev/vfio/%d", vt_edu_group(i));
	ASSERT_OK(pipe2(in, O_CLOEXEC));
	ASSERT_OK(pipe2(out, O_CLOEXEC));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		dup2(out[1], 2);
		execl("/examples/client", "client", group[0], group[1], NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);

	for (i = 0; i < 300 && !client_is_ready(pid); i++)
		usleep(100000);
	ASSERT_LINE("Container at fd [0-9]+: 2 of [0-9]+ DMA entries used, 15M mapped");
	if (!vt_machine_is("amd")) {
		ASSERT_LINE("0x100000000 +6M +1 +2M +2M +r-");
		ASSERT_LINE("0x100800000 +8M +1 +2M +2M +r-");
	}
	ASSERT_LINE("0x100600000 +1M +1 +[0-9]+[KM] +- +r- super");
	ASSERT_LINE("0x100000000 M{24}k{4}\\.{4}M{32} \\(256K each\\)");
	ASSERT_LINE("Container at fd [0-9]+: 1 of [0-9]+ DMA entries used, 16M mapped");
	ASSERT_LINE("0x100600000 M{64} \\(256K each\\)");
	ASSERT_LINE("Super-container at fd [0-9]+: 16M registered 16M locked 1 regions 2 containers");

	ASSERT_EQ(write(in[1], "\n", 1), 1);
	vt_wait_exit(pid);
	read_text(out[0]);
	ASSERT_LINE("mapped with a granule:");
	ASSERT_LINE("one granule unmapped:");
	ASSERT_LINE("registered memory mapped:");
	if (!vt_machine_is("amd")) {
		ASSERT_LINE("0x100000000: 16384 KiB in pages of 2048 KiB");
		ASSERT_LINE("0x100000000: 6144 KiB in pages of 2048 KiB");
		ASSERT_LINE("0x100800000: 8192 KiB in pages of 2048 KiB");
	}
	ASSERT_LINE("0x100600000: 1024 KiB in pages of [0-9]+ KiB, super");
}

static void flags(void)
{
	struct vt_container c;
	int super;
	u8 *mem;

	vt_open_granule(&c);
	vt_need_super(&c);
	mem = vt_alloc(VT_MEM_THP, 2 * SZ_2M);
	super = vt_super_new(&c);
	ASSERT_OK(vt_super_register(super, mem, SZ_2M, VT_SUPER_RW));
	ASSERT_OK(vt_map(&c, IOVA, mem, SZ_2M, VT_RO, 0));
	ASSERT_OK(vt_map(&c, IOVA + 2 * SZ_2M, mem, SZ_2M, VT_WO, 0));
	ASSERT_OK(vt_map(&c, IOVA + 4 * SZ_2M, mem, 2 * SZ_2M, VT_RW, SZ_64K));
	ASSERT_OK(vt_map_super(&c, IOVA + 8 * SZ_2M, mem, SZ_2M, VT_RW, 0));

	ASSERT_OK(vfiostat(getpid()));
	ASSERT_LINE("Container at fd [0-9]+: 4 of [0-9]+ DMA entries used, 10M mapped");
	ASSERT_LINE("0x100000000 +2M +1 +2M +- +r-");
	ASSERT_LINE("0x100400000 +2M +1 +2M +- +-w");
	ASSERT_LINE("0x100800000 +4M +1 +[0-9]+[KM] +64K +rw");
	ASSERT_LINE("0x101000000 +2M +1 +2M +- +rw super");
	ASSERT_LINE("0x100000000 M{4}\\.{4}M{4}\\.{4}[kM]{8}\\.{8}M{4} \\(512K each\\)");
	ASSERT_LINE("Super-container at fd [0-9]+: 2M registered 2M locked 1 regions 1 containers");
}

static void sparse(void)
{
	struct vt_container c;
	u8 *mem;

	vt_open_sparse(&c);
	mem = vt_alloc(VT_MEM_THP, 2 * SZ_2M);
	ASSERT_OK(vt_sparse(&c, IOVA, mem, SZ_1G, VT_RW, SZ_2M));
	ASSERT_OK(vt_map(&c, IOVA + SZ_2M, mem + SZ_2M, SZ_2M, VT_RW, 0));
	ASSERT_OK(vfiostat(getpid()));
	ASSERT_LINE("Container at fd [0-9]+: 1 of [0-9]+ DMA entries used, 2M mapped");
	ASSERT_LINE("0x100200000 +2M +1 +2M +2M +rw sparse");

	ASSERT_OK(vt_unmap(&c, IOVA, SZ_1G, NULL));
	ASSERT_OK(vfiostat(getpid()));
	ASSERT_LINE("Container at fd [0-9]+: 1 of [0-9]+ DMA entries used, 0B mapped");
}

static void no_container(void)
{
	ASSERT_EQ(vfiostat(getpid()), 1);
	ASSERT_LINE("vfiostat: process [0-9]+ has no VFIO container");
}

VTEST_MAIN(VTEST(client), VTEST(flags), VTEST(sparse), VTEST(no_container))
