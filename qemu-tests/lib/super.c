// SPDX-License-Identifier: GPL-2.0
/* Super-containers: files that own pinned memory, for containers to map. */
#include "vtest.h"

/* Memory may be given back a moment after the last close. */
#define SETTLE_SECONDS	10

int vt_super_create(struct vt_container *c)
{
	struct vfio_iommu_super_create create = { .argsz = sizeof(create) };
	int fd = ioctl(c->fd, VFIO_IOMMU_SUPER_CREATE, &create);

	return fd < 0 ? -errno : fd;
}

int vt_super_attach(struct vt_container *c, int super)
{
	struct vfio_iommu_super_attach attach = { .argsz = sizeof(attach), .super_fd = super };

	return ioctl(c->fd, VFIO_IOMMU_SUPER_ATTACH, &attach) < 0 ? -errno : 0;
}

int vt_super_detach(struct vt_container *c)
{
	struct vfio_iommu_super_detach detach = { .argsz = sizeof(detach) };

	return ioctl(c->fd, VFIO_IOMMU_SUPER_DETACH, &detach) < 0 ? -errno : 0;
}

static int memory_ioctl(int super, unsigned long cmd, const void *p, u64 size, u32 flags)
{
	struct vfio_super_memory mem = {
		.argsz = sizeof(mem),
		.flags = flags,
		.vaddr = (uintptr_t)p,
		.size = size,
	};

	return ioctl(super, cmd, &mem) < 0 ? -errno : 0;
}

int vt_super_register(int super, const void *p, u64 size, u32 flags)
{
	return memory_ioctl(super, VFIO_SUPER_REGISTER_MEMORY, p, size, flags);
}

int vt_super_unregister(int super, const void *p, u64 size)
{
	return memory_ioctl(super, VFIO_SUPER_UNREGISTER_MEMORY, p, size, 0);
}

int vt_super_info(int super, struct vfio_super_info *info)
{
	memset(info, 0, sizeof(*info));
	info->argsz = sizeof(*info);
	return ioctl(super, VFIO_SUPER_GET_INFO, info) < 0 ? -errno : 0;
}

int vt_map_super(struct vt_container *c, u64 iova, const void *p, u64 size, u32 flags,
		 u64 granule)
{
	return vt_map(c, iova, p, size, flags | VFIO_DMA_MAP_FLAG_SUPER, granule);
}

void vt_need_super(struct vt_container *c)
{
	if (vt_check_extension(c, VFIO_SUPER_CONTAINER) != 1)
		SKIP("this kernel has no VFIO_SUPER_CONTAINER");
}

int vt_super_new(struct vt_container *c)
{
	int super;

	vt_need_super(c);
	super = vt_super_create(c);
	if (super < 0)
		FAIL("VFIO_IOMMU_SUPER_CREATE: %s", strerror(-super));
	ASSERT_OK(vt_super_attach(c, super));
	return super;
}

int vt_open_super(struct vt_container *c)
{
	int super;

	vt_open_v2(c);
	super = vt_super_new(c);
	vt_edu_enable(&c->dev[0]);
	return super;
}

/* The value of a "field:   123" line */
static u64 fdinfo_field(const char *text, const char *field)
{
	size_t n = strlen(field);
	const char *at;

	for (at = text; at; at = strchr(at, '\n')) {
		if (*at == '\n')
			at++;
		if (!strncmp(at, field, n) && at[n] == ':')
			return strtoull(at + n + 1, NULL, 0);
	}
	FAIL("fdinfo has no %s: '%s'", field, text);
}

void vt_super_fdinfo(pid_t pid, int super, struct vfio_super_info *info)
{
	char path[64], buf[1024];

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", pid, super);
	ASSERT_GT(vt_read_file(path, buf, sizeof(buf)), 0);
	memset(info, 0, sizeof(*info));
	info->registered = fdinfo_field(buf, "registered");
	info->locked = fdinfo_field(buf, "locked");
	info->regions = fdinfo_field(buf, "regions");
	info->containers = fdinfo_field(buf, "containers");
}

static bool same_info(const struct vfio_super_info *a, const struct vfio_super_info *b)
{
	return a->registered == b->registered && a->locked == b->locked &&
	       a->regions == b->regions && a->containers == b->containers;
}

static void fail_info(const char *file, int line, const char *what,
		      const struct vfio_super_info *is, const struct vfio_super_info *want)
{
	vt_fail(file, line,
		"%s: registered %#llx locked %#llx regions %u containers %u, not %#llx %#llx %u %u",
		what, is->registered, is->locked, is->regions, is->containers,
		want->registered, want->locked, want->regions, want->containers);
	vt_stop();
}

void vt_super_check(const char *file, int line, int super, u64 registered, u64 locked,
		    u32 regions, u32 containers)
{
	struct vfio_super_info is, want = {
		.registered = registered,
		.locked = locked,
		.regions = regions,
		.containers = containers,
	};

	ASSERT_OK(vt_super_info(super, &is));
	if (!same_info(&is, &want))
		fail_info(file, line, "GET_INFO", &is, &want);
	vt_super_fdinfo(getpid(), super, &is);
	if (!same_info(&is, &want))
		fail_info(file, line, "fdinfo", &is, &want);
}

void vt_super_state(int super, struct vt_super_state *s)
{
	memset(s, 0, sizeof(*s));
	ASSERT_OK(vt_super_info(super, &s->info));
	s->locked = vt_locked();
	s->pinned = vt_pinned();
}

void vt_super_state_same(int super, const struct vt_super_state *s, const char *after)
{
	struct vt_super_state now;

	vt_super_state(super, &now);
	if (!same_info(&now.info, &s->info))
		fail_info(__FILE__, __LINE__, after, &now.info, &s->info);
	if (now.locked != s->locked)
		FAIL("%s: %llu bytes locked, before %llu", after, now.locked, s->locked);
	if (now.pinned != s->pinned)
		FAIL("%s: %lld pages more are pinned", after, (long long)(now.pinned - s->pinned));
}

void vt_wait_locked(const char *file, int line, pid_t pid, u64 want)
{
	u64 end = vt_now() + SETTLE_SECONDS * 1000000000ull, is;

	while ((is = vt_locked_of(pid)) != want && vt_now() < end)
		usleep(10000);
	if (is == want)
		return;
	vt_fail(file, line, "%llu bytes stay locked, not %llu", is, want);
	vt_stop();
}

void vt_wait_pinned(const char *file, int line, u64 want)
{
	u64 end = vt_now() + SETTLE_SECONDS * 1000000000ull, is;

	while ((is = vt_pinned()) != want && vt_now() < end)
		usleep(10000);
	if (is == want)
		return;
	vt_fail(file, line, "%lld pages more than wanted stay pinned", (long long)(is - want));
	vt_stop();
}
