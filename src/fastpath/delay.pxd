# SPDX-License-Identifier: Apache-2.0
#
# A histogram of delays as Python has it: bounds and counts of the buckets that are not empty.
from .native_dpdk cimport FP_DELAY_BUCKETS, fp_delay, fp_delay_from_ns


cdef inline dict delay_dict(const fp_delay *delay):
    """Return {"sum_ns", "buckets": [[from_ns, below_ns, packets], …]}."""
    return {"sum_ns": delay.sum_ns,
            "buckets": [[fp_delay_from_ns(i), fp_delay_from_ns(i + 1), delay.bucket[i]]
                        for i in range(FP_DELAY_BUCKETS) if delay.bucket[i]]}
