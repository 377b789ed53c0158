// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "arena_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char path[64];

static void
path_fresh(void)
{
	snprintf(path, sizeof(path), "/dev/shm/vnet-test-arena-%d", getpid());
	unlink(path);
}

static enum fp_adoption
open_and_close(const struct fp_arena_config *config)
{
	struct fp_arena *arena = arena_new(path, config);
	const enum fp_adoption how = fp_arena_adoption(arena)->how;
	fp_arena_close(arena);
	return how;
}

// Another process opens the arena and ends without closing it: by a fault while it was at work for these V-nets, or
// (signal 0) killed.
static void
end_once(const struct fp_arena_config *config, int signal_number, const uint32_t *vnis, uint32_t n)
{
	const pid_t child = fork();
	int status;

	assert(child >= 0);
	if (child == 0) {
		struct fp_arena *arena;
		if (fp_arena_open(path, config, NOW_NS, &arena))
			_exit(1);
		if (signal_number)
			fp_arena_note_fault(arena, signal_number, vnis, n);
		_exit(0);
	}
	assert(waitpid(child, &status, 0) == child && status == 0);
}

static void
crash_once(const struct fp_arena_config *config)
{
	end_once(config, SIGSEGV, NULL, 0);
}

static void
test_closed_in_order_it_is_adopted_any_number_of_times(void)
{
	const struct fp_arena_config config = small_config(64);

	path_fresh();
	assert(open_and_close(&config) == FP_ARENA_NEW);
	for (int i = 0; i < 10; i++)
		assert(open_and_close(&config) == FP_ARENA_ADOPTED);
}

static void
test_the_third_crash_within_a_minute_starts_cold(void)
{
	const struct fp_arena_config config = small_config(64);

	path_fresh();
	crash_once(&config); // makes it
	crash_once(&config); // finds the first crash
	crash_once(&config); // the second
	assert(open_and_close(&config) == FP_ARENA_COLD_CRASHES);
	assert(open_and_close(&config) == FP_ARENA_ADOPTED);
	crash_once(&config);
	assert(open_and_close(&config) == FP_ARENA_ADOPTED);
}

static void
test_crashes_longer_ago_than_a_minute_do_not_count(void)
{
	const struct fp_arena_config config = small_config(64);

	path_fresh();
	for (int i = 0; i < 3; i++)
		crash_once(&config);
	const int fd = open(path, O_RDWR);
	struct fp_arena_header header;
	assert(pread(fd, &header, sizeof(header), 0) == sizeof(header));
	assert(header.ends[0].found_s && header.ends[1].found_s && !header.ends[2].found_s);
	header.ends[1].found_s = header.ends[0].found_s > 61 ? header.ends[0].found_s - 61 : 1u << 31;
	assert(pwrite(fd, &header, sizeof(header), 0) == sizeof(header));
	close(fd);
	assert(open_and_close(&config) == FP_ARENA_ADOPTED);
}

// Nobody says that the tables did it.
static void
test_a_data_plane_that_is_killed_leaves_good_tables(void)
{
	const struct fp_arena_config config = small_config(64);

	path_fresh();
	for (int i = 0; i < FP_ENDS_KEPT; i++)
		end_once(&config, 0, NULL, 0);
	assert(open_and_close(&config) == FP_ARENA_COLD_CRASHES); // so often that it may have hung
	path_fresh();
	for (int i = 0; i < FP_ENDS_KEPT - 1; i++)
		end_once(&config, 0, NULL, 0);
	assert(open_and_close(&config) == FP_ARENA_ADOPTED);
}

// Crashes cost the V-nets that all three were at work for their tables, and no others.
static void
test_crashes_cost_the_vnets_that_they_have_in_common(void)
{
	const struct fp_arena_config config = small_config(64);
	const uint32_t at_work[3][3] = {{7001, 7003, 7002}, {7002, 7001, 0}, {7001, 0, 0}};

	path_fresh();
	struct fp_arena *arena = arena_new(path, &config);
	for (uint32_t vni = 7001; vni <= 7003; vni++)
		attachment_new(arena, vnet_new(arena, vni, 0));
	fp_arena_close(arena);
	for (int i = 0; i < 3; i++)
		end_once(&config, SIGSEGV, at_work[i], (uint32_t)(3 - i));
	arena = arena_new(path, &config);
	const struct fp_adoption_report *report = fp_arena_adoption(arena);
	assert(report->how == FP_ARENA_ADOPTED && report->left_out == 1);
	assert(report->vnets == 2 && report->ingresses == 2);
	for (uint32_t i = 1; i < arena->view.vnets; i++)
		assert(!fp_index_live(&arena->pool[FP_POOL_VNET], i) || arena->view.vnet[i].vni != 7001);
	fp_arena_close(arena);
	assert(open_and_close(&config) == FP_ARENA_ADOPTED); // closed in order: that is over
}

