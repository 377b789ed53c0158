// SPDX-License-Identifier: Apache-2.0
//
// The driver joins its sockets to a fanout that puts fragments together, with no way to say no: the
// kernel then hands over datagrams that are longer than any frame, and they end here. A socket leaves
// a fanout only when it is closed. So each is replaced, once, before anything polls: a socket with
// the same rings is mapped over the driver's rings and takes its descriptor. The driver knows no
// more of a socket than these two.
//
// A filter tells 802.1ad tags: the kernel takes a tag off before a packet socket sees the frame, and
// the driver puts it back as an 802.1Q one, whatever it was. Of a frame that had an S-tag only the
// two MACs are handed over; with a tag put between, that is AF_PACKET_S_TAG_BYTES, and no other frame
// can be so short.
#define _GNU_SOURCE // dup3
#include "af_packet.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rte_common.h>

#include "eal.h"
#include "port_device.h"

#define FRAME_DEFAULT 2048u
#define FRAME_HEAD 80u // what the ring's frame header takes, rounded up
#define FRAME_HEAD_LEAST ((unsigned)(TPACKET2_HDRLEN - sizeof(struct sockaddr_ll))) // as the driver reckons
#define ALIGNMENT 16u                                                               // TPACKET_ALIGNMENT
#define FRAMES_DEFAULT 512u
#define BLOCK_DEFAULT 4096u
#define BLOCK_FRAMES 256u // so many of any size that is so aligned are whole pages
#define MACS_BYTES 12

static unsigned int frame_needed(uint16_t mtu_bytes);
static unsigned int number(const char *device, const char *key, unsigned int otherwise);
static int take_over(int fd, unsigned int interface, const struct af_packet_ring *ring, int *fanout);
static int rings_of(int fd, size_t bytes, void **start);
static int options_copy(int from, int to);
static int filter_attach(int fd);
static int fanout_join(int fd, int *fanout);

struct af_packet_ring
af_packet_ring(const char *device, uint16_t mtu_bytes)
{
	// What is more than a frame needs has to fit into a packet buffer, or the driver refuses.
	struct af_packet_ring ring = {
		.frame_bytes = number(device, "framesz", RTE_MAX(frame_needed(mtu_bytes), FRAME_DEFAULT)),
	};
	ring.block_bytes =
		number(device, "blocksz",
		       ring.frame_bytes == FRAME_DEFAULT ? BLOCK_DEFAULT : ring.frame_bytes * BLOCK_FRAMES);
	if (ring.frame_bytes != 0 && ring.block_bytes >= ring.frame_bytes) {
		const unsigned int frames = ring.block_bytes / ring.frame_bytes; // of a block
		ring.frames = number(device, "framecnt", (FRAMES_DEFAULT + frames - 1) / frames * frames);
		ring.blocks = ring.frames / frames;
	}
	return ring;
}

int
af_packet_ring_check(const struct af_packet_ring *ring, const struct fp_port_config *config,
		     unsigned int buffer_bytes, struct fp_error *error)
{
	const unsigned int least = frame_needed(config->mtu_bytes), page_bytes = (unsigned)getpagesize();
	const unsigned int most = RTE_ALIGN_FLOOR(buffer_bytes + FRAME_HEAD_LEAST, ALIGNMENT);
	char fix[sizeof(error->fix)];

	if (ring->frame_bytes < least || ring->frame_bytes > most || ring->frame_bytes % ALIGNMENT != 0) {
		snprintf(fix, sizeof(fix),
			 "leave framesz out, or give a multiple of %u from %u to %u (mtu_bytes of this and "
			 "of the other ports)",
			 ALIGNMENT, least, most);
		return fp_error_set(error, -EINVAL, fix,
				    "port %s: framesz=%u does not suit an MTU of %u bytes", config->name,
				    ring->frame_bytes, config->mtu_bytes);
	}
	if (ring->block_bytes == 0 || ring->block_bytes % ring->frame_bytes != 0 ||
	    ring->block_bytes % page_bytes != 0) {
		snprintf(fix, sizeof(fix), "leave blocksz out, or give a multiple of both, as %u",
			 ring->frame_bytes * page_bytes /
				 RTE_MIN(ring->frame_bytes & -ring->frame_bytes, page_bytes));
		return fp_error_set(error, -EINVAL, fix,
				    "port %s: blocksz=%u is no multiple of framesz=%u and of a page of %u "
				    "bytes",
				    config->name, ring->block_bytes, ring->frame_bytes, page_bytes);
	}
	const unsigned int frames = ring->block_bytes / ring->frame_bytes;
	if (ring->frames == 0 || ring->frames % frames != 0) {
		snprintf(fix, sizeof(fix), "leave framecnt out, or give a multiple of %u", frames);
		return fp_error_set(error, -EINVAL, fix,
				    "port %s: framecnt=%u is no multiple of the %u frames in a block",
				    config->name, ring->frames, frames);
	}
	return 0;
}

