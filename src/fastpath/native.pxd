# SPDX-License-Identifier: Apache-2.0
#
# All of C that Python sees, and in native_dpdk.pxd what needs DPDK's headers. Nothing else declares C: a module
# cimports from here.
# Structs need only the members that are used here: the C compiler knows the layout.
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "fp_types.h" nogil:
    enum:
        FP_CACHE_LINE
        FP_ADDRESS_BYTES
        FP_MAC_BYTES
        FP_BUCKET_SLOTS
        FP_SAMPLE_EVERY
        FP_CHANGES_KEPT
        FP_HEADER_BYTES_MAX
        FP_NEXTHOPS_MAX
        FP_SET_MEMBERS_MAX

    cdef enum fp_key_class:
        FP_CLASS_ROUTED
        FP_CLASS_BRIDGED
        FP_CLASS_MAC
        FP_CLASS_NEIGHBOR
        FP_CLASS_SOURCE
        FP_CLASS_RESTORE

    cdef enum fp_key_flag:
        FP_KEY_IPV6
        FP_KEY_CONNECTION
        FP_KEY_FRAGMENT
        FP_KEY_DESTINATION

    cdef struct fp_flow_key:
        uint8_t source[16]
        uint8_t destination[16]
        uint16_t source_port
        uint16_t destination_port
        uint8_t protocol
        uint8_t key_class
        uint8_t flags
        uint8_t zero
        uint32_t ingress

    cdef enum fp_action:
        FP_ACTION_NONE
        FP_ACTION_DROP
        FP_ACTION_ENCAPSULATE
        FP_ACTION_DELIVER
        FP_ACTION_RELAY
        FP_ACTION_ANSWER
        FP_ACTION_NARROW
        FP_ACTION_REWRITE
        FP_ACTION_RESTORE
        FP_ACTION_SECURE
        FP_ACTION_MAX

    cdef enum fp_action_flag:
        FP_ACTION_STALE
        FP_ACTION_SESSION

    cdef struct fp_flow_entry:
        fp_flow_key key
        uint32_t used_s
        uint64_t action
        uint32_t revision
        uint32_t expire_at_s

    cdef struct fp_flow_bucket:
        uint32_t way[16]

    cdef struct fp_flow_side:
        uint64_t packets_sampled
        uint64_t kbytes_sampled
        uint32_t decided_at_s
        uint32_t refresh_at_s

    cdef enum fp_change_kind:
        FP_CHANGE_TIGHTEN
        FP_CHANGE_LOOSEN
        FP_CHANGE_MOVE

    cdef enum fp_scope_flag:
        FP_SCOPE_EITHER
        FP_SCOPE_SOURCE_PORT
        FP_SCOPE_CONNECTIONS
        FP_SCOPE_JUDGED
        FP_SCOPE_IP

    cdef struct fp_scope:
        uint8_t source[16]
        uint8_t destination[16]
        uint8_t source_bits
        uint8_t destination_bits
        uint8_t protocol
        uint8_t flags
        uint16_t port_low
        uint16_t port_high

    cdef struct fp_change:
        uint64_t revision
        fp_scope scope
        uint8_t kind
        uint8_t zero[7]

    cdef enum fp_vnet_flag:
        FP_VNET_LIVE
        FP_VNET_STATEFUL

    cdef struct fp_vnet:
        uint32_t vni
        uint32_t epoch
        uint8_t flags
        uint8_t gateway_mac[6]
        uint8_t worker
        uint8_t gateway_address[16]
        uint64_t object_id
        uint64_t incarnation
        uint64_t revision
        uint32_t quota_flows
        uint32_t quota_misses_per_s
        uint64_t floor
        uint32_t stale_max_s
        uint32_t flows
        uint32_t drops_resident
        uint32_t change_next
        uint8_t closing
        uint8_t zero[31]
        uint64_t in_force
        fp_change changes[256]

    cdef enum fp_ingress_kind:
        FP_INGRESS_ATTACHMENT
        FP_INGRESS_NODE

    cdef enum fp_ingress_flag:
        FP_INGRESS_LIVE
        FP_INGRESS_RELAY
        FP_INGRESS_FOREIGN
        FP_INGRESS_CHECK

    cdef struct fp_ingress:
        uint64_t object_id
        uint32_t vni
        uint16_t vnet
        uint8_t kind
        uint8_t flags
        uint16_t port
        uint16_t vlan
        uint16_t mtu_bytes
        uint16_t references
        uint64_t node_id
        uint8_t zero[32]

    cdef enum fp_protocol:
        FP_PROTOCOL_VXLAN
        FP_PROTOCOL_GRE
        FP_PROTOCOL_NVGRE
        FP_PROTOCOL_ESP

    cdef struct fp_locator_key:
        uint8_t local[16]
        uint8_t remote[16]
        uint32_t wire_id
        uint8_t protocol
        uint8_t zero[3]

    cdef enum fp_location_kind:
        FP_LOCATION_NONE
        FP_LOCATION_LOCAL
        FP_LOCATION_TUNNEL
        FP_LOCATION_SET

    cdef struct fp_location_half:
        uint32_t node
        uint32_t target
        uint32_t wire_id
        uint8_t mac[6]
        uint8_t kind
        uint8_t flags
        uint32_t rewrite

    cdef struct fp_location:
        uint64_t object_id
        uint32_t vni_way
        uint16_t vnet
        uint8_t selector
        uint8_t state
        fp_location_half half[2]

    cdef enum fp_tunnel_state:
        FP_TUNNEL_FREE
        FP_TUNNEL_UP
        FP_TUNNEL_UNRESOLVED
        FP_TUNNEL_DOWN
        FP_TUNNEL_DYING

    cdef struct fp_header:
        uint8_t bytes[72]
        uint8_t len_bytes
        uint8_t protocol
        uint8_t dscp_copy
        uint8_t ipv6
        uint16_t checksum_base
        uint16_t zero
        uint8_t pad[48]

    cdef struct fp_nexthop:
        uint8_t destination_mac[6]
        uint8_t source_mac[6]
        uint16_t port
        uint16_t vlan

    cdef struct fp_nexthop_group:
        fp_nexthop hop[4]
        uint8_t count
        uint8_t zero[63]

    cdef struct fp_tunnel_info:
        uint64_t object_id
        uint64_t profile_id
        uint8_t local[16]
        uint8_t remote[16]
        uint64_t node_id
        uint64_t revision
        uint16_t udp_port
        uint16_t mtu_bytes
        uint8_t protocol
        uint8_t ttl
        uint8_t dscp
        uint8_t dscp_copy
        uint32_t references
        uint64_t backup_id
        uint64_t incarnation
        uint8_t zero[32]

    cdef enum fp_set_mode:
        FP_SET_ENTROPY
        FP_SET_FIRST
        FP_SET_ALL

    cdef struct fp_tunnel_set:
        uint64_t object_id
        uint32_t tunnel[16]
        uint8_t weight[16]
        uint8_t mode
        uint8_t count
        uint8_t zero[38]


