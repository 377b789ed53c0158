// SPDX-License-Identifier: Apache-2.0
//
// Hostile frames through the pipeline: well-formed ones, cut at every length, with every byte of
// the headers changed, and hundreds of thousands of random mutations. Each frame stands in a buffer
// of its own size, so a build with AddressSanitizer finds every read beyond it; the driver checks
// that each packet ends exactly once.
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pipeline_driver.h"

#define MUTATIONS 200000
#define HEADER_BYTES 120

static uint64_t state = 0x9e3779b97f4a7c15ull;

static uint32_t
random_below(uint32_t n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 33) % n;
}

static void
mutate(uint8_t *data, size_t *size)
{
	static const uint8_t telling[] = {0x00, 0xff, 0x7f, 0x80, 0x45, 0x08, 0x81, 0x46, 0x4f, 0x01};

	switch (random_below(6)) {
	case 0:
		*size = 2 + random_below((uint32_t)*size);
		break;
	case 1:
		data[random_below((uint32_t)*size)] ^= (uint8_t)(1u << random_below(8));
		break;
	default:
		data[random_below((uint32_t)(*size < HEADER_BYTES ? *size : HEADER_BYTES))] =
			telling[random_below(sizeof(telling))];
	}
}

int
main(void)
{
	static uint8_t seed[4096], data[4096];
	uint32_t seeds = 0;
	size_t size;

	assert(pipeline_driver_start() == 0);
	while ((size = pipeline_driver_seed(seeds, seed, sizeof(seed))) != 0) {
		for (size_t cut = 2; cut <= size; cut++)
			pipeline_driver_run(seed, cut);
		for (size_t at = 0; at < size && at < HEADER_BYTES; at++) {
			for (uint32_t value = 0; value < 256; value += 5) {
				memcpy(data, seed, size);
				data[at] = (uint8_t)value;
				pipeline_driver_run(data, size);
				data[0] |= 8;
				pipeline_driver_run(data, size);
			}
		}
		seeds++;
	}
	assert(seeds > 10);
	for (uint32_t i = 0; i < MUTATIONS; i++) {
		size = pipeline_driver_seed(random_below(seeds), data, sizeof(data));
		for (uint32_t k = 0; k <= random_below(4); k++)
			mutate(data, &size);
		data[0] ^= (uint8_t)(random_below(2) << 3);
		pipeline_driver_run(data, size);
	}
	pipeline_driver_stop();
	printf("%u seeds, every cut and byte of each, %u mutations\n", seeds, MUTATIONS);
	return 0;
}