int
af_packet_take_over(const struct fp_port *port, const struct af_packet_ring *ring, struct fp_error *error)
{
	unsigned int interface = if_nametoindex(port->interface);
	int fanout = port->rx_queues > 1 ? -1 : 0; // 0: none is needed

	for (uint16_t q = 0; q < port->rx_queues; q++) {
		int rc =
			port->wake_fd[q] < 0 ? -EBADF : take_over(port->wake_fd[q], interface, ring, &fanout);
		if (rc < 0)
			return fp_error_set(error, rc, "leave blocksz, framesz and framecnt to the gateway",
					    "port %s: a packet socket on %s cannot be set up: %s", port->name,
					    port->interface, strerror(-rc));
	}
	return 0;
}

static int
take_over(int fd, unsigned int interface, const struct af_packet_ring *ring, int *fanout)
{
	const struct tpacket_req req = {.tp_block_size = ring->block_bytes,
					.tp_block_nr = ring->blocks,
					.tp_frame_size = ring->frame_bytes,
					.tp_frame_nr = ring->frames};
	const struct sockaddr_ll address = {.sll_family = AF_PACKET,
					    .sll_protocol = __builtin_bswap16(ETH_P_ALL),
					    .sll_ifindex = (int)interface};
	size_t bytes = 2 * (size_t)ring->block_bytes * ring->blocks;
	const int version = TPACKET_V2;
	void *start = NULL, *map;
	int rc = rings_of(fd, bytes, &start);

	if (rc < 0)
		return rc;
	int own = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0); // not bound: nothing comes yet
	if (own < 0)
		return -errno;
	rc = -EIO;
	if (setsockopt(own, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) < 0 ||
	    options_copy(fd, own) < 0 || setsockopt(own, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)) < 0 ||
	    setsockopt(own, SOL_PACKET, PACKET_TX_RING, &req, sizeof(req)) < 0 || filter_attach(own) < 0)
		goto err;
	map = mmap(start, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_LOCKED | MAP_FIXED, own, 0);
	if (map == MAP_FAILED)
		goto err;
	if (bind(own, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
	    fanout_join(own, fanout) < 0 || dup3(own, fd, O_CLOEXEC) < 0)
		goto err;
	close(own);
	return 0;
err:
	rc = errno != 0 ? -errno : rc;
	close(own);
	return rc;
}

// Where the rings of a socket are mapped: once, so many bytes.
static int
rings_of(int fd, size_t bytes, void **start)
{
	uintptr_t from, to;
	struct stat status;
	uintmax_t inode;
	char line[256];
	int rc = -ENOENT;

	if (fstat(fd, &status) < 0)
		return -errno;
	FILE *maps = fopen("/proc/self/maps", "re");
	if (!maps)
		return -errno;
	while (rc < 0 && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %*s %*s %*s %" SCNuMAX, &from, &to, &inode) !=
			    3 ||
		    inode != status.st_ino || !strstr(line, "socket:"))
			continue;
		*start = (void *)from;
		rc = to - from == bytes ? 0 : -EINVAL;
	}
	fclose(maps);
	return rc;
}

static int
options_copy(int from, int to)
{
	const int options[] = {PACKET_LOSS, PACKET_QDISC_BYPASS};

	for (size_t i = 0; i < RTE_DIM(options); i++) {
		int value = 0;
		socklen_t size = sizeof(value);
		if (getsockopt(from, SOL_PACKET, options[i], &value, &size) < 0 ||
		    setsockopt(to, SOL_PACKET, options[i], &value, sizeof(value)) < 0)
			return -1;
	}
	return 0;
}

static int
filter_attach(int fd)
{
	struct sock_filter program[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 2, 0),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_VLAN_TPID)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_8021AD, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, MACS_BYTES),
	};
	const struct sock_fprog all = {.len = RTE_DIM(program), .filter = program};

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &all, sizeof(all));
}

// The first of several sockets begins a fanout with a number of the kernel's, the others join it.
static int
fanout_join(int fd, int *fanout)
{
	const int flags = PACKET_FANOUT_HASH | PACKET_FANOUT_FLAG_ROLLOVER;
	socklen_t size = sizeof(*fanout);
	int argument;

	if (*fanout == 0)
		return 0;
	argument = *fanout < 0 ? (flags | PACKET_FANOUT_FLAG_UNIQUEID) << 16
			       : (flags << 16) | (*fanout & 0xffff);
	if (setsockopt(fd, SOL_PACKET, PACKET_FANOUT, &argument, sizeof(argument)) < 0)
		return -1;
	return *fanout < 0 ? getsockopt(fd, SOL_PACKET, PACKET_FANOUT, fanout, &size) : 0;
}

static unsigned int
frame_needed(uint16_t mtu_bytes)
{
	return RTE_ALIGN_CEIL(mtu_bytes + ETH_HLEN + 8u + FRAME_HEAD, ALIGNMENT);
}

static unsigned int
number(const char *device, const char *key, unsigned int otherwise)
{
	char value[32];
	unsigned int read;

	if (!port_device_argument(device, key, value, sizeof(value)) || sscanf(value, "%u", &read) != 1)
		return otherwise;
	return read;
}
