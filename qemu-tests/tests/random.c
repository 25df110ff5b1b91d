// SPDX-License-Identifier: GPL-2.0
/*
 * Usage: random SEED OPS
 *
 * Makes OPS random calls and compares them with a model, which knows to which mapping each
 * page of IOVA belongs. The model predicts each result, the locked memory and the free DMA
 * entries. Every few calls VFIO_IOMMU_DMA_EXTENTS must tell what the model knows. Now and
 * then the IOMMU's page tables must agree with it page by page, and a device does DMA. A
 * second domain joins and leaves, and so does a mediated device, which pins, reads and
 * writes. The same SEED makes the same calls; SEED 0 takes one from the clock.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <time.h>

#include "testdev.h"

#define PAGE		SZ_4K
#define POOL_SIZE	(4 * SZ_2M)
#define POOL_PAGES	(POOL_SIZE / PAGE)
#define NR_WINDOWS	5
#define MAIN_SIZE	(64 * SZ_1M)
#define FAR_SIZE	SZ_2M
#define MAX_PAGES	((MAIN_SIZE + (NR_WINDOWS - 1) * FAR_SIZE) / PAGE)
#define NR_REGIONS	12
#define NR_TRACE	12
#define DMA_LAST	((1ull << 48) - 1)	/* what the edu device can address */

static u64 seed, rng, nr_ops, op;

/* Memory to map. alias shows the same pages at another address, or is NULL. */
static struct pool {
	enum vt_mem kind;
	u8 *base, *alias;
	u64 phys[POOL_PAGES];
} pool[4];
static unsigned int nr_pools;

/* Where mappings go. */
static struct window {
	u64 iova, size;
	u32 first;		/* index of its first page in page[] */
} window[NR_WINDOWS];

static struct map {
	u64 iova, size, granule;	/* granule 0: whole or not at all */
	u32 flags;
	u32 live;			/* pages */
	struct pool *pool;
	u64 offset;			/* of iova in the pool */
	u8 *vaddr;			/* of iova, as last given */
	bool invalid;			/* vaddr is */
	struct region *region;		/* of the super-container, or NULL */
	bool sparse;			/* there while nothing of it is live */
	u32 at;				/* in maps[] */
} map_of[MAX_PAGES + 1];

static struct page {
	u32 map;			/* in map_of[]; 0: a hole */
	u32 pins;			/* of the mediated device */
	u32 sparse;			/* the sparse mapping whose range it is in, or 0 */
	u8 *last;			/* the memory that was mapped here last */
} page[MAX_PAGES];

/* Registered with the super-container; size 0: a free slot. */
static struct region {
	struct pool *pool;
	u64 offset, size;
	u32 flags, users;
} region[NR_REGIONS];

static int super_fd = -1;
static bool attached;
static u64 super_pages;			/* of live_pages */
static u32 nr_super_maps;
static u64 super_made;

static u32 free_map[MAX_PAGES], nr_free_maps;
static u32 maps[MAX_PAGES], nr_maps;	/* in use, in no order */
static u64 live_pages, limit;
static bool tracking;
static struct vt_container c;
static struct vt_dev *edu;
static struct vt_dev *second;		/* in a domain of its own, or NULL */
static struct vt_dev *mediated;		/* or NULL */
static u64 nr_pins, seconds_come, mediated_come;
static bool has_extents, tells_pgsize, has_sparse;
static u64 sparse_made, sparse_filled, sparse_ended;
static char trace[NR_TRACE][160];
static u64 counts[16];

