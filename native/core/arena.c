// SPDX-License-Identifier: Apache-2.0
//
// Opening: lock the file, decide whether what lies in it is to be trusted, map it, rebuild what is private.
#define _GNU_SOURCE // fallocate
#include "arena_internal.h"
#include "closing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <rte_rcu_qsbr.h>

#define CRASH_WINDOW_S 60

static uint64_t
clock_ns(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t
boot_hash(void)
{
	const struct fp_secret fixed = {{FP_ARENA_MAGIC, FP_HASH_LANE_1}};
	char text[64] = {0};
	const int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	const ssize_t len_bytes = read(fd, text, sizeof(text));
	close(fd);
	return len_bytes > 0 ? fp_hash_bytes(&fixed, text, (uint32_t)len_bytes) : 0;
}

// A lock on an inode that was unlinked or replaced meanwhile protects nothing.
static bool
still_named(int fd, const char *path)
{
	struct stat by_fd, by_path;
	return fstat(fd, &by_fd) == 0 && stat(path, &by_path) == 0 && by_fd.st_ino == by_path.st_ino &&
	       by_fd.st_dev == by_path.st_dev;
}

static int
file_lock(const char *path)
{
	for (int attempt = 0; attempt < 10; attempt++) {
		const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
		struct stat status;

		if (fd < 0)
			return -errno;
		if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)) {
			close(fd);
			return -EINVAL;
		}
		if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
			const int rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
			close(fd);
			return rc;
		}
		if (still_named(fd, path))
			return fd;
		close(fd);
	}
	return -EBUSY;
}

// Room is taken now: a full tmpfs or an empty hugepage pool is an error here and not a SIGBUS later.
static int
file_make(struct fp_arena *arena)
{
	if (ftruncate(arena->fd, 0) < 0 || ftruncate(arena->fd, (off_t)arena->len_bytes) < 0)
		return -errno;
	if (fallocate(arena->fd, 0, 0, (off_t)arena->len_bytes) < 0 && errno != EOPNOTSUPP)
		return -errno;
	return 0;
}

static int
header_make(struct fp_arena *arena, const struct fp_layout *layout)
{
	struct fp_arena_header *header = arena->header;
	struct fp_arena_header fresh = {.layout = layout->hash, .boot = boot_hash()};

	if (getrandom(&fresh.secret, sizeof(fresh.secret), 0) != (ssize_t)sizeof(fresh.secret) ||
	    getrandom(&fresh.incarnation, sizeof(fresh.incarnation), 0) != (ssize_t)sizeof(fresh.incarnation))
		return -EIO;
	fp_store_bytes(header, &fresh, sizeof(fresh));
	fp_store(&header->magic, FP_ARENA_MAGIC);
	arena->view.secret = fresh.secret;
	return 0;
}

// Notes that the last data plane did not close the arena, and how it ended if it could say so.
static void
end_note(struct fp_arena_header *header, uint32_t now_s)
{
	struct fp_arena_end *ends = header->ends;
	for (int i = FP_ENDS_KEPT - 1; i > 0; i--)
		fp_store_bytes(&ends[i], &ends[i - 1], sizeof(ends[i]));
	fp_store_bytes(&ends[0], &header->end, sizeof(ends[0]));
	fp_store(&ends[0].found_s, now_s ? now_s : 1);
	if (ends[0].suspects > FP_SUSPECTS_MAX)
		fp_store(&ends[0].suspects, 0);
	fp_store_zero(&header->end, sizeof(header->end));
}

// Ends within a minute; faults: only up to the first one that was no fault.
static uint32_t
ends_lately(const struct fp_arena_header *header, uint32_t now_s, bool faults)
{
	uint32_t n = 0;
	for (; n < FP_ENDS_KEPT; n++) {
		const struct fp_arena_end *end = &header->ends[n];
		if (end->found_s == 0 || end->found_s > now_s || now_s - end->found_s > CRASH_WINDOW_S ||
		    (faults && end->fault == 0))
			break;
	}
	return n;
}

static bool
is_suspect(const struct fp_arena_end *end, uint32_t vni)
{
	for (uint32_t i = 0; i < end->suspects; i++)
		if (end->vni[i] == vni)
			return true;
	return false;
}

// V-nets that the last crashes have in common.
static void
suspects_find(struct fp_arena *arena)
{
	const struct fp_arena_end *ends = arena->header->ends;
	for (uint32_t i = 0; i < ends[0].suspects; i++) {
		bool every = true;
		for (int k = 1; k < FP_CRASHES_KEPT; k++)
			every &= is_suspect(&ends[k], ends[0].vni[i]);
		if (every)
			arena->left_out.vni[arena->left_out.suspects++] = ends[0].vni[i];
	}
	arena->adoption.left_out = arena->left_out.suspects;
}

