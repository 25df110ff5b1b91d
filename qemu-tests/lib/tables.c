// SPDX-License-Identifier: GPL-2.0
/* The page tables that the IOMMU walks, as its driver's debugfs shows them. */
#include <limits.h>

#include "vtest.h"

#define PTE_READ	1ull
#define PTE_WRITE	2ull
#define PTE_ADDR	0x000ffffffffff000ull

static void tables_path(struct vt_dev *dev, char *path, size_t len)
{
	snprintf(path, len, "/sys/kernel/debug/iommu/intel/%s/domain_translation_struct",
		 dev->name);
}

bool vt_tables_known(struct vt_dev *dev)
{
	char path[PATH_MAX];

	tables_path(dev, path, sizeof(path));
	return !access(path, R_OK);
}

void vt_need_tables(struct vt_dev *dev)
{
	if (!vt_tables_known(dev))
		SKIP("no page tables of %s in debugfs", dev->name);
}

/*
 * IOVA_PFN | PML5E PML4E PDPE [PDE [PTE]]: how many columns there are tells the
 * page size, the last one is the entry itself.
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

void vt_tables_read(struct vt_dev *dev, struct vt_tables *t)
{
	char path[PATH_MAX], line[256];
	struct vt_pte pte;
	size_t room = 0;
	FILE *f;

	memset(t, 0, sizeof(*t));
	tables_path(dev, path, sizeof(path));
	f = fopen(path, "r");
	if (!f)
		FAIL("%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), f)) {
		if (!parse_line(line, &pte))
			continue;
		if (t->nr == room) {
			room = room ? 2 * room : 1024;
			t->pte = realloc(t->pte, room * sizeof(*t->pte));
			ASSERT_TRUE(t->pte);
		}
		t->pte[t->nr++] = pte;
	}
	fclose(f);
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

void vt_tables_expect(const struct vt_tables *t, const struct vt_info *info, u64 iova,
		      u64 size, const void *vaddr, u32 flags, u64 granule,
		      u64 *smallest)
{
	static const u64 sizes[] = { SZ_1G, SZ_2M, SZ_4K };
	u64 nr = size / SZ_4K, at, i, want, *phys;
	const struct vt_pte *pte;

	if (!vaddr) {
		expect_hole(t, iova, size);
		return;
	}

	phys = malloc(nr * sizeof(*phys));
	ASSERT_TRUE(phys);
	vt_phys_range(vaddr, nr, phys);

	for (at = 0; at < size; at += want) {
		want = 0;
		for (i = 0; i < ARRAY_SIZE(sizes) && !want; i++)
			if (info->pgsizes & sizes[i] && (!granule || sizes[i] <= granule) &&
			    !((iova + at) % sizes[i]) && size - at >= sizes[i] &&
			    one_block(phys + at / SZ_4K, sizes[i]))
				want = sizes[i];
		if (!want)
			FAIL("page at %p is not there", (const u8 *)vaddr + at);
		pte = vt_tables_find(t, iova + at);
		if (!pte)
			FAIL("%#llx is not mapped", iova + at);
		if (pte->iova != iova + at || pte->size != want)
			FAIL("%#llx: page of %#llx at %#llx, not of %#llx",
			     iova + at, pte->size, pte->iova, want);
		if (pte->phys != phys[at / SZ_4K])
			FAIL("%#llx translates to %#llx, not to %#llx",
			     iova + at, pte->phys, phys[at / SZ_4K]);
		if (pte->read != !!(flags & VFIO_DMA_MAP_FLAG_READ) ||
		    pte->write != !!(flags & VFIO_DMA_MAP_FLAG_WRITE))
			FAIL("%#llx: read %d write %d", iova + at, pte->read, pte->write);
		if (smallest && want < *smallest)
			*smallest = want;
	}
	free(phys);
}

void vt_state(struct vt_container *c, struct vt_state *s)
{
	struct vt_tables t;
	size_t i;

	memset(s, 0, sizeof(*s));
	s->dma_avail = vt_dma_avail(c);
	s->locked = vt_locked();
	if (c->dev[0].group < 0 || !vt_tables_known(&c->dev[0]))
		return;
	vt_tables_read(&c->dev[0], &t);
	s->tables = 0xcbf29ce484222325ull;
	for (i = 0; i < t.nr; i++) {
		s->tables = (s->tables ^ t.pte[i].iova ^ t.pte[i].size) * 0x100000001b3ull;
		s->tables = (s->tables ^ t.pte[i].phys ^ t.pte[i].read ^ 2 * t.pte[i].write) *
			    0x100000001b3ull;
	}
	vt_tables_free(&t);
}

void vt_state_same(struct vt_container *c, const struct vt_state *s, const char *after)
{
	struct vt_state now;

	vt_state(c, &now);
	if (now.dma_avail != s->dma_avail)
		FAIL("%s: %u DMA entries free, before %u", after, now.dma_avail, s->dma_avail);
	if (now.locked != s->locked)
		FAIL("%s: %llu bytes locked, before %llu", after, now.locked, s->locked);
	if (now.tables != s->tables)
		FAIL("%s: the page tables have changed", after);
}
