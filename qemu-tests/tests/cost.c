// SPDX-License-Identifier: GPL-2.0
/*
 * What calls cost, in instructions. On the machine icount the guest's clock counts
 * instructions, and the same program costs the same on every run. Prints lines
 *
 *	# cost OPERATION.PEER.BACKING.SIZE.PIECE INSTRUCTIONS
 *
 * or the name of an errno if a peer cannot do it. PEER is a way to map memory
 * (lib/peers.h). PIECE is the size that can be unmapped alone; "-": all is unmapped at
 * once. qemu-tests/costs compares the figures with costs.list. bench/ makes tables and
 * plots of them.
 *
 * make check runs the tests short_*. make bench runs these and full_*.
 */
#define _GNU_SOURCE
#include <glob.h>

#include "peers.h"
#include "testdev.h"

typedef __s64 s64;

#define IOVA	(1ull << 40)
#define SZ_64M	(64 * SZ_1M)
#define SZ_512M	(512 * SZ_1M)
#define SZ_1T	(1ull << 40)

/* What needs more calls than that is not measured: it takes too long. */
#define MAX_CALLS	16384

static const struct backing {
	const char *name;
	enum vt_mem kind;
} thp = { "thp", VT_MEM_THP }, huge = { "huge", VT_MEM_HUGE_2M },
  huge1g = { "huge1G", VT_MEM_HUGE_1G }, small = { "4k", VT_MEM_SCATTERED };

static bool patched(void)
{
	char cmdline[4096] = "";

	vt_read_file("/proc/cmdline", cmdline, sizeof(cmdline));
	if (!strstr(cmdline, "vtest_machine=icount"))
		SKIP("the clock of this machine does not count instructions");
	return !strstr(cmdline, "vtest_kernel=unpatched");
}

static const char *sz(u64 size)
{
	static char text[4][24];
	static int i;
	char *s = text[i++ % 4];

	if (!size)
		return "-";
	if (size % SZ_1T == 0)
		sprintf(s, "%lluT", size / SZ_1T);
	else if (size % SZ_1G == 0)
		sprintf(s, "%lluG", size / SZ_1G);
	else if (size % SZ_1M == 0)
		sprintf(s, "%lluM", size / SZ_1M);
	else
		sprintf(s, "%lluK", size / 1024);
	return s;
}

/* ret: 0, or why there is no figure. size is text, for what is counted otherwise. */
static void figure_n(const char *op, enum peer peer, const struct backing *b,
		     const char *size, u64 piece, int ret, u64 value)
{
	char what[96];

	snprintf(what, sizeof(what), "%s.%s.%s.%s.%s", op, peer_name(peer), b->name, size,
		 sz(piece));
	if (ret)
		vt_diag("cost %s %s", what, strerrorname_np(-ret));
	else
		vt_diag("cost %s %llu", what, value);
}

static void figure(const char *op, enum peer peer, const struct backing *b, u64 size,
		   u64 piece, int ret, u64 value)
{
	figure_n(op, peer, b, sz(size), piece, ret, value);
}

/*
 * Some calls have to get pages for the slab allocator, and not the same ones in each boot.
 * So a single call is measured three times, unless that takes too long, and the least
 * counts. Of many calls the median counts.
 */
#define ROUNDS		3
#define LONG_ROUND	(50 * 1000 * 1000)	/* instructions */

static void keep_least(u64 *least, u64 value)
{
	if (!*least || value < *least)
		*least = value;
}