// Tables that a killed data plane has left are as good as any: only one that ends by faults of its own, again and again,
// may do so because of what stands in them, then those of V-nets that it was at work for. Killed often it may have hung.
static enum fp_adoption
judge_end(struct fp_arena *arena, uint32_t now_s)
{
	end_note(arena->header, now_s);
	const uint32_t faults = ends_lately(arena->header, now_s, true);
	if (faults >= FP_CRASHES_KEPT) {
		suspects_find(arena);
		// Where it went on without them, it was not they.
		const bool goes_on = faults >= 2 * FP_CRASHES_KEPT;
		return arena->left_out.suspects && !goes_on ? FP_ARENA_ADOPTED : FP_ARENA_COLD_CRASHES;
	}
	return ends_lately(arena->header, now_s, false) >= FP_ENDS_KEPT ? FP_ARENA_COLD_CRASHES
									: FP_ARENA_ADOPTED;
}

static enum fp_adoption
judge(struct fp_arena *arena, const struct fp_layout *layout, uint32_t now_s)
{
	const struct fp_arena_header *header = arena->header;

	if (header->magic == 0) // ended before it was made
		return FP_ARENA_NEW;
	if (header->magic != FP_ARENA_MAGIC || header->layout != layout->hash)
		return FP_ARENA_COLD_LAYOUT;
	if (header->boot != boot_hash())
		return FP_ARENA_NEW;
	return header->clean ? FP_ARENA_ADOPTED : judge_end(arena, now_s);
}

// Maps what is there if it can be adopted; else makes it anew.
static int
arena_map(struct fp_arena *arena, const struct fp_layout *layout, uint32_t now_s)
{
	struct stat status = {0};
	enum fp_adoption how = FP_ARENA_NEW;
	int rc;

	if (arena->fd >= 0 && fstat(arena->fd, &status) < 0)
		return -errno;
	if (status.st_size == (off_t)arena->len_bytes) {
		if ((rc = fp_pages_map(arena->fd, arena->len_bytes, &arena->base)) < 0)
			return rc;
		fp_layout_apply(arena, layout);
		how = judge(arena, layout, now_s);
	} else if (status.st_size != 0) {
		how = FP_ARENA_COLD_LAYOUT;
	}
	arena->adoption.how = how;
	if (how == FP_ARENA_ADOPTED)
		return 0;

	if (arena->base)
		munmap(arena->base, arena->len_bytes);
	arena->base = NULL;
	if (arena->fd >= 0 && (rc = file_make(arena)) < 0)
		return rc;
	if ((rc = fp_pages_map(arena->fd, arena->len_bytes, &arena->base)) < 0)
		return rc;
	fp_layout_apply(arena, layout);
	return header_make(arena, layout);
}

static int
qsbr_make(struct fp_arena *arena)
{
	const size_t bytes = rte_rcu_qsbr_get_memsize(arena->config.threads);

	if (posix_memalign((void **)&arena->qsbr, FP_CACHE_LINE, bytes))
		return -ENOMEM;
	return rte_rcu_qsbr_init(arena->qsbr, arena->config.threads) ? -EINVAL : 0;
}

static int
private_make(struct fp_arena *arena)
{
	int rc = qsbr_make(arena);

	for (int pool = 0; pool < FP_POOL_MAX && rc == 0; pool++) {
		const bool counted = pool == FP_POOL_VNET || pool == FP_POOL_INGRESS ||
				     pool == FP_POOL_LOCATION || pool == FP_POOL_TUNNEL ||
				     pool == FP_POOL_TUNNEL_SET;
		rc = fp_index_pool_init(&arena->pool[pool], arena->qsbr,
					fp_pool_capacity(&arena->config, pool), counted);
	}
	if (rc == 0)
		rc = fp_flow_table_init(arena);
	return rc ? rc : fp_closings_init(arena);
}

static void
arena_free(struct fp_arena *arena)
{
	fp_closings_free(arena);
	fp_flow_table_free(arena);
	for (int pool = 0; pool < FP_POOL_MAX; pool++)
		fp_index_pool_free(&arena->pool[pool]);
	free(arena->qsbr);
	if (arena->base)
		munmap(arena->base, arena->len_bytes);
	if (arena->fd >= 0)
		close(arena->fd); // and with it the lock
	free(arena);
}