static u64 rnd(void)
{
	u64 z = (rng += 0x9e3779b97f4a7c15ull);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static u64 below(u64 n)
{
	return rnd() % n;
}

static bool percent(unsigned int p)
{
	return below(100) < p;
}

/* What this call does, to be printed if it fails */
__attribute__((format(printf, 1, 2)))
static void note(const char *fmt, ...)
{
	char *line = trace[op % NR_TRACE];
	va_list ap;
	int n;

	n = snprintf(line, sizeof(trace[0]), "op %llu: ", op);
	va_start(ap, fmt);
	vsnprintf(line + n, sizeof(trace[0]) - n, fmt, ap);
	va_end(ap);
}

static void show_trace(void)
{
	u64 i;

	for (i = op < NR_TRACE ? 0 : op - NR_TRACE + 1; i <= op; i++)
		vt_diag("%s", trace[i % NR_TRACE]);
	vt_diag("again: random %llu %llu", seed, op + 1);
}

#define CHECK(x, fmt, ...) do {				\
	if (!(x)) {					\
		show_trace();				\
		FAIL("%s: " fmt, #x, ##__VA_ARGS__);	\
	}						\
} while (0)

/* ---- The model ---- */

static u64 page_iova(u32 i)
{
	struct window *w = &window[NR_WINDOWS - 1];

	while (i < w->first)
		w--;
	return w->iova + (i - w->first) * PAGE;
}

/* The page at iova, or the first one behind it. */
static u32 page_from(u64 iova)
{
	struct window *w;

	for (w = window; w < window + NR_WINDOWS; w++) {
		if (iova < w->iova)
			return w->first;
		if (iova - w->iova < w->size)
			return w->first + (iova - w->iova) / PAGE;
	}
	return MAX_PAGES;
}

/* One behind the last page of [iova, iova + size). */
static u32 page_to(u64 iova, u64 size)
{
	u64 last = iova + size - 1;
	u32 i = page_from(last);

	return i < MAX_PAGES && page_iova(i) <= last ? i + 1 : i;
}

static struct map *map_at(u64 iova)
{
	u32 i = page_from(iova);

	if (i == MAX_PAGES || page_iova(i) != ALIGN_DOWN(iova, PAGE) || !page[i].map)
		return NULL;
	return &map_of[page[i].map];
}

static u8 *memory_of(const struct map *m, u64 iova)
{
	return m->pool->base + m->offset + (iova - m->iova);
}

static struct map *new_map(void)
{
	u32 nr = free_map[--nr_free_maps];

	map_of[nr].at = nr_maps;
	maps[nr_maps++] = nr;
	return &map_of[nr];
}

static void drop_map(struct map *m)
{
	maps[m->at] = maps[--nr_maps];
	map_of[maps[m->at]].at = m->at;
	free_map[nr_free_maps++] = m - map_of;
}

static void drop_page(u32 i)
{
	struct map *m = &map_of[page[i].map];

	page[i].map = 0;
	nr_pins -= page[i].pins;
	page[i].pins = 0;
	live_pages--;
	if (m->region)
		super_pages--;
	if (--m->live || m->sparse)
		return;
	if (m->region) {
		m->region->users--;
		nr_super_maps--;
	}
	drop_map(m);
}

/* Does either end of [iova, iova + size) cut what must stay whole? */
static bool cuts(u64 iova, u64 size)
{
	struct map *m = map_at(iova);
	u64 end = iova + size;

	if (m && (m->granule ? iova % m->granule : iova != m->iova))
		return true;
	m = map_at(end - 1);
	return m && (m->granule ? end % m->granule : end != m->iova + m->size);
}

static u64 drop_range(u64 iova, u64 size)
{
	u32 i, end = page_to(iova, size);
	u64 n = 0;

	for (i = page_from(iova); i < end; i++) {
		if (!page[i].map)
			continue;
		drop_page(i);
		n++;
	}
	return n * PAGE;
}

/* Walk the sparse mappings that have a page in [i_, end), which i is left in. */
#define for_each_sparse(m, i, first, end)					\
	for (i = (first); i < (end); i++)					\
		if (page[i].sparse && (i == (first) ||				\
				       page[i].sparse != page[i - 1].sparse) &&	\
		    (m = &map_of[page[i].sparse]))

/* Does [iova, iova + size) hold some of a sparse mapping, but not all? */
static bool cuts_sparse(u64 iova, u64 size)
{
	u32 i, first = page_from(iova), end = page_to(iova, size);
	struct map *m;

	for_each_sparse(m, i, first, end)
		if (m->iova < iova || m->iova + (m->size - 1) > iova + (size - 1))
			return true;
	return false;
}

static void end_sparse(u64 iova, u64 size)
{
	u32 i, k, first = page_from(iova), end = page_to(iova, size);
	struct map *m;

	for_each_sparse(m, i, first, end) {
		drop_map(m);
		sparse_ended++;
		for (k = i; k < i + m->size / PAGE; k++)
			page[k].sparse = 0;
	}
}

static struct region *region_over(const struct pool *p, u64 offset, u64 size)
{
	struct region *r;

	for (r = region; r < region + NR_REGIONS; r++)
		if (r->size && r->pool == p && r->offset < offset + size &&
		    offset < r->offset + r->size)
			return r;
	return NULL;
}

static u64 registered(void)
{
	struct region *r;
	u64 size = 0;

	for (r = region; r < region + NR_REGIONS; r++)
		size += r->size;
	return size;
}

/* What a map of [offset, offset + size) of a pool's registered memory must return. */
static int map_super_result(const struct pool *p, u64 offset, u64 size, u32 flags)
{
	struct region *r = region_over(p, offset, PAGE);

	if (!r || offset + size > r->offset + r->size)
		return -ENOENT;
	return flags & ~r->flags ? -EPERM : 0;
}

/* What a map must return, once its arguments are right in themselves. */
static int map_result(u64 iova, const u8 *vaddr, u64 size, u32 flags, u64 granule)
{
	u32 i, first = page_from(iova), end = page_to(iova, size);
	bool sparse = flags & VFIO_DMA_MAP_FLAG_SPARSE, taken = false;
	const struct map *m = NULL;

	for (i = first; i < end; i++) {
		taken |= !!page[i].map;
		if (page[i].sparse)
			m = &map_of[page[i].sparse];
	}
	if (flags & VFIO_DMA_MAP_FLAG_SUPER && !attached)
		return -EINVAL;
	if (!m)
		return taken ? -EEXIST : 0;
	if (sparse || iova < m->iova || iova + (size - 1) > m->iova + (m->size - 1))
		return -EEXIST;
	if ((flags & (VT_RW | VFIO_DMA_MAP_FLAG_SUPER)) != m->flags ||
	    vaddr != m->vaddr + (iova - m->iova) || (iova | size) % m->granule ||
	    (granule && granule != m->granule))
		return -EINVAL;
	if (taken)
		return -EEXIST;
	return m->invalid ? -EINVAL : 0;
}

/* ---- The choices ---- */

static struct window *any_window(void)
{
	return percent(80) ? window : &window[1 + below(NR_WINDOWS - 1)];
}

static struct map *any_map(void)
{
	return nr_maps ? &map_of[maps[below(nr_maps)]] : NULL;
}

/* A page of a mapping that is still there; of a sparse one that is empty, any. */
static u64 any_live(const struct map *m)
{
	u32 first = page_from(m->iova), n = m->size / PAGE, i, at = below(n);

	if (m->sparse && !m->live)
		return page_iova(first + at);
	for (i = 0; i < n; i++, at++)
		if (page[first + at % n].map == m - map_of)
			return page_iova(first + at % n);
	CHECK(0, "the model has a mapping with nothing live");
	return 0;
}

static u64 any_granule(void)
{
	switch (below(20)) {
	case 0 ... 5:
		return 0;
	case 6 ... 9:
		return SZ_4K;
	case 10 ... 13:
		return SZ_4K << below(5);
	case 14 ... 15:
		return SZ_4K << below(9);
	case 16 ... 18:
		return SZ_2M;
	default:
		return SZ_2M << below(3);
	}
}

static u64 few(unsigned int max_log)
{
	return 1 + below(1ull << below(max_log + 1));
}

/* A range of pieces of one mapping, or any range */
static void any_range(u64 *iova, u64 *size)
{
	struct map *m = any_map();
	struct window *w;

	if (m && percent(75)) {
		u64 unit = m->granule ? m->granule : m->size;

		*iova = m->granule ? ALIGN_DOWN(any_live(m), unit) : m->iova;
		*size = unit * few(3);
		if (*size > m->iova + m->size - *iova)
			*size = m->iova + m->size - *iova;
		return;
	}
	w = any_window();
	*iova = w->iova + below(w->size / PAGE) * PAGE;
	if (percent(50))
		*iova = ALIGN_DOWN(*iova, SZ_64K);
	*size = few(11) * PAGE;
	if (percent(50))
		*size = ALIGN_UP(*size, SZ_64K);
	if (*size > w->iova + w->size - *iova)
		*size = w->iova + w->size - *iova;
	/* From one window into another, with the unused space between them */
	if (w > window && w < window + NR_WINDOWS - 1 && percent(30))
		*size = w[1].iova + below(w[1].size / PAGE) * PAGE + PAGE - *iova;
}

static struct region *any_region(void)
{
	struct region *r = &region[below(NR_REGIONS)];

	return r->size ? r : NULL;
}

/* ---- The operations ---- */

static void bad_map(u64 iova, u8 *vaddr, u64 size, u64 granule)
{
	u32 flags = VT_RW | VFIO_DMA_MAP_FLAG_GRANULE;
	u32 argsz = sizeof(struct vfio_iommu_type1_dma_map);
	u64 va = (uintptr_t)vaddr;
	bool wraps;
	int ret, want;

	if (granule < SZ_8K)
		granule = SZ_8K;
	iova = ALIGN_DOWN(iova, granule);
	size = granule;
	switch (below(9)) {
	case 0:
		granule = 3 * PAGE;
		size = 6 * PAGE;
		break;
	case 1:
		granule = PAGE / 2;
		break;
	case 2:
		granule = 0;
		break;
	case 3:
		iova += PAGE;
		break;
	case 4:
		size += PAGE;
		break;
	case 5:
		size = 0;
		break;
	case 6:
		flags |= 1u << 31;
		break;
	case 7:
		argsz -= 8;
		break;
	case 8:
		va += 512;
		break;
	}
	note("bad map %#llx + %#llx granule %#llx flags %#x argsz %u", iova, size, granule,
	     flags, argsz);
	/* The kernel checks the struct first, then where the range ends. */
	wraps = !(flags >> 31) && argsz == sizeof(struct vfio_iommu_type1_dma_map) &&
		size && iova + size - 1 < iova;
	want = wraps ? -EOVERFLOW : -EINVAL;
	ret = vt_map_raw(&c, argsz, flags, iova, va, size, granule);
	CHECK(ret == want, "%d, not %d", ret, want);
}

static void filled(u64 iova, u64 size)
{
	u32 i = page_from(iova), end = page_to(iova, size);
	struct map *m = &map_of[page[i].sparse];

	m->live += size / PAGE;
	live_pages += size / PAGE;
	sparse_filled++;
	for (; i < end; i++) {
		page[i].map = m - map_of;
		page[i].last = memory_of(m, page_iova(i));
	}
}

static void op_map(void)
{
	static const u32 prot[] = { VT_RW, VT_RW, VT_RO, VT_WO };
	u64 granule = any_granule(), unit = granule ? granule : PAGE, iova, size, offset;
	struct pool *p = &pool[below(nr_pools)];
	u32 flags = prot[below(4)], i, end;
	struct window *w = any_window();
	bool sparse = has_sparse && granule && percent(10);
	bool super = super_fd >= 0 && !sparse && percent(25);
	struct region *from = super && percent(85) ? any_region() : NULL;
	struct map *m;
	int ret, want, tries;

	size = granule ? unit * few(sparse ? 8 : 5) : unit * few(10);
	if (size > POOL_SIZE)
		size = ALIGN_DOWN(POOL_SIZE, unit);
	if (from && from->size < unit)
		from = NULL;
	if (from && size > from->size)
		size = ALIGN_DOWN(from->size, unit);
	if (size > w->size)
		size = unit;
	if (size > w->size)
		return;
	for (tries = 0; tries < 4; tries++) {
		iova = ALIGN_UP(w->iova + below((w->size - size) / PAGE + 1) * PAGE, unit);
		if (iova + size - w->iova > w->size)
			iova = ALIGN_DOWN(w->iova + w->size - size, unit);
		if (!map_at(iova))
			break;
	}
	if (iova < w->iova)
		return;
	offset = below((POOL_SIZE - size) / PAGE + 1) * PAGE;
	/* Superpages need vaddr and IOVA that are congruent. */
	if (percent(60)) {
		offset = ALIGN_DOWN(offset, SZ_2M) + iova % SZ_2M;
		if (offset + size > POOL_SIZE)
			offset = iova % SZ_2M;
		if (offset + size > POOL_SIZE)
			offset = POOL_SIZE - size;
	}
	if (percent(3)) {
		bad_map(iova, p->base, size, granule);
		return;
	}
	if (from) {
		p = from->pool;
		if (offset < from->offset || offset + size > from->offset + from->size)
			offset = from->offset + below((from->size - size) / PAGE + 1) * PAGE;
	}

	note("map %#llx + %#llx granule %#llx flags %#x %s%s + %#llx", iova, size, granule,
	     flags, super ? "registered " : sparse ? "sparse " : "", vt_mem_name(p->kind), offset);
	want = map_result(iova, p->base + offset, size,
			  flags | (super ? VFIO_DMA_MAP_FLAG_SUPER : 0) |
			  (sparse ? VFIO_DMA_MAP_FLAG_SPARSE : 0), granule);
	if (super && !want)
		want = map_super_result(p, offset, size, flags);
	if (super)
		ret = vt_map_super(&c, iova, p->base + offset, size, flags, granule);
	else if (sparse)
		ret = vt_sparse(&c, iova, p->base + offset, size, flags, granule);
	else
		ret = vt_map(&c, iova, p->base + offset, size, flags, granule);
	end = page_to(iova, size);
	CHECK(ret == want, "%d, not %d", ret, want);
	if (ret)
		return;
	/* By chance just what a sparse mapping is filled with. */
	if (page[page_from(iova)].sparse) {
		filled(iova, size);
		return;
	}

	m = new_map();
	m->iova = iova;
	m->size = size;
	m->granule = granule;
	m->flags = flags;
	m->live = sparse ? 0 : size / PAGE;
	m->sparse = sparse;
	m->pool = p;
	m->offset = offset;
	m->vaddr = p->base + offset;
	m->invalid = false;
	m->region = super ? region_over(p, offset, size) : NULL;
	if (sparse) {
		sparse_made++;
		for (i = page_from(iova); i < end; i++)
			page[i].sparse = m - map_of;
		return;
	}
	for (i = page_from(iova); i < end; i++) {
		page[i].map = m - map_of;
		page[i].last = memory_of(m, page_iova(i));
	}
	live_pages += m->live;
	if (super) {
		super_made++;
		super_pages += m->live;
		nr_super_maps++;
		m->region->users++;
	}
}

/* A sparse mapping, if there is one near. */
static struct map *any_sparse(void)
{
	struct map *m = any_map();
	u32 i;

	for (i = m ? m->at : 0; i < nr_maps; i++)
		if (map_of[maps[i]].sparse)
			return &map_of[maps[i]];
	return NULL;
}

/* Granules of a sparse mapping; now and then some that are filled, or beyond its end. */
static void op_fill(void)
{
	struct map *m = any_sparse();
	u64 iova, size, granule = 0;
	u32 flags;
	u8 *vaddr;
	int ret, want;

	if (!m)
		return;
	iova = m->iova + below(m->size / m->granule) * m->granule;
	size = few(4) * m->granule;
	if (iova + (size - 1) > m->iova + (m->size - 1) && !percent(5))
		size = m->iova + m->size - iova;
	if (iova + (size - 1) < iova)
		return;
	flags = m->flags;
	vaddr = m->vaddr + (iova - m->iova);
	if (percent(30))
		granule = m->granule;
	switch (below(60)) {
	case 0:
		flags ^= percent(50) ? VT_RO : VT_WO;
		if (!flags)
			flags = VT_RW;
		break;
	case 1:
		vaddr += percent(50) ? PAGE : -PAGE;
		break;
	case 2:
		size = ALIGN_UP(size / 2, PAGE);
		granule = 0;
		break;
	case 3:
		iova += PAGE;
		vaddr += PAGE;
		granule = 0;
		break;
	case 4:
		granule = PAGE;
		break;
	case 5:
		flags |= VFIO_DMA_MAP_FLAG_SUPER;
		break;
	case 6:
		flags |= VFIO_DMA_MAP_FLAG_SPARSE;
		granule = m->granule;
		break;
	}
	/* Behind its last page it would be a mapping of its own. */
	if (iova + (size - 1) < iova || iova - m->iova >= m->size)
		return;
	note("fill %#llx + %#llx granule %#llx flags %#x vaddr %p of %#llx + %#llx", iova, size,
	     granule, flags, vaddr, m->iova, m->size);
	want = map_result(iova, vaddr, size, flags, granule);
	ret = vt_map(&c, iova, vaddr, size, flags, granule);
	CHECK(ret == want, "%d, not %d", ret, want);
	if (!ret)
		filled(iova, size);
}

/* Often all of m, if there is one; else any range. */
static void all_or_any_range(const struct map *m, u64 *iova, u64 *size)
{
	if (m && percent(60)) {
		*iova = m->iova;
		*size = m->size;
	} else {
		any_range(iova, size);
	}
}

static void op_end(void)
{
	struct map *m = any_sparse();
	u64 iova, size, unmapped = 0, want;
	int ret;

	if (percent(1)) {
		note("end all");
		ASSERT_OK(vt_end_all_sparse(&c, &unmapped));
		want = drop_range(0, ~0ull) + PAGE;
		end_sparse(0, ~0ull);
		CHECK(unmapped == want, "%#llx, not %#llx", unmapped, want);
		ASSERT_OK(vt_map(&c, edu->bounce_iova, edu->bounce, PAGE, VT_RW, 0));
		return;
	}
	all_or_any_range(m, &iova, &size);
	note("end %#llx + %#llx", iova, size);
	ret = vt_end_sparse(&c, iova, size, &unmapped);
	if (cuts(iova, size) || cuts_sparse(iova, size)) {
		CHECK(ret == -EINVAL, "%d", ret);
		return;
	}
	CHECK(ret == 0, "%d", ret);
	want = drop_range(iova, size);
	end_sparse(iova, size);
	CHECK(unmapped == want, "%#llx, not %#llx", unmapped, want);
}

static void op_sparse(void)
{
	if (!has_sparse)
		return;
	if (percent(92))
		op_fill();
	else
		op_end();
}

static void unmap_range(u64 iova, u64 size)
{
	u64 unmapped = 0, want;
	int ret;

	note("unmap %#llx + %#llx", iova, size);
	ret = vt_unmap(&c, iova, size, &unmapped);
	if (cuts(iova, size)) {
		CHECK(ret == -EINVAL, "%d", ret);
		return;
	}
	CHECK(ret == 0, "%d", ret);
	want = drop_range(iova, size);
	CHECK(unmapped == want, "%#llx, not %#llx", unmapped, want);
}

static void op_unmap(void)
{
	u64 iova, size;
	int ret;

	any_range(&iova, &size);
	if (!percent(2)) {
		unmap_range(iova, size);
		return;
	}
	if (percent(50))
		iova += 512;
	else
		size -= percent(50) ? 512 : size;
	note("bad unmap %#llx + %#llx", iova, size);
	ret = vt_unmap(&c, iova, size, NULL);
	CHECK(ret == -EINVAL, "%d", ret);
}

static void op_unmap_all(void)
{
	u64 unmapped = 0, want;

	note("unmap all");
	ASSERT_OK(vt_unmap_all(&c, &unmapped));
	want = drop_range(0, ~0ull) + PAGE;
	CHECK(unmapped == want, "%#llx, not %#llx", unmapped, want);
	ASSERT_OK(vt_map(&c, edu->bounce_iova, edu->bounce, PAGE, VT_RW, 0));
}

/*
 * Invalidates the vaddr of whole mappings: all their live pages must be in the range.
 * Mappings of registered memory are passed over.
 */
static void op_invalidate(void)
{
	u64 iova, size, unmapped = 0, live = 0;
	u32 i, first, end, n;
	bool ok = true;
	struct map *m;
	int ret;

	m = any_map();
	all_or_any_range(m, &iova, &size);
	note("invalidate %#llx + %#llx", iova, size);
	ret = vt_unmap_vaddr(&c, iova, size, &unmapped);
	if (mediated) {
		CHECK(ret == -EBUSY, "%d", ret);
		return;
	}

	first = page_from(iova);
	end = page_to(iova, size);
	for (i = first; i < end && ok; i += n) {
		u32 j, seen = 0;

		n = 1;
		/* Of a sparse mapping all of its range, filled or not. */
		if (page[i].sparse) {
			m = &map_of[page[i].sparse];
			ok = m->iova >= iova && m->iova + (m->size - 1) <= iova + (size - 1) &&
			     !m->invalid;
			n = page_to(m->iova, m->size) - i;
			live += m->live * PAGE;
			continue;
		}
		m = &map_of[page[i].map];
		if (!page[i].map || m->region)
			continue;
		/* Count each mapping once, at its first page in the range. */
		for (j = i; j < end && page_iova(j) - m->iova < m->size; j++)
			seen += page[j].map == page[i].map;
		for (j = i; j > first && page_iova(j - 1) >= m->iova; j--)
			if (page[j - 1].map == page[i].map)
				break;
		if (j > first && page_iova(j - 1) >= m->iova)
			continue;
		if (seen != m->live || m->invalid)
			ok = false;
		live += m->live * PAGE;
	}
	if (!ok) {
		CHECK(ret == -EINVAL, "%d", ret);
		return;
	}
	CHECK(ret == 0, "%d", ret);
	CHECK(unmapped == live, "%#llx, not %#llx", unmapped, live);
	for (i = first; i < end; i++) {
		if (page[i].map && !map_of[page[i].map].region)
			map_of[page[i].map].invalid = true;
		if (page[i].sparse)
			map_of[page[i].sparse].invalid = true;
	}
}

/* A new vaddr for [iova, iova + size), which is not the mapping m. */
static void bad_update(const struct map *m, u8 *vaddr, u64 size)
{
	u32 i, end = page_to(m->iova, size);
	int ret, want = -ENOENT;

	for (i = 0; i < nr_maps; i++) {
		const struct map *other = &map_of[maps[i]];

		/* The call may name a mapping that lies in the holes of m. */
		if (other->iova == m->iova && other->size == size)
			return;
	}
	if (!size) {
		want = -EINVAL;
	} else if (m->iova + size - 1 < m->iova) {
		want = -vt_wraps();
	} else {
		for (i = page_from(m->iova); i < end; i++)
			if (page[i].map || page[i].sparse)
				want = -EINVAL;
	}
	note("bad update of %#llx + %#llx as + %#llx", m->iova, m->size, size);
	ret = vt_map_vaddr(&c, m->iova, vaddr, size);
	CHECK(ret == want, "%d, not %d", ret, want);
}

static void op_update(void)
{
	struct map *m = any_map();
	u8 *vaddr;
	u32 i;
	int ret;

	if (!m)
		return;
	/* A mapping whose vaddr is invalid, if there is one near */
	for (i = m->at; i < nr_maps && i < m->at + 64 && !m->invalid; i++)
		m = &map_of[maps[i]];
	vaddr = (m->pool->alias && percent(50) ? m->pool->alias : m->pool->base) + m->offset;
	if (percent(20)) {
		bad_update(m, vaddr, percent(50) ? m->size + PAGE : m->size - PAGE);
		return;
	}
	note("update %#llx + %#llx", m->iova, m->size);
	ret = vt_map_vaddr(&c, m->iova, vaddr, m->size);
	if (m->invalid) {
		CHECK(ret == 0, "%d", ret);
		m->vaddr = vaddr;
		m->invalid = false;
	} else {
		CHECK(ret == -EINVAL, "%d", ret);
	}
}

static void op_dirty(void)
{
	static u64 bitmap[MAIN_SIZE / PAGE / 64];
	u64 iova, size, unmapped = 0, want;
	bool unmap = percent(30);
	u32 i, first, n;
	int ret;

	if (percent(2)) {
		note("dirty tracking %s", tracking ? "off" : "on");
		ret = tracking ? vt_dirty_stop(&c) : vt_dirty_start(&c);
		CHECK(ret == 0, "%d", ret);
		tracking = !tracking;
		return;
	}
	do
		any_range(&iova, &size);
	while (size > MAIN_SIZE);
	note("%s bits of %#llx + %#llx", unmap ? "unmap and get" : "get", iova, size);
	memset(bitmap, 0, VT_BITMAP_BYTES(size));
	if (unmap)
		ret = vt_unmap_dirty(&c, iova, size, bitmap, VT_BITMAP_BYTES(size), &unmapped);
	else
		ret = vt_dirty_get(&c, iova, size, bitmap, VT_BITMAP_BYTES(size));
	if (!tracking || cuts(iova, size)) {
		CHECK(ret == -EINVAL, "%d", ret);
		return;
	}
	CHECK(ret == 0, "%d", ret);
	/* The device does not tell what it writes: all that is mapped is dirty. */
	first = page_from(iova);
	n = size / PAGE;
	for (i = 0; i < n; i++)
		CHECK(vt_bit(bitmap, i) == !!page[first + i].map, "page %#llx",
		      iova + i * PAGE);
	if (unmap) {
		want = drop_range(iova, size);
		CHECK(unmapped == want, "%#llx, not %#llx", unmapped, want);
	}
}

static void op_register(void)
{
	static const u32 prot[] = { VT_SUPER_RW, VT_SUPER_RW, VFIO_SUPER_MEMORY_READ,
				    VFIO_SUPER_MEMORY_WRITE };
	u64 offset = below(POOL_PAGES) * PAGE, size = few(10) * PAGE;
	struct pool *p = &pool[below(nr_pools)];
	u32 flags = prot[below(4)];
	struct region *r;
	int ret;

	if (percent(40)) {
		offset = ALIGN_DOWN(offset, SZ_2M);
		size = ALIGN_UP(size, SZ_2M);
	}
	if (offset + size > POOL_SIZE)
		size = POOL_SIZE - offset;
	for (r = region; r < region + NR_REGIONS && r->size; r++)
		;
	if (r == region + NR_REGIONS)
		return;
	note("register %s + %#llx + %#llx flags %#x", vt_mem_name(p->kind), offset, size, flags);
	ret = vt_super_register(super_fd, p->base + offset, size, flags);
	if (region_over(p, offset, size)) {
		CHECK(ret == -EEXIST, "%d", ret);
		return;
	}
	CHECK(ret == 0, "%d", ret);
	*r = (struct region){ .pool = p, .offset = offset, .size = size, .flags = flags };
}

static void op_unregister(void)
{
	struct region *r = any_region();
	u64 offset, size;
	int ret, want;

	if (!r)
		return;
	offset = r->offset;
	size = r->size;
	if (percent(10)) {
		if (percent(50))
			size += PAGE;
		else
			offset += PAGE;
	}
	want = offset != r->offset || size != r->size ? -ENOENT : r->users ? -EBUSY : 0;
	note("unregister %s + %#llx + %#llx", vt_mem_name(r->pool->kind), offset, size);
	ret = vt_super_unregister(super_fd, r->pool->base + offset, size);
	CHECK(ret == want, "%d, not %d", ret, want);
	if (!ret)
		r->size = 0;
}

static void op_attach(void)
{
	bool attach = percent(50);
	int ret, want;

	note("%s", attach ? "attach" : "detach");
	ret = attach ? vt_super_attach(&c, super_fd) : vt_super_detach(&c);
	if (attach)
		want = attached ? -EBUSY : 0;
	else
		want = !attached ? -ENOENT : nr_super_maps ? -EBUSY : 0;
	CHECK(ret == want, "%d, not %d", ret, want);
	if (!ret)
		attached = attach;
}

static void op_super(void)
{
	struct vfio_super_info info;
	u32 i, nr = 0;

	if (super_fd < 0)
		return;
	switch (below(10)) {
	case 0 ... 3:
		op_register();
		break;
	case 4 ... 7:
		op_unregister();
		break;
	default:
		op_attach();
	}
	for (i = 0; i < NR_REGIONS; i++)
		nr += !!region[i].size;
	ASSERT_OK(vt_super_info(super_fd, &info));
	CHECK(info.registered == registered() && info.locked == registered() &&
	      info.regions == nr && info.containers == attached,
	      "registered %#llx locked %#llx regions %u containers %u", info.registered,
	      info.locked, info.regions, info.containers);
}

/* ---- Groups that come and go ---- */

static bool any_invalid(void)
{
	u32 i;

	for (i = 0; i < nr_maps; i++)
		if (map_of[maps[i]].invalid)
			return true;
	return false;
}

/* What is mapped is mapped for the new domain, too. */
static void second_comes(void)
{
	int ret, want = any_invalid() ? -EBUSY : 0;

	note("a second domain comes");
	td_two_domains();
	ret = vt_try_add_group(&c, vt_edu_group(1), vt_edu_bdf(1), &second);
	if (!ret)
		CHECK(td_get("refused") > 0, "the second device shares the domain");
	td_disarm();
	CHECK(ret == want, "%d, not %d", ret, want);
	if (ret) {
		second = NULL;
		return;
	}
	vt_edu_enable_beside(second, edu);
	seconds_come++;
}

static void second_goes(void)
{
	note("the second domain goes");
	second->bounce = NULL;
	vt_remove(second);
	second = NULL;
}

static void mediated_comes(void)
{
	int ret, want = any_invalid() ? -EBUSY : 0;

	note("a mediated device comes");
	ret = td_try_add(&c, 0, &mediated);
	CHECK(ret == want, "%d, not %d", ret, want);
	if (ret)
		mediated = NULL;
	else
		mediated_come++;
}

static void mediated_goes(void)
{
	u32 i;

	note("the mediated device goes");
	vt_remove(mediated);
	mediated = NULL;
	for (i = 0; i < MAX_PAGES; i++)
		page[i].pins = 0;
	nr_pins = 0;
}

static void op_group(void)
{
	if (access("/lib/modules/vfio_testdev.ko", F_OK))
		return;
	if (percent(50)) {
		if (second)
			second_goes();
		else
			second_comes();
	} else {
		if (mediated)
			mediated_goes();
		else
			mediated_comes();
	}
}

static void pin_pages(u32 first, u32 n)
{
	static const u32 prots[] = { VTD_READ, VTD_WRITE, VTD_READ | VTD_WRITE };
	u32 prot = prots[below(3)], i;
	int ret, want = n;

	for (i = first; i < first + n && want > 0; i++) {
		const struct map *m = &map_of[page[i].map];

		if (!page[i].map)
			want = -EINVAL;
		else if ((prot & VTD_READ && !(m->flags & VT_RO)) ||
			 (prot & VTD_WRITE && !(m->flags & VT_WO)))
			want = -EPERM;
	}
	note("pin %u pages at %#llx prot %u", n, page_iova(first), prot);
	ret = td_pin(mediated, page_iova(first), n, prot, NULL);
	CHECK(ret == want, "%d, not %d", ret, want);
	for (i = first; ret > 0 && i < first + n; i++)
		page[i].pins++;
	if (ret > 0)
		nr_pins += n;
}

static void unpin_pages(u32 first, u32 n)
{
	int ret, want = 0;
	u32 i;

	for (i = first; i < first + n; i++)
		if (!page[i].pins)
			want = -ENOENT;
	note("unpin %u pages at %#llx", n, page_iova(first));
	ret = td_unpin(mediated, page_iova(first), n);
	CHECK(ret == want, "%d, not %d", ret, want);
	for (i = first; !ret && i < first + n; i++)
		page[i].pins--;
	if (!ret)
		nr_pins -= n;
}

/* The CPU reads and writes for the device. */
static void read_or_write(u32 i)
{
	const struct map *m = &map_of[page[i].map];
	u64 buf[8], iova = page_iova(i) + below(PAGE / 64) * 64;
	bool write = percent(50);
	int ret, want = 0;

	if (!page[i].map)
		want = -EINVAL;
	else if (!(m->flags & VT_RO) || (write && !(m->flags & VT_WO)))
		want = -EPERM;
	note("%s %#llx", write ? "write" : "read", iova);
	vt_fill(buf, sizeof(buf), op);
	ret = td_rw(mediated, iova, buf, sizeof(buf), write ? VTD_WRITE : 0);
	CHECK(ret == want, "%d, not %d", ret, want);
	if (!ret)
		CHECK(!memcmp(buf, memory_of(m, iova), sizeof(buf)), "other memory");
}

static void op_mediated(void)
{
	struct map *m = any_map();
	u32 first = below(MAX_PAGES), n = few(3);

	if (!mediated)
		return;
	if (m && percent(90))
		first = page_from(any_live(m));
	/* Within a window: the next window's pages do not follow it. */
	while (n > 1 && (first + n > MAX_PAGES ||
			 page_iova(first + n - 1) != page_iova(first) + (n - 1) * PAGE))
		n--;
	switch (below(4)) {
	case 0:
		unpin_pages(first, n);
		break;
	case 1:
		read_or_write(first);
		break;
	default:
		pin_pages(first, n);
	}
}

/* A device writes to a hole: the memory that was mapped there last does not change. */
static void dma_to_hole(struct vt_dev *dev, u32 i)
{
	u64 buf[8];

	note("DMA to hole %#llx", page_iova(i));
	memset(page[i].last, op, sizeof(buf));
	memset(buf, ~op, sizeof(buf));
	vt_dma_write(dev, page_iova(i), buf, sizeof(buf));
	memset(buf, op, sizeof(buf));
	CHECK(!memcmp(buf, page[i].last, sizeof(buf)), "the page that was there was written");
}

static void dma_to_map(struct vt_dev *dev, const struct map *m, u64 iova)
{
	u8 *at = memory_of(m, iova);
	u64 buf[8];

	if (m->flags & VT_RO) {
		note("DMA from %#llx", iova);
		vt_dma_read(dev, iova, buf, sizeof(buf));
		CHECK(!memcmp(buf, at, sizeof(buf)), "read something else");
	}
	if (m->flags & VT_WO) {
		note("DMA to %#llx", iova);
		vt_fill(buf, sizeof(buf), op);
		vt_dma_write(dev, iova, buf, sizeof(buf));
		CHECK(!memcmp(buf, at, sizeof(buf)), "wrote somewhere else");
	}
}

static void op_dma(void)
{
	struct vt_dev *dev = second && percent(50) ? second : edu;
	struct map *m = any_map();
	u32 i = below(MAX_PAGES);

	if (m && percent(75))
		i = page_from(any_live(m));
	if (page_iova(i) > DMA_LAST || !page[i].last)
		return;
	if (page[i].map) {
		m = &map_of[page[i].map];
		dma_to_map(dev, m, page_iova(i) + below(PAGE / 64) * 64);
		if (percent(50))
			return;
		/* The IOTLB has this page now. It must be gone after an unmap. */
		if (m->granule)
			unmap_range(ALIGN_DOWN(page_iova(i), m->granule), m->granule);
		else
			unmap_range(m->iova, m->size);
	}
	dma_to_hole(dev, i);
}

/* ---- The checks ---- */

static u64 locked_now(void)
{
	static char buf[4096];
	static int fd = -1;
	ssize_t n;
	char *at;

	if (fd < 0)
		fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	n = pread(fd, buf, sizeof(buf) - 1, 0);
	ASSERT_GT(n, 0);
	buf[n] = 0;
	at = strstr(buf, "VmLck:");
	ASSERT_TRUE(at);
	return strtoull(at + 6, NULL, 10) * 1024;
}

static void check_counts(void)
{
	u64 locked = locked_now(), want = (live_pages - super_pages + 1) * PAGE + registered();
	u32 avail = vt_dma_avail(&c);

	CHECK(locked == want, "%#llx, not %#llx", locked, want);
	CHECK(avail == limit - nr_maps, "%u, not %llu", avail, limit - nr_maps);
	if (mediated)
		CHECK(td_pinned(mediated) == (int)nr_pins, "%d, not %llu", td_pinned(mediated),
		      nr_pins);
}

static void read_phys(struct pool *p)
{
	static int fd = -1;
	u32 i;

	if (fd < 0)
		fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	ASSERT_EQ(pread(fd, p->phys, sizeof(p->phys), (uintptr_t)p->base / PAGE * 8),
		  (ssize_t)sizeof(p->phys));
	for (i = 0; i < POOL_PAGES; i++)
		p->phys[i] = (p->phys[i] & ((1ull << 55) - 1)) * PAGE;
}

static u64 phys_of(const struct map *m, u64 iova)
{
	return m->pool->phys[(m->offset + (iova - m->iova)) / PAGE];
}

/* Must these 2 MiB be one page of the IOMMU? */
static bool is_super(u64 iova, const struct map *m)
{
	u64 phys = phys_of(m, iova), i;

	if (phys % SZ_2M || (m->granule && m->granule < SZ_2M))
		return false;
	for (i = 0; i < SZ_2M; i += PAGE)
		if (map_at(iova + i) != m || phys_of(m, iova + i) != phys + i)
			return false;
	return true;
}

/* Is pgsize possible for this mapping, and the one in the tables, if we have them? */
static void check_pgsize(const struct vfio_dma_extent *e, const struct map *m,
			 const struct vt_tables *t)
{
	u64 first = ALIGN_DOWN(e->iova, e->pgsize), end = ALIGN_UP(e->iova + e->size, e->pgsize);
	u64 at;

	/* Its ends may be clipped, but the IOMMU pages below are whole. */
	CHECK(e->pgsize >= PAGE && !(e->pgsize & (e->pgsize - 1)) &&
	      (!m->granule || e->pgsize <= m->granule || vt_cuts()) &&
	      map_at(first) == m && map_at(end - 1) == m,
	      "%#llx: pgsize %#llx", e->iova, e->pgsize);
	if (!t)
		return;
	for (at = e->iova; at < e->iova + e->size; at = ALIGN_DOWN(at, e->pgsize) + e->pgsize)
		CHECK(vt_tables_find(t, at)->size == e->pgsize, "%#llx: pgsize %#llx", at,
		      e->pgsize);
}

/* Checks the extent that begins with this live page. Returns the page behind the extent. */
static u32 check_extent(const struct vfio_dma_extent *e, u32 i, u32 end,
			const struct vt_tables *t)
{
	struct map *m = &map_of[page[i].map];
	u32 n = e->size / PAGE, k;

	CHECK(e->iova == page_iova(i), "%#llx, not %#llx", e->iova, page_iova(i));
	CHECK(n && e->size % PAGE == 0 && n <= end - i, "%#llx + %#llx", e->iova, e->size);
	for (k = 0; k < n; k++)
		CHECK(page[i + k].map == page[i].map, "%#llx + %#llx", e->iova, e->size);
	CHECK(e->vaddr == (uintptr_t)m->vaddr + (e->iova - m->iova), "%#llx: %#llx", e->iova,
	      e->vaddr);
	CHECK(e->flags == (m->flags | (m->region ? VFIO_DMA_EXTENT_SUPER : 0) |
			   (m->sparse ? VFIO_DMA_EXTENT_SPARSE : 0)) &&
	      e->granule == m->granule && !e->__reserved,
	      "%#llx: flags %#x granule %#llx", e->iova, e->flags, e->granule);
	if (tells_pgsize)
		check_pgsize(e, m, t);
	else
		CHECK(!e->pgsize, "%#llx", e->pgsize);
	return i + n;
}

static u32 next_live(u32 i, u32 end)
{
	while (i < end && !page[i].map)
		i++;
	return i;
}

/* Checks [iova, iova + size), to the end if size is 0, with so much room in each call. */
static void check_extents(u64 iova, u64 size, u32 room, const struct vt_tables *t)
{
	u32 i = page_from(iova), end = size ? page_to(iova, size) : MAX_PAGES, count, k;
	u64 from = iova, left = size, at, told = 0, counted;
	bool bounce = iova <= edu->bounce_iova && edu->bounce_iova - iova <= size - 1;
	struct vfio_dma_extent e[64], last = {};
	int ret;

	i = next_live(i, end);
	do {
		at = from;
		count = room;
		ret = vt_extents(&c, &from, &left, e, &count);
		CHECK(ret == 0, "%d", ret);
		CHECK(count <= room && from + left == iova + size && (!left || from > at),
		      "room %u: count %u, %#llx + %#llx", room, count, from, left);
		told += count;
		for (k = 0; k < count; k++) {
			/* What the model does not know, below all windows */
			if (bounce) {
				bounce = false;
				CHECK(e[k].iova == edu->bounce_iova && e[k].size == PAGE, "%#llx",
				      e[k].iova);
				continue;
			}
			CHECK(i < end, "%#llx + %#llx is told", e[k].iova, e[k].size);
			/* The extent is as long as possible. */
			CHECK(last.iova + last.size != e[k].iova || last.pgsize != e[k].pgsize ||
			      page[i].map != page[i - 1].map, "%#llx", e[k].iova);
			i = next_live(check_extent(&e[k], i, end, t), end);
			last = e[k];
		}
	} while (left);
	CHECK(i == end && !bounce, "%#llx is not told", bounce ? edu->bounce_iova : page_iova(i));
	counted = vt_extents_count(&c, iova, size);
	CHECK(counted == told, "%llu, not %llu", counted, told);
}

static void op_extents(void)
{
	u64 iova, size;

	any_range(&iova, &size);
	check_extents(iova, size, 1 + below(percent(50) ? 4 : 64), NULL);
}

/* The IOMMU translates exactly what the model says, page by page. */
static void check_tables_of(struct vt_dev *dev)
{
	struct vt_tables t;
	u64 at, seen = 0;
	size_t e;

	vt_tables_read(dev, &t);
	for (e = 0; e < t.nr; e++) {
		struct vt_pte *pte = &t.pte[e];
		struct map *m = map_at(pte->iova);

		/* What the model does not know: the bounce page */
		if (!m && pte->iova == edu->bounce_iova)
			continue;
		CHECK(m, "%#llx + %#llx is in the tables", pte->iova, pte->size);
		CHECK(!m->granule || pte->size <= m->granule || vt_cuts(), "%#llx: page of %#llx", pte->iova,
		      pte->size);
		CHECK(pte->read == (m->flags & VT_RO || !vt_write_only()) &&
		      pte->write == !!(m->flags & VT_WO),
		      "%#llx: read %d write %d", pte->iova, pte->read, pte->write);
		CHECK(pte->size >= SZ_2M || pte->iova % SZ_2M || !is_super(pte->iova, m),
		      "%#llx is not one large page", pte->iova);
		for (at = 0; at < pte->size; at += PAGE) {
			CHECK(map_at(pte->iova + at) == m, "%#llx + %#llx reaches too far",
			      pte->iova, pte->size);
			CHECK(phys_of(m, pte->iova + at) == pte->phys + at, "%#llx",
			      pte->iova + at);
		}
		seen += pte->size / PAGE;
	}
	CHECK(seen == live_pages, "%llu, not %llu", seen, live_pages);
	/* With two domains, the smaller page size is told. */
	if (has_extents)
		check_extents(0, 0, 64, second ? NULL : &t);
	vt_tables_free(&t);
}

static void check_tables(void)
{
	unsigned int i;

	for (i = 0; i < nr_pools; i++)
		read_phys(&pool[i]);
	check_tables_of(edu);
	if (second)
		check_tables_of(second);
}

/* ---- The run ---- */

static u8 *map_memfd(int fd, u64 size)
{
	u8 *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);

	ASSERT_TRUE(p != MAP_FAILED);
	return p;
}

