/* SPDX-License-Identifier: GPL-2.0 */
/*
 * All ways to map memory for a device, behind one interface, so that a benchmark can compare
 * them
 */
#ifndef PEERS_H
#define PEERS_H

#include "vtest.h"

#define PEER_USERS	8

enum peer {
	PEER_FLOOR,		/* bare iommu_map() and iommu_unmap(), see the module */
	PEER_SUPER,		/* out of a super-container */
	PEER_GRANULE,		/* type1 v2, one call with a granule */
	PEER_TYPE1,		/* type1 v2, one call */
	PEER_TYPE1_CALLS,	/* type1 v2, a call for each piece */
	PEER_IOMMUFD,		/* IOMMU_IOAS_MAP, one area */
	PEER_IOMMUFD_CALLS,	/* the same, an area for each piece */
	PEER_COPY,		/* IOMMU_IOAS_COPY of memory that another IOAS maps */
	PEER_COPY_CALLS,	/* the same, an area for each piece */
	NR_PEERS
};

const char *peer_name(enum peer peer);
/* Can it unmap pieces of what it maps? */
bool peer_has_pieces(enum peer peer);

/* One way to map, with up to PEER_USERS devices, each with an address space of its own */
struct peers {
	enum peer peer;
	u8 *vaddr;		/* what will be mapped lies in here */
	u64 size;
	u32 users;
	struct {
		struct vt_container c;
		int dev;	/* iommufd: device, address space */
		u32 ioas;
	} user[PEER_USERS];
	int super;
	int iommufd;
	u64 prepare_ns;		/* to register the memory, or map it in the source IOAS */
};

/*
 * All return 0 or -errno. Users are numbered in the order in which they are added; each has
 * the edu device of its number. peer_open() adds user 0. If the peer shares memory, user 0
 * provides it: it makes the super-container, or it is the source of the copies. For
 * PEER_COPY, peer_open() maps the memory for user 0 at PEER_SOURCE_IOVA.
 */
#define PEER_SOURCE_IOVA	(1ull << 45)
int peer_open(struct peers *p, enum peer peer, void *vaddr, u64 size);
int peer_add(struct peers *p);
void peer_close(struct peers *p);

int peer_map(struct peers *p, u32 user, u64 iova, const void *vaddr, u64 size, u64 piece);
int peer_unmap(struct peers *p, u32 user, u64 iova, u64 size);
/* Maps all of it with one call, also for a peer that maps in pieces; granule 0: none. */
int peer_map_one(struct peers *p, u32 user, u64 iova, const void *vaddr, u64 size,
		 u64 granule);

/* Registers and unregisters memory with a super-container. */
int peer_register(struct peers *p, const void *vaddr, u64 size);
int peer_unregister(struct peers *p, const void *vaddr, u64 size);
int peer_attach_super(struct peers *p, u32 user);

/*
 * The floor: what it costs to map with one iommu_map() for each contiguous run inside a
 * granule (0: none), to unmap with one iommu_unmap(), and to do both, so many times. And what
 * it costs to fill page tables for these runs in one loop.
 */
struct peer_floor {
	u64 map, unmap, pair, calls, fill;
};

int peer_floor(const void *vaddr, u64 iova, u64 size, u64 granule, u64 times,
	       struct peer_floor *floor);
/*
 * What do iommu_map() (segment 0) and iommu_map_sg() map? The module looks at the translation
 * of each page. taken: a page of the range that is mapped before; 0: none. See iommu_floor.h.
 */
int peer_look(const void *vaddr, u64 iova, u64 size, u32 segment, u32 taken);

#endif
