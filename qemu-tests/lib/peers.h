/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The ways there are to map memory for a device, behind one face, so that a
 * benchmark can put them side by side.
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
/* Does a piece mean something to it, or is what it maps unmapped whole? */
bool peer_has_pieces(enum peer peer);

/* One way to map, with up to PEER_USERS devices that each see memory by themselves. */
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
 * All return 0 or -errno. Users are numbered as they are added, each with the edu
 * device of that number; user 0 of a peer that shares memory is the one who provides
 * it: the super-container is made on it, it is the source of the copies. Before it
 * there is peer_open(). Memory of PEER_COPY is mapped by user 0 at peer_open(), at
 * PEER_SOURCE_IOVA.
 */
#define PEER_SOURCE_IOVA	(1ull << 45)
int peer_open(struct peers *p, enum peer peer, void *vaddr, u64 size);
int peer_add(struct peers *p);
void peer_close(struct peers *p);

int peer_map(struct peers *p, u32 user, u64 iova, const void *vaddr, u64 size, u64 piece);
int peer_unmap(struct peers *p, u32 user, u64 iova, u64 size);
/* One call for all of it, whatever the peer is called; granule 0: none. */
int peer_map_one(struct peers *p, u32 user, u64 iova, const void *vaddr, u64 size,
		 u64 granule);

/* Memory in and out of a super-container. */
int peer_register(struct peers *p, const void *vaddr, u64 size);
int peer_unregister(struct peers *p, const void *vaddr, u64 size);
int peer_attach_super(struct peers *p, u32 user);

/*
 * The floor: what mapping takes with one iommu_map() for each contiguous run inside
 * a granule (0: none), unmapping with one iommu_unmap(), and the two together,
 * done so many times.
 */
struct peer_floor {
	u64 map, unmap, pair, calls;
};

int peer_floor(const void *vaddr, u64 iova, u64 size, u64 granule, u64 times,
	       struct peer_floor *floor);

#endif