static void make_pools(void)
{
	static const enum vt_mem kind[] = { VT_MEM_4K, VT_MEM_THP, VT_MEM_HUGE_2M };
	char why[160];
	size_t i;
	int fd;

	for (i = 0; i < ARRAY_SIZE(kind); i++) {
		if (!vt_mem_has(kind[i], POOL_SIZE, why, sizeof(why))) {
			vt_diag("without %s: %s", vt_mem_name(kind[i]), why);
			continue;
		}
		pool[nr_pools].kind = kind[i];
		pool[nr_pools++].base = vt_alloc(kind[i], POOL_SIZE);
	}
	fd = memfd_create("random", MFD_CLOEXEC);
	ASSERT_GE(fd, 0);
	ASSERT_OK(ftruncate(fd, POOL_SIZE));
	pool[nr_pools].kind = VT_MEM_4K;
	pool[nr_pools].base = map_memfd(fd, POOL_SIZE);
	pool[nr_pools++].alias = map_memfd(fd, POOL_SIZE);
}

static void make_windows(void)
{
	u64 last = vt_last_iova(&c);
	u32 first = 0;
	int i;

	/* In order of iova. Most happens in the first one. */
	window[0].iova = 4 * SZ_4M;
	window[0].size = MAIN_SIZE;
	window[1].iova = SZ_1G - SZ_1M;
	window[2].iova = ALIGN_DOWN(last / 4, SZ_1G) - SZ_1M;
	window[3].iova = ALIGN_DOWN(last / 2, SZ_1G);
	window[4].iova = last + 1 - FAR_SIZE;
	for (i = 0; i < NR_WINDOWS; i++) {
		if (i)
			window[i].size = FAR_SIZE;
		window[i].first = first;
		first += window[i].size / PAGE;
	}
	ASSERT_EQ(first, MAX_PAGES);
}

