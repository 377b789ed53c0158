// SPDX-License-Identifier: Apache-2.0
//
// libFuzzer target: parse, decapsulate, look up, act, on one hostile frame. native/fuzz/run builds
// and runs it.
#include <stdio.h>
#include <stdlib.h>

#include "pipeline_driver.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerInitialize(int *, char ***)
{
	int rc = pipeline_driver_start();

	if (rc != 0) {
		fprintf(stderr, "the pipeline cannot be set up: %d\n", rc);
		exit(1);
	}
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	pipeline_driver_run(data, size);
	return 0;
}