cdef extern from "fp_records.h" nogil:
    enum:
        FP_RECORD_BYTES
        FP_RECORD_VERSION
        FP_PORT_NAME_BYTES
        FP_PACKET_SPAN_BYTES

    cdef enum fp_record_type:
        FP_RECORD_MISS
        FP_RECORD_REFRESH
        FP_RECORD_UNKNOWN_LOCATOR
        FP_RECORD_PACKET
        FP_RECORD_REFUSED
        FP_RECORD_TUNNEL_CHANGED
        FP_RECORD_SYNCED
        FP_RECORD_TUNNEL_UP
        FP_RECORD_VNET_SET
        FP_RECORD_VNET_REMOVE
        FP_RECORD_SNAPSHOT_BEGIN
        FP_RECORD_SNAPSHOT_END
        FP_RECORD_ATTACHMENT_SET
        FP_RECORD_ATTACHMENT_REMOVE
        FP_RECORD_INGRESS_SET
        FP_RECORD_INGRESS_REMOVE
        FP_RECORD_TUNNEL_SET
        FP_RECORD_TUNNEL_REMOVE
        FP_RECORD_TUNNEL_GROUP_SET
        FP_RECORD_LOCATION_SET
        FP_RECORD_LOCATION_REMOVE
        FP_RECORD_NEXTHOP_SET
        FP_RECORD_PEERING_SET
        FP_RECORD_PEERING_REMOVE
        FP_RECORD_FLOW_INSTALL
        FP_RECORD_CHANGE
        FP_RECORD_RELEASE_DROP
        FP_RECORD_DIRECTORY_STATE
        FP_RECORD_PACKET_OUT
        FP_RECORD_SYNC

    cdef enum fp_record_flag:
        FP_RECORD_IF_PRESENT
        FP_RECORD_LAST
        FP_RECORD_FIRST

    cdef struct fp_record_head:
        uint16_t type
        uint8_t version
        uint8_t flags
        uint32_t vni
        uint64_t revision

    cdef struct fp_record:
        fp_record_head head
        uint8_t body[112]

    cdef struct fp_record_miss:
        fp_record_head head
        fp_flow_key key
        uint32_t frame_bytes
        uint64_t token
        uint64_t ingress_object
        uint64_t received_ns
        uint64_t current_object
        uint8_t ingress_kind
        uint8_t asked
        uint8_t source_mac[6]
        uint8_t destination_mac[6]
        uint8_t zero[18]

    cdef struct fp_record_locator:
        fp_record_head head
        fp_locator_key key
        uint8_t zero[72]

    cdef struct fp_record_refused:
        fp_record_head head
        uint16_t refused_type
        uint16_t why
        uint32_t zero0
        uint64_t object
        uint64_t token
        fp_flow_key key
        uint8_t zero[44]

    cdef enum fp_refusal:
        FP_REFUSED_MALFORMED
        FP_REFUSED_UNKNOWN_VNET
        FP_REFUSED_OTHER_VNET
        FP_REFUSED_UNKNOWN_OBJECT
        FP_REFUSED_LATE
        FP_REFUSED_OTHER_INCARNATION
        FP_REFUSED_NO_ROOM
        FP_REFUSED_QUOTA
        FP_REFUSED_OTHER_CLIENT
        FP_REFUSED_CONFLICT
        FP_REFUSED_MAX

    cdef struct fp_record_vnet:
        fp_record_head head
        uint64_t object_id
        uint64_t incarnation
        uint32_t quota_flows
        uint32_t quota_misses_per_s
        uint32_t stale_max_s
        uint8_t gateway_mac[6]
        uint8_t zero0[2]
        uint8_t gateway_address[16]
        uint8_t zero[60]

    cdef struct fp_record_snapshot:
        fp_record_head head
        uint64_t incarnation
        uint8_t workers
        uint8_t zero[103]

    cdef struct fp_record_attachment:
        fp_record_head head
        uint64_t object_id
        uint8_t port[16]
        uint16_t vlan
        uint16_t mtu_bytes
        uint8_t zero[84]

    cdef struct fp_record_ingress:
        fp_record_head head
        fp_locator_key key
        uint64_t node_id
        uint8_t ingress_flags
        uint8_t zero0
        uint16_t udp_port
        uint8_t zero[60]

    cdef struct fp_record_tunnel:
        fp_record_head head
        uint64_t object_id
        uint64_t profile_id
        uint64_t node_id
        uint8_t local[16]
        uint8_t remote[16]
        uint16_t udp_port
        uint16_t mtu_bytes
        uint8_t protocol
        uint8_t ttl
        uint8_t dscp
        uint8_t dscp_copy
        uint64_t backup_id
        uint64_t incarnation
        uint8_t zero[32]

    cdef struct fp_record_tunnel_group:
        fp_record_head head
        uint64_t object_id
        uint64_t tunnel[8]
        uint8_t weight[8]
        uint8_t mode
        uint8_t count
        uint8_t zero[30]

    cdef struct fp_record_location:
        fp_record_head head
        uint64_t object_id
        uint64_t target_id
        uint64_t node_id
        uint32_t wire_id
        uint8_t way
        uint8_t kind
        uint8_t mac[6]
        uint32_t zero0
        uint8_t zero[72]

    cdef struct fp_record_nexthop:
        fp_record_head head
        uint8_t local[16]
        uint8_t remote[16]
        fp_nexthop hop[4]
        uint8_t count
        uint8_t zero0
        uint16_t mtu_bytes
        uint8_t zero[12]

    cdef struct fp_record_peering:
        fp_record_head head
        uint32_t to_vni
        uint8_t zero[108]

    cdef struct fp_record_flow:
        fp_record_head head
        fp_flow_key key
        uint16_t reason
        uint8_t action
        uint8_t ways
        uint64_t ingress_object
        uint64_t source_object
        uint64_t destination_object
        uint32_t destination_vni
        uint32_t lifetime_ms
        uint32_t refresh_ms
        uint32_t zero0
        uint64_t token
        uint64_t incarnation
        uint8_t zero[8]

    cdef struct fp_record_change:
        fp_record_head head
        fp_scope scope
        uint64_t incarnation
        uint8_t kind
        uint8_t zero[63]

    cdef struct fp_record_directory_state:
        fp_record_head head
        uint8_t answering
        uint8_t worker
        uint8_t workers
        uint8_t zero[109]

    cdef struct fp_record_sync:
        fp_record_head head
        uint64_t number
        uint8_t zero[104]

    cdef struct fp_record_packet:
        fp_record_head head
        uint64_t target_id
        uint32_t wire_id
        uint8_t kind
        uint8_t span
        uint16_t frame_bytes
        uint8_t data[88]
        uint8_t zero[8]


