// SPDX-License-Identifier: GPL-2.0
/* Other processes: how a test starts them, talks to them, and sees them go. */
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "vtest.h"

void vt_send_fd(int sock, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	ASSERT_EQ(sendmsg(sock, &msg, 0), 1);
}

int vt_recv_fd(int sock)
{
	char byte, control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg;
	int fd;

	ASSERT_EQ(recvmsg(sock, &msg, MSG_CMSG_CLOEXEC), 1);
	cmsg = CMSG_FIRSTHDR(&msg);
	if (!cmsg || cmsg->cmsg_type != SCM_RIGHTS)
		FAIL("no descriptor in the message");
	memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
	return fd;
}

pid_t vt_fork_peer(int *sock)
{
	int pair[2];
	pid_t pid;

	ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	pid = fork();
	ASSERT_GE(pid, 0);
	*sock = pair[!pid];
	close(pair[!!pid]);
	return pid;
}

void vt_tell(int sock, u64 value)
{
	ASSERT_EQ(write(sock, &value, sizeof(value)), (ssize_t)sizeof(value));
}

u64 vt_hear(int sock)
{
	u64 value = 0;
	ssize_t n = read(sock, &value, sizeof(value));

	if (n != sizeof(value)) {
		/* It has said why. A child whose test has ended must not report one more failure. */
		vt_diag("%d: the other process says nothing any more", getpid());
		vt_stop();
	}
	return value;
}

void vt_wait_exit(pid_t pid)
{
	int status;

	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	if (status)
		FAIL("the child ended with status %#x", status);
}

void vt_kill(pid_t pid)
{
	int status;

	ASSERT_OK(kill(pid, SIGKILL));
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		FAIL("the child left by itself, status %#x", status);
}

void vt_in_child(void (*fn)(struct vt_container *c), struct vt_container *c)
{
	pid_t pid = fork();

	ASSERT_GE(pid, 0);
	if (!pid) {
		fn(c);
		exit(0);
	}
	vt_wait_exit(pid);
}

#define HANDOVER	"VTEST_HANDOVER"

void vt_exec(const struct vt_container *c, const void *handover, size_t len)
{
	int fd = syscall(SYS_memfd_create, "handover", 0);
	char text[16];

	vt_keep_open(c->fd);
	vt_keep_open(c->dev[0].fd);
	vt_keep_open(c->dev[0].group_fd);
	ASSERT_EQ(pwrite(fd, handover, len, 0), (ssize_t)len);
	snprintf(text, sizeof(text), "%d", fd);
	setenv(HANDOVER, text, 1);
	execl("/proc/self/exe", "vtest", NULL);
	FAIL("exec: %s", strerror(errno));
}

bool vt_handed_over(void *handover, size_t len)
{
	const char *fd = getenv(HANDOVER);

	if (!fd)
		return false;
	ASSERT_EQ(pread(atoi(fd), handover, len, 0), (ssize_t)len);
	return true;
}

void vt_keep_open(int fd)
{
	ASSERT_OK(fcntl(fd, F_SETFD, 0));
}
