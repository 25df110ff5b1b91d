/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The test module: mediated devices that pin pages, and probes that make the IOMMU core
 * refuse calls. See module/vfio_testdev.c.
 */
#ifndef TESTDEV_H
#define TESTDEV_H

#include "vtest.h"
#include "../module/vfio_testdev.h"

/* Load the module if it is not loaded. End the test as skipped if there is none. */
void td_need(void);

/* The k-th mediated device: returns the number of its group; adds it to a container. */
int td_group(int k);
struct vt_dev *td_add(struct vt_container *c, int k);
/* As vt_try_add_group() */
int td_try_add(struct vt_container *c, int k, struct vt_dev **dev);

/* All return -errno on failure. */
int td_pin(struct vt_dev *dev, u64 iova, u32 npages, u32 prot, u64 *pfns);
int td_unpin(struct vt_dev *dev, u64 iova, u32 npages);
/*
 * Pin the page at iova when the device is next told to unmap something else (0: do not),
 * within that callback. Returns what the last such pin has returned, -ENODATA if there was
 * none.
 */
int td_pin_late(struct vt_dev *dev, u64 iova, u32 prot);
int td_read(struct vt_dev *dev, u64 iova, void *buf, u64 len);
int td_write(struct vt_dev *dev, u64 iova, const void *buf, u64 len);
/* flags: VTD_WRITE, VTD_KTHREAD */
int td_rw(struct vt_dev *dev, u64 iova, void *buf, u64 len, u32 flags);
/* Does the device keep its pages when it is told to unmap them? */
void td_keep(struct vt_dev *dev, bool keep);
/* How many pages the device has pinned */
int td_pinned(struct vt_dev *dev);
/*
 * A new thread holds this process's mmap_lock for reading, as does a page fault that waits
 * for its memory, until another process releases it. It uses SIGUSR1. If a writer waits for
 * the lock, page faults of this process may wait behind it: before that happens, its main
 * thread must be in a system call that does not return.
 */
void td_hold_mm(void);
void td_release_mm(pid_t pid);

/*
 * What the device was told to unmap since the last call. Returns how many times, and fills in
 * the first "room" of them.
 */
unsigned int td_told(struct vt_dev *dev, struct vtd_event *ev, unsigned int room);

/*
 * Arms the probes until the test ends, with all parameters reset; sets one parameter. The
 * module describes what its values mean.
 */
void td_arm(void);
void td_disarm(void);
void td_set(const char *param, long long value);
/* For hide_pgsizes: leaves only 4 KiB of an IOMMU that has all powers of two. */
#define MORE_THAN_4K	(~0ull >> 1 & -SZ_8K)
/* Until the test ends, each group that joins a container gets a domain of its own. */
void td_two_domains(void);
/* Adds edu device 1, which gets the second domain. */
struct vt_dev *td_add_second(struct vt_container *c);
/* What the kernel says when that device joins; the same when its group has a reserved region. */
int td_try_second(struct vt_container *c);
int td_try_reserved(struct vt_container *c, u64 iova, u64 size);
/*
 * After "skip" calls, so many fail to unmap (-1: all), in one domain (0: in any). The kernel
 * may complain.
 */
void td_fail_unmaps(int times, int skip, int domain);
/* After so many maps one fails, and unmapping what was mapped fails, too. */
void td_fail_to_undo(int skip);
/* hide_pgsizes has no effect if the driver knows page sizes only of an attached domain. */
void td_need_hiding(void);
u64 td_get(const char *param);

#endif
