// SPDX-License-Identifier: GPL-2.0
/* Containers, groups, devices, and how a device gets to vfio-pci. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>

#include "vtest.h"

#define PCI	"/sys/bus/pci/devices"

#define EDU_VENDOR	0x1234
#define EDU_DEVICE	0x11e8

static char edu_bdf[VT_MAX_DEVS][16];
static int edu_nr = -1;

static unsigned int pci_id(const char *bdf, const char *file)
{
	char path[PATH_MAX], buf[32];

	snprintf(path, sizeof(path), PCI "/%s/%s", bdf, file);
	if (vt_read_file(path, buf, sizeof(buf)) < 0)
		return 0;
	return strtoul(buf, NULL, 16);
}

static void find_edus(void)
{
	struct dirent **list;
	int i, n;

	if (edu_nr >= 0)
		return;
	edu_nr = 0;
	n = scandir(PCI, &list, NULL, alphasort);
	for (i = 0; i < n; i++) {
		if (edu_nr < VT_MAX_DEVS &&
		    pci_id(list[i]->d_name, "vendor") == EDU_VENDOR &&
		    pci_id(list[i]->d_name, "device") == EDU_DEVICE)
			snprintf(edu_bdf[edu_nr++], sizeof(edu_bdf[0]), "%.15s", list[i]->d_name);
		free(list[i]);
	}
	if (n >= 0)
		free(list);
}

int vt_edu_count(void)
{
	find_edus();
	return edu_nr;
}

const char *vt_edu_bdf(int k)
{
	find_edus();
	if (k >= edu_nr)
		SKIP("the machine has %d edu devices, this needs %d", edu_nr, k + 1);
	return edu_bdf[k];
}

static int group_of(const char *dev_dir)
{
	char path[PATH_MAX], link[PATH_MAX];
	ssize_t n;

	snprintf(path, sizeof(path), "%s/iommu_group", dev_dir);
	n = readlink(path, link, sizeof(link) - 1);
	if (n < 0)
		FAIL("%s: %s", path, strerror(errno));
	link[n] = 0;
	return atoi(strrchr(link, '/') + 1);
}

static bool bound_to_vfio(const char *bdf)
{
	char path[PATH_MAX], link[PATH_MAX];
	ssize_t n;

	snprintf(path, sizeof(path), PCI "/%s/driver", bdf);
	n = readlink(path, link, sizeof(link) - 1);
	if (n < 0)
		return false;
	link[n] = 0;
	return !strcmp(strrchr(link, '/') + 1, "vfio-pci");
}

int vt_edu_group(int k)
{
	const char *bdf = vt_edu_bdf(k);
	char path[PATH_MAX];

	if (!bound_to_vfio(bdf)) {
		snprintf(path, sizeof(path), PCI "/%s/driver_override", bdf);
		ASSERT_OK(vt_write_file(path, "vfio-pci"));
		snprintf(path, sizeof(path), PCI "/%s/driver/unbind", bdf);
		vt_write_file(path, bdf);
		ASSERT_OK(vt_write_file("/sys/bus/pci/drivers_probe", bdf));
		if (!bound_to_vfio(bdf))
			FAIL("%s does not bind to vfio-pci", bdf);
	}
	snprintf(path, sizeof(path), PCI "/%s", bdf);
	return group_of(path);
}

int vt_edu_cdev(int k)
{
	char path[PATH_MAX];
	struct dirent *d;
	int fd = -ENODEV;
	DIR *dir;

	vt_edu_group(k);
	snprintf(path, sizeof(path), PCI "/%s/vfio-dev", vt_edu_bdf(k));
	dir = opendir(path);
	if (!dir)
		return -errno;
	while ((d = readdir(dir)))
		if (!strncmp(d->d_name, "vfio", 4)) {
			snprintf(path, sizeof(path), "/dev/vfio/devices/%s", d->d_name);
			fd = open(path, O_RDWR | O_CLOEXEC);
			if (fd < 0)
				fd = -errno;
		}
	closedir(dir);
	return fd;
}

void vt_open_empty(struct vt_container *c, int type)
{
	int i;

	memset(c, 0, sizeof(*c));
	c->type = type;
	for (i = 0; i < VT_MAX_DEVS; i++)
		c->dev[i].group = -1;
	c->fd = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (c->fd < 0)
		FAIL("/dev/vfio/vfio: %s", strerror(errno));
}

static bool is_empty(struct vt_container *c)
{
	int i;

	for (i = 0; i < VT_MAX_DEVS; i++)
		if (c->dev[i].group >= 0)
			return false;
	return true;
}

static struct vt_dev *free_slot(struct vt_container *c)
{
	int i;

	for (i = 0; i < VT_MAX_DEVS; i++)
		if (c->dev[i].group < 0)
			return &c->dev[i];
	FAIL("more than %d devices in a container", VT_MAX_DEVS);
}

int vt_try_add_group(struct vt_container *c, int group, const char *name, struct vt_dev **devp)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	struct vt_dev *dev = free_slot(c);
	bool first = is_empty(c);
	char path[32];
	int ret;

	memset(dev, 0, sizeof(*dev));
	dev->c = c;
	dev->group = -1;
	snprintf(dev->name, sizeof(dev->name), "%s", name);

	snprintf(path, sizeof(path), "/dev/vfio/%d", group);
	dev->group_fd = open(path, O_RDWR | O_CLOEXEC);
	if (dev->group_fd < 0)
		FAIL("%s: %s", path, strerror(errno));
	ASSERT_OK(ioctl(dev->group_fd, VFIO_GROUP_GET_STATUS, &status));
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		FAIL("group %d is not viable", group);

	if (ioctl(dev->group_fd, VFIO_GROUP_SET_CONTAINER, &c->fd) ||
	    (first && ioctl(c->fd, VFIO_SET_IOMMU, c->type))) {
		ret = -errno;
		close(dev->group_fd);
		return ret;
	}
	dev->fd = ioctl(dev->group_fd, VFIO_GROUP_GET_DEVICE_FD, name);
	if (dev->fd < 0)
		FAIL("device %s of group %d: %s", name, group, strerror(errno));
	dev->group = group;
	if (devp)
		*devp = dev;
	return 0;
}

struct vt_dev *vt_add_group(struct vt_container *c, int group, const char *name)
{
	struct vt_dev *dev;

	ASSERT_OK(vt_try_add_group(c, group, name, &dev));
	return dev;
}

struct vt_dev *vt_add_edu(struct vt_container *c, int k)
{
	return vt_add_group(c, vt_edu_group(k), vt_edu_bdf(k));
}

void vt_open(struct vt_container *c, int type, int k)
{
	vt_open_empty(c, type);
	vt_add_edu(c, k);
}

void vt_remove(struct vt_dev *dev)
{
	if (dev->bar)
		munmap((void *)dev->bar, SZ_4K);
	close(dev->fd);
	ASSERT_OK(ioctl(dev->group_fd, VFIO_GROUP_UNSET_CONTAINER));
	close(dev->group_fd);
	if (dev->bounce)
		munmap(dev->bounce, SZ_4K);
	dev->bar = NULL;
	dev->bounce = NULL;
	dev->group = -1;
}

void vt_close(struct vt_container *c)
{
	int i;

	for (i = 0; i < VT_MAX_DEVS; i++)
		if (c->dev[i].group >= 0)
			vt_remove(&c->dev[i]);
	close(c->fd);
	c->fd = -1;
}

/*
 * Devices that a test has created. A device can be removed only when nobody has it open. So
 * the harness removes those that a test has left when the test's process is gone.
 */
