// SPDX-License-Identifier: Apache-2.0
//
// A port's device as configured: "net_af_packet0,iface=eth1,qpairs=2".
#pragma once

#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

// Whether it is one of a driver: its name, and perhaps a number.
static inline bool
port_device_is(const char *device, const char *driver)
{
	size_t n = strlen(driver);

	return strncmp(device, driver, n) == 0 &&
	       (device[n] == 0 || device[n] == ',' || isdigit((unsigned char)device[n]));
}

// The value of key=value; false if it is not there, or too long.
static inline bool
port_device_argument(const char *device, const char *key, char *value, size_t size)
{
	size_t n = strlen(key);

	for (const char *at = strchr(device, ','); at; at = strchr(at, ',')) {
		at++;
		if (strncmp(at, key, n) != 0 || at[n] != '=')
			continue;
		at += n + 1;
		size_t length = strcspn(at, ",");
		if (length == 0 || length >= size)
			return false;
		memcpy(value, at, length);
		value[length] = 0;
		return true;
	}
	return false;
}
