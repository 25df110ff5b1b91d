// SPDX-License-Identifier: GPL-2.0
/*
 * Reads the page tables that the IOMMU walks. On Intel, debugfs shows them. On AMD, debugfs
 * shows only the entry of the device table; the tables behind it are read from physical
 * memory. On ARM all is read from physical memory, beginning at the SMMU's registers.
 */
#define _FILE_OFFSET_BITS 64
#include <fcntl.h>
#include <limits.h>

#include "vtest.h"

static void add_pte(struct vt_tables *t, const struct vt_pte *pte)
{
	/* Double the room whenever nr is a power of two. */
	if (!t->nr || (t->nr >= 1024 && !(t->nr & (t->nr - 1)))) {
		t->pte = realloc(t->pte, (t->nr ? 2 * t->nr : 1024) * sizeof(*t->pte));
		ASSERT_TRUE(t->pte);
	}
	t->pte[t->nr++] = *pte;
}

/* ---- Intel ---- */

#define PTE_READ	1ull
#define PTE_WRITE	2ull
#define PTE_ADDR	0x000ffffffffff000ull

static void intel_path(struct vt_dev *dev, char *path, size_t len)
{
	snprintf(path, len, "/sys/kernel/debug/iommu/intel/%s/domain_translation_struct",
		 dev->name);
}

/*
 * IOVA_PFN | PML5E PML4E PDPE [PDE [PTE]]: the number of columns gives the page size. The
 * last column is the entry.
 */
static bool parse_line(const char *line, struct vt_pte *pte)
{
	static const u64 sizes[] = { SZ_1G, SZ_2M, SZ_4K };
	u64 pfn, e[5];
	int n;

	n = sscanf(line, "0x%llx | 0x%llx 0x%llx 0x%llx 0x%llx 0x%llx", &pfn, &e[0], &e[1], &e[2],
		   &e[3], &e[4]);
	if (n < 4)
		return false;
	pte->iova = pfn * SZ_4K;
	pte->size = sizes[n - 4];
	pte->phys = e[n - 2] & PTE_ADDR & ~(pte->size - 1);
	pte->read = e[n - 2] & PTE_READ;
	pte->write = e[n - 2] & PTE_WRITE;
	return true;
}

