// SPDX-License-Identifier: GPL-2.0
/* The test module's devices and probes */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#include "testdev.h"

#define MODULE	"/lib/modules/vfio_testdev.ko"
#define PARAMS	"/sys/module/vfio_testdev/parameters"

void td_need(void)
{
	int fd;

	if (!access(PARAMS, F_OK))
		return;
	fd = open(MODULE, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		SKIP("no " MODULE);
	if (syscall(SYS_finit_module, fd, "", 0))
		FAIL(MODULE ": %s", strerror(errno));
	close(fd);
}

static void dev_name(char *name, size_t len, int k)
{
	snprintf(name, len, "vfio_testdev.%d", k);
}

int td_group(int k)
{
	char name[32], path[128], link[256];
	ssize_t n;

	td_need();
	dev_name(name, sizeof(name), k);
	snprintf(path, sizeof(path), "/sys/bus/platform/devices/%s/iommu_group", name);
	n = readlink(path, link, sizeof(link) - 1);
	if (n < 0)
		FAIL("%s: %s", path, strerror(errno));
	link[n] = 0;
	return atoi(strrchr(link, '/') + 1);
}

int td_try_add(struct vt_container *c, int k, struct vt_dev **dev)
{
	char name[32];

	dev_name(name, sizeof(name), k);
	return vt_try_add_group(c, td_group(k), name, dev);
}

struct vt_dev *td_add(struct vt_container *c, int k)
{
	struct vt_dev *dev;

	ASSERT_OK(td_try_add(c, k, &dev));
	return dev;
}

static int dev_ioctl(struct vt_dev *dev, unsigned long cmd, void *arg)
{
	int ret = ioctl(dev->fd, cmd, arg);

	return ret < 0 ? -errno : ret;
}

int td_pin(struct vt_dev *dev, u64 iova, u32 npages, u32 prot, u64 *pfns)
{
	struct vtd_pin pin = {
		.iova = iova,
		.pfns = (uintptr_t)pfns,
		.npages = npages,
		.prot = prot,
	};

	return dev_ioctl(dev, VTD_PIN, &pin);
}

int td_unpin(struct vt_dev *dev, u64 iova, u32 npages)
{
	struct vtd_pin pin = { .iova = iova, .npages = npages };

	return dev_ioctl(dev, VTD_UNPIN, &pin);
}

int td_pin_late(struct vt_dev *dev, u64 iova, u32 prot)
{
	struct vtd_pin pin = { .iova = iova, .npages = !!iova, .prot = prot };

	return dev_ioctl(dev, VTD_PIN_LATE, &pin);
}

int td_rw(struct vt_dev *dev, u64 iova, void *buf, u64 len, u32 flags)
{
	struct vtd_rw rw = {
		.iova = iova,
		.len = len,
		.buf = (uintptr_t)buf,
		.flags = flags,
	};

	return dev_ioctl(dev, VTD_RW, &rw);
}

int td_read(struct vt_dev *dev, u64 iova, void *buf, u64 len)
{
	return td_rw(dev, iova, buf, len, 0);
}

int td_write(struct vt_dev *dev, u64 iova, const void *buf, u64 len)
{
	return td_rw(dev, iova, (void *)buf, len, VTD_WRITE);
}

void td_keep(struct vt_dev *dev, bool keep)
{
	ASSERT_OK(dev_ioctl(dev, VTD_KEEP, (void *)(uintptr_t)keep));
}

int td_pinned(struct vt_dev *dev)
{
	return dev_ioctl(dev, VTD_PINNED, NULL);
}

static void interrupt(int sig)
{
	(void)sig;
}

static void *hold_mm(void *eventfd)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", *(int *)eventfd);
	ASSERT_EQ(vt_write_file(PARAMS "/hold_mm", text), -EINTR);
	return NULL;
}

void td_hold_mm(void)
{
	struct sigaction sa = { .sa_handler = interrupt };
	int held = eventfd(0, EFD_CLOEXEC);
	pthread_t holder;
	sigset_t set;
	u64 one;

	td_need();
	ASSERT_GE(held, 0);
	ASSERT_OK(sigaction(SIGUSR1, &sa, NULL));
	ASSERT_OK(pthread_create(&holder, NULL, hold_mm, &held));
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	ASSERT_OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
	ASSERT_EQ(read(held, &one, sizeof(one)), (ssize_t)sizeof(one));
	close(held);
}

void td_release_mm(pid_t pid)
{
	ASSERT_OK(kill(pid, SIGUSR1));
}

unsigned int td_told(struct vt_dev *dev, struct vtd_event *ev, unsigned int room)
{
	struct vtd_log log = { .events = (uintptr_t)ev, .room = room };

	ASSERT_GE(dev_ioctl(dev, VTD_LOG, &log), 0);
	return log.total;
}

static pid_t armed_by;

static int write_param(const char *param, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), PARAMS "/%s", param);
	return vt_write_file(path, text);
}

void td_disarm(void)
{
	if (armed_by == getpid())
		write_param("armed", "0");
	armed_by = 0;
}

void td_two_domains(void)
{
	td_arm();
	td_set("refuse_sharing", 1);
}

struct vt_dev *td_add_second(struct vt_container *c)
{
	u64 refused = td_get("refused");
	struct vt_dev *dev = vt_add_edu(c, 1);

	ASSERT_GT(td_get("refused"), refused);
	if (vt_tables_known(dev))
		ASSERT_NE(vt_tables_root(&c->dev[0]), vt_tables_root(dev));
	return dev;
}

int td_try_second(struct vt_container *c)
{
	return vt_try_add_group(c, vt_edu_group(1), vt_edu_bdf(1), NULL);
}

int td_try_reserved(struct vt_container *c, u64 iova, u64 size)
{
	int ret;

	td_set("resv_iova", iova);
	td_set("resv_size", size);
	ret = td_try_second(c);
	td_set("resv_size", 0);
	return ret;
}

static void may_complain(void)
{
	vt_kernel_may_say("cut here|WARNING: .*vfio_(iommu_type1|super)|^ *Call Trace:");
}

void td_fail_unmaps(int times, int skip, int domain)
{
	if (times)
		may_complain();
	td_set("fail_unmap_domain", domain);
	td_set("fail_unmap_skip", skip);
	td_set("fail_unmap_times", times);
}

void td_fail_to_undo(int skip)
{
	may_complain();
	td_set("fail_map_skip", skip);
	td_set("fail_map_times", 1);
	td_set("fail_unmap_times", -1);
}

void td_need_hiding(void)
{
	if (vt_linux() < 7 && vt_machine_is("virtio"))
		SKIP("virtio-iommu's driver in Linux 6 sets page sizes when a domain is attached");
}

void td_arm(void)
{
	td_need();
	/* An earlier test may have died before it could disarm the probes. */
	ASSERT_OK(write_param("armed", "0"));
	if (!armed_by)
		atexit(td_disarm);
	armed_by = getpid();
	ASSERT_OK(write_param("armed", "1"));
}

void td_set(const char *param, long long value)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld", value);
	ASSERT_OK(write_param(param, text));
}

u64 td_get(const char *param)
{
	char path[128], buf[32];

	snprintf(path, sizeof(path), PARAMS "/%s", param);
	ASSERT_GT(vt_read_file(path, buf, sizeof(buf)), 0);
	return strtoull(buf, NULL, 0);
}
