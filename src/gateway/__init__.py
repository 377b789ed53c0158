# SPDX-License-Identifier: Apache-2.0
"""The gateway's processes, and vnetctl."""

import os

# numpy's OpenBLAS starts a thread for each CPU when it is imported. Nothing here multiplies matrices, and in
# the data plane such a thread, older than the signal mask of all others, takes the signals of DPDK's TAP
# driver: its handler runs then, and the driver reads nothing more from the TAP until the next signal.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