static int compare_u64(const void *a, const void *b)
{
	const u64 *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static u64 median(u64 *values, unsigned int nr)
{
	qsort(values, nr, sizeof(*values), compare_u64);
	return values[nr / 2];
}

static u64 next_random(u64 *seed)
{
	*seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
	return *seed >> 33;
}

/*
 * Opens the peer and adds as many users as the measured one needs before it: where memory is
 * shared, the second user is measured. The last user is the one to measure.
 */
static int open_peer(struct peers *p, enum peer peer, void *vaddr, u64 size)
{
	int ret = peer_open(p, peer, vaddr, size);

	if (!ret && (peer == PEER_SUPER || peer == PEER_COPY || peer == PEER_COPY_CALLS))
		ret = peer_add(p);
	return ret;
}

#define LAST(p)		((p)->users - 1)

/* ---- Map and unmap all of it ---- */

static void floor_of(const struct backing *b, void *mem, u64 size, u64 piece)
{
	struct peer_floor f = {};
	int ret = peer_floor(mem, IOVA, size, piece, 2, &f);

	figure("fill", PEER_FLOOR, b, size, piece, ret, f.fill);
	figure("map", PEER_FLOOR, b, size, piece, ret, f.map);
	figure("unmap", PEER_FLOOR, b, size, piece, ret, f.unmap);
}

static void map_unmap(enum peer peer, const struct backing *b, u8 *mem, u64 size, u64 piece)
{
	u64 warm = piece > 4 * SZ_1M ? piece : 4 * SZ_1M;
	u64 since, began, map = 0, unmap = 0;
	struct peers p;
	int ret, i;

	if (peer == PEER_FLOOR) {
		floor_of(b, mem, size, piece);
		return;
	}
	ret = open_peer(&p, peer, mem, size);
	if (ret) {
		figure("map", peer, b, size, piece, ret, 0);
		peer_close(&p);
		return;
	}
	/* Once, so that everything has been called before */
	if (warm > size)
		warm = size;
	peer_map(&p, LAST(&p), IOVA, mem, warm, piece);
	peer_unmap(&p, LAST(&p), IOVA, warm);

	for (i = 0; i < ROUNDS; i++) {
		began = since = vt_now();
		ret = peer_map(&p, LAST(&p), IOVA, mem, size, piece);
		keep_least(&map, vt_now() - since);
		if (ret)
			break;
		since = vt_now();
		ret = peer_unmap(&p, LAST(&p), IOVA, size);
		keep_least(&unmap, vt_now() - since);
		if (ret || vt_now() - began > LONG_ROUND)
			break;
	}
	figure("map", peer, b, size, piece, unmap ? 0 : ret, map);
	if (unmap)
		figure("unmap", peer, b, size, piece, ret, unmap);
	peer_close(&p);
}

/* One piece in the middle of a mapping, unmapped and mapped again. */
static void one_piece(enum peer peer, const struct backing *b, u8 *mem, u64 size, u64 piece)
{
	u64 at = ALIGN_DOWN(size / 3, piece), since, unmap = 0, map = 0;
	struct peers p;
	int ret, i;

	ret = open_peer(&p, peer, mem, size);
	if (!ret)
		ret = peer_map(&p, LAST(&p), IOVA, mem, size, piece);
	for (i = 0; i < ROUNDS && !ret; i++) {
		since = vt_now();
		ret = peer_unmap(&p, LAST(&p), IOVA + at, piece);
		keep_least(&unmap, vt_now() - since);
		if (ret)
			break;
		since = vt_now();
		ret = peer_map_one(&p, LAST(&p), IOVA + at, mem + at, piece, 0);
		keep_least(&map, vt_now() - since);
	}
	figure("unmap1", peer, b, size, piece, map ? 0 : ret, unmap);
	if (map)
		figure("remap1", peer, b, size, piece, ret, map);
	peer_close(&p);
}

/*
 * Maps a piece and unmaps it, again and again. Returns in *each what one pair costs. A timer
 * may fire in some rounds, but not in all.
 */
static int pairs_of(struct peers *p, u64 iova, const u8 *mem, u64 size, u64 places,
		    u64 *each)
{
	const unsigned int times = 64;
	u64 at, since, seed = 7;
	unsigned int i;
	int ret = 0, round;

	for (round = 0; round < ROUNDS; round++) {
		since = vt_now();
		for (i = 0; i < times && !ret; i++) {
			at = next_random(&seed) % places * SZ_8K;
			ret = peer_map_one(p, LAST(p), iova + at, mem + at, size, 0);
			if (!ret)
				ret = peer_unmap(p, LAST(p), iova + at, size);
		}
		keep_least(each, (vt_now() - since) / times);
	}
	return ret;
}

/* A mapping made and unmapped over and over, as a virtual IOMMU does. */
static void pair(enum peer peer, const struct backing *b, void *mem, u64 size)
{
	struct peer_floor f = {};
	struct peers p;
	u64 each = 0;
	int ret, round;

	if (peer == PEER_FLOOR) {
		for (round = 0; round < ROUNDS; round++) {
			ret = peer_floor(mem, IOVA, size, 0, 64, &f);
			keep_least(&each, f.pair);
		}
		figure("pair", peer, b, size, 0, ret, each);
		return;
	}
	ret = open_peer(&p, peer, mem, size);
	if (!ret)
		ret = pairs_of(&p, IOVA, mem, size, 1, &each);
	figure("pair", peer, b, size, 0, ret, each);
	peer_close(&p);
}

/* On the unpatched kernel measure only what the series could change there. */
static bool wanted(enum peer peer)
{
	return patched() || peer == PEER_TYPE1 || peer == PEER_TYPE1_CALLS ||
	       peer == PEER_IOMMUFD || peer == PEER_COPY || peer == PEER_FLOOR;
}

/* What both kernels measure comes first, so that it finds the same state on both. */
static const enum peer in_order[NR_PEERS] = {
	PEER_TYPE1, PEER_TYPE1_CALLS, PEER_FLOOR, PEER_SUPER, PEER_GRANULE,
	PEER_IOMMUFD, PEER_IOMMUFD_CALLS, PEER_COPY, PEER_COPY_CALLS,
};

static void pairs(void)
{
	static const enum peer peers[] = { PEER_FLOOR, PEER_SUPER, PEER_TYPE1, PEER_IOMMUFD,
					   PEER_COPY };
	u8 *mem4k, *mem2m;
	size_t i;

	patched();
	mem4k = vt_alloc(VT_MEM_4K, SZ_4K);
	mem2m = vt_alloc(VT_MEM_THP, SZ_2M);
	for (i = 0; i < ARRAY_SIZE(peers); i++) {
		if (!wanted(peers[i]))
			continue;
		pair(peers[i], &small, mem4k, SZ_4K);
		pair(peers[i], &thp, mem2m, SZ_2M);
	}
}

static void short_pairs(void)
{
	pairs();
}

static void short_thp(void)
{
	u8 *mem;
	enum peer peer;
	int i;

	patched();
	mem = vt_alloc(VT_MEM_THP, SZ_512M);
	for (i = 0; i < NR_PEERS; i++) {
		peer = in_order[i];
		if (wanted(peer))
			map_unmap(peer, &thp, mem, SZ_512M, peer_has_pieces(peer) ? SZ_2M : 0);
	}
	floor_of(&thp, mem, SZ_512M, 0);
	for (i = 0; i < NR_PEERS; i++) {
		peer = in_order[i];
		if (wanted(peer) && peer != PEER_FLOOR)
			one_piece(peer, &thp, mem, SZ_512M, SZ_2M);
	}
}

static void short_small(void)
{
	u8 *mem;

	patched();
	mem = vt_alloc(VT_MEM_SCATTERED, SZ_512M);
	map_unmap(PEER_TYPE1, &small, mem, SZ_512M, 0);
	map_unmap(PEER_FLOOR, &small, mem, SZ_512M, 0);
	if (patched())
		map_unmap(PEER_SUPER, &small, mem, SZ_512M, 0);
}

/* The same for sizes and pieces of every kind. */
static void matrix(const struct backing *b, u64 max)
{
	static const u64 sizes[] = { SZ_2M, SZ_64M, SZ_512M, SZ_1G };
	static const u64 pieces[] = { 0, SZ_4K, SZ_64K, SZ_2M, SZ_1G };
	size_t s, g;
	enum peer peer;
	u8 *mem;
	int i;

	patched();
	mem = vt_alloc(b->kind, max);
	for (s = 0; s < ARRAY_SIZE(sizes) && sizes[s] <= max; s++)
		for (g = 0; g < ARRAY_SIZE(pieces) && pieces[g] <= sizes[s]; g++)
			for (i = 0; i < NR_PEERS; i++) {
				bool calls;

				peer = in_order[i];
				calls = peer == PEER_TYPE1_CALLS || peer == PEER_COPY_CALLS ||
					peer == PEER_IOMMUFD_CALLS;
				if (!wanted(peer) || (pieces[g] && !peer_has_pieces(peer)) ||
				    (!pieces[g] && (calls || peer == PEER_GRANULE)) ||
				    (calls && sizes[s] / pieces[g] > MAX_CALLS))
					continue;
				/* What would take long and tell nothing new */
				if ((sizes[s] == SZ_1G && pieces[g] == SZ_4K) ||
				    (b == &small && sizes[s] == max && pieces[g] == SZ_64K))
					continue;
				map_unmap(peer, b, mem, sizes[s], pieces[g]);
			}
}

static void full_thp(void)
{
	matrix(&thp, SZ_1G);
}

static void full_small(void)
{
	matrix(&small, SZ_512M);
}

static void full_hugetlb(void)
{
	vt_write_file("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "520");
	matrix(&huge, SZ_1G);
}

static void full_hugetlb_1g(void)
{
	u8 *mem;
	int i;

	patched();
	mem = vt_alloc(VT_MEM_HUGE_1G, SZ_1G);
	for (i = 0; i < NR_PEERS; i++)
		if (wanted(i))
			map_unmap(i, &huge1g, mem, SZ_1G, peer_has_pieces(i) ? SZ_1G : 0);
}

/* ---- A piece of an IOMMU page that is larger ---- */

/* The first piece out of a page, which is cut for it, and the next one. */
static void cut_pages(enum peer peer, const struct backing *b, u8 *mem, u64 size, u64 piece)
{
	u64 page = vt_mem_pgsize(b->kind), at, since, first[16] = {}, next[16] = {};
	unsigned int nr = 0;
	struct peers p;
	int ret;

	ret = open_peer(&p, peer, mem, size);
	if (!ret)
		ret = peer_map(&p, LAST(&p), IOVA, mem, size, piece);
	for (at = ALIGN_DOWN(page / 3, piece); !ret && at < size && nr < ARRAY_SIZE(first);
	     at += page) {
		since = vt_now();
		ret = peer_unmap(&p, LAST(&p), IOVA + at, piece);
		first[nr] = vt_now() - since;
		if (ret)
			break;
		since = vt_now();
		ret = peer_unmap(&p, LAST(&p), IOVA + at + 2 * piece, piece);
		next[nr++] = vt_now() - since;
	}
	figure("cut", peer, b, size, piece, ret, ret ? 0 : median(first, nr));
	figure("cutnext", peer, b, size, piece, ret, ret ? 0 : median(next, nr));
	peer_close(&p);
}

static void short_cuts(void)
{
	u8 *mem;

	if (!patched())
		return;
	mem = vt_alloc(VT_MEM_THP, 256 * SZ_1M);
	map_unmap(PEER_TYPE1, &thp, mem, 256 * SZ_1M, 0);
	map_unmap(PEER_GRANULE, &thp, mem, 256 * SZ_1M, SZ_4K);
	cut_pages(PEER_GRANULE, &thp, mem, 256 * SZ_1M, SZ_4K);
	vt_free(mem, VT_MEM_THP, 256 * SZ_1M);
	mem = vt_alloc(VT_MEM_HUGE_1G, SZ_1G);
	map_unmap(PEER_TYPE1, &huge1g, mem, SZ_1G, 0);
	map_unmap(PEER_GRANULE, &huge1g, mem, SZ_1G, SZ_2M);
	cut_pages(PEER_GRANULE, &huge1g, mem, SZ_1G, SZ_2M);
}

/* ---- Memory into and out of a super-container ---- */

static void register_of(const struct backing *b, u64 size)
{
	struct peers p;
	u64 since;
	void *mem;
	int ret;

	mem = vt_alloc(b->kind, size);
	ret = peer_open(&p, PEER_SUPER, mem, 0);
	if (!ret)
		ret = peer_register(&p, mem, SZ_2M);
	if (!ret)
		ret = peer_unregister(&p, mem, SZ_2M);
	since = vt_now();
	if (!ret)
		ret = peer_register(&p, mem, size);
	figure("register", PEER_SUPER, b, size, 0, ret, vt_now() - since);
	since = vt_now();
	if (!ret)
		ret = peer_unregister(&p, mem, size);
	figure("unregister", PEER_SUPER, b, size, 0, ret, vt_now() - since);
	peer_close(&p);
	vt_free(mem, b->kind, size);
}

static void short_register(void)
{
	if (!patched())
		SKIP("the unpatched kernel has no super-container");
	register_of(&thp, SZ_512M);
	register_of(&small, SZ_512M);
}

static void full_register(void)
{
	if (!patched())
		SKIP("the unpatched kernel has no super-container");
	register_of(&thp, SZ_64M);
	register_of(&thp, SZ_1G);
	register_of(&small, SZ_64M);
	register_of(&huge1g, SZ_1G);
}

/*
 * ---- A second domain joins a container with 512 MiB mapped, and leaves; then everything is
 * released ----
 */

static void replay(enum peer peer, const struct backing *b, u64 size)
{
	struct vt_container *c;
	struct vt_dev *dev;
	struct peers p;
	u64 since;
	void *mem;
	int ret;

	mem = vt_alloc(b->kind, size);
	ret = peer_open(&p, peer, mem, size);
	if (ret) {
		figure("replay", peer, b, size, 0, ret, 0);
		peer_close(&p);
		return;
	}
	c = &p.user[0].c;
	dev = vt_add_edu(c, 7);
	vt_remove(dev);
	since = vt_now();
	dev = vt_add_edu(c, 7);
	since = vt_now() - since;
	vt_remove(dev);

	ret = peer_map_one(&p, 0, IOVA, mem, size, 0);
	/* What attaching costs with nothing mapped is no part of the replay. */
	since += vt_now();
	dev = vt_add_edu(c, 7);
	figure("replay", peer, b, size, 0, ret, vt_now() - since);
	since = vt_now();
	vt_remove(dev);
	figure("detach", peer, b, size, 0, ret, vt_now() - since);
	since = vt_now();
	peer_close(&p);
	figure("release", peer, b, size, 0, ret, vt_now() - since);
	vt_free(mem, b->kind, size);
}

static void short_replay(void)
{
	patched();
	td_need();
	td_two_domains();
	replay(PEER_TYPE1, &thp, SZ_512M);
	if (patched())
		replay(PEER_SUPER, &thp, SZ_512M);
}

/* ---- The first containers, one after the other, to the same memory ---- */

static void join(enum peer peer, const struct backing *b, u8 *mem, u64 size, u64 piece)
{
	struct peers p;
	u64 since, took = 0;
	char op[16];
	int ret, i;

	ret = peer_open(&p, peer, mem, size);
	for (i = 0; i < PEER_USERS; i++) {
		if (!ret && i)
			ret = peer_add(&p);
		snprintf(op, sizeof(op), "join%d", i + 1);
		since = vt_now();
		if (!ret && (i || (peer != PEER_COPY && peer != PEER_COPY_CALLS)))
			ret = peer_map(&p, i, IOVA, mem, size, piece);
		took = vt_now() - since;
		/* The first one brings the memory */
		if (!i)
			took += p.prepare_ns;
		figure(op, peer, b, size, piece, ret, took);
		if (ret)
			break;
	}
	peer_close(&p);
}

static void full_join(void)
{
	static const enum peer peers[] = { PEER_SUPER, PEER_GRANULE, PEER_TYPE1,
					   PEER_TYPE1_CALLS, PEER_COPY };
	size_t i;
	u8 *mem;

	patched();
	mem = vt_alloc(VT_MEM_THP, SZ_512M);
	for (i = 0; i < ARRAY_SIZE(peers); i++)
		if (wanted(peers[i]))
			join(peers[i], &thp, mem, SZ_512M,
			     peer_has_pieces(peers[i]) ? SZ_2M : 0);
}

/* ---- How it grows ---- */

/* A virtual IOMMU's map and unmap, beside so many other mappings of a page each. */
static void among(enum peer peer, u8 *mem, u64 nr)
{
	const unsigned int times = 64;
	u64 i, since, seed = 7, at, build = 0, clear = 0, took[times];
	struct peers p;
	char text[24];
	int ret, round;

	snprintf(text, sizeof(text), "%llu", nr);
	ret = open_peer(&p, peer, mem, nr * SZ_4K);
	for (round = 0; round < (nr > 1000 ? 1 : ROUNDS) && !ret; round++) {
		if (round) {
			since = vt_now();
			ret = peer_unmap(&p, LAST(&p), IOVA, nr * SZ_8K);
			keep_least(&clear, vt_now() - since);
		}
		since = vt_now();
		for (i = 0; i < nr && !ret; i++)
			ret = peer_map_one(&p, LAST(&p), IOVA + i * SZ_8K, mem + i * SZ_4K,
					   SZ_4K, 0);
		keep_least(&build, vt_now() - since);
	}
	figure_n("build", peer, &small, text, 0, ret, build);
	memset(took, 0, sizeof(took));
	for (i = 0; i < times && !ret; i++) {
		since = vt_now();
		at = next_random(&seed) % nr;
		ret = peer_unmap(&p, LAST(&p), IOVA + at * SZ_8K, SZ_4K);
		if (!ret)
			ret = peer_map_one(&p, LAST(&p), IOVA + at * SZ_8K, mem + at * SZ_4K,
					   SZ_4K, 0);
		took[i] = vt_now() - since;
	}
	figure_n("among", peer, &small, text, 0, ret, median(took, times));
	since = vt_now();
	if (!ret)
		ret = peer_unmap(&p, LAST(&p), IOVA, nr * SZ_8K);
	keep_least(&clear, vt_now() - since);
	figure_n("clear", peer, &small, text, 0, ret, clear);
	peer_close(&p);
}

static void mappings(u64 min, u64 max)
{
	static const u64 nrs[] = { 10, 100, 1000, 10000, 60000 };
	static const enum peer peers[] = { PEER_SUPER, PEER_TYPE1, PEER_IOMMUFD, PEER_COPY };
	size_t i, n;
	u8 *mem;

	patched();
	mem = vt_alloc(VT_MEM_4K, max * SZ_4K);
	for (i = 0; i < ARRAY_SIZE(peers); i++)
		for (n = 0; n < ARRAY_SIZE(nrs); n++)
			if (wanted(peers[i]) && nrs[n] >= min && nrs[n] <= max)
				among(peers[i], mem, nrs[n]);
}

static void short_mappings(void)
{
	mappings(10, 10000);
}

static void full_mappings(void)
{
	mappings(60000, 60000);
}

/* Make so many holes in a mapping, unmap and map beside them, then unmap all of it. */
static void holes_in(enum peer peer, u8 *mem, u64 nr)
{
	u64 i, since, each = 0;
	struct peers p;
	char text[24];
	int ret;

	snprintf(text, sizeof(text), "%llu", nr);
	ret = open_peer(&p, peer, mem, 2 * nr * SZ_4K);
	if (!ret)
		ret = peer_map_one(&p, LAST(&p), IOVA, mem, 2 * nr * SZ_4K, SZ_4K);
	since = vt_now();
	/* In no order: 7919 is prime to nr */
	for (i = 0; i < nr && !ret; i++)
		ret = peer_unmap(&p, LAST(&p), IOVA + i * 7919 % nr * SZ_8K, SZ_4K);
	figure_n("punch", peer, &thp, text, SZ_4K, ret, vt_now() - since);
	if (!ret)
		ret = pairs_of(&p, IOVA, mem, SZ_4K, nr, &each);
	figure_n("inhole", peer, &thp, text, SZ_4K, ret, each);
	since = vt_now();
	if (!ret)
		ret = peer_unmap(&p, LAST(&p), IOVA, 2 * nr * SZ_4K);
	figure_n("clearholes", peer, &thp, text, SZ_4K, ret, vt_now() - since);
	peer_close(&p);
}

static void holes(u64 min, u64 max)
{
	static const u64 nrs[] = { 10, 100, 1000, 10000, 60000 };
	u8 *mem;
	size_t n;

	if (!patched())
		SKIP("the unpatched kernel's mappings have no holes");
	mem = vt_alloc(VT_MEM_THP, SZ_512M);
	for (n = 0; n < ARRAY_SIZE(nrs); n++) {
		if (nrs[n] < min || nrs[n] > max)
			continue;
		holes_in(PEER_SUPER, mem, nrs[n]);
		holes_in(PEER_GRANULE, mem, nrs[n]);
	}
}

static void short_holes(void)
{
	holes(10, 10000);
}

static void full_holes(void)
{
	holes(60000, 60000);
}

/*
 * virtio-mem: unmap and map single granules of a large mapping at random. More memory than
 * 1 GiB is the same huge page of 1 GiB several times.
 */
static u8 *aliases(u64 size)
{
	u8 *p;
	u64 at;
	int fd;

	fd = memfd_create("cost", MFD_CLOEXEC | MFD_HUGETLB | 30u << MAP_HUGE_SHIFT);
	if (fd < 0 || ftruncate(fd, SZ_1G))
		FAIL("a file of a huge page of 1 GiB: %s", strerror(errno));
	p = mmap(NULL, size + SZ_1G, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		 -1, 0);
	ASSERT_TRUE(p != MAP_FAILED);
	p = (u8 *)ALIGN_UP((uintptr_t)p, SZ_1G);
	for (at = 0; at < size; at += SZ_1G) {
		ASSERT_TRUE(mmap(p + at, SZ_1G, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
				 fd, 0) == p + at);
		p[at] = 1;
	}
	close(fd);
	return p;
}

static void random_granules(enum peer peer, u8 *mem, u64 size, u64 piece)
{
	const unsigned int times = 128;
	u64 since, at, unmap[times], map[times], seed = 7;
	struct peers p;
	unsigned int i;
	int ret;

	ret = open_peer(&p, peer, mem, size);
	if (peer == PEER_SUPER)
		figure("register", peer, &huge1g, size, 0, ret, p.prepare_ns);
	since = vt_now();
	if (!ret)
		ret = peer_map(&p, LAST(&p), IOVA, mem, size, piece);
	figure("map", peer, &huge1g, size, piece, ret, vt_now() - since);
	memset(unmap, 0, sizeof(unmap));
	memset(map, 0, sizeof(map));
	for (i = 0; i < times && !ret; i++) {
		at = next_random(&seed) % (size / piece) * piece;
		since = vt_now();
		ret = peer_unmap(&p, LAST(&p), IOVA + at, piece);
		unmap[i] = vt_now() - since;
		since = vt_now();
		if (!ret)
			ret = peer_map_one(&p, LAST(&p), IOVA + at, mem + at, piece, 0);
		map[i] = vt_now() - since;
	}
	figure("unmap1", peer, &huge1g, size, piece, ret, median(unmap, times));
	figure("remap1", peer, &huge1g, size, piece, ret, median(map, times));
	since = vt_now();
	if (!ret)
		ret = peer_unmap(&p, LAST(&p), IOVA, size);
	figure("unmap", peer, &huge1g, size, piece, ret, vt_now() - since);
	peer_close(&p);
}

static void random_of(u64 size, u64 max_calls)
{
	static const enum peer peers[] = { PEER_SUPER, PEER_GRANULE, PEER_TYPE1_CALLS,
					   PEER_IOMMUFD_CALLS, PEER_COPY_CALLS };
	size_t i;
	u8 *mem;

	patched();
	mem = aliases(size);
	for (i = 0; i < ARRAY_SIZE(peers); i++)
		if ((i < 2 || size / SZ_2M <= max_calls) && wanted(peers[i]))
			random_granules(peers[i], mem, size, SZ_2M);
}

static void short_random_1g(void)
{
	random_of(SZ_1G, MAX_CALLS);
}

static void short_random_32g(void)
{
	if (!patched())
		SKIP("the unpatched kernel has no granules");
	random_of(32 * SZ_1G, 0);
}

/* The dirty bitmap of a large mapping, beside a copy of as many bytes */
static void short_bitmap(void)
{
	u64 size = 32 * SZ_1G, bytes = VT_BITMAP_BYTES(size), began, each = 0, copy = 0;
	struct vt_container *c;
	u8 *mem, *to, *from;
	struct peers p;
	int ret, i;

	patched();
	mem = aliases(size);
	to = vt_alloc(VT_MEM_4K, bytes);
	from = vt_alloc(VT_MEM_4K, bytes);
	ret = open_peer(&p, PEER_TYPE1, mem, size);
	c = &p.user[LAST(&p)].c;
	if (!ret)
		ret = peer_map(&p, LAST(&p), IOVA, mem, size, 0);
	if (!ret)
		ret = vt_dirty_start(c);
	for (i = 0; i < ROUNDS && !ret; i++) {
		began = vt_now();
		ret = vt_dirty_get(c, IOVA, size, to, bytes);
		keep_least(&each, vt_now() - began);
		began = vt_now();
		memcpy(from, to, bytes);
		keep_least(&copy, vt_now() - began);
	}
	figure("bitmap", PEER_TYPE1, &huge1g, size, 0, ret, each);
	figure("copy", PEER_TYPE1, &huge1g, size, 0, ret, copy);
	peer_close(&p);
}

static void full_random_16g(void)
{
	random_of(16 * SZ_1G, MAX_CALLS);
}

static void full_random_256g(void)
{
	if (!patched())
		SKIP("the unpatched kernel has no granules");
	random_of(256 * SZ_1G, 0);
}

static void full_random_1t(void)
{
	if (!patched())
		SKIP("the unpatched kernel has no granules");
	random_of(SZ_1T, 0);
}

/*
 * Plug and unplug a block at eight places, again and again: fill and empty a sparse mapping;
 * unmap and map in a mapping with a granule; map and unmap with nothing around it. Each way
 * maps the same and uses the same IOMMU tables, which the first round makes.
 */
#define PLACES	8

static void pairs_in(enum peer peer, const char *name, u8 *mem, u64 size, u64 piece)
{
	const unsigned int times = 64;
	bool sparse = !strcmp(name, "sparse");
	u64 since, at, i, each = 0;
	struct vt_container *c;
	struct peers p;
	int ret, round;

	ret = open_peer(&p, peer, mem, size);
	c = &p.user[LAST(&p)].c;
	since = vt_now();
	if (!ret && sparse)
		ret = vt_sparse(c, IOVA, mem, size, VT_RW, piece);
	else if (!ret && peer == PEER_GRANULE)
		ret = vt_map(c, IOVA, mem, size, VT_RW, piece);
	since = vt_now() - since;
	if (sparse)
		vt_diag("cost set_up.sparse.huge1G.%s.%s %llu", sz(size), sz(piece), since);
	for (round = 0; round <= ROUNDS && !ret; round++) {
		since = vt_now();
		for (i = 0; i < times && !ret; i++) {
			at = ALIGN_DOWN(i % PLACES * (size / PLACES) + size / 3 / PLACES, piece);
			if (peer == PEER_GRANULE)
				ret = vt_unmap(c, IOVA + at, piece, NULL);
			if (!ret)
				ret = vt_map(c, IOVA + at, mem + at, piece, VT_RW, 0);
			if (!ret && peer != PEER_GRANULE)
				ret = vt_unmap(c, IOVA + at, piece, NULL);
		}
		if (round)
			keep_least(&each, (vt_now() - since) / times);
	}
	if (ret)
		vt_diag("cost block.%s.huge1G.%s.%s %s", name, sz(size), sz(piece),
			strerrorname_np(-ret));
	else
		vt_diag("cost block.%s.huge1G.%s.%s %llu", name, sz(size), sz(piece), each);
	peer_close(&p);
}

static void short_sparse(void)
{
	static const u64 sizes[] = { SZ_1G, 64 * SZ_1G, SZ_1T };
	size_t i;
	u8 *mem;

	if (!patched())
		SKIP("the unpatched kernel has no sparse mappings");
	mem = aliases(SZ_1T);
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		pairs_in(PEER_TYPE1, "sparse", mem, sizes[i], SZ_4K);
		pairs_in(PEER_TYPE1, "sparse", mem, sizes[i], SZ_2M);
		pairs_in(PEER_TYPE1, "type1", mem, sizes[i], SZ_4K);
		pairs_in(PEER_TYPE1, "type1", mem, sizes[i], SZ_2M);
	}
	pairs_in(PEER_GRANULE, "granule", mem, SZ_1G, SZ_4K);
	pairs_in(PEER_GRANULE, "granule", mem, SZ_1G, SZ_2M);
	pairs_in(PEER_GRANULE, "granule", mem, 64 * SZ_1G, SZ_2M);
}

static void full_sparse(void)
{
	if (!patched())
		SKIP("the unpatched kernel has no sparse mappings");
	pairs_in(PEER_GRANULE, "granule", aliases(SZ_1T), SZ_1T, SZ_2M);
}

/* ---- Extents: the cost of each IOMMU page, which must not depend on its size ---- */

static void extents_of(enum peer peer, const struct backing *b, u64 size, u64 pages,
		       u64 granule)
{
	static struct vfio_dma_extent extent[1024];
	struct vfio_iommu_type1_dma_extents req = {
		.argsz = sizeof(req),
		.iova = IOVA,
		.size = size,
		.extents = (uintptr_t)extent,
		.count = ARRAY_SIZE(extent),
	};
	struct peers p;
	u64 since, took;
	void *mem;
	int ret;

	mem = vt_alloc(b->kind, size);
	ret = open_peer(&p, peer, mem, size);
	if (!ret)
		ret = peer_map_one(&p, LAST(&p), IOVA, mem, size, granule);
	since = vt_now();
	if (!ret && ioctl(p.user[LAST(&p)].c.fd, VFIO_IOMMU_DMA_EXTENTS, &req))
		ret = -errno;
	took = vt_now() - since;
	figure("extents", peer, b, size, granule, ret, took);
	figure("extent_page", peer, b, size, granule, ret, took / pages);
	if (!ret) {
		ASSERT_EQ(req.size, 0);
		ASSERT_EQ(req.count, 1);
		ASSERT_EQ(extent[0].size, size);
		ASSERT_EQ(extent[0].pgsize, size / pages);
	}
	peer_close(&p);
	vt_free(mem, b->kind, size);
}

static void short_extents(void)
{
	if (!patched())
		SKIP("the unpatched kernel has no VFIO_IOMMU_DMA_EXTENTS");
	extents_of(PEER_GRANULE, &thp, SZ_1G, 512, SZ_2M);
	extents_of(PEER_TYPE1, &small, 256 * SZ_1M, 65536, 0);
}

static void full_extents(void)
{
	if (!patched())
		SKIP("the unpatched kernel has no VFIO_IOMMU_DMA_EXTENTS");
	extents_of(PEER_SUPER, &thp, SZ_1G, 512, SZ_2M);
	extents_of(PEER_GRANULE, &huge1g, SZ_1G, 1, SZ_1G);
	extents_of(PEER_GRANULE, &small, SZ_64M, SZ_64M / SZ_4K, SZ_4K);
}

/* ---- Kernel memory in use, in bytes, without the IOMMU's page tables ---- */

static s64 kernel_bytes(void)
{
	glob_t caches;
	size_t i;

	/* What has been closed may be freed a moment later; slabs are kept for longer */
	sleep(2);
	ASSERT_OK(glob("/sys/kernel/slab/*/shrink", 0, NULL, &caches));
	for (i = 0; i < caches.gl_pathc; i++)
		vt_write_file(caches.gl_pathv[i], "1");
	globfree(&caches);
	vt_write_file("/proc/sys/vm/stat_refresh", "1");
	return vt_meminfo("Slab") + vt_meminfo("VmallocUsed");
}

static u64 per(s64 bytes, u64 nr)
{
	return bytes > 0 ? bytes / (s64)nr : 0;
}

#define MANY	20000
#define SOME	16	/* where one takes about a page, which is all that can be seen */

static void memory_of_mappings(enum peer peer, u8 *mem)
{
	const u64 nr = MANY;
	struct peers p;
	s64 before;
	u64 i;
	int ret;

	ret = open_peer(&p, peer, mem, nr * SZ_4K);
	before = kernel_bytes();
	for (i = 0; i < nr && !ret; i++)
		ret = peer_map_one(&p, LAST(&p), IOVA + i * SZ_8K, mem + i * SZ_4K, SZ_4K, 0);
	figure("bytes_mapping", peer, &small, SZ_4K, 0, ret, per(kernel_bytes() - before, nr));
	peer_close(&p);
}

static void memory_of_holes(enum peer peer, u8 *mem)
{
	const u64 nr = MANY, size = 2 * nr * SZ_4K;
	struct peers p;
	s64 before;
	u64 i;
	int ret;

	ret = open_peer(&p, peer, mem, size);
	before = kernel_bytes();
	for (i = 0; i < SOME && !ret; i++)
		ret = peer_map_one(&p, LAST(&p), IOVA + i * SZ_1G, mem, size, SZ_4K);
	figure("bytes_mapping", peer, &thp, size, SZ_4K, ret, per(kernel_bytes() - before, SOME));
	before = kernel_bytes();
	for (i = 0; i < nr && !ret; i++)
		ret = peer_unmap(&p, LAST(&p), IOVA + i * SZ_8K, SZ_4K);
	figure("bytes_hole", peer, &thp, size, SZ_4K, ret, per(kernel_bytes() - before, nr));
	peer_close(&p);
}

static void memory_of_registered(const struct backing *b, u64 size)
{
	int super[SOME], i, ret;
	struct peers p;
	s64 before;
	void *mem;

	mem = vt_alloc(b->kind, size);
	ret = peer_open(&p, PEER_SUPER, mem, 0);
	super[0] = p.super;
	for (i = 1; i < SOME && !ret; i++) {
		super[i] = vt_super_create(&p.user[0].c);
		ASSERT_GE(super[i], 0);
	}
	before = kernel_bytes();
	for (i = 0; i < SOME && !ret; i++) {
		p.super = super[i];
		ret = peer_register(&p, mem, size);
	}
	figure("bytes_registered", PEER_SUPER, b, size, 0, ret, per(kernel_bytes() - before, SOME));
	while (--i > 0)
		close(super[i]);
	p.super = super[0];
	peer_close(&p);
	vt_free(mem, b->kind, size);
}

static void short_memory(void)
{
	if (!patched())
		SKIP("the unpatched kernel has no super-container");
	memory_of_registered(&thp, SZ_1G);
	memory_of_registered(&small, SZ_512M);
}

static void full_memory(void)
{
	u8 *mem;
	int i;

	patched();
	mem = vt_alloc(VT_MEM_4K, MANY * SZ_4K);
	for (i = 0; i < NR_PEERS; i++)
		if (wanted(i) && i != PEER_FLOOR && i != PEER_TYPE1_CALLS &&
		    i != PEER_COPY_CALLS && i != PEER_IOMMUFD_CALLS)
			memory_of_mappings(i, mem);
	if (!patched())
		return;
	mem = vt_alloc(VT_MEM_THP, SZ_512M);
	memory_of_holes(PEER_SUPER, mem);
	memory_of_holes(PEER_GRANULE, mem);
	vt_free(mem, VT_MEM_THP, SZ_512M);
	memory_of_registered(&huge1g, SZ_1G);
}

VTEST_MAIN(
	VTEST(short_pairs),
	VTEST(short_thp),
	VTEST(short_cuts),
	VTEST(short_small),
	VTEST(short_register),
	VTEST(short_replay),
	VTEST(short_mappings),
	VTEST(short_holes),
	VTEST(short_random_1g),
	VTEST(short_random_32g),
	VTEST(short_bitmap),
	VTEST(short_sparse),
	VTEST(full_sparse),
	VTEST(short_memory),
	VTEST(short_extents),
	VTEST(full_extents),
	VTEST(full_thp),
	VTEST(full_hugetlb_1g),
	VTEST(full_small),
	VTEST(full_register),
	VTEST(full_join),
	VTEST(full_mappings),
	VTEST(full_holes),
	VTEST(full_random_16g),
	VTEST(full_random_256g),
	VTEST(full_random_1t),
	VTEST(full_memory),
	VTEST(full_hugetlb),
)