static void intel_read(struct vt_dev *dev, struct vt_tables *t)
{
	char path[PATH_MAX], line[256];
	struct vt_pte pte;
	FILE *f;

	intel_path(dev, path, sizeof(path));
	f = fopen(path, "r");
	if (!f)
		FAIL("%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), f))
		if (parse_line(line, &pte))
			add_pte(t, &pte);
	fclose(f);
}

/* ---- AMD: "I/O Page Tables for Host Translations" in its IOMMU's specification ---- */

#define AMD		"/sys/kernel/debug/iommu/amd"
#define AMD_VALID	3ull			/* device table: V, TV */
#define AMD_GV		(1ull << 55)		/* device table: guest tables */
#define AMD_PR		1ull
#define AMD_USED	(3ull << 5)		/* accessed, dirty */
#define AMD_LEVEL(e)	((e) >> 9 & 7)		/* of the table that it points to */
#define AMD_ANY_SIZE	7
#define AMD_READ	(1ull << 61)
#define AMD_WRITE	(1ull << 62)
#define AMD_ENTRIES	512

/* The first quadword of the device's entry in the device table */
static bool amd_device(struct vt_dev *dev, u64 *dte)
{
	char buf[512], *at;

	if (vt_write_file(AMD "/devid", dev->name) ||
	    vt_read_file(AMD "/devtbl", buf, sizeof(buf)) <= 0)
		return false;
	at = strstr(buf, dev->name);
	return at && sscanf(at + strlen(dev->name), " %*x %*x %*x %llx", dte) == 1 &&
	       (*dte & AMD_VALID) == AMD_VALID && !(*dte & AMD_GV);
}

/*
 * Reads one table. An entry of level 0 maps the size of its place in the tables. An entry of
 * level 7 maps another power of two: the ones at the end of its address tell which, and the
 * entry is repeated as often as needed.
 */
static void amd_walk(int mem, u64 dir, u64 iova, struct vt_tables *t)
{
	u64 e[AMD_ENTRIES], size, span = SZ_4K << 9 * (AMD_LEVEL(dir) - 1);
	struct vt_pte pte;
	unsigned int i, k;

	if (pread(mem, e, sizeof(e), dir & PTE_ADDR) != sizeof(e))
		FAIL("/dev/mem at %#llx: %s", dir & PTE_ADDR, strerror(errno));
	for (i = 0; i < AMD_ENTRIES; i += size / span) {
		size = span;
		if (!(e[i] & AMD_PR))
			continue;
		/* The tables above must permit it, too. */
		pte.read = e[i] & dir & AMD_READ;
		pte.write = e[i] & dir & AMD_WRITE;
		pte.iova = iova + i * span;
		if (AMD_LEVEL(e[i]) && AMD_LEVEL(e[i]) != AMD_ANY_SIZE) {
			if (AMD_LEVEL(e[i]) >= AMD_LEVEL(dir))
				FAIL("%#llx: entry %#llx in a table of level %llu", pte.iova,
				     e[i], AMD_LEVEL(dir));
			amd_walk(mem, e[i] & (dir | ~(AMD_READ | AMD_WRITE)), pte.iova, t);
			continue;
		}
		if (AMD_LEVEL(e[i]) == AMD_ANY_SIZE)
			for (size = SZ_8K; e[i] & size / 2; size *= 2)
				;
		if (size < span || pte.iova % size || size / span > AMD_ENTRIES - i)
			FAIL("%#llx: entry %#llx in a table of level %llu", pte.iova, e[i],
			     AMD_LEVEL(dir));
		for (k = 1; k < size / span; k++)
			if ((e[i] ^ e[i + k]) & ~AMD_USED)
				FAIL("%#llx: one page, but entries %#llx and %#llx", pte.iova,
				     e[i], e[i + k]);
		pte.size = size;
		pte.phys = e[i] & PTE_ADDR & ~(size - 1);
		add_pte(t, &pte);
	}
}

static void amd_read(struct vt_dev *dev, struct vt_tables *t)
{
	u64 dte;
	int mem;

	if (!amd_device(dev, &dte))
		FAIL("%s is not in " AMD "/devtbl", dev->name);
	if (!AMD_LEVEL(dte))
		return;
	mem = open("/dev/mem", O_RDONLY | O_CLOEXEC);
	if (mem < 0)
		FAIL("/dev/mem: %s", strerror(errno));
	amd_walk(mem, dte, 0, t);
	close(mem);
}

/* ---- ARM: Arm System Memory Management Unit Architecture Specification, SMMUv3 ---- */

#define SMMU		0x09050000	/* on QEMU's virt */
#define SMMU_STRTAB	0x80		/* two registers of 64 and 32 bits */
#define SMMU_ADDR	0x000fffffffffffc0ull
#define SMMU_TWO_LEVEL	1
#define STE_VALID(e)	((e) & 1)
#define STE_CONFIG(e)	((e) >> 1 & 7)
#define STE_STAGE1	5
#define STE_WORDS	8
#define CD_T0SZ(e)	((e) & 0x3f)
#define CD_VALID(e)	((e) >> 31 & 1)
#define CD_ADDR		0x000ffffffffffff0ull
#define LPAE_VALID(e)	((e) & 1)
#define LPAE_TABLE(e)	((e) >> 1 & 1)		/* at the last level, a page */
#define LPAE_USER(e)	((e) >> 6 & 1)
#define LPAE_RDONLY(e)	((e) >> 7 & 1)
#define LPAE_ADDR	0x0000fffffffff000ull
#define LPAE_ENTRIES	512

static void read_phys(int mem, void *to, size_t len, u64 phys)
{
	if (pread(mem, to, len, phys) != (ssize_t)len)
		FAIL("/dev/mem at %#llx: %s", phys, strerror(errno));
}

/* The first two words of the context descriptor of the device, which is in a container */
static void smmu_context(int mem, unsigned int sid, u64 cd[2])
{
	unsigned int split;
	volatile u8 *regs;
	u64 base, ste;
	u32 cfg;

	regs = mmap(NULL, SZ_4K, PROT_READ, MAP_SHARED, mem, SMMU);
	if (regs == MAP_FAILED)
		FAIL("/dev/mem at %#x: %s", SMMU, strerror(errno));
	base = *(volatile u64 *)(regs + SMMU_STRTAB) & SMMU_ADDR;
	cfg = *(volatile u32 *)(regs + SMMU_STRTAB + 8);
	munmap((void *)regs, SZ_4K);

	if ((cfg >> 16 & 3) == SMMU_TWO_LEVEL) {
		split = cfg >> 6 & 0x1f;
		read_phys(mem, &base, sizeof(base), base + (sid >> split) * sizeof(base));
		base &= SMMU_ADDR;
		sid &= (1u << split) - 1;
	}
	read_phys(mem, &ste, sizeof(ste), base + sid * STE_WORDS * sizeof(ste));
	if (!STE_VALID(ste) || STE_CONFIG(ste) != STE_STAGE1)
		FAIL("stream table entry %#llx", ste);
	read_phys(mem, cd, 2 * sizeof(*cd), ste & SMMU_ADDR);
	if (!CD_VALID(cd[0]))
		FAIL("context descriptor %#llx", cd[0]);
}

static void smmu_walk(int mem, u64 table, int level, u64 iova, struct vt_tables *t)
{
	u64 e[LPAE_ENTRIES], span = SZ_4K << 9 * (3 - level);
	struct vt_pte pte;
	unsigned int i;

	read_phys(mem, e, sizeof(e), table);
	for (i = 0; i < LPAE_ENTRIES; i++) {
		if (!LPAE_VALID(e[i]))
			continue;
		pte.iova = iova + i * span;
		if (level < 3 && LPAE_TABLE(e[i])) {
			smmu_walk(mem, e[i] & LPAE_ADDR, level + 1, pte.iova, t);
			continue;
		}
		if (level == 0 || (level == 3 && !LPAE_TABLE(e[i])))
			FAIL("%#llx: entry %#llx in a table of level %d", pte.iova, e[i], level);
		pte.size = span;
		pte.phys = e[i] & LPAE_ADDR & ~(span - 1);
		pte.read = LPAE_USER(e[i]);
		pte.write = LPAE_USER(e[i]) && !LPAE_RDONLY(e[i]);
		add_pte(t, &pte);
	}
}

/* Opens /dev/mem and reads the context descriptor; -1 if the device is behind no SMMU. */
static int smmu_open(struct vt_dev *dev, u64 cd[2])
{
	unsigned int bus, slot, fn;
	int mem;

	if (!vt_machine_is("smmu") ||
	    sscanf(dev->name, "%*x:%x:%x.%x", &bus, &slot, &fn) != 3)
		return -1;
	mem = open("/dev/mem", O_RDONLY | O_CLOEXEC);
	if (mem < 0)
		FAIL("/dev/mem: %s", strerror(errno));
	smmu_context(mem, bus << 8 | slot << 3 | fn, cd);
	return mem;
}

static bool smmu_root(struct vt_dev *dev, u64 *root)
{
	u64 cd[2];
	int mem = smmu_open(dev, cd);

	if (mem < 0)
		return false;
	close(mem);
	*root = cd[1] & CD_ADDR;
	return true;
}

static void smmu_read(struct vt_dev *dev, struct vt_tables *t)
{
	u64 cd[2];
	int mem = smmu_open(dev, cd);

	if (mem < 0)
		FAIL("%s is not behind the SMMU", dev->name);
	/* An address has 64 - T0SZ bits: 12 for the page, 9 for each level */
	smmu_walk(mem, cd[1] & CD_ADDR, 4 - (64 - CD_T0SZ(cd[0]) - 12 + 8) / 9, 0, t);
	close(mem);
}

/* ---- Any ---- */

static bool intel_known(struct vt_dev *dev)
{
	char path[PATH_MAX];

	intel_path(dev, path, sizeof(path));
	return !access(path, R_OK);
}

bool vt_tables_known(struct vt_dev *dev)
{
	u64 e;

	return intel_known(dev) || smmu_root(dev, &e) ||
	       (!access("/dev/mem", R_OK) && amd_device(dev, &e));
}

bool vt_pgsize_unknown(void)
{
	return vt_machine_is("virtio") || vt_kernel_is("debian");
}

bool vt_write_only(void)
{
	return vt_linux() > 6 && !vt_machine_is("smmu") && !vt_machine_is("flts");
}

void vt_need_tables(struct vt_dev *dev)
{
	if (!vt_tables_known(dev))
		SKIP("no page tables of %s to be seen", dev->name);
}

void vt_tables_read(struct vt_dev *dev, struct vt_tables *t)
{
	memset(t, 0, sizeof(*t));
	if (intel_known(dev))
		intel_read(dev, t);
	else if (vt_machine_is("smmu"))
		smmu_read(dev, t);
	else
		amd_read(dev, t);
}

u64 vt_tables_root(struct vt_dev *dev)
{
	char path[PATH_MAX], buf[4096], *at;
	u64 dte, root;

	if (smmu_root(dev, &root))
		return root;
	if (!intel_known(dev)) {
		ASSERT_TRUE(amd_device(dev, &dte));
		return dte & PTE_ADDR;
	}
	intel_path(dev, path, sizeof(path));
	ASSERT_GT(vt_read_file(path, buf, sizeof(buf)), 0);
	at = strchr(buf, '@');
	ASSERT_TRUE(at);
	return strtoull(at + 1, NULL, 16);
}

void vt_tables_free(struct vt_tables *t)
{
	free(t->pte);
	memset(t, 0, sizeof(*t));
}

const struct vt_pte *vt_tables_find(const struct vt_tables *t, u64 iova)
{
	size_t lo = 0, hi = t->nr, mid;

	while (lo < hi) {
		mid = lo + (hi - lo) / 2;
		if (iova < t->pte[mid].iova)
			hi = mid;
		else if (iova - t->pte[mid].iova >= t->pte[mid].size)
			lo = mid + 1;
		else
			return &t->pte[mid];
	}
	return NULL;
}

u64 vt_pgsize_at(struct vt_dev *dev, u64 iova)
{
	const struct vt_pte *pte;
	struct vt_tables t;
	u64 size;

	vt_tables_read(dev, &t);
	pte = vt_tables_find(&t, iova);
	size = pte ? pte->size : 0;
	vt_tables_free(&t);
	return size;
}

/* No test has memory for a larger page. */
#define LARGEST	(4 * SZ_1G)

/* Is [p, p + size) one aligned physical block? */
static bool one_block(const u64 *phys, u64 size)
{
	u64 i;

	if (!phys[0] || phys[0] % size)
		return false;
	for (i = 1; i < size / SZ_4K; i++)
		if (phys[i] != phys[0] + i * SZ_4K)
			return false;
	return true;
}

static void expect_hole(const struct vt_tables *t, u64 iova, u64 size)
{
	size_t i;

	for (i = 0; i < t->nr; i++)
		if (t->pte[i].iova < iova + size && iova < t->pte[i].iova + t->pte[i].size)
			FAIL("%#llx is still mapped, page size %#llx",
			     t->pte[i].iova, t->pte[i].size);
}

/* What is left of a page beside a piece has a size for which an entry stands by itself. */
static u64 cut_down(u64 size)
{
	return size >= SZ_1G ? SZ_1G : size >= SZ_2M ? SZ_2M : SZ_4K;
}

void vt_tables_expect(const struct vt_tables *t, const struct vt_info *info, u64 iova,
		      u64 size, const void *vaddr, u32 flags, u64 granule,
		      u64 *smallest)
{
	u64 nr = size / SZ_4K, at, want, *phys;
	const struct vt_pte *pte;

	if (!vaddr) {
		expect_hole(t, iova, size);
		return;
	}

	phys = malloc(nr * sizeof(*phys));
	ASSERT_TRUE(phys);
	vt_phys_range(vaddr, nr, phys);

	for (at = 0; at < size; at += want) {
		for (want = LARGEST; want >= SZ_4K; want /= 2)
			if (info->pgsizes & want && (!granule || want <= granule) &&
			    !((iova + at) % want) && size - at >= want &&
			    one_block(phys + at / SZ_4K, want))
				break;
		if (want < SZ_4K)
			FAIL("page at %p is not there", (const u8 *)vaddr + at);
		pte = vt_tables_find(t, iova + at);
		if (!pte)
			FAIL("%#llx is not mapped", iova + at);
		if (granule && vt_cuts() ? pte->size < cut_down(want) :
					   pte->iova != iova + at || pte->size != want)
			FAIL("%#llx: page of %#llx at %#llx, not of %#llx",
			     iova + at, pte->size, pte->iova, want);
		if (pte->phys + (iova + at - pte->iova) != phys[at / SZ_4K])
			FAIL("%#llx translates to %#llx, not to %#llx", iova + at,
			     pte->phys + (iova + at - pte->iova), phys[at / SZ_4K]);
		if ((pte->read != !!(flags & VFIO_DMA_MAP_FLAG_READ) &&
		     (!pte->read || vt_write_only())) ||
		    pte->write != !!(flags & VFIO_DMA_MAP_FLAG_WRITE))
			FAIL("%#llx: read %d write %d", iova + at, pte->read, pte->write);
		if (smallest && pte->size < *smallest)
			*smallest = pte->size;
	}
	free(phys);
}

void vt_expect_tables(struct vt_dev *dev, u64 iova, u64 size, const void *mem, u32 flags,
		      u64 granule)
{
	struct vt_info info;
	struct vt_tables t;

	if (!vt_tables_known(dev))
		return;
	vt_info(dev->c, &info);
	vt_tables_read(dev, &t);
	vt_tables_expect(&t, &info, iova, size, mem, flags, granule, NULL);
	vt_tables_free(&t);
}