static void run(void)
{
	static const struct {
		const char *name;
		void (*fn)(void);
		unsigned int weight;	/* of 10000 */
	} ops[] = {
		{ "super", op_super, 300 },
		{ "sparse", op_sparse, 1400 },
		{ "map", op_map, 3700 },
		{ "unmap", op_unmap, 2900 },
		{ "dirty", op_dirty, 600 },
		{ "invalidate", op_invalidate, 340 },
		{ "update", op_update, 457 },
		{ "group", op_group, 40 },
		{ "mediated device", op_mediated, 260 },
		{ "unmap all", op_unmap_all, 3 },
	};
	u64 dma_every, tables_every, start = vt_now();
	bool tables;
	u32 i;

	alarm(0);
	vt_open_v2(&c);
	vt_need_granule(&c);
	has_extents = vt_check_extension(&c, VFIO_DMA_EXTENTS) == 1;
	has_sparse = vt_check_extension(&c, VFIO_DMA_SPARSE) == 1;
	limit = vt_dma_avail(&c) - 1;
	edu = &c.dev[0];
	vt_edu_enable(edu);
	tables = vt_tables_known(edu);
	tells_pgsize = !vt_pgsize_unknown();
	make_pools();
	make_windows();
	for (i = MAX_PAGES; i; i--)
		free_map[nr_free_maps++] = i;
	if (vt_check_extension(&c, VFIO_SUPER_CONTAINER) == 1) {
		super_fd = vt_super_new(&c);
		attached = true;
	}
	/* Both take long: not often in a short run, but often enough in a long one. */
	dma_every = nr_ops / 50 + 1;
	if (dma_every > 10000)
		dma_every = 10000;
	tables_every = nr_ops / 200 + 500;
	if (tables_every > 2000)
		tables_every = 2000;

	for (op = 0; op < nr_ops; op++) {
		int w = below(10000);

		for (i = 0; i < ARRAY_SIZE(ops) - 1 && w >= (int)ops[i].weight; i++)
			w -= ops[i].weight;
		counts[i]++;
		ops[i].fn();
		check_counts();
		if (has_extents && op % 5 == 4)
			op_extents();
		if (has_extents && !tables && op % tables_every == tables_every - 1)
			check_extents(0, 0, 64, NULL);
		if (tables && op % tables_every == tables_every - 1)
			check_tables();
		if (op % dma_every == dma_every - 1)
			op_dma();
	}
	op--;
	if (tables)
		check_tables();
	op_unmap_all();
	check_counts();
	if (has_sparse) {
		ASSERT_OK(vt_end_all_sparse(&c, NULL));
		end_sparse(0, ~0ull);
		ASSERT_OK(vt_map(&c, edu->bounce_iova, edu->bounce, PAGE, VT_RW, 0));
		ASSERT_EQ(nr_maps, 0);
	}
	check_counts();
	if (second)
		second_goes();
	if (mediated)
		mediated_goes();
	for (i = 0; i < ARRAY_SIZE(ops); i++)
		vt_diag("%llu times %s", counts[i], ops[i].name);
	vt_diag("%llu of the mappings of registered memory", super_made);
	vt_diag("a second domain %llu times, a mediated device %llu times", seconds_come,
		mediated_come);
	vt_diag("%llu sparse mappings, %llu times filled, %llu ended", sparse_made, sparse_filled,
		sparse_ended);
	if (has_sparse && nr_ops > 10000)
		EXPECT_GT(sparse_filled, nr_ops / 200);
	vt_diag("%llu operations in %llu s%s", nr_ops, (vt_now() - start) / 1000000000,
		tables ? "" : "; no page tables to compare");
	vt_close(&c);
	EXPECT_EQ(vt_locked(), registered());
	close(super_fd);
	ASSERT_LOCKED_SOON(getpid(), 0);
}

int main(int argc, char **argv)
{
	static const struct vtest test = VTEST(run);

	seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 0;
	nr_ops = argc > 2 ? strtoull(argv[2], NULL, 0) : 20000;
	if (!seed)
		seed = time(NULL);
	rng = seed;
	printf("# random %llu %llu\n", seed, nr_ops);
	return vtest_main(1, argv, &test, 1);
}
