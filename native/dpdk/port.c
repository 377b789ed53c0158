// SPDX-License-Identifier: Apache-2.0
//
// Plugs a device in by its devargs and makes a port of it. What is special about a driver stands here, in
// port_wake.c and in af_packet.c only:
//
// net_tap        An existing interface keeps its kernel side's MAC (the driver would set a random one, and the host
//                behind it would change its address); our side of the cable has fp_port_config.mac.
// net_af_packet  One socket pair per thread (qpairs); the interface is brought up and its MTU raised if needed, never
//                lowered.
// net_af_xdp     The interface is brought up.
#include "eal.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>

#include "af_packet.h"
#include "interface.h"
#include "port_device.h"
#include "port_wake.h"

#define DESCRIPTORS 1024
#define TAP_RX_DESCRIPTORS 64 // each holds a buffer

static int device_arguments(char *out, size_t size, const struct fp_port_config *config, uint16_t threads,
			    unsigned int buffer_bytes, struct fp_error *error);
static int port_setup(struct fp_port *port, const struct fp_port_config *config, uint16_t threads,
		      struct rte_mempool *mempool, struct fp_error *error);
static int port_find(const char *device, uint16_t *dpdk_port);

int
fp_port_open(struct fp_port *port, const struct fp_port_config *config, uint16_t index, uint16_t threads,
	     struct rte_mempool *mempool, struct fp_error *error)
{
	char device[FP_DEVICE_BYTES + 64];
	struct wake_fds before;

	memset(port, 0, sizeof(*port));
	memcpy(port->name, config->name, sizeof(port->name));
	port->name[sizeof(port->name) - 1] = 0;
	port->index = index;
	port->role = config->role;
	port->mtu_bytes = config->mtu_bytes;
	port->exception_fd = -1;
	for (int i = 0; i < FP_PORT_QUEUES_MAX; i++)
		port->wake_fd[i] = -1;

	fp_eal_log_forget();
	const unsigned int buffer_bytes = rte_pktmbuf_data_room_size(mempool) - RTE_PKTMBUF_HEADROOM;
	int rc = device_arguments(device, sizeof(device), config, threads, buffer_bytes, error);
	if (rc < 0)
		return rc;
	wake_fds_before(&before);
	rc = rte_dev_probe(device);
	if (rc < 0)
		return fp_error_set(error, rc,
				    rc == -EEXIST ? "give every port a device of its own"
						  : "look at the lines above; is the name right, the driver "
						    "installed, "
						    "the interface there, and the process allowed to use it?",
				    "port %s: device \"%s\" cannot be opened: %s", port->name, config->device,
				    strerror(-rc));
	rc = port_find(device, &port->dpdk_port);
	if (rc < 0)
		return fp_error_set(error, rc, "name a network device",
				    "port %s: device \"%s\" is no Ethernet device", port->name,
				    config->device);
	rc = port_setup(port, config, threads, mempool, error);
	if (rc < 0) {
		fp_port_close(port);
		return rc;
	}
	wake_fds_find(port, &before, config->interrupt);
	if (strcmp(port->driver, "net_af_packet") == 0) {
		struct af_packet_ring ring = af_packet_ring(config->device, config->mtu_bytes);
		rc = af_packet_take_over(port, &ring, error);
		if (rc < 0) {
			fp_port_close(port);
			return rc;
		}
		port->cuts_s_tags = 1;
	}
	port->live = 1;
	return 0;
}

void
fp_port_close(struct fp_port *port)
{
	struct rte_eth_dev_info info;

	port->live = 0;
	port->up = 0;
	if (port->exception_fd >= 0)
		close(port->exception_fd);
	port->exception_fd = -1;
	if (!rte_eth_dev_is_valid_port(port->dpdk_port))
		return;
	struct rte_device *device = NULL;
	if (rte_eth_dev_info_get(port->dpdk_port, &info) == 0)
		device = info.device;
	rte_eth_dev_stop(port->dpdk_port);
	rte_eth_dev_close(port->dpdk_port);
	if (device)
		rte_dev_remove(device);
}

