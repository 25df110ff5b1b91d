// SPDX-License-Identifier: GPL-2.0
/* Calls that must be refused, and what they must not change */
#include "vtest.h"

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

static int map_bad(struct vt_container *c, u64 iova, const void *vaddr, const struct vt_bad_map *b)
{
	return vt_map(c, iova + b->iova, (const u8 *)vaddr + b->vaddr, b->size, b->flags,
		      b->granule);
}

void vt_maps_refused(const char *file, int line, struct vt_container *c, u64 iova,
		     const void *vaddr, const struct vt_bad_map *bad, size_t nr)
{
	const struct vt_bad_map *b;
	struct vt_state was;
	int ret;

	vt_state(c, &was);
	for (b = bad; b < bad + nr; b++) {
		ret = map_bad(c, iova, vaddr, b);
		if (ret == -b->err)
			continue;
		vt_fail(file, line,
			"row %zu, iova + %#llx, vaddr + %#llx, size %#llx, flags %#x, granule %#llx: is %d, not %d",
			b - bad, b->iova, b->vaddr, b->size, b->flags, b->granule, ret, -b->err);
		vt_stop();
	}
	vt_state_same(c, &was, "maps that were refused");
}

void vt_unmaps_refused(const char *file, int line, struct vt_container *c, u64 iova,
		       const struct vt_bad_unmap *bad, size_t nr)
{
	const struct vt_bad_unmap *b;
	struct vt_state was;
	int ret;

	vt_state(c, &was);
	for (b = bad; b < bad + nr; b++) {
		ret = vt_unmap_flags(c, b->flags, iova + b->iova, b->size, NULL);
		if (ret == -b->err)
			continue;
		vt_fail(file, line, "row %zu, iova + %#llx, size %#llx, flags %#x: is %d, not %d",
			b - bad, b->iova, b->size, b->flags, ret, -b->err);
		vt_stop();
	}
	vt_state_same(c, &was, "unmaps that were refused");
}
