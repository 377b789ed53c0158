// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE // pthread_sigmask
#include "fault.h"

#include <pthread.h>
#include <signal.h>

#include "../packet/thread.h"

static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
#define FAULTS (sizeof(faults) / sizeof(faults[0]))

static struct fp_housekeeping *watched;
static struct sigaction before[FAULTS];
static __thread const struct fp_thread *own;
static __thread bool is_housekeeping;

static void on_fault(int signal_number, siginfo_t *info, void *);
static uint32_t vnets_of(const struct fp_thread *t, uint32_t *vnis);

void
fp_fault_watch(struct fp_housekeeping *housekeeping)
{
	struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};

	watched = housekeeping;
	for (size_t i = 0; i < FAULTS; i++)
		sigaction(faults[i], &action, &before[i]);
}

void
fp_fault_unwatch(void)
{
	if (watched == NULL)
		return;
	for (size_t i = 0; i < FAULTS; i++)
		sigaction(faults[i], &before[i], NULL);
	watched = NULL;
}

// A fault whose signal is blocked ends the process without its handler.
void
fp_fault_thread(const struct fp_thread *thread)
{
	sigset_t signals;

	own = thread;
	is_housekeeping = thread == NULL;
	sigemptyset(&signals);
	for (size_t i = 0; i < FAULTS; i++)
		sigaddset(&signals, faults[i]);
	pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
}

// Only stores; then whoever handled the signal before has it: what faulted faults again, what was sent is sent again.
static void
on_fault(int signal_number, siginfo_t *info, void *)
{
	uint32_t vnis[FP_SUSPECTS_MAX], n = 0;

	if (watched != NULL) {
		if (own != NULL)
			n = vnets_of(own, vnis);
		else if (is_housekeeping && (vnis[0] = fp_installer_at_work(watched->installer)) != 0)
			n = 1;
		// A fault of a thread that does not work on the tables says nothing of them: as if killed.
		if (own != NULL || is_housekeeping)
			fp_arena_note_fault(watched->arena, signal_number, vnis, n);
	}
	for (size_t i = 0; i < FAULTS; i++)
		if (faults[i] == signal_number)
			sigaction(signal_number, &before[i], NULL);
	if (info->si_code <= 0)
		raise(signal_number);
}

// Those of the bursts that are under way, and of the last ones before.
static uint32_t
vnets_of(const struct fp_thread *t, uint32_t *vnis)
{
	uint32_t n = 0;

	for (uint32_t b = 0; b < BURSTS; b++)
		for (uint32_t i = 0; i < FP_BURST && n < FP_SUSPECTS_MAX; i++) {
			const uint32_t vnet = t->burst[b].packet[i].vnet;
			const uint32_t vni = vnet < t->view.vnets ? t->view.vnet[vnet].vni : 0;
			uint32_t k = 0;

			while (k < n && vnis[k] != vni)
				k++;
			if (k == n && vni != 0)
				vnis[n++] = vni;
		}
	return n;
}
