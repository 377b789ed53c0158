// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE // pthread_setname_np
#include "housekeeping.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <rte_ethdev.h>
#include <rte_lcore.h>

#include "../dpdk/eal.h"
#include "fault.h"

#define TICK_BUSY_NS 10000000ull // there was something to do lately
#define TICK_IDLE_NS 100000000ull
#define LINKS_NS 100000000ull // between two looks at the links
#define LATE_PER_ROUND 1024   // releases of a thread that waited for room in its ring

static void *housekeeping_main(void *argument);
static bool housekeeping_round(struct fp_housekeeping *hk, uint64_t now_ns);
static bool calls_run(struct fp_housekeeping *hk);
static bool tick(struct fp_housekeeping *hk, uint64_t now_ns, bool worked);
static void housekeeping_sleep(struct fp_housekeeping *hk, uint64_t now_ns);
static void releases_hand_over(struct fp_housekeeping *hk);
static void late_releases_hand_over(struct fp_housekeeping *hk);
static void polls_wake(struct fp_housekeeping *hk);
static void links_look(struct fp_housekeeping *hk);
static void hook_release(void *context, const struct fp_release *release);
static void hook_emit(void *context, uint8_t worker, const struct fp_record *record);
static int hook_port(void *context, const char *name, uint16_t *mtu_bytes);
static void hook_send(void *context, uint8_t kind, uint32_t target, uint32_t wire_id, const uint8_t *frame,
		      uint32_t len_bytes);
static void hook_counters_begin(void *context, enum fp_counted what, uint32_t index);
static uint64_t clock_ns(void);

int
fp_housekeeping_init(struct fp_housekeeping *hk, struct fp_error *error)
{
	pthread_mutex_init(&hk->lock, NULL);
	pthread_cond_init(&hk->done, NULL);
	hk->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	hk->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};
	if (hk->wake_fd < 0 || hk->epoll_fd < 0 ||
	    epoll_ctl(hk->epoll_fd, EPOLL_CTL_ADD, hk->wake_fd, &event) < 0)
		return fp_error_set(error, -errno, "raise the limit of open files",
				    "housekeeping: no descriptor: %s", strerror(errno));
	return 0;
}

int
fp_housekeeping_start(struct fp_housekeeping *hk, struct fp_error *error)
{
	int rc = pthread_create(&hk->pthread, NULL, housekeeping_main, hk);
	if (rc != 0)
		return fp_error_set(error, -rc, "", "the housekeeping thread cannot be made: %s",
				    strerror(rc));
	hk->started = true;
	return 0;
}

void
fp_housekeeping_stop(struct fp_housekeeping *hk)
{
	if (hk->started) {
		pthread_mutex_lock(&hk->lock);
		hk->stop = true;
		pthread_mutex_unlock(&hk->lock);
		eventfd_write(hk->wake_fd, 1);
		pthread_join(hk->pthread, NULL);
		hk->started = false;
	}
	if (hk->wake_fd >= 0)
		close(hk->wake_fd);
	if (hk->epoll_fd >= 0)
		close(hk->epoll_fd);
	hk->wake_fd = hk->epoll_fd = -1;
}

void
fp_housekeeping_call(struct fp_housekeeping *hk, void (*call)(void *context), void *context)
{
	struct fp_call mine = {.call = call, .context = context};
	pthread_mutex_lock(&hk->lock);
	if (!hk->started || hk->stop) { // nobody else is there
		pthread_mutex_unlock(&hk->lock);
		call(context);
		return;
	}
	struct fp_call **last = &hk->calls;
	while (*last)
		last = &(*last)->next;
	*last = &mine;
	eventfd_write(hk->wake_fd, 1);
	while (!mine.done)
		pthread_cond_wait(&hk->done, &hk->lock);
	pthread_mutex_unlock(&hk->lock);
}

void
fp_housekeeping_hooks(struct fp_housekeeping *hk, struct fp_installer_hooks *hooks)
{
	*hooks = (struct fp_installer_hooks){
		.context = hk,
		.release = hook_release,
		.emit = hook_emit,
		.port_by_name = hook_port,
		.send = hook_send,
		.counters_begin = hook_counters_begin,
		.clock_ns = clock_ns,
	};
}