cdef extern from "fp_layouts.h" nogil:
    cdef struct fp_layout_member:
        const char *structure
        const char *member
        const char *type
        uint32_t offset
        uint32_t size_bytes
        uint32_t structure_bytes

    cdef struct fp_layout_value:
        const char *enumeration
        const char *name
        int32_t value

    const fp_layout_member fp_layout_members[]
    const fp_layout_value fp_layout_values[]


cdef extern from "fp_ring.h" nogil:
    enum:
        FP_RINGS_MAX

    cdef struct fp_rings_header:
        uint64_t magic
        uint32_t version
        uint32_t miss_rings
        uint32_t miss_slots
        uint32_t install_slots
        uint64_t total_bytes
        uint8_t zero[4064]

    cdef enum fp_ring_side:
        FP_RING_PRODUCER
        FP_RING_CONSUMER

    cdef struct fp_ring_end:
        uint32_t mask
        uint32_t mine
        uint32_t other
        uint8_t side
        uint8_t broken
        uint64_t overflows

    size_t fp_rings_bytes(uint32_t miss_rings, uint32_t miss_slots, uint32_t install_slots)
    int fp_rings_format(void *base, size_t len_bytes, uint32_t miss_rings, uint32_t miss_slots,
                        uint32_t install_slots)
    int fp_ring_attach(fp_ring_end *end, void *base, size_t len_bytes, uint32_t ring, fp_ring_side side)
    uint32_t fp_ring_write(fp_ring_end *end, const fp_record *records, uint32_t n)
    uint32_t fp_ring_read(fp_ring_end *end, fp_record *records, uint32_t n)
    uint32_t fp_ring_pending(fp_ring_end *end)
    void fp_ring_sleep(fp_ring_end *end, bint sleeping)
    bint fp_ring_wanted(fp_ring_end *end)