static int
port_setup(struct fp_port *port, const struct fp_port_config *config, uint16_t threads,
	   struct rte_mempool *mempool, struct fp_error *error)
{
	struct rte_eth_dev_info info;
	struct rte_eth_conf conf = {0};
	uint16_t id = port->dpdk_port, rx_slots = DESCRIPTORS, tx_slots = DESCRIPTORS;

	int rc = rte_eth_dev_info_get(id, &info);
	if (rc < 0)
		return fp_error_set(error, rc, "", "port %s: device \"%s\" does not answer", port->name,
				    config->device);
	snprintf(port->driver, sizeof(port->driver), "%s", info.driver_name ? info.driver_name : "");
	port->dma = strncmp(config->device, "net_", 4) != 0; // virtual ones copy
	bool tap = strcmp(port->driver, "net_tap") == 0;
	bool af_packet = strcmp(port->driver, "net_af_packet") == 0;
	port->partial_checksums = af_packet;
	if (af_packet || strcmp(port->driver, "net_af_xdp") == 0)
		port_device_argument(config->device, "iface", port->interface, sizeof(port->interface));

	if (threads > info.max_tx_queues || (tap && threads > FP_PORT_QUEUES_MAX))
		return fp_error_set(error, -ENOSPC,
				    "configure fewer poll_cpus, or more queues in the device's arguments",
				    "port %s: device \"%s\" has %u transmit queues, and %u poll threads need "
				    "one each",
				    port->name, config->device, info.max_tx_queues, threads);
	port->tx_queues = threads;
	port->rx_queues = RTE_MIN(threads, info.max_rx_queues);
	port->rx_queues = RTE_MIN(port->rx_queues, (uint16_t)FP_PORT_QUEUES_MAX);
	if (port->rx_queues > 1 && info.flow_type_rss_offloads) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf =
			tap ? 0
			    : info.flow_type_rss_offloads &
					(RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP);
		if (tap) // the kernel keeps a flow on one queue by itself
			conf.rxmode.mq_mode = RTE_ETH_MQ_RX_NONE;
	}
	if (!af_packet)
		conf.rxmode.mtu = port->mtu_bytes;
	conf.intr_conf.rxq = config->interrupt;
	rc = rte_eth_dev_configure(id, port->rx_queues, port->tx_queues, &conf);
	if (rc < 0)
		return fp_error_set(error, rc,
				    tap ? "at most 1500 with net_tap; larger with a NIC or net_af_packet"
					: "lower mtu_bytes",
				    "port %s: device \"%s\" refuses %u queues with an MTU of %u bytes: %s",
				    port->name, config->device, port->rx_queues, port->mtu_bytes,
				    strerror(-rc));
	rte_eth_dev_adjust_nb_rx_tx_desc(id, &rx_slots, &tx_slots);
	if (tap)
		rx_slots = TAP_RX_DESCRIPTORS;
	for (uint16_t q = 0; q < port->rx_queues && rc >= 0; q++)
		rc = rte_eth_rx_queue_setup(id, q, rx_slots, (unsigned)rte_eth_dev_socket_id(id), NULL,
					    mempool);
	for (uint16_t q = 0; q < port->tx_queues && rc >= 0; q++)
		rc = rte_eth_tx_queue_setup(id, q, tx_slots, (unsigned)rte_eth_dev_socket_id(id), NULL);
	if (rc < 0)
		return fp_error_set(
			error, rc,
			tap ? "make it with several queues: ip tuntap add NAME mode tap multi_queue"
			    : "raise memory.packet_buffers or lower the number of poll_cpus",
			"port %s: device \"%s\" refuses its queues: %s", port->name, config->device,
			strerror(-rc));
	rc = rte_eth_dev_start(id);
	if (rc < 0)
		return fp_error_set(error, rc, "look at the lines above",
				    "port %s: device \"%s\" does not start: %s", port->name, config->device,
				    strerror(-rc));
	// Drivers that show every frame anyway, or cannot, say so: nothing is lost.
	if (!tap)
		rte_eth_promiscuous_enable(id);
	if (config->has_mac) {
		port->mac = config->mac;
		if (!tap)
			rte_eth_dev_default_mac_addr_set(id, &port->mac);
	} else {
		rte_eth_macaddr_get(id, &port->mac);
	}
	port->up = fp_port_has_link(port);
	return 0;
}

