// SPDX-License-Identifier: Apache-2.0
//
// Every store into the arena goes through here. Two reasons: each is a release-store, so that a process that
// is stopped between any two of them leaves an image in program order; and the test that stops the writer
// after every single store is compiled with FP_STORE_HOOK and looks at the arena from the hook.
//
// Writer's thread only.
//
//	fp_store_bytes(&entry->key, &key, sizeof key); // nobody reads it yet
//	fp_store(&bucket->slot[slot], index);           // publishes
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef FP_STORE_HOOK
void fp_store_hook(void); // the test's: called after every store
#else
// A release-store orders what is before it. What is taken out by one store and overwritten next needs order
// behind it too; on x86 this keeps the compiler from changing it and costs no instruction.
static inline void
fp_store_hook(void)
{
	__atomic_thread_fence(__ATOMIC_RELEASE);
}
#endif

// One aligned integer member of 1, 2, 4 or 8 bytes, with release order.
#define fp_store(at, value)                                                                                  \
	({                                                                                                   \
		__atomic_store_n((at), (value), __ATOMIC_RELEASE);                                           \
		fp_store_hook();                                                                             \
	})

#define fp_load(at) __atomic_load_n((at), __ATOMIC_ACQUIRE)

// Several bytes that no reader can reach yet (an unpublished record). Not atomic; may be cut anywhere.
static inline void
fp_store_bytes(void *to, const void *from, size_t len_bytes)
{
#ifdef FP_STORE_HOOK
	for (size_t done = 0; done < len_bytes; done += 8) {
		memcpy((uint8_t *)to + done, (const uint8_t *)from + done,
		       len_bytes - done < 8 ? len_bytes - done : 8);
		fp_store_hook();
	}
#else
	memcpy(to, from, len_bytes);
#endif
}

static inline void
fp_store_zero(void *to, size_t len_bytes)
{
#ifdef FP_STORE_HOOK
	for (size_t done = 0; done < len_bytes; done += 8) {
		memset((uint8_t *)to + done, 0, len_bytes - done < 8 ? len_bytes - done : 8);
		fp_store_hook();
	}
#else
	memset(to, 0, len_bytes);
#endif
}