cdef extern from "fp_hash.h" nogil:
    cdef struct fp_secret:
        uint64_t word[2]

    uint64_t fp_hash_flow(const fp_secret *secret, const fp_flow_key *key)
    uint64_t fp_hash_bytes(const fp_secret *secret, const void *data, uint32_t len_bytes)


cdef extern from "fp_drop_reasons.h" nogil:
    enum:
        FP_DROP_MAX
    const char *fp_drop_name(int reason)
    const char *fp_drop_sentence(int reason)


cdef extern from "fp_arena.h" nogil:
    cdef struct fp_arena_config:
        uint32_t flows
        uint32_t locations
        uint32_t tunnels
        uint32_t vnets
        uint32_t ingresses
        uint32_t ports
        uint32_t threads
        uint32_t refusal_share_percent

    cdef enum fp_adoption:
        FP_ARENA_NEW
        FP_ARENA_ADOPTED
        FP_ARENA_COLD_LAYOUT
        FP_ARENA_COLD_CRASHES

    cdef struct fp_adoption_report:
        uint32_t how
        uint32_t vnets
        uint32_t ingresses
        uint32_t tunnels
        uint32_t locations
        uint32_t flows
        uint32_t left_out
        uint32_t dropped_range
        uint32_t dropped_twice
        uint32_t dropped_key
        uint32_t dropped_vnet
        uint32_t dropped_location
        uint32_t dropped_tunnel
        uint64_t ns

    cdef struct fp_arena:
        pass

    cdef struct fp_arena_pages_t "fp_arena_pages":
        size_t len_bytes
        size_t huge_bytes
        size_t huge_page_bytes

    cdef struct fp_flow_lookup:
        const char *variant

    cdef struct fp_arena_view:
        const fp_flow_lookup *flow_lookup

    const fp_arena_view *fp_arena_tables(const fp_arena *arena)
    void fp_arena_pages(const fp_arena *arena, fp_arena_pages_t *pages)
    int fp_arena_cost(const fp_arena_config *config, const char **names, size_t *bytes, int n)
    const fp_arena_config *fp_arena_limits(const fp_arena *arena)
    uint32_t fp_arena_reclaim(fp_arena *arena)
    uint64_t fp_arena_incarnation(const fp_arena *arena)
    int fp_arena_open(const char *path, const fp_arena_config *config, uint64_t now_ns, fp_arena **arena)
    void fp_arena_close(fp_arena *arena)
    const fp_adoption_report *fp_arena_adoption(const fp_arena *arena)
    uint64_t fp_arena_incarnation(const fp_arena *arena)
    const fp_secret *fp_arena_secret(const fp_arena *arena)
    void fp_arena_tick(fp_arena *arena, uint64_t now_ns)
    uint32_t fp_arena_now_s(const fp_arena *arena)
    int fp_arena_reader_register(fp_arena *arena, uint32_t thread)
    void fp_arena_reader_unregister(fp_arena *arena, uint32_t thread)
    void fp_arena_reader_online(fp_arena *arena, uint32_t thread)
    void fp_arena_reader_offline(fp_arena *arena, uint32_t thread)
    void fp_arena_reader_quiescent(fp_arena *arena, uint32_t thread)
    const fp_vnet *fp_vnet_at(const fp_arena *arena, uint32_t vnet)
    const fp_ingress *fp_ingress_at(const fp_arena *arena, uint32_t ingress)
    const fp_location *fp_location_at(const fp_arena *arena, uint32_t location)
    uint64_t fp_tunnel_at(const fp_arena *arena, uint32_t tunnel)
    const fp_tunnel_info *fp_tunnel_info_at(const fp_arena *arena, uint32_t tunnel)
    const fp_header *fp_header_at(const fp_arena *arena, uint32_t header)
    const fp_nexthop_group *fp_nexthops_at(const fp_arena *arena, uint32_t group)
    const fp_tunnel_set *fp_tunnel_set_at(const fp_arena *arena, uint32_t set)
    fp_flow_entry *fp_flow_at(const fp_arena *arena, uint32_t entry)
    fp_flow_side *fp_flow_side_at(const fp_arena *arena, uint32_t entry)
    uint32_t fp_ingress_by_vlan(const fp_arena *arena, uint32_t port, uint32_t vlan)
    uint32_t fp_ingress_by_locator(const fp_arena *arena, const fp_locator_key *key)
    uint8_t fp_protocol_by_udp_port(const fp_arena *arena, uint16_t port)


