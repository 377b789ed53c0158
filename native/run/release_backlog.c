// SPDX-License-Identifier: Apache-2.0
#include "release_backlog.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

static bool is_outdone(const struct fp_release *release, const struct fp_release *waiting);

int
release_backlog_init(struct release_backlog *backlog, uint32_t places)
{
	*backlog = (struct release_backlog){.places = places};
	backlog->release = calloc(places + 1, sizeof(*backlog->release));
	backlog->order = calloc(places + 1, sizeof(*backlog->order));
	backlog->waits = calloc(places + 1, sizeof(*backlog->waits));
	return backlog->release && backlog->order && backlog->waits ? 0 : -ENOMEM;
}

void
release_backlog_free(struct release_backlog *backlog)
{
	free(backlog->release);
	free(backlog->order);
	free(backlog->waits);
	*backlog = (struct release_backlog){0};
}

void
release_backlog_put(struct release_backlog *backlog, const struct fp_release *release)
{
	const uint32_t place = (uint32_t)(release->token >> 32) & 0xffffff;
	if (place == 0 || place > backlog->places)
		return;
	if (backlog->waits[place]) {
		if (!is_outdone(release, &backlog->release[place]))
			backlog->release[place] = *release;
		return;
	}
	backlog->waits[place] = 1;
	backlog->release[place] = *release;
	backlog->order[(backlog->first + backlog->n++) % backlog->places] = place;
}

uint32_t
release_backlog_peek(const struct release_backlog *backlog, struct fp_release *releases, uint32_t n)
{
	n = n < backlog->n ? n : backlog->n;
	for (uint32_t i = 0; i < n; i++)
		releases[i] = backlog->release[backlog->order[(backlog->first + i) % backlog->places]];
	return n;
}

void
release_backlog_taken(struct release_backlog *backlog, uint32_t n)
{
	for (uint32_t i = 0; i < n && backlog->n; i++) {
		backlog->waits[backlog->order[backlog->first]] = 0;
		backlog->first = (backlog->first + 1) % backlog->places;
		backlog->n--;
	}
}

// By one for a later use of the place, or by a decision for the same: "ask again" is what would be done without it.
static bool
is_outdone(const struct fp_release *release, const struct fp_release *waiting)
{
	const int32_t later = (int32_t)((uint32_t)release->token - (uint32_t)waiting->token);
	return later < 0 || (later == 0 && fp_action_of(release->action) == FP_ACTION_NONE &&
			     fp_action_of(waiting->action) != FP_ACTION_NONE);
}
