// SPDX-License-Identifier: GPL-2.0
/* See runs.h. */
#include "runs.h"

enum known run_known(struct vt_container *c)
{
	if (vt_tables_known(&c->dev[0]))
		return IN_TABLES;
	return vt_pgsize_unknown() ? UNKNOWN : BY_DRIVER;
}

void run_map(struct vt_container *c, const struct run *r)
{
	ASSERT_OK(vt_map(c, r->iova, r->vaddr, r->size, r->flags, r->granule));
}

/* The smallest page size of all devices at iova; *len: how far it is the same */
static u64 table_pgsize(struct vt_container *c, const struct vt_tables *t, u64 iova, u64 *len)
{
	const struct vt_pte *pte;
	u64 pgsize = 0;
	int i;

	*len = ~0ull;
	for (i = 0; i < VT_MAX_DEVS; i++) {
		if (c->dev[i].group < 0)
			continue;
		pte = vt_tables_find(&t[i], iova);
		if (!pte)
			FAIL("%#llx is not mapped for %s", iova, c->dev[i].name);
		if (!pgsize || pte->size < pgsize)
			pgsize = pte->size;
		if (pte->iova + pte->size - iova < *len)
			*len = pte->iova + pte->size - iova;
	}
	return pgsize;
}

static void check_pgsize(struct vt_container *c, const struct vt_tables *t,
			 const struct vfio_dma_extent *e)
{
	u64 at, len, want;

	switch (run_known(c)) {
	case IN_TABLES:
		for (at = 0; at < e->size; at += len) {
			want = table_pgsize(c, t, e->iova + at, &len);
			if (e->pgsize != want)
				FAIL("%#llx: pgsize %#llx, in the tables %#llx",
				     e->iova + at, e->pgsize, want);
		}
		break;
	case BY_DRIVER:
		if (e->pgsize < SZ_4K || e->pgsize & (e->pgsize - 1) ||
		    (e->granule && e->pgsize > e->granule && !vt_cuts()))
			FAIL("%#llx: pgsize %#llx, granule %#llx", e->iova, e->pgsize, e->granule);
		break;
	case UNKNOWN:
		ASSERT_EQ(e->pgsize, 0);
	}
}

void run_check(const struct vfio_dma_extent *e, const struct run *r, u64 at, u64 left)
{
	if (e->iova != at || e->size > left)
		FAIL("%#llx bytes at %#llx are told, not %#llx at %#llx",
		     e->size, e->iova, left, at);
	ASSERT_EQ(e->vaddr, (uintptr_t)r->vaddr + (at - r->iova));
	ASSERT_EQ(e->granule, r->granule);
	ASSERT_EQ(e->flags, r->flags);
	ASSERT_EQ(e->__reserved, 0);
}

void run_expect(struct vt_container *c, u64 iova, u64 size, const struct run *r, size_t nr)
{
	u64 last = iova + size - 1, first, left;
	struct vt_tables t[VT_MAX_DEVS];
	struct vt_extents x;
	size_t i, n = 0;
	int k;

	if (!size)
		last = ~0ull;
	for (k = 0; k < VT_MAX_DEVS; k++)
		if (run_known(c) == IN_TABLES && c->dev[k].group >= 0)
			vt_tables_read(&c->dev[k], &t[k]);
	vt_extents_read(c, iova, size, RUN_ROOM, &x);
	for (i = 0; i < nr; i++) {
		if (r[i].iova > last || r[i].iova + (r[i].size - 1) < iova)
			continue;
		first = r[i].iova < iova ? iova : r[i].iova;
		left = r[i].size - (first - r[i].iova);
		if (left - 1 > last - first)
			left = last - first + 1;
		while (left) {
			if (n == x.nr)
				FAIL("%#llx is not told", first);
			run_check(&x.e[n], &r[i], first, left);
			check_pgsize(c, t, &x.e[n]);
			if (n && first > iova && first > r[i].iova)
				ASSERT_NE(x.e[n].pgsize, x.e[n - 1].pgsize);
			first += x.e[n].size;
			left -= x.e[n].size;
			n++;
		}
	}
	if (n != x.nr)
		FAIL("%#llx bytes at %#llx are told, but not there", x.e[n].size, x.e[n].iova);
	ASSERT_EQ(vt_extents_count(c, iova, size), x.nr);
	vt_extents_free(&x);
	for (k = 0; k < VT_MAX_DEVS; k++)
		if (run_known(c) == IN_TABLES && c->dev[k].group >= 0)
			vt_tables_free(&t[k]);
}

void run_map_few(struct vt_container *c, u64 base, struct run *r)
{
	u8 *thp = vt_alloc(VT_MEM_THP, SZ_4M), *small = vt_alloc(VT_MEM_SCATTERED, SZ_64K);
	size_t i;

	r[0] = (struct run){ base, SZ_4M, thp, 0, RUN_R | RUN_W };
	/* Another mapping right behind it, whose memory is right behind, too */
	r[1] = (struct run){ base + SZ_4M, SZ_64K, small, 0, RUN_R | RUN_W };
	r[2] = (struct run){ base + SZ_4M + SZ_64K, SZ_64K, small, SZ_4K, RUN_R };
	r[3] = (struct run){ base + 2 * SZ_4M, SZ_2M, thp, SZ_2M, RUN_W };
	r[4] = (struct run){ base + 2 * SZ_4M + SZ_2M, SZ_2M, thp + SZ_2M, SZ_2M, RUN_W };
	for (i = 0; i < RUN_FEW; i++)
		run_map(c, &r[i]);
}
