// SPDX-License-Identifier: Apache-2.0
#include "flow_table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <rte_errno.h>
#include <rte_hash.h>
#include <rte_malloc.h>
#include <rte_rcu_qsbr.h>

#define SMALL_BYTES 4096

int
heap_make(const char *name, size_t len_bytes, bool huge)
{
	const size_t page_bytes = huge ? HUGE_BYTES : SMALL_BYTES;
	len_bytes = (len_bytes + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
	uint8_t *room = mmap(NULL, len_bytes + HUGE_BYTES, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (room == MAP_FAILED)
		die("heap", errno);
	uint8_t *base = (uint8_t *)(((uintptr_t)room + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES);
	madvise(base, len_bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	if (rte_malloc_heap_create(name) ||
	    rte_malloc_heap_memory_add(name, base, len_bytes, NULL, (unsigned)(len_bytes / page_bytes),
				       page_bytes))
		die("rte_malloc_heap", rte_errno);
	return rte_malloc_heap_get_socket(name);
}

// Size of the pages around an address, as the kernel mapped them.
static size_t
page_bytes_at(const void *address)
{
	FILE *maps = fopen("/proc/self/smaps", "re");
	char line[256];
	size_t huge_kb = 0, kb;
	bool inside = false;

	while (maps && fgets(line, sizeof(line), maps)) {
		uintptr_t from, to;
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			inside = from <= (uintptr_t)address && (uintptr_t)address < to;
		else if (inside && sscanf(line, "AnonHugePages: %zu kB", &kb) == 1)
			huge_kb = kb;
	}
	if (maps)
		fclose(maps);
	return huge_kb ? HUGE_BYTES : SMALL_BYTES;
}

void
key_make(const struct tables *tables, uint32_t n, struct fp_flow_key *key)
{
	const uint64_t random = mix(n + 1);

	*key = (struct fp_flow_key){.key_class = FP_CLASS_BRIDGED, .ingress = tables->ingress};
	memcpy(key->source + 12, &random, 4);
	memcpy(key->destination + 12, (const uint8_t *)&random + 4, 4);
	key->source[12] = key->destination[12] = 10;
	memcpy(key->source + 13, &n, 3); // no two alike
}

// ---- making them -----------------------------------------------------------------------------

static void
world_make(struct tables *tables)
{
	struct fp_arena *arena = tables->arena;
	const struct fp_arena_view *view = &arena->view;

	if (fp_index_take(&arena->pool[FP_POOL_VNET], &tables->vnet) ||
	    fp_index_take(&arena->pool[FP_POOL_INGRESS], &tables->ingress) ||
	    fp_index_take(&arena->pool[FP_POOL_LOCATION], &tables->location))
		die("arena", ENOSPC);
	view->vnet[tables->vnet].flags = FP_VNET_LIVE;
	view->ingress[tables->ingress].vnet = (uint16_t)tables->vnet;
	view->ingress[tables->ingress].flags = FP_INGRESS_LIVE;
	view->location[tables->location].vnet = (uint16_t)tables->vnet;
	view->location[tables->location].state = FP_LOCATION_LIVE;
}

// What the flows cost: everything, less what an arena for one flow costs.
static size_t
flow_bytes(const struct fp_arena_config *config)
{
	const char *names[32];
	size_t bytes[32], sum = 0;
	struct fp_arena_config none = *config;

	none.flows = 1;
	const int rows = fp_arena_cost(config, names, bytes, 32);
	for (int i = 0; i < rows; i++)
		sum += bytes[i];
	fp_arena_cost(&none, names, bytes, 32);
	for (int i = 0; i < rows; i++)
		sum -= bytes[i];
	return sum;
}

static void
ours_make(struct tables *tables, bool huge)
{
	struct fp_arena_config config = FP_ARENA_CONFIG_DEFAULT;
	struct fp_arena_pages pages;

	config.flows = tables->entries;
	config.threads = 1;
	prctl(PR_SET_THP_DISABLE, !huge, 0, 0, 0);
	const int rc = fp_arena_open(NULL, &config, 1000000000, &tables->arena);
	prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);
	if (rc < 0)
		die("fp_arena_open", rc);
	fp_arena_tick(tables->arena, 1000000000);
	world_make(tables);
	tables->bytes[OURS] = flow_bytes(&config);
	fp_arena_pages(tables->arena, &pages);
	tables->page_bytes[OURS] = pages.huge_bytes ? pages.huge_page_bytes : SMALL_BYTES;
	fp_arena_reader_register(tables->arena, 0);
}

static size_t
heap_used(int socket)
{
	struct rte_malloc_socket_stats stats;
	return rte_malloc_get_socket_stats(socket, &stats) ? 0 : stats.heap_allocsz_bytes;
}

static void
theirs_make(struct tables *tables)
{
	struct rte_hash_parameters parameters = {
		.name = "baseline",
		.entries = tables->entries + tables->entries / 32 + 128, // as many to spare as ours
		.key_len = sizeof(struct fp_flow_key),
		.socket_id = tables->heap_socket,
		.extra_flag = RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF,
	};
	const size_t before = heap_used(tables->heap_socket);

	tables->hash = rte_hash_create(&parameters);
	if (!tables->hash)
		die("rte_hash_create", rte_errno);
	tables->bytes[RTE_HASH] = heap_used(tables->heap_socket) - before;
	tables->page_bytes[RTE_HASH] = page_bytes_at(tables->hash);
	if (posix_memalign((void **)&tables->qsbr, 64, rte_rcu_qsbr_get_memsize(1)))
		die("memory", ENOMEM);
	rte_rcu_qsbr_init(tables->qsbr, 1);
	struct rte_hash_rcu_config rcu = {.v = tables->qsbr, .mode = RTE_HASH_QSBR_MODE_DQ};
	if (rte_hash_rcu_qsbr_add(tables->hash, &rcu))
		die("rte_hash_rcu_qsbr_add", rte_errno);
	rte_rcu_qsbr_thread_register(tables->qsbr, 0);
}

void
tables_make(struct tables *tables, uint32_t entries, int heap_socket, bool huge)
{
	*tables = (struct tables){.entries = entries, .heap_socket = heap_socket};
	ours_make(tables, huge);
	theirs_make(tables);
}

void
tables_free(struct tables *tables)
{
	rte_rcu_qsbr_thread_unregister(tables->qsbr, 0);
	rte_hash_free(tables->hash);
	free(tables->qsbr);
	fp_arena_close(tables->arena);
}

// ---- the writer's side -----------------------------------------------------------------------

bool
table_put(struct tables *tables, enum table table, const struct fp_flow_key *key)
{
	if (table == RTE_HASH)
		return rte_hash_add_key_data(tables->hash, key, (void *)(uintptr_t)1) == 0;
	const struct fp_flow_value value = {
		.action = fp_action_make(FP_ACTION_DELIVER, 0, tables->location, tables->location),
		.expire_at_s = UINT32_MAX,
		.vnet = tables->vnet,
	};
	return fp_flow_insert(tables->arena, key, &value) == 0;
}

void
table_remove(struct tables *tables, enum table table, const struct fp_flow_key *key)
{
	if (table == RTE_HASH)
		rte_hash_del_key(tables->hash, key);
	else
		fp_flow_remove(tables->arena, key);
}

// ---- the reader's side -----------------------------------------------------------------------

static inline const struct fp_flow_key *const *
keys_of(const struct burst *burst)
{
	return (const struct fp_flow_key *const *)(const void *)burst->pointer;
}

static uint32_t
burst_finish(struct tables *tables, struct burst *burst)
{
	fp_action_word word[BURST];
	return fp_flow_lookup_finish(tables->arena, keys_of(burst), BURST, fp_arena_now_s(tables->arena),
				     burst->hash, word, burst->entry);
}

// Each of those that wait goes one step further.
static uint32_t
bursts_step(struct tables *tables)
{
	struct burst *found = tables->found;

	tables->found = tables->started;
	tables->started = NULL;
	if (tables->found)
		fp_flow_lookup_find(tables->arena, BURST, tables->found->hash, tables->found->entry);
	return found ? burst_finish(tables, found) : 0;
}

uint32_t
table_finish(struct tables *tables, enum table table)
{
	uint32_t hits = 0;

	while (table == OURS && (tables->started || tables->found))
		hits += bursts_step(tables);
	return hits;
}

static uint32_t
ours_look(struct tables *tables, struct burst *burst, bool alone)
{
	fp_flow_lookup_start(tables->arena, keys_of(burst), BURST, burst->hash, burst->entry);
	const uint32_t hits = bursts_step(tables);
	tables->started = burst;
	return alone ? hits + table_finish(tables, OURS) : hits;
}

uint32_t
table_look(struct tables *tables, enum table table, struct burst *burst, bool alone)
{
	void *data[BURST];
	uint64_t hits = 0;

	if (table == OURS)
		return ours_look(tables, burst, alone);
	rte_hash_lookup_bulk_data(tables->hash, burst->pointer, BURST, &hits, data);
	return (uint32_t)__builtin_popcountll(hits);
}

void
table_quiescent(struct tables *tables, enum table table)
{
	if (table == OURS)
		fp_arena_reader_quiescent(tables->arena, 0);
	else
		rte_rcu_qsbr_quiescent(tables->qsbr, 0);
}

void
table_online(struct tables *tables, enum table table)
{
	if (table == OURS)
		fp_arena_reader_online(tables->arena, 0);
	else
		rte_rcu_qsbr_thread_online(tables->qsbr, 0);
}

void
table_offline(struct tables *tables, enum table table)
{
	if (table == OURS)
		fp_arena_reader_offline(tables->arena, 0);
	else
		rte_rcu_qsbr_thread_offline(tables->qsbr, 0);
}