int
fp_arena_open(const char *path, const struct fp_arena_config *config, uint64_t now_ns,
	      struct fp_arena **arena)
{
	const uint64_t begun_ns = clock_ns(CLOCK_MONOTONIC);
	struct fp_layout layout;
	struct fp_arena *a;
	int rc = fp_layout_make(config, &layout);

	*arena = NULL;
	if (rc < 0)
		return rc;
	if (posix_memalign((void **)&a, FP_CACHE_LINE, sizeof(*a)))
		return -ENOMEM;
	*a = (struct fp_arena){.config = *config, .fd = -1, .generation = 1};
	if (path && (a->fd = file_lock(path)) < 0) {
		rc = a->fd;
		goto err;
	}
	a->len_bytes = fp_pages_round(a->fd, layout.len_bytes);
	a->now_s = (uint32_t)(now_ns / 1000000000u);
	if ((rc = arena_map(a, &layout, a->now_s)) < 0 || (rc = private_make(a)) < 0)
		goto err;

	// A data plane that waits for the lock reads its clock just before it has it.
	a->clock_went_back = a->header->ticked_s > a->now_s + 1;
	fp_store(&a->header->clean, 0);
	fp_arena_tick(a, now_ns);
	fp_store(&a->header->incarnation, a->header->incarnation + 1);
	if (a->adoption.how == FP_ARENA_ADOPTED)
		fp_adopt(a);
	for (int pool = 0; pool < FP_POOL_MAX; pool++)
		fp_index_pool_ready(&a->pool[pool]);
	a->adoption.ns = clock_ns(CLOCK_MONOTONIC) - begun_ns;
	*arena = a;
	return 0;
err:
	arena_free(a);
	return rc;
}

void
fp_arena_close(struct fp_arena *arena)
{
	if (!arena)
		return;
	fp_store(&arena->header->clean, 1);
	arena_free(arena);
}

void
fp_arena_note_fault(struct fp_arena *arena, int signal_number, const uint32_t *vnis, uint32_t n)
{
	struct fp_arena_end *end = &arena->header->end;
	end->suspects = n < FP_SUSPECTS_MAX ? n : FP_SUSPECTS_MAX;
	for (uint32_t i = 0; i < end->suspects; i++)
		end->vni[i] = vnis[i];
	__atomic_store_n(&end->fault, (uint32_t)signal_number, __ATOMIC_RELEASE);
}

const struct fp_adoption_report *
fp_arena_adoption(const struct fp_arena *arena)
{
	return &arena->adoption;
}

uint64_t
fp_arena_indexes_misused(const struct fp_arena *arena)
{
	uint64_t sum = 0;
	for (int i = 0; i < FP_POOL_MAX; i++)
		sum += arena->pool[i].misused;
	return sum;
}

const struct fp_arena_config *
fp_arena_limits(const struct fp_arena *arena)
{
	return &arena->config;
}

uint64_t
fp_arena_incarnation(const struct fp_arena *arena)
{
	return arena->header->incarnation;
}

void
fp_arena_tick(struct fp_arena *arena, uint64_t now_ns)
{
	const uint32_t now_s = (uint32_t)(now_ns / 1000000000u);
	__atomic_store_n(&arena->now_s, now_s, __ATOMIC_RELEASE);
	if (arena->header->ticked_s != now_s)
		fp_store(&arena->header->ticked_s, now_s);
	__atomic_store_n(&arena->flows_resident, arena->pool[FP_POOL_FLOW].live, __ATOMIC_RELAXED);
}

uint32_t
fp_arena_reclaim(struct fp_arena *arena)
{
	uint32_t freed = 0;
	for (int pool = 0; pool < FP_POOL_MAX; pool++)
		freed += fp_index_reclaim(&arena->pool[pool]);
	return freed;
}

int
fp_arena_reader_register(struct fp_arena *arena, uint32_t thread)
{
	if (thread >= arena->config.threads)
		return -EINVAL;
	return rte_rcu_qsbr_thread_register(arena->qsbr, thread) ? -EINVAL : 0;
}

void
fp_arena_reader_unregister(struct fp_arena *arena, uint32_t thread)
{
	if (thread < arena->config.threads)
		rte_rcu_qsbr_thread_unregister(arena->qsbr, thread);
}

void
fp_arena_reader_online(struct fp_arena *arena, uint32_t thread)
{
	rte_rcu_qsbr_thread_online(arena->qsbr, thread);
}

void
fp_arena_reader_offline(struct fp_arena *arena, uint32_t thread)
{
	rte_rcu_qsbr_thread_offline(arena->qsbr, thread);
}

void
fp_arena_reader_quiescent(struct fp_arena *arena, uint32_t thread)
{
	rte_rcu_qsbr_quiescent(arena->qsbr, thread);
}
