// SPDX-License-Identifier: Apache-2.0
//
// Writes the seeds of the fuzz target as files: write_corpus DIRECTORY.
#include <stdio.h>

#include "pipeline_driver.h"

int
main(int argc, char **argv)
{
	static uint8_t data[4096];
	char path[512];
	size_t size;

	for (uint32_t i = 0; argc == 2 && (size = pipeline_driver_seed(i, data, sizeof(data))) != 0; i++) {
		FILE *file;

		snprintf(path, sizeof(path), "%s/seed-%02u", argv[1], i);
		file = fopen(path, "wb");
		if (file == NULL || fwrite(data, 1, size, file) != size)
			return 1;
		fclose(file);
	}
	return argc == 2 ? 0 : 2;
}
