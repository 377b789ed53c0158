// SPDX-License-Identifier: Apache-2.0
//
// See adoption_images.h.
#include "adoption_images.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "arena_facts.h"

struct watched watched;

static char path[64];
static const char *operation = "set-up";

// What is found in each image of the operation at hand. Compared when its end is known.
static struct facts *found[8192];
static uint32_t found_count;
static uint8_t *last_image;
static bool watching;

void
watched_open(const struct fp_arena_config *config)
{
	snprintf(path, sizeof(path), "/dev/shm/vnet-test-stops-%d", getpid());
	watched.arena = arena_new(NULL, config);
	last_image = calloc(1, watched.arena->len_bytes);
	assert(last_image && fp_installer_create(watched.arena, &quiet_hooks, &watched.installer) == 0);
}

void
watched_close(void)
{
	fp_installer_destroy(watched.installer);
	fp_arena_close(watched.arena);
	free(last_image);
	unlink(path);
}

static void
counts_check(const struct fp_arena *a)
{
	uint32_t flows = 0;
	for (uint32_t i = 1; i < a->view.vnets; i++)
		if (fp_index_live(&a->pool[FP_POOL_VNET], i))
			flows += a->view.vnet[i].flows;
	assert(flows == a->pool[FP_POOL_FLOW].live && flows == a->adoption.flows);
	for (int pool = 0; pool < FP_POOL_MAX; pool++)
		assert(a->pool[pool].live + a->pool[pool].free.count + a->pool[pool].dead +
			       fp_index_waiting(&a->pool[pool]) ==
		       a->pool[pool].capacity);
}

// A client that names an attachment reaches the one that is there.
static void
attachments_check(const struct fp_installer *in)
{
	const struct fp_arena *a = in->arena;
	for (uint32_t i = 1; i < a->view.ingresses; i++)
		if (fp_index_live(&a->pool[FP_POOL_INGRESS], i) &&
		    a->view.ingress[i].kind == FP_INGRESS_ATTACHMENT)
			assert(fp_attachment_by_id(in, a->view.ingress[i].object_id) == i);
}

static struct facts *
image_adopt(void)
{
	struct fp_arena_config config = watched.arena->config;
	struct fp_arena *later;
	struct fp_installer *in;
	struct facts *facts = malloc(sizeof(*facts));

	assert(facts);
	((struct fp_arena_header *)last_image)->clean = 1;    // this many crashes would start cold
	((struct fp_arena_header *)last_image)->ticked_s = 0; // it is adopted at the time of its beginning
	const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert(fd >= 0 &&
	       write(fd, last_image, watched.arena->len_bytes) == (ssize_t)watched.arena->len_bytes);
	close(fd);
	assert(fp_arena_open(path, &config, NOW_NS, &later) == 0);
	assert(fp_arena_adoption(later)->how == FP_ARENA_ADOPTED);
	fp_arena_tick(later, NOW_NS);
	counts_check(later);
	assert(fp_installer_create(later, &quiet_hooks, &in) == 0);
	attachments_check(in);
	facts_gather(facts, later, true);
	fp_installer_destroy(in);
	fp_arena_close(later);
	return facts;
}

void
fp_store_hook(void)
{
	if (!watching)
		return;
	watching = false;
	watched.stores++;
	((struct fp_arena_header *)last_image)->clean = 0;
	if (memcmp(last_image, watched.arena->base, watched.arena->len_bytes) != 0) {
		watched.images++;
		memcpy(last_image, watched.arena->base, watched.arena->len_bytes);
		assert(found_count < sizeof(found) / sizeof(found[0]));
		found[found_count++] = image_adopt();
	}
	watching = true;
}

static void
complain(const struct fact *fact, uint32_t image, const char *what)
{
	fprintf(stderr, "stopped in '%s', image %u of %u: %s %#lx %s\n", operation, image, found_count,
		kind_names[fact->kind], (unsigned long)fact->name, what);
	abort();
}

static bool
always_there(enum kind kind)
{
	return kind == FLOW || kind == FLOW_LIFE || kind == LOCATION || kind == TUNNEL || kind == VNET;
}

// A revocation holds from the image in which it is kept: no flow that it closes comes back.
static bool
revoked(const struct facts *before, const struct facts *now)
{
	for (uint32_t i = 0; i < now->count; i++)
		if (now->fact[i].kind == CHANGE && !fact_find(before, CHANGE, now->fact[i].name))
			return true;
	return false;
}

// No decision lives longer than it was made for.
static void
life_check(uint32_t image, const struct fact *flow, const struct facts *made, const struct facts *now)
{
	const struct fact *life = fact_find(now, FLOW_LIFE, flow->name),
			  *meant = fact_find(made, FLOW_LIFE, flow->name);
	if (life->value > meant->value)
		complain(flow, image, "lives longer than its decision");
}

static void
image_check(uint32_t image, const struct facts *before, const struct facts *after)
{
	const struct facts *now = found[image];
	const bool is_revoked = revoked(before, now);

	for (uint32_t i = 0; i < before->count; i++) {
		const struct fact *old = &before->fact[i], *new = fact_find(after, old->kind, old->name);
		const struct fact *is = fact_find(now, old->kind, old->name);
		const bool kept = new &&new->value == old->value;
		if (!is && new && (kept || always_there(old->kind)))
			complain(old, image, "is lost");
		const bool ends_sooner = old->kind == FLOW_LIFE && !new &&is && is->value < old->value;

		if (is && is->value != old->value && !(new && is->value == new->value) && !ends_sooner)
			complain(old, image, kept ? "has changed" : "is neither old nor new");
		if (is && new && is->kind == FLOW &&new->value != old->value)
			life_check(image, is, is->value == old->value ? before : after, now);
		if (is && !new && old->kind == FLOW && is_revoked)
			complain(old, image, "outlives its revocation");
	}
	for (uint32_t i = 0; i < now->count; i++) {
		const struct fact *is = &now->fact[i], *new = fact_find(after, is->kind, is->name);

		if (!fact_find(before, is->kind, is->name) && !(new &&new->value == is->value))
			complain(is, image, "came from nowhere");
		if (fact_find(now, is->kind, is->name) != is)
			complain(is, image, "is there twice");
	}
}

void
watch(const char *name, int (*act)(const void *), const void *argument, int expected)
{
	static struct facts before, after;

	operation = name;
	found_count = 0;
	facts_gather(&before, watched.arena, false);
	memcpy(last_image, watched.arena->base, watched.arena->len_bytes);
	watching = true;
	const int rc = act(argument);
	watching = false;
	if (rc != expected) {
		fprintf(stderr, "'%s' returned %d, not %d\n", name, rc, expected);
		abort();
	}
	facts_gather(&after, watched.arena, false);
	for (uint32_t i = 0; i < found_count; i++) {
		image_check(i, &before, &after);
		free(found[i]);
	}
}
