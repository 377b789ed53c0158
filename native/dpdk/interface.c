// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE // IFNAMSIZ
#include "interface.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

int
interface_prepare(const char *interface, uint16_t mtu_bytes)
{
	struct ifreq request = {0};
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", interface);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int rc = 0;
	if (ioctl(fd, SIOCGIFMTU, &request) < 0)
		goto err;
	if (request.ifr_mtu < mtu_bytes) {
		request.ifr_mtu = mtu_bytes;
		if (ioctl(fd, SIOCSIFMTU, &request) < 0)
			goto err;
	}
	if (ioctl(fd, SIOCGIFFLAGS, &request) < 0)
		goto err;
	if (!(request.ifr_flags & IFF_UP)) {
		request.ifr_flags |= IFF_UP;
		if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
			goto err;
	}
	close(fd);
	return rc;
err:
	rc = -errno;
	close(fd);
	return rc;
}

int
interface_mac(const char *interface, struct rte_ether_addr *mac)
{
	struct ifreq request = {0};
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", interface);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int rc = ioctl(fd, SIOCGIFHWADDR, &request) < 0 ? -errno : 0;
	if (rc == 0)
		memcpy(mac, request.ifr_hwaddr.sa_data, sizeof(*mac));
	close(fd);
	return rc;
}

bool
interface_persists(const char *interface)
{
	char path[64];
	unsigned int flags = 0;
	snprintf(path, sizeof(path), "/sys/class/net/%s/tun_flags", interface);
	FILE *file = fopen(path, "re");
	if (!file)
		return false;
	int read = fscanf(file, "%x", &flags);
	fclose(file);
	return read == 1 && (flags & IFF_PERSIST);
}

bool
interface_running(const char *interface, bool otherwise)
{
	struct ifreq request = {0};
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", interface);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return otherwise;
	bool up = ioctl(fd, SIOCGIFFLAGS, &request) == 0 && request.ifr_flags & IFF_RUNNING;
	close(fd);
	return up;
}
