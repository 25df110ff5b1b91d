// SPDX-License-Identifier: GPL-2.0-only
/*
 * Usage: churn EAL-ARGUMENT... -- alloc STEPS
 *        churn EAL-ARGUMENT... -- data STEPS
 *        churn EAL-ARGUMENT... -- late PCI-ADDRESS PCI-ADDRESS
 *        churn EAL-ARGUMENT... -- others PCI-ADDRESS
 *
 * A DPDK program whose memory comes and goes.
 * alloc: allocates and frees. It can be the secondary process of testpmd.
 * data: likewise, and has port 0 send packets from this memory. What port 1 receives must
 *	be the same.
 * late: attaches both ports after it has allocated memory. Frees a part of that, allocates
 *	it again, and sends packets from all.
 * others: maps memory that is not DPDK's own, and maps memory in a second container, which
 *	it makes for the device at this address.
 * Now and then it prints a line and waits for one: something can be looked at. It ends with
 * status 1 if something is not as it should be.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/vfio.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_vfio.h>

#define PAGE		(2UL << 20)
#define BLOCKS		128
#define MOST_PAGES	4	/* in a block */
#define BURST		32
#define LENGTH		1024	/* of a packet */
#define RING		256

struct block {
	uint8_t *memory;
	size_t size;
};

static struct block blocks[BLOCKS];
static struct rte_mempool *pool;
static uint64_t sent, received, allocated, freed;

static void __rte_noreturn __rte_format_printf(1, 2) fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("failed: ");
	vprintf(format, args);
	printf(" (%lu sent, %lu received)\n", sent, received);
	va_end(args);
	fflush(stdout);
	_exit(1);
}

/* Tells the caller that something can be looked at now, and waits until that is done. */
static void pause_at(const char *what)
{
	char line[16];

	printf("%s: %lu allocated, %lu freed, %lu sent, %lu received\n",
	       what, allocated, freed, sent, received);
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		exit(1);
}

/* What is at this place of a block: each place has bytes of its own. */
static uint8_t pattern(const struct block *b, size_t at)
{
	uint64_t x = ((uintptr_t)b->memory + at) / 8 + b->size;

	return x * 0x9e3779b97f4a7c15 >> 56;
}

static void allocate(struct block *b, size_t pages)
{
	/* Leave room for the allocator's own header. */
	b->size = pages * PAGE - 4096;
	b->memory = rte_malloc(NULL, b->size, 4096);
	if (!b->memory)
		fail("no memory: %s", rte_strerror(rte_errno));
	for (size_t at = 0; at < b->size; at += PAGE / 8)
		b->memory[at] = pattern(b, at);
	allocated++;
}

static void release(struct block *b)
{
	for (size_t at = 0; at < b->size; at += PAGE / 8)
		if (b->memory[at] != pattern(b, at))
			fail("memory has changed");
	rte_free(b->memory);
	b->memory = NULL;
	freed++;
}

static void release_all(void)
{
	for (int i = 0; i < BLOCKS; i++)
		if (blocks[i].memory)
			release(&blocks[i]);
}

static void start_port(uint16_t port)
{
	struct rte_eth_conf conf = { 0 };

	if (rte_eth_dev_configure(port, 1, 1, &conf) ||
	    rte_eth_rx_queue_setup(port, 0, RING, SOCKET_ID_ANY, NULL, pool) ||
	    rte_eth_tx_queue_setup(port, 0, RING, SOCKET_ID_ANY, NULL) ||
	    rte_eth_dev_start(port) || rte_eth_promiscuous_enable(port))
		fail("port %u does not start", port);
}

