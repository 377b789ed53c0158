// SPDX-License-Identifier: Apache-2.0
//
// Starts DPDK's environment inside a process that has a life of its own (an interpreter): hugepages
// only if enough are free, no file, socket or directory left behind, no probing of devices that nobody named,
// log lines through one stream, the caller's CPU affinity as it was before.
//
// What it takes, measured on two cores: 100 ms are a sleep in which DPDK measures the TSC (nothing
// to be saved, but others can run), 37 ms load the 128 drivers of the plugin directory from the
// page cache.
#define _GNU_SOURCE // fopencookie, sched_setaffinity
#include "eal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>

#define LINE_BYTES 512
#define ARGUMENTS_MAX 24
#define HUGE_2M_KB 2048

// DPDK has one log a process, and EAL starts once a process: so this is one, too.
static struct {
	pthread_mutex_t lock;
	char prefix[32];
	char line[LINE_BYTES]; // being written
	size_t used;
	char last[LINE_BYTES]; // newest complete line
} eal_log = {.lock = PTHREAD_MUTEX_INITIALIZER, .prefix = "dpdk: "};

// EAL permutes the array and may look at it later.
static char *eal_argument[ARGUMENTS_MAX]; // EAL reads them for ever, and moves them about:
static char *eal_kept[ARGUMENTS_MAX];     // so here they are as they were

// What net_tap complains about where the kernel has no multiq qdisc (wanted for rte_flow only),
// what it and net_memif say since no secondary process listens, and EAL where hugepages are of one
// size only. None is needed, and an operator would look for the fault there.
static const char *const harmless[] = {
	"multiq qdisc",
	"tap_nl_dump_ext_ack",
	"Disabling rte flow support",
	"Failed to send start req to secondary",
	"Failed to register mp action callback",
	"No free 1048576 kB hugepages",
};

static uint64_t clock_ns(void);
static bool hugepages_suffice(uint32_t memory_mb);
static bool huge_2m_read(const char *name, unsigned long *pages);
static void signals_prepare(void);
static FILE *log_open(void);
static ssize_t log_write(void *cookie, const char *data, size_t len_bytes);
static void log_line(void);

int
fp_eal_start(const struct fp_eal_config *config, struct fp_eal_report *report, struct fp_error *error)
{
	char memory[16], lcores[280], prefix[64];
	const char *argument[ARGUMENTS_MAX];
	int n = 0;

	memset(report, 0, sizeof(*report));
	report->memory_mb = config->memory_mb;
	report->hugepages = config->hugepages != FP_HUGEPAGES_NEVER && hugepages_suffice(config->memory_mb);
	report->pci = config->pci;
	if (config->hugepages == FP_HUGEPAGES_ALWAYS && !report->hugepages)
		return fp_error_set(error, -ENOMEM,
				    "sysctl vm.nr_hugepages=N, or memory.hugepages = \"auto\"",
				    "fewer than %u MB of hugepages are free", config->memory_mb);

	// Without hugepages no buffer crosses a page, so that a page holds one of the usual size.
	snprintf(memory, sizeof(memory), "%u", report->hugepages ? config->memory_mb : config->memory_mb * 2);
	snprintf(prefix, sizeof(prefix), "--file-prefix=%s", config->file_prefix);
	argument[n++] = "vnet-gateway";
	argument[n++] = prefix;
	argument[n++] = "--no-telemetry";
	argument[n++] = "--log-level=lib.eal:warning";
	argument[n++] = "-m";
	argument[n++] = memory;
	if (report->hugepages) {
		argument[n++] = "--in-memory";
	} else {
		argument[n++] = "--no-huge";
		argument[n++] = "--no-shconf";
	}
	if (config->pci) {
		// An allow list that names nothing: devices come by fp_port_open, and nobody else's
		// are touched.
		argument[n++] = "-a";
		argument[n++] = "0000:00:00.0";
	} else {
		argument[n++] = "--no-pci";
	}
	if (config->control_cpus) {
		snprintf(lcores, sizeof(lcores), "--lcores=0@(%s)", config->control_cpus);
		argument[n++] = lcores;
	}

	cpu_set_t affinity;
	bool restore = sched_getaffinity(0, sizeof(affinity), &affinity) == 0;
	signals_prepare();
	if (config->log_prefix)
		snprintf(eal_log.prefix, sizeof(eal_log.prefix), "%s", config->log_prefix);
	FILE *stream = log_open();
	if (stream)
		rte_openlog_stream(stream);
	fp_eal_log_forget();

	for (int i = 0; i < n; i++)
		eal_argument[i] = eal_kept[i] = strdup(argument[i]);
	uint64_t start_ns = clock_ns();
	int rc = rte_eal_init(n, eal_argument);
	report->ns = clock_ns() - start_ns;
	if (restore)
		sched_setaffinity(0, sizeof(affinity), &affinity);
	if (rc < 0)
		return fp_error_set(
			error, rte_errno == EALREADY ? -EALREADY : -EIO,
			"look at the lines above; `dpdk-testpmd` with the same options shows more",
			"DPDK could not start: %s", rte_strerror(rte_errno));
	// Nothing is kept in it, and nobody would remove it.
	rmdir(rte_eal_get_runtime_dir());
	return 0;
}