// Where crashes go on without the V-nets that they had in common, it is something else.
static void
test_crashes_that_go_on_start_cold(void)
{
	const struct fp_arena_config config = small_config(64);
	const uint32_t always[] = {7001};
	enum fp_adoption how = FP_ARENA_ADOPTED;
	int crashes = 0;

	path_fresh();
	struct fp_arena *arena = arena_new(path, &config);
	for (uint32_t vni = 7001; vni <= 7003; vni++)
		attachment_new(arena, vnet_new(arena, vni, 0));
	fp_arena_close(arena);
	for (; crashes < 8 && how == FP_ARENA_ADOPTED; crashes++) {
		const pid_t child = fork();
		int status;

		assert(child >= 0);
		if (child == 0) {
			assert(fp_arena_open(path, &config, NOW_NS, &arena) == 0);
			how = fp_arena_adoption(arena)->how;
			fp_arena_note_fault(arena, SIGSEGV, always, 1);
			_exit((int)how);
		}
		assert(waitpid(child, &status, 0) == child && WIFEXITED(status));
		how = (enum fp_adoption)WEXITSTATUS(status);
	}
	assert(how == FP_ARENA_COLD_CRASHES && crashes == 7); // left out three times, and it was not they
}

static void
test_another_layout_starts_cold(void)
{
	struct fp_arena_config config = small_config(64);

	path_fresh();
	assert(open_and_close(&config) == FP_ARENA_NEW);
	config.flows = 65; // same size in pages
	assert(open_and_close(&config) == FP_ARENA_COLD_LAYOUT);
	config.flows = 100000;
	assert(open_and_close(&config) == FP_ARENA_COLD_LAYOUT);
	assert(open_and_close(&config) == FP_ARENA_ADOPTED);
}

static void
test_an_arena_of_another_boot_is_made_anew(void)
{
	const struct fp_arena_config config = small_config(64);

	path_fresh();
	assert(open_and_close(&config) == FP_ARENA_NEW);
	const int fd = open(path, O_RDWR);
	const uint64_t other = 1;
	assert(pwrite(fd, &other, 8, offsetof(struct fp_arena_header, boot)) == 8);
	close(fd);
	assert(open_and_close(&config) == FP_ARENA_NEW);
}

static void
test_one_data_plane_holds_it(void)
{
	const struct fp_arena_config config = small_config(64);
	struct fp_arena *second;

	path_fresh();
	struct fp_arena *first = arena_new(path, &config);
	assert(fp_arena_open(path, &config, NOW_NS, &second) == -EBUSY && second == NULL);
	fp_arena_close(first);
	assert(fp_arena_open(path, &config, NOW_NS, &second) == 0);
	fp_arena_close(second);
}

static void
test_secret_stays_with_the_arena_and_incarnation_does_not(void)
{
	const struct fp_arena_config config = small_config(64);

	path_fresh();
	struct fp_arena *arena = arena_new(path, &config);
	const struct fp_secret secret = *fp_arena_secret(arena);
	const uint64_t incarnation = fp_arena_incarnation(arena);
	assert(secret.word[0] && secret.word[1] && secret.word[0] != secret.word[1]);
	fp_arena_close(arena);
	arena = arena_new(path, &config);
	assert(memcmp(&secret, fp_arena_secret(arena), sizeof(secret)) == 0);
	assert(fp_arena_incarnation(arena) != incarnation);
	fp_arena_close(arena);
	path_fresh();
	arena = arena_new(path, &config);
	assert(memcmp(&secret, fp_arena_secret(arena), sizeof(secret)) != 0);
	fp_arena_close(arena);
}

static void
test_what_cannot_hold_an_arena_is_an_error_by_number(void)
{
	struct fp_arena_config config = small_config(64);
	struct fp_arena *arena;

	assert(fp_arena_open("/nowhere/arena", &config, NOW_NS, &arena) == -ENOENT);
	assert(fp_arena_open("/dev/shm", &config, NOW_NS, &arena) == -EISDIR);
	assert(fp_arena_open("/dev/null", &config, NOW_NS, &arena) == -EINVAL);
	path_fresh();
	assert(symlink("/dev/shm/vnet-test-elsewhere", path) == 0);
	assert(fp_arena_open(path, &config, NOW_NS, &arena) == -ELOOP);
	path_fresh();
	config.threads = 65;
	assert(fp_arena_open(path, &config, NOW_NS, &arena) == -EINVAL);
	config = small_config(0);
	assert(fp_arena_open(NULL, &config, NOW_NS, &arena) == -EINVAL);
	config = small_config(1 << 24);
	assert(fp_arena_open(NULL, &config, NOW_NS, &arena) == -EINVAL);
}