static void *
housekeeping_main(void *argument)
{
	struct fp_housekeeping *hk = argument;
	sigset_t all;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	fp_fault_thread(NULL);
	pthread_setname_np(pthread_self(), "housekeeping");
	prctl(PR_SET_TIMERSLACK, 1000);
	bool registered = rte_thread_register() == 0; // for the mempool's cache; it works without

	for (;;) {
		uint64_t now_ns = clock_ns();
		bool worked = housekeeping_round(hk, now_ns);
		hk->counters.rounds++;
		pthread_mutex_lock(&hk->lock);
		bool stop = hk->stop && !hk->calls;
		pthread_mutex_unlock(&hk->lock);
		if (stop)
			break;
		if (!worked)
			housekeeping_sleep(hk, now_ns);
	}
	if (registered)
		rte_thread_unregister();
	return NULL;
}

// Returns whether there may be more to do at once.
static bool
housekeeping_round(struct fp_housekeeping *hk, uint64_t now_ns)
{
	bool worked = calls_run(hk);
	if (hk->releases_late)
		late_releases_hand_over(hk);
	for (int i = 0; i < FP_CLIENTS_MAX; i++) {
		if (!hk->client[i].live)
			continue;
		worked |= fp_client_drain(hk, &hk->client[i], now_ns);
		releases_hand_over(hk);
	}
	worked |= fp_exception_carry(hk);
	worked |= tick(hk, now_ns, worked);
	hk->syncing = fp_installer_sync(hk->installer);
	releases_hand_over(hk);
	polls_wake(hk);
	fp_client_doorbells(hk);
	return worked;
}

static bool
calls_run(struct fp_housekeeping *hk)
{
	pthread_mutex_lock(&hk->lock);
	struct fp_call *call = hk->calls;
	hk->calls = NULL;
	pthread_mutex_unlock(&hk->lock);
	bool any = call != NULL;
	while (call) {
		struct fp_call *next = call->next;
		call->call(call->context);
		pthread_mutex_lock(&hk->lock);
		call->done = true; // its frame may be gone from here on
		pthread_cond_broadcast(&hk->done);
		pthread_mutex_unlock(&hk->lock);
		call = next;
	}
	return any;
}

static bool
tick(struct fp_housekeeping *hk, uint64_t now_ns, bool worked)
{
	hk->busy_tick |= worked;
	if (now_ns < hk->next_tick_ns && !fp_installer_due(hk->installer))
		return false;
	fp_arena_tick(hk->arena, now_ns);
	bool more = fp_installer_tick(hk->installer, now_ns);
	bool waits = false;
	for (int i = 0; i < FP_CLIENTS_MAX; i++) {
		waits |= hk->client[i].live && hk->client[i].waits;
		hk->client[i].waits = false;
	}
	hk->next_tick_ns = now_ns + (waits ? TICK_WAIT_NS : hk->busy_tick ? TICK_BUSY_NS : TICK_IDLE_NS);
	hk->busy_tick = false;
	if (more)
		hk->next_tick_ns = now_ns;
	if (now_ns >= hk->next_links_ns) {
		links_look(hk);
		hk->next_links_ns = now_ns + LINKS_NS;
	}
	return more;
}

// The same order as in poll_sleep.c: say that we sleep, fence, look once more, sleep.
static void
housekeeping_sleep(struct fp_housekeeping *hk, uint64_t now_ns)
{
	struct epoll_event events[8];
	bool pending = false;

	__atomic_store_n(&hk->sleeps, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < FP_CLIENTS_MAX; i++) {
		struct fp_client *client = &hk->client[i];
		if (!client->live || client->broken)
			continue;
		if (client->batch_next < client->batch_n) { // has something that waits for a tick anyway
			pending |= !client->waits;
			continue;
		}
		fp_ring_sleep(&client->install, true);
		pending |= fp_ring_pending(&client->install) > 0;
	}
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	pending |= fp_exception_carry(hk);
	polls_wake(hk);
	if (!pending) {
		uint64_t now = clock_ns();
		int timeout_ms =
			now >= hk->next_tick_ns ? 0 : (int)((hk->next_tick_ns - now + 999999) / 1000000);
		if (hk->releases_late || hk->syncing)
			timeout_ms = timeout_ms > 1 ? 1 : timeout_ms;
		hk->counters.sleeps++;
		(void)epoll_wait(hk->epoll_fd, events, 8, timeout_ms);
	}
	__atomic_store_n(&hk->sleeps, 0, __ATOMIC_RELAXED);
	for (int i = 0; i < FP_CLIENTS_MAX; i++)
		if (hk->client[i].live)
			fp_ring_sleep(&hk->client[i].install, false);
}

static void
links_look(struct fp_housekeeping *hk)
{
	for (int i = 0; i < FP_PORTS_MAX; i++) {
		struct fp_port *port = &hk->ports[i];
		if (!port->live || fp_port_has_link(port) == (port->up != 0))
			continue;
		port->up = !port->up;
		fp_exception_carrier(port);
	}
}

