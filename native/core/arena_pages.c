// SPDX-License-Identifier: Apache-2.0
//
// The pages that the arena lies on. A look-up in a large table misses the translation cache as often as it
// misses the data's, so huge pages are asked for wherever they may come from:
//
//	hugetlbfs   the operator's pool: pages of the mount's size
//	tmpfs       collapsed into huge pages after they were made (MADV_COLLAPSE, Linux 6.1), whatever
//	            the mount and the kernel's default say; they stay so in the file, to be adopted
//	anonymous   transparent huge pages, unless the kernel's default is "never"
//
// Each is a wish. An old kernel, or one without contiguous memory, leaves pages of the base size.
#include "arena_internal.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

#define HUGE_BYTES ((size_t)2 << 20)

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

// Page size of the hugetlbfs that the file is on, 0 if it is on another file system.
static size_t
hugetlbfs_page_bytes(int fd)
{
	struct statfs fs;
	return fd >= 0 && fstatfs(fd, &fs) == 0 && fs.f_type == HUGETLBFS_MAGIC ? (size_t)fs.f_bsize : 0;
}

size_t
fp_pages_round(int fd, size_t len_bytes)
{
	const size_t page_bytes = hugetlbfs_page_bytes(fd);
	return page_bytes ? (len_bytes + page_bytes - 1) / page_bytes * page_bytes : len_bytes;
}

// A huge page of a file can only be mapped as one where address and offset agree.
static void *
map_aligned(int fd, size_t len_bytes)
{
	const int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	const size_t room_bytes = len_bytes + HUGE_BYTES;
	uint8_t *room = mmap(NULL, room_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (room == MAP_FAILED)
		return MAP_FAILED;
	uint8_t *base = room + (HUGE_BYTES - (uintptr_t)room % HUGE_BYTES) % HUGE_BYTES;
	if (mmap(base, len_bytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0) == MAP_FAILED) {
		const int why = errno;
		munmap(room, room_bytes);
		errno = why;
		return MAP_FAILED;
	}
	const size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *end = base + (len_bytes + page_bytes - 1) / page_bytes * page_bytes;
	if (base > room)
		munmap(room, (size_t)(base - room));
	if (room + room_bytes > end)
		munmap(end, (size_t)(room + room_bytes - end));
	return base;
}

// Huge page by huge page, up to the first that cannot be had: looking for contiguous memory takes time.
static void
collapse(uint8_t *base, size_t len_bytes)
{
	for (size_t at = 0; at + HUGE_BYTES <= len_bytes; at += HUGE_BYTES)
		if (madvise(base + at, HUGE_BYTES, MADV_COLLAPSE) < 0)
			return;
}

int
fp_pages_map(int fd, size_t len_bytes, void **base)
{
	const bool pool = hugetlbfs_page_bytes(fd) != 0;
	void *at = pool ? mmap(NULL, len_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
			: map_aligned(fd, len_bytes);

	if (at == MAP_FAILED)
		return -errno;
	if (!pool)
		madvise(at, len_bytes, MADV_HUGEPAGE);
	madvise(at, len_bytes, MADV_POPULATE_WRITE); // no page fault ever stops a poll thread
	if (!pool && fd >= 0)
		collapse(at, len_bytes);
	*base = at;
	return 0;
}

static bool
huge_line(const char *line, size_t *kb)
{
	return sscanf(line, "AnonHugePages: %zu kB", kb) == 1 ||
	       sscanf(line, "ShmemPmdMapped: %zu kB", kb) == 1 ||
	       sscanf(line, "FilePmdMapped: %zu kB", kb) == 1;
}

void
fp_arena_pages(const struct fp_arena *arena, struct fp_arena_pages *pages)
{
	const uintptr_t base = (uintptr_t)arena->base;
	const size_t pool_page_bytes = hugetlbfs_page_bytes(arena->fd);
	char line[256];
	bool inside = false;

	*pages = (struct fp_arena_pages){.len_bytes = arena->len_bytes};
	if (pool_page_bytes) {
		pages->huge_page_bytes = pool_page_bytes;
		pages->huge_bytes = arena->len_bytes;
		return;
	}
	FILE *maps = fopen("/proc/self/smaps", "re");
	if (!maps)
		return;
	while (fgets(line, sizeof(line), maps)) {
		uintptr_t from, to;
		size_t kb;
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			inside =
				from >= base && to <= base + arena->len_bytes + (size_t)sysconf(_SC_PAGESIZE);
		else if (inside && huge_line(line, &kb))
			pages->huge_bytes += kb * 1024;
	}
	fclose(maps);
	if (pages->huge_bytes)
		pages->huge_page_bytes = HUGE_BYTES;
}