static char (*created)[40];
#define MAX_CREATED	4

void vt_mdev_share(void)
{
	created = mmap(NULL, MAX_CREATED * sizeof(*created), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(created != MAP_FAILED);
}

static void remember_mdev(const char *uuid, bool there)
{
	size_t i;

	for (i = 0; created && i < MAX_CREATED; i++) {
		if (strcmp(created[i], there ? "" : uuid))
			continue;
		snprintf(created[i], sizeof(created[i]), "%s", there ? uuid : "");
		return;
	}
}

int vt_mdev_create(const char *type_dir, const char *uuid)
{
	char path[PATH_MAX];

	if (access(type_dir, F_OK))
		SKIP("no %s", type_dir);
	snprintf(path, sizeof(path), "%s/create", type_dir);
	ASSERT_OK(vt_write_file(path, uuid));
	remember_mdev(uuid, true);
	snprintf(path, sizeof(path), "/sys/bus/mdev/devices/%s", uuid);
	return group_of(path);
}

void vt_mdev_remove(const char *uuid)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/bus/mdev/devices/%s/remove", uuid);
	remember_mdev(uuid, false);
	ASSERT_OK(vt_write_file(path, "1"));
}

void vt_mdev_remove_left(void)
{
	char uuid[sizeof(*created)];
	size_t i;

	for (i = 0; i < MAX_CREATED; i++) {
		memcpy(uuid, created[i], sizeof(uuid));
		if (*uuid)
			vt_mdev_remove(uuid);
	}
}

void vt_iommufd_lacks(int extension)
{
	int fd = open("/dev/iommu", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		SKIP("no /dev/iommu");
	if (sizeof(long) < 8)
		SKIP("iommufd is for 64-bit programs");
	EXPECT_EQ(ioctl(fd, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU), 1);
	ASSERT_EQ(ioctl(fd, VFIO_CHECK_EXTENSION, extension), 0);
}