// In their order; those of one thread that follow one another at once. What finds a thread's ring full waits for that
// thread alone.
static void
releases_hand_over(struct fp_housekeeping *hk)
{
	const struct fp_release *release = hk->batch.release;
	for (uint32_t first = 0, end; first < hk->batch.n; first = end) {
		const uint32_t thread = (uint32_t)(release[first].token >> 56);
		struct release_backlog *late = &hk->late[thread];
		for (end = first + 1; end < hk->batch.n && release[end].token >> 56 == thread;)
			end++;
		uint32_t taken = 0;
		if (release_backlog_n(late) == 0)
			taken = fp_thread_release(hk->polls[thread].thread, &release[first], end - first);
		hk->counters.releases += taken;
		if (taken)
			hk->wake_mask[thread / 64] |= 1ull << (thread % 64);
		for (uint32_t i = first + taken; i < end; i++)
			release_backlog_put(late, &release[i]);
		hk->counters.release_waits += end - first - taken;
		hk->releases_late |= release_backlog_n(late) != 0;
	}
	hk->batch.n = 0;
}

static void
late_releases_hand_over(struct fp_housekeeping *hk)
{
	struct fp_release releases[FP_INSTALL_BATCH];
	hk->releases_late = false;
	for (uint32_t thread = 0; thread < hk->threads; thread++) {
		struct release_backlog *late = &hk->late[thread];
		for (uint32_t done = 0, n, taken; done < LATE_PER_ROUND && release_backlog_n(late);
		     done += taken) {
			n = release_backlog_peek(late, releases, FP_INSTALL_BATCH);
			taken = fp_thread_release(hk->polls[thread].thread, releases, n);
			release_backlog_taken(late, taken);
			hk->counters.releases += taken;
			if (taken)
				hk->wake_mask[thread / 64] |= 1ull << (thread % 64);
			if (taken < n)
				break;
		}
		hk->releases_late |= release_backlog_n(late) != 0;
	}
}

static void
polls_wake(struct fp_housekeeping *hk)
{
	for (uint32_t i = 0; i < hk->threads; i++)
		if (hk->wake_mask[i / 64] & 1ull << (i % 64))
			fp_poll_wake(&hk->polls[i]);
	memset(hk->wake_mask, 0, sizeof(hk->wake_mask));
}

static void
hook_release(void *context, const struct fp_release *release)
{
	struct fp_housekeeping *hk = context;
	if (release->token >> 56 >= hk->threads)
		return; // no such thread: from another life
	hk->batch.release[hk->batch.n++] = *release;
	if (hk->batch.n == FP_INSTALL_BATCH)
		releases_hand_over(hk);
}

static void
hook_emit(void *context, uint8_t worker, const struct fp_record *record)
{
	fp_client_emit(context, worker, record);
}

static int
hook_port(void *context, const char *name, uint16_t *mtu_bytes)
{
	struct fp_housekeeping *hk = context;
	for (int i = 0; i < FP_PORTS_MAX; i++) {
		if (!hk->ports[i].live || strncmp(hk->ports[i].name, name, FP_PORT_NAME_BYTES) != 0)
			continue;
		*mtu_bytes = hk->ports[i].mtu_bytes;
		return i;
	}
	return -1;
}

static void
hook_send(void *context, uint8_t kind, uint32_t target, uint32_t wire_id, const uint8_t *frame,
	  uint32_t len_bytes)
{
	struct fp_housekeeping *hk = context;
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(hk->mempool);
	char *data = mbuf && len_bytes <= UINT16_MAX ? rte_pktmbuf_append(mbuf, (uint16_t)len_bytes) : NULL;
	if (data) {
		memcpy(data, frame, len_bytes);
		for (uint32_t i = 0; i < hk->threads; i++) { // the first, unless it is full
			if (!fp_thread_send_inner(hk->polls[i].thread, kind, target, wire_id, mbuf))
				continue;
			hk->wake_mask[i / 64] |= 1ull << (i % 64);
			hk->counters.sent++;
			return;
		}
	}
	rte_pktmbuf_free(mbuf);
	hk->counters.send_lost++;
}

static void
hook_counters_begin(void *context, enum fp_counted what, uint32_t index)
{
	struct fp_housekeeping *hk = context;
	for (uint32_t i = 0; i < hk->threads; i++)
		fp_thread_counters_begin(hk->polls[i].thread, what, index);
}

static uint64_t
clock_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