bool
fp_port_has_link(const struct fp_port *port)
{
	struct rte_eth_link link = {0};
	if (port->interface[0] == 0) {
		int rc = rte_eth_link_get_nowait(port->dpdk_port, &link);
		return rc == -ENOTSUP || (rc == 0 && link.link_status == RTE_ETH_LINK_UP);
	}
	// The drivers of kernel interfaces say what was so when they started.
	return interface_running(port->interface, port->up != 0);
}

// The device as configured, and what its driver needs to be told beside.
static int
device_arguments(char *out, size_t size, const struct fp_port_config *config, uint16_t threads,
		 unsigned int buffer_bytes, struct fp_error *error)
{
	char interface[IFNAMSIZ], value[32], more[96] = "";
	bool named = port_device_argument(config->device, "iface", interface, sizeof(interface));

	if (port_device_is(config->device, "net_af_packet") || port_device_is(config->device, "net_af_xdp")) {
		if (!named)
			return fp_error_set(error, -EINVAL, "append iface=NAME to the device",
					    "port %s: device \"%s\" does not say which interface",
					    config->name, config->device);
		int rc = interface_prepare(interface, config->mtu_bytes);
		if (rc < 0)
			return fp_error_set(
				error, rc,
				rc == -ENODEV ? "ip link shows the interfaces of this network namespace"
					      : "run as root, or with CAP_NET_ADMIN and CAP_NET_RAW",
				"port %s: interface %s cannot be used: %s", config->name, interface,
				rc == -ENODEV ? "there is none of this name" : strerror(-rc));
	}
	if (port_device_is(config->device, "net_af_packet")) {
		struct af_packet_ring ring = af_packet_ring(config->device, config->mtu_bytes);
		size_t n = 0;
		int rc = af_packet_ring_check(&ring, config, buffer_bytes, error);
		if (rc < 0)
			return rc;
		if (!port_device_argument(config->device, "qpairs", value, sizeof(value)))
			n = (size_t)snprintf(more, sizeof(more), ",qpairs=%u", threads);
		if (!port_device_argument(config->device, "framesz", value, sizeof(value)))
			n += (size_t)snprintf(more + n, sizeof(more) - n, ",framesz=%u", ring.frame_bytes);
		if (!port_device_argument(config->device, "blocksz", value, sizeof(value)))
			n += (size_t)snprintf(more + n, sizeof(more) - n, ",blocksz=%u", ring.block_bytes);
		if (!port_device_argument(config->device, "framecnt", value, sizeof(value)))
			snprintf(more + n, sizeof(more) - n, ",framecnt=%u", ring.frames);
	} else if (port_device_is(config->device, "net_tap") && named) {
		struct rte_ether_addr mac = {0};
		if (!port_device_argument(config->device, "mac", value, sizeof(value)) &&
		    interface_mac(interface, &mac) == 0)
			snprintf(more, sizeof(more), ",mac=" RTE_ETHER_ADDR_PRT_FMT "%s",
				 RTE_ETHER_ADDR_BYTES(&mac), interface_persists(interface) ? ",persist" : "");
	}
	if ((size_t)snprintf(out, size, "%s%s", config->device, more) >= size)
		return fp_error_set(error, -E2BIG, "", "port %s: the device's arguments are too long",
				    config->name);
	return 0;
}

static int
port_find(const char *device, uint16_t *dpdk_port)
{
	struct rte_eth_dev_info info;
	uint16_t id;
	size_t length = strcspn(device, ",");

	RTE_ETH_FOREACH_DEV(id)
	{
		if (rte_eth_dev_info_get(id, &info) < 0 || !info.device)
			continue;
		const char *name = rte_dev_name(info.device);
		// A PCI address may be given without its domain, which is 0000 then.
		size_t known = strlen(name);
		if ((known == length && strncmp(name, device, length) == 0) ||
		    (known == length + 5 && strncmp(name, "0000:", 5) == 0 &&
		     strncmp(name + 5, device, length) == 0)) {
			*dpdk_port = id;
			return 0;
		}
	}
	return -ENODEV;
}