static void
test_too_little_room_is_an_error_and_leaves_it_usable(void)
{
	const struct fp_arena_config config = small_config(4096), smaller = small_config(16);
	struct rlimit before, limit;
	struct fp_arena *arena;

	path_fresh();
	signal(SIGXFSZ, SIG_IGN);
	assert(getrlimit(RLIMIT_FSIZE, &before) == 0);
	limit = before;
	limit.rlim_cur = 400 * 1024;
	assert(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	assert(fp_arena_open(path, &config, NOW_NS, &arena) == -EFBIG);
	assert(setrlimit(RLIMIT_FSIZE, &before) == 0);
	assert(fp_arena_open(path, &smaller, NOW_NS, &arena) == 0);
	fp_arena_close(arena);
}

static void
test_cost_adds_up_to_the_file(void)
{
	const struct fp_arena_config config = FP_ARENA_CONFIG_DEFAULT;
	const char *names[32];
	size_t bytes[32], sum = 0;
	struct stat status;

	path_fresh();
	open_and_close(&config);
	const int rows = fp_arena_cost(&config, names, bytes, 32);
	assert(rows > 10 && rows <= 32);
	for (int i = 0; i < rows - 1; i++) // the last row is private memory
		sum += bytes[i];
	assert(stat(path, &status) == 0 && (size_t)status.st_size == sum);
	assert((status.st_mode & 0777) == 0600);
	assert(fp_arena_cost(&(struct fp_arena_config){0}, names, bytes, 32) == -EINVAL);
	assert(fp_arena_cost(&config, names, bytes, 1) == rows); // says how many there are
}

static void
test_accessors_keep_within_their_tables(void)
{
	const struct fp_arena_config config = small_config(64);
	struct fp_arena *arena = arena_new(NULL, &config);

	assert(fp_vnet_at(arena, config.vnets) && !fp_vnet_at(arena, config.vnets + 1));
	assert(fp_location_at(arena, config.locations) && !fp_location_at(arena, config.locations + 1));
	assert(fp_ingress_at(arena, config.ingresses) && !fp_ingress_at(arena, config.ingresses + 1));
	assert(fp_header_at(arena, 2 * config.tunnels) && !fp_header_at(arena, 2 * config.tunnels + 1));
	assert(fp_tunnel_at(arena, UINT32_MAX) == 0 && !fp_tunnel_info_at(arena, UINT32_MAX));
	assert(!fp_flow_at(arena, UINT32_MAX) && !fp_flow_side_at(arena, UINT32_MAX));
	assert(fp_arena_reader_register(arena, config.threads) == -EINVAL);
	fp_arena_close(arena);
}

// Whether there are any is the kernel's affair; what there is must not change what the tables hold, and a later
// data plane finds them.
static void
test_huge_pages_are_told_and_adopted(void)
{
	const struct fp_arena_config config = small_config(65536);
	struct fp_arena_pages pages, adopted;

	path_fresh();
	struct fp_arena *arena = arena_new(path, &config);
	fp_arena_pages(arena, &pages);
	fprintf(stderr, "%zu of %zu bytes on pages of %zu\n", pages.huge_bytes, pages.len_bytes,
		pages.huge_page_bytes);
	assert(pages.len_bytes > 4 << 20 && pages.huge_bytes <= pages.len_bytes);
	assert((pages.huge_bytes == 0) == (pages.huge_page_bytes == 0));
	assert(pages.huge_bytes == 0 || pages.huge_bytes % pages.huge_page_bytes == 0);
	const uint32_t vnet = vnet_new(arena, 7, 0);
	arena->view.flow_entry[65536].used_s = 77; // far from the beginning
	fp_arena_close(arena);

	arena = arena_new(path, &config);
	fp_arena_pages(arena, &adopted);
	assert(fp_arena_adoption(arena)->how == FP_ARENA_ADOPTED && adopted.huge_bytes == pages.huge_bytes);
	assert(fp_vnet_at(arena, vnet)->vni == 7 && arena->view.flow_entry[65536].used_s == 77);
	fp_arena_close(arena);
}

int
main(void)
{
	RUN(test_closed_in_order_it_is_adopted_any_number_of_times);
	RUN(test_the_third_crash_within_a_minute_starts_cold);
	RUN(test_crashes_longer_ago_than_a_minute_do_not_count);
	RUN(test_a_data_plane_that_is_killed_leaves_good_tables);
	RUN(test_crashes_cost_the_vnets_that_they_have_in_common);
	RUN(test_crashes_that_go_on_start_cold);
	RUN(test_another_layout_starts_cold);
	RUN(test_an_arena_of_another_boot_is_made_anew);
	RUN(test_one_data_plane_holds_it);
	RUN(test_secret_stays_with_the_arena_and_incarnation_does_not);
	RUN(test_what_cannot_hold_an_arena_is_an_error_by_number);
	RUN(test_too_little_room_is_an_error_and_leaves_it_usable);
	RUN(test_cost_adds_up_to_the_file);
	RUN(test_accessors_keep_within_their_tables);
	RUN(test_huge_pages_are_told_and_adopted);
	path_fresh();
	return 0;
}