cdef extern from "fp_flow_table.h" nogil:
    cdef struct fp_flow_value:
        uint64_t action
        uint64_t revision
        uint32_t expire_at_s
        uint32_t refresh_at_s
        uint32_t vnet

    cdef struct fp_flow_stats_t "fp_flow_stats":
        uint64_t inserted
        uint64_t updated
        uint64_t removed
        uint64_t expired
        uint64_t evicted_bucket
        uint64_t evicted_hand
        uint64_t refused_quota
        uint64_t waited
        uint32_t resident
        uint32_t free
        uint32_t reclaiming
        uint32_t buckets
        uint32_t refusals

    ctypedef void (*fp_flow_visit)(void *context, uint32_t index, fp_flow_entry *entry, fp_flow_side *side) noexcept
    uint32_t fp_flow_lookup_bulk(const fp_arena *arena, const fp_flow_key *const *key, uint32_t n, uint32_t now_s,
                                 uint64_t *hash, uint64_t *word, uint32_t *entry)
    void fp_flow_used(fp_flow_entry *entry, uint32_t now_s)
    int fp_flow_insert(fp_arena *arena, const fp_flow_key *key, const fp_flow_value *value)
    int fp_flow_remove(fp_arena *arena, const fp_flow_key *key)
    uint32_t fp_flow_find(const fp_arena *arena, const fp_flow_key *key)
    uint32_t fp_flow_reclaim(fp_arena *arena)
    bint fp_flow_walk(fp_arena *arena, uint32_t *cursor, uint32_t count, fp_flow_visit visit, void *context)
    void fp_flow_stats(const fp_arena *arena, fp_flow_stats_t *stats)