int
fp_error_set(struct fp_error *error, int rc, const char *fix, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int n = vsnprintf(error->text, sizeof(error->text), format, args);
	va_end(args);
	snprintf(error->fix, sizeof(error->fix), "%s", fix);
	pthread_mutex_lock(&eal_log.lock);
	if (eal_log.last[0] && n >= 0 && (size_t)n < sizeof(error->text))
		snprintf(error->text + n, sizeof(error->text) - (size_t)n, " (%.200s)", eal_log.last);
	pthread_mutex_unlock(&eal_log.lock);
	return rc;
}

void
fp_eal_log_forget(void)
{
	pthread_mutex_lock(&eal_log.lock);
	eal_log.last[0] = 0;
	pthread_mutex_unlock(&eal_log.lock);
}

static uint64_t
clock_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool
hugepages_suffice(uint32_t memory_mb)
{
	unsigned long free_pages = 0, reserved_pages = 0;
	if (!huge_2m_read("free_hugepages", &free_pages) ||
	    !huge_2m_read("resv_hugepages", &reserved_pages) || reserved_pages > free_pages)
		return false;
	// Others' reserved pages count as free until they are touched. One page more for what EAL
	// rounds up.
	return (free_pages - reserved_pages) * HUGE_2M_KB / 1024 >= (unsigned long)memory_mb + 2 &&
	       geteuid() == 0;
}

static bool
huge_2m_read(const char *name, unsigned long *pages)
{
	char path[96];
	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-2048kB/%s", name);
	FILE *file = fopen(path, "re");
	if (!file)
		return false;
	int read = fscanf(file, "%lu", pages);
	fclose(file);
	return read == 1;
}

// net_tap asks the kernel for a real-time signal per packet. Poll threads wait for the descriptors
// instead (port_wake.c takes O_ASYNC away), so nobody needs to be interrupted: what is sent meanwhile
// stays pending in threads that block it. When more signals are pending than fit, the kernel sends
// SIGIO instead, and its default ends the process.
static void
signals_prepare(void)
{
	sigset_t signals;
	sigemptyset(&signals);
	for (int signal_number = SIGRTMIN + 1; signal_number < SIGRTMAX; signal_number++)
		sigaddset(&signals, signal_number);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	signal(SIGIO, SIG_IGN);
}

static FILE *
log_open(void)
{
	FILE *stream = fopencookie(NULL, "w", (cookie_io_functions_t){.write = log_write});
	if (stream)
		setvbuf(stream, NULL, _IONBF, 0);
	return stream;
}

static ssize_t
log_write(void *cookie, const char *data, size_t len_bytes)
{
	pthread_mutex_lock(&eal_log.lock);
	for (size_t i = 0; i < len_bytes; i++) {
		if (data[i] == '\n')
			log_line();
		else if (eal_log.used < sizeof(eal_log.line) - 1)
			eal_log.line[eal_log.used++] = data[i];
	}
	pthread_mutex_unlock(&eal_log.lock);
	return (ssize_t)len_bytes;
}

static void
log_line(void)
{
	eal_log.line[eal_log.used] = 0;
	eal_log.used = 0;
	if (!eal_log.line[0])
		return;
	for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++)
		if (strstr(eal_log.line, harmless[i]))
			return;
	char out[sizeof(eal_log.prefix) + sizeof(eal_log.line) + 1];
	int n = snprintf(out, sizeof(out), "%s%s\n", eal_log.prefix, eal_log.line);
	if (n > 0 && write(STDERR_FILENO, out, (size_t)n) < 0)
		eal_log.used = 0; // nobody reads stderr: nothing to be done
	memcpy(eal_log.last, eal_log.line, sizeof(eal_log.last));
}