static void start_ports(void)
{
	if (rte_eth_dev_count_avail() != 2)
		fail("%u ports, not 2", rte_eth_dev_count_avail());
	pool = rte_pktmbuf_pool_create("packets", 4 * RING + BURST, 0, 0,
				       RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	if (!pool)
		fail("no mbufs");
	start_port(0);
	start_port(1);
}

/* A port keeps what it has sent, perhaps until after the memory is freed. */
static void keep(void *memory __rte_unused, void *arg __rte_unused)
{
}

/* Sends packets that are somewhere in the block, and checks what is received. */
static void send_from(const struct block *b)
{
	static struct rte_mbuf_ext_shared_info info = { .free_cb = keep };
	uint64_t deadline = rte_get_timer_cycles() + 5 * rte_get_timer_hz();
	struct rte_mbuf *packets[BURST];
	uint8_t *data[BURST];
	unsigned int i, done, byte;

	for (i = 0; i < BURST; i++) {
		data[i] = b->memory + (rte_rand() % (b->size - LENGTH) & ~63UL);
		/* Two packets may share bytes: so what is there depends on the place alone. */
		for (byte = 0; byte < LENGTH; byte++)
			data[i][byte] = pattern(b, data[i] + byte - b->memory);
		packets[i] = rte_pktmbuf_alloc(pool);
		if (!packets[i])
			fail("no mbuf");
		rte_mbuf_ext_refcnt_set(&info, INT16_MAX);
		rte_pktmbuf_attach_extbuf(packets[i], data[i], rte_mem_virt2iova(data[i]), LENGTH,
					  &info);
		rte_pktmbuf_append(packets[i], LENGTH);
	}
	for (done = 0; done < BURST; )
		done += rte_eth_tx_burst(0, 0, packets + done, BURST - done);
	sent += BURST;
	for (done = 0; done < BURST; ) {
		unsigned int n = rte_eth_rx_burst(1, 0, packets, BURST - done);

		for (i = 0; i < n; i++, done++) {
			if (packets[i]->data_len != LENGTH ||
			    memcmp(rte_pktmbuf_mtod(packets[i], void *), data[done], LENGTH))
				fail("packet %lu is not what was sent", received + i);
			rte_pktmbuf_free(packets[i]);
		}
		received += n;
		if (rte_get_timer_cycles() > deadline)
			fail("%u packets are lost", BURST - done);
	}
}

static void churn(unsigned long steps, bool data)
{
	for (unsigned long step = 0; step < steps; step++) {
		struct block *b = &blocks[rte_rand() % BLOCKS];

		if (b->memory)
			release(b);
		else
			allocate(b, 1 + rte_rand() % MOST_PAGES);
		if (!data)
			continue;
		if (b->memory)
			send_from(b);
		/* One whose neighbours have come or gone */
		b = &blocks[rte_rand() % BLOCKS];
		if (b->memory)
			send_from(b);
	}
}

static void attach_late(char **devices)
{
	/* One after the other, which are then mapped together */
	for (int i = 0; i < 8; i++)
		allocate(&blocks[i], MOST_PAGES);
	if (rte_dev_probe(devices[0]) || rte_dev_probe(devices[1]))
		fail("the devices cannot be attached");
	start_ports();
	for (int i = 0; i < 8; i += 2)
		release(&blocks[i]);
	for (int i = 1; i < 8; i += 2)
		send_from(&blocks[i]);
	for (int i = 0; i < 8; i += 2)
		allocate(&blocks[i], MOST_PAGES);
	for (int i = 0; i < 8; i++)
		send_from(&blocks[i]);
}

static void map(const char *what, int container, uint8_t *memory, uint64_t iova, size_t size,
		bool good)
{
	int ret = rte_vfio_container_dma_map(container, (uintptr_t)memory, iova, size);

	if (!ret != good)
		fail("mapping %s: %d", what, ret);
}

static void unmap(const char *what, int container, uint8_t *memory, uint64_t iova, size_t size)
{
	int ret = rte_vfio_container_dma_unmap(container, (uintptr_t)memory, iova, size);

	/* Without the patches only what was mapped can be unmapped. */
	printf("unmapping %s: %s\n", what, ret ? rte_strerror(rte_errno) : "done");
}

static void map_others(const char *device)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	size_t size = 4 * PAGE;
	uint8_t *memory = mmap((void *)0x600000000000, size, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_HUGETLB, -1, 0);
	const int here = RTE_VFIO_DEFAULT_CONTAINER_FD;
	int container, group, fd;

	if (memory == MAP_FAILED)
		fail("no huge pages");
	start_ports();

	/* DPDK does not know this memory, then it does. */
	map("unknown memory", here, memory, (uintptr_t)memory, size, true);
	unmap("a page of unknown memory", here, memory, (uintptr_t)memory, PAGE);
	unmap("unknown memory", here, memory, (uintptr_t)memory, size);
	if (rte_extmem_register(memory, size, NULL, 0, PAGE))
		fail("rte_extmem_register: %s", rte_strerror(rte_errno));
	map("external memory", here, memory, (uintptr_t)memory, size, true);
	blocks[0].memory = memory;
	blocks[0].size = size;
	send_from(&blocks[0]);
	pause_at("external memory");
	unmap("a page of external memory", here, memory, (uintptr_t)memory, PAGE);
	unmap("external memory", here, memory + PAGE, (uintptr_t)memory + PAGE, size - PAGE);

	container = rte_vfio_container_create();
	if (rte_vfio_get_group_num("/sys/bus/pci/devices", device, &group) != 1 ||
	    rte_vfio_container_group_bind(container, group) < 0 ||
	    rte_vfio_setup_device("/sys/bus/pci/devices", device, &fd, &info))
		fail("no second container");
	allocate(&blocks[1], 4);
	memory = RTE_PTR_ALIGN_FLOOR(blocks[1].memory, PAGE);
	map("memory elsewhere", container, memory, PAGE, size, true);
	unmap("a page of memory elsewhere", container, memory + PAGE, 2 * PAGE, PAGE);
	send_from(&blocks[1]);
	pause_at("second container");
	close(fd);
	rte_vfio_container_destroy(container);
	release(&blocks[1]);
}

int main(int argc, char **argv)
{
	int used = rte_eal_init(argc, argv);

	if (used < 0)
		fail("EAL does not start");
	argc -= used;
	argv += used;
	rte_srand(1);	/* the same sizes in the same order in each run */
	if (argc == 3 && !strcmp(argv[1], "alloc")) {
		churn(strtoul(argv[2], NULL, 0), false);
		pause_at("held");
	} else if (argc == 3 && !strcmp(argv[1], "data")) {
		start_ports();
		pause_at("started");
		churn(strtoul(argv[2], NULL, 0), true);
		pause_at("held");
	} else if (argc == 4 && !strcmp(argv[1], "late")) {
		attach_late(argv + 2);
	} else if (argc == 3 && !strcmp(argv[1], "others")) {
		map_others(argv[2]);
		memset(&blocks[0], 0, sizeof(blocks[0]));
	} else {
		fail("usage");
	}
	release_all();
	pause_at("freed");
	return 0;
}