cdef extern from "fp_install.h" nogil:
    cdef struct fp_installer:
        pass

    cdef struct fp_release:
        uint64_t token
        fp_flow_key key
        uint64_t action

    cdef struct fp_installer_hooks:
        void *context
        void (*release)(void *context, const fp_release *release) noexcept
        void (*emit)(void *context, uint8_t worker, const fp_record *record) noexcept
        int (*port_by_name)(void *context, const char *name, uint16_t *mtu_bytes) noexcept
        void (*send)(void *context, uint8_t kind, uint32_t target, uint32_t wire_id, const uint8_t *frame,
                     uint32_t len_bytes) noexcept

    int fp_installer_create(fp_arena *arena, const fp_installer_hooks *hooks, fp_installer **installer)
    void fp_installer_destroy(fp_installer *installer)
    int fp_installer_apply(fp_installer *installer, uint8_t client_worker, const fp_record *record,
                           uint64_t now_ns)
    void fp_installer_share(fp_installer *installer, uint32_t workers)
    bint fp_installer_tick(fp_installer *installer, uint64_t now_ns)
    uint64_t fp_installer_refused(const fp_installer *installer, int why)


cdef extern from "fp_dump.h" nogil:
    enum:
        FP_DUMP_END

    cdef struct fp_dump_flow:
        fp_flow_key key
        uint32_t vni
        uint64_t action
        uint64_t revision
        uint64_t source_object
        uint64_t destination_object
        uint64_t packets
        uint64_t bytes
        uint32_t tunnel
        uint32_t idle_s
        int32_t expires_in_s

    cdef struct fp_dump_location:
        uint64_t object_id
        uint32_t location
        uint32_t vni
        uint8_t way
        fp_location_half half

    cdef struct fp_dump_tunnel:
        uint32_t tunnel
        uint16_t mtu_bytes
        uint16_t inner_mtu_bytes
        uint8_t state
        const char *protocol
        fp_tunnel_info info
        fp_nexthop_group nexthops

    cdef struct fp_dump_vnet:
        uint32_t vnet
        uint32_t vni
        uint32_t quota_flows
        uint32_t quota_misses_per_s
        uint32_t stale_max_s
        uint32_t flows
        uint32_t drops_resident
        uint64_t object_id
        uint64_t incarnation
        uint64_t revision
        uint64_t floor
        uint64_t in_force
        uint8_t gateway_mac[6]
        uint8_t gateway_address[16]
        uint8_t worker

    cdef struct fp_dump_ingress:
        uint32_t ingress
        fp_ingress record

    uint32_t fp_dump_flows(const fp_arena *arena, uint32_t reader, uint32_t *cursor, uint32_t vni,
                           fp_dump_flow *rows, uint32_t n)
    uint32_t fp_dump_locations(const fp_arena *arena, uint32_t reader, uint32_t *cursor, uint32_t vni,
                               fp_dump_location *rows, uint32_t n)
    uint32_t fp_dump_tunnels(const fp_arena *arena, uint32_t reader, uint32_t *cursor, fp_dump_tunnel *rows,
                             uint32_t n)
    uint32_t fp_dump_vnets(const fp_arena *arena, uint32_t reader, uint32_t *cursor, fp_dump_vnet *rows,
                           uint32_t n)
    uint32_t fp_dump_ingresses(const fp_arena *arena, uint32_t reader, uint32_t *cursor, uint32_t vni,
                               fp_dump_ingress *rows, uint32_t n)
