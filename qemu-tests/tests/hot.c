// SPDX-License-Identifier: GPL-2.0
/*
 * Does one thing again and again for some time, then the next, between lines "# hot NAME" and
 * "# hot -". Meanwhile bench/profile lets QEMU log the instructions.
 */
#include "peers.h"

#define IOVA	(1ull << 40)
#define HOT_NS	(2ull << 30)

static void loop(const char *name, enum peer peer, enum vt_mem kind, u64 size, u64 piece)
{
	struct peer_floor floor;
	struct peers p;
	int ret = 0;
	void *mem;
	u64 end;

	mem = vt_alloc(kind, size);
	if (peer != PEER_FLOOR) {
		ret = peer_open(&p, peer, mem, size);
		if (!ret)
			ret = peer_add(&p);
	}
	vt_diag("hot %s", ret ? "-" : name);
	end = vt_now() + HOT_NS;
	while (!ret && vt_now() < end) {
		if (peer == PEER_FLOOR) {
			/* Pins the memory only once */
			ret = peer_floor(mem, IOVA, size, piece, 1000, &floor);
			continue;
		}
		ret = peer_map(&p, 1, IOVA, mem, size, piece);
		if (!ret)
			ret = peer_unmap(&p, 1, IOVA, size);
	}
	vt_diag("hot -");
	if (peer != PEER_FLOOR)
		peer_close(&p);
	vt_free(mem, kind, size);
	if (ret)
		SKIP("%s: %s", name, strerror(-ret));
}

static void floor_2m(void)
{
	loop("floor.thp.64M.2M", PEER_FLOOR, VT_MEM_THP, 64 * SZ_1M, SZ_2M);
}

static void super_2m(void)
{
	loop("super.thp.64M.2M", PEER_SUPER, VT_MEM_THP, 64 * SZ_1M, SZ_2M);
}

static void granule_2m(void)
{
	loop("granule.thp.64M.2M", PEER_GRANULE, VT_MEM_THP, 64 * SZ_1M, SZ_2M);
}

static void type1_thp(void)
{
	loop("type1.thp.64M.-", PEER_TYPE1, VT_MEM_THP, 64 * SZ_1M, 0);
}

static void super_4k(void)
{
	loop("super.4k.1M.-", PEER_SUPER, VT_MEM_SCATTERED, SZ_1M, 0);
}

static void type1_4k(void)
{
	loop("type1.4k.1M.-", PEER_TYPE1, VT_MEM_SCATTERED, SZ_1M, 0);
}

static void copy_4k(void)
{
	loop("copy.4k.1M.-", PEER_COPY, VT_MEM_SCATTERED, SZ_1M, 0);
}

static void super_pair(void)
{
	loop("super.4k.4K.-", PEER_SUPER, VT_MEM_4K, SZ_4K, 0);
}

static void type1_pair(void)
{
	loop("type1.4k.4K.-", PEER_TYPE1, VT_MEM_4K, SZ_4K, 0);
}

static void floor_pair(void)
{
	loop("floor.4k.4K.-", PEER_FLOOR, VT_MEM_4K, SZ_4K, 0);
}

VTEST_MAIN(
	VTEST(floor_2m),
	VTEST(super_2m),
	VTEST(granule_2m),
	VTEST(type1_thp),
	VTEST(super_4k),
	VTEST(type1_4k),
	VTEST(copy_4k),
	VTEST(floor_pair),
	VTEST(super_pair),
	VTEST(type1_pair),
)
